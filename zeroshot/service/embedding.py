"""Embeddings in the schema of OpenAI's API, and what models there are.

Pictures are sent as data URIs with ``"modality": "image"``, as infinity takes them.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from zeroshot.encoders import FloatArray
from zeroshot.errors import UnknownModel, quote
from zeroshot.labels import Label, class_matrix, text_warnings
from zeroshot.prompts import load_templates
from zeroshot.service.context import current, timed
from zeroshot.service.documents import body, problems
from zeroshot.service.pipeline import Pipeline
from zeroshot.service.problems import RequestError
from zeroshot.service.requests import read_body, to_source
from zeroshot.service.schemas import Warned
from zeroshot.service.waiting import all_of

_MAX_TEXTS = 2048  # OpenAI's own bound
_MAX_TEXT_CHARS = 100_000


class EmbeddingRequest(BaseModel):
    """What to embed, in OpenAI's schema."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"input": ["a photo of a cat"], "model": "tiny"}]}
    )

    input: str | list[str] | list[int] | list[list[int]] = Field(description="Texts, or pictures as data URIs.")
    model: str = Field(description="The model spec that is served: see /v1/models.", examples=["tiny"])
    encoding_format: Literal["float", "base64"] = Field("float", description="base64 is of float32, little-endian.")
    dimensions: int | None = Field(None, description="Vectors cannot be shortened; the model's own number is accepted.")
    modality: Literal["text", "image"] = Field("text", description="What `input` is.")
    user: str | None = Field(None, description="Accepted, and not looked at.")


class EmbeddingObject(BaseModel):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="Of length 1; a string is base64 of float32, little-endian.")


class Usage(BaseModel):
    """What it took."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(Warned):
    """A vector per input, in order."""

    object: Literal["list"] = "list"
    data: list[EmbeddingObject]
    model: str
    usage: Usage


class ModelObject(BaseModel):
    """A model that is served."""

    id: str = Field(description="Its spec.", examples=["tiny"])
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time at which it was loaded.")
    owned_by: str = "zeroshot"
    dim: int = Field(description="Length of a vector.")
    fingerprint: str = Field(description="sha256 of its weights and configuration: equal means the same vectors.")
    logit_scale: float
    logit_bias: float | None
    template_set: str = Field(description="The template set it recommends.")
    input_size: Annotated[list[int], Field(description="Height and width of its input, in pixels.")]


class ModelList(BaseModel):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


def embedding_routes(pipeline: Pipeline, *, max_images: int) -> APIRouter:
    """Build the routes ``/v1/embeddings`` and ``/v1/models``."""
    router = APIRouter()
    encoder = pipeline.classifier.encoder
    loaded = int(time.time())

    @router.post(
        "/v1/embeddings",
        response_model=EmbeddingResponse,
        tags=["embeddings"],
        summary="Embed texts or pictures (OpenAI's schema)",
        openapi_extra=body(EmbeddingRequest),
        responses=problems(400, 404, 408, 413, 422, 503, 504),
    )
    async def embeddings(request: Request) -> Response:
        with pipeline.admitted(1):
            asked = await read_body(request, EmbeddingRequest)
            inputs = _inputs(asked)
            warnings: tuple[str, ...]
            if asked.model != encoder.spec:
                raise UnknownModel(
                    f"There is no model {quote(asked.model)} here.", f"Use {encoder.spec!r}.", field="model"
                )
            if asked.dimensions not in (None, encoder.dim):
                raise RequestError(
                    422,
                    "invalid-request",
                    f"dimensions={asked.dimensions}: vectors of {encoder.spec} have {encoder.dim}, and are not cut.",
                    f"Leave dimensions out, or send {encoder.dim}.",
                    "dimensions",
                )
            if asked.modality == "image":
                _check_count(len(inputs), max_images)
                with pipeline.admitted(len(inputs) - 1):
                    current().pictures = len(inputs)
                    rows = np.stack(await all_of(pipeline.embed(to_source(one)) for one in inputs))
                tokens, warnings = 0, ()
            else:
                _check_count(len(inputs), _MAX_TEXTS)
                with timed("text"):
                    rows = await pipeline.in_text_thread(lambda: embed_texts(pipeline, inputs))
                    tokens = await pipeline.in_text_thread(lambda: encoder.count_tokens(inputs))
                    warnings = await pipeline.in_text_thread(lambda: text_warnings(encoder, inputs))
        made = EmbeddingResponse.model_construct(
            object="list",
            data=[
                EmbeddingObject.model_construct(object="embedding", index=i, embedding=_written(row, asked))
                for i, row in enumerate(rows)
            ],
            model=encoder.spec,
            usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
            warnings=list(warnings) or None,
        )
        return Response(made.model_dump_json(), media_type="application/json")

    model = ModelObject(
        id=encoder.spec,
        created=loaded,
        dim=encoder.dim,
        fingerprint=encoder.fingerprint,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        template_set=encoder.template_set,
        input_size=list(encoder.preprocessing.size),
    )

    @router.get("/v1/models", tags=["models"], summary="List the models that are served", responses=problems())
    async def list_models() -> ModelList:
        return ModelList(data=[model])

    @router.get("/v1/models/{id:path}", tags=["models"], summary="Describe a model", responses=problems(404))
    async def describe_model(id: str) -> ModelObject:  # noqa: A002 (OpenAI's name)
        if id != model.id:
            raise UnknownModel(f"There is no model {quote(id)} here.", f"There is {model.id!r}.", field="id")
        return model

    return router


def embed_texts(pipeline: Pipeline, texts: Sequence[str]) -> FloatArray:
    """Embed texts as they are, through the text cache; to be called in the text thread."""
    classifier = pipeline.classifier
    labels = [Label(text, descriptions=(text,)) for text in texts]
    return class_matrix(classifier.encoder, labels, load_templates("none"), classifier.cache)


def _inputs(asked: EmbeddingRequest) -> list[str]:
    given: Any = [asked.input] if isinstance(asked.input, str) else asked.input
    if not given or not all(isinstance(one, str) for one in given):
        raise RequestError(
            422,
            "invalid-request",
            "input has no text." if not given else "input has token ids; this model has a tokenizer of its own.",
            "Send texts (or with modality 'image' data URIs).",
            "input",
        )
    for place, one in enumerate(given):
        if not one.strip() or (asked.modality == "text" and len(one) > _MAX_TEXT_CHARS):
            what = "blank" if not one.strip() else f"longer than {_MAX_TEXT_CHARS:,} characters"
            remedy = "Leave it out." if not one.strip() else f"Shorten it to {_MAX_TEXT_CHARS:,} characters."
            raise RequestError(422, "invalid-request", f"input {place + 1} is {what}.", remedy, "input")
    return list(given)


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise RequestError(
            422,
            "invalid-request",
            f"There are {count} inputs; {most} are the most in one request.",
            "Split them.",
            "input",
        )


def _written(row: FloatArray, asked: EmbeddingRequest) -> list[float] | str:
    if asked.encoding_format == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    floats: list[float] = row.tolist()
    return floats
