"""Embeddings in the schema of OpenAI's API, and what models there are.

Images are sent as data URIs with ``"modality": "image"``, as infinity takes them.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from zeroshot.encoders import FloatArray
from zeroshot.errors import UnknownModel, quote
from zeroshot.service.openapi import body, problems
from zeroshot.service.requests import invalid, read_body
from zeroshot.service.schemas.classify import Warned
from zeroshot.service.state import ServiceState


class EmbeddingRequest(BaseModel):
    """What to embed, in OpenAI's schema."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"input": ["a photo of a cat"], "model": "tiny"}]}
    )

    input: str | list[str] | list[int] | list[list[int]] = Field(description="Texts, or images as data URIs.")
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


router = APIRouter()


@router.post(
    "/v1/embeddings",
    response_model=EmbeddingResponse,
    tags=["embeddings"],
    summary="Embed texts or images (OpenAI's schema)",
    openapi_extra=body(EmbeddingRequest),
    responses=problems(400, 404, 408, 413, 422, 503, 504),
)
async def embeddings(request: Request) -> Response:
    state: ServiceState = request.app.state.service
    pipeline, config, encoder = state.pipeline, state.config, state.pipeline.classifier.encoder
    asked = await read_body(request, EmbeddingRequest)
    inputs = _inputs(asked, config.max_text_chars)
    if asked.model != encoder.spec:
        raise UnknownModel(f"There is no model {quote(asked.model)} here.", f"Use {encoder.spec!r}.", field="model")
    if asked.dimensions not in (None, encoder.dim):
        raise invalid(
            f"dimensions={asked.dimensions}: vectors of {encoder.spec} have {encoder.dim}, and are not cut.",
            f"Leave dimensions out, or send {encoder.dim}.",
            "dimensions",
        )
    most = config.max_images_per_request if asked.modality == "image" else config.max_texts
    if len(inputs) > most:
        raise invalid(f"There are {len(inputs)} inputs; {most} are the most in one request.", "Split them.", "input")
    tokens = 0
    warnings: tuple[str, ...] = ()
    if asked.modality == "image":
        rows = await pipeline.embed_images(inputs)
    else:
        rows, warnings = await pipeline.embed_texts(inputs)
        tokens = await pipeline.in_text_thread(encoder.count_tokens, inputs)
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


@router.get("/v1/models", tags=["models"], summary="List the models that are served", responses=problems())
async def list_models(request: Request) -> ModelList:
    return ModelList(data=[_model(request)])


@router.get("/v1/models/{id:path}", tags=["models"], summary="Describe a model", responses=problems(404))
async def describe_model(request: Request, id: str) -> ModelObject:  # noqa: A002 (OpenAI's name)
    model = _model(request)
    if id != model.id:
        raise UnknownModel(f"There is no model {quote(id)} here.", f"There is {model.id!r}.", field="id")
    return model


def _model(request: Request) -> ModelObject:
    state: ServiceState = request.app.state.service
    encoder = state.pipeline.classifier.encoder
    return ModelObject(
        id=encoder.spec,
        created=state.started,
        dim=encoder.dim,
        fingerprint=encoder.fingerprint,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        template_set=encoder.template_set,
        input_size=list(encoder.preprocessing.size),
    )


def _inputs(asked: EmbeddingRequest, max_chars: int) -> list[str]:
    given: Any = [asked.input] if isinstance(asked.input, str) else asked.input
    if not given or not all(isinstance(one, str) for one in given):
        raise invalid(
            "input has no text." if not given else "input has token ids; this model has a tokenizer of its own.",
            "Send texts (or with modality 'image' data URIs).",
            "input",
        )
    for place, one in enumerate(given, start=1):
        if not one.strip():
            raise invalid(f"input {place} is blank.", "Leave it out.", "input")
        if asked.modality == "text" and len(one) > max_chars:
            raise invalid(
                f"input {place} is longer than {max_chars:,} characters.", f"Shorten it to {max_chars:,} characters.",
                "input",
            )  # fmt: skip
    return list(given)


def _written(row: FloatArray, asked: EmbeddingRequest) -> list[float] | str:
    if asked.encoding_format == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    floats: list[float] = row.tolist()
    return floats
