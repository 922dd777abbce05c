"""CLIP's routes in the schema of Roboflow's inference server, for its SDK as it is."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from zeroshot.encoders import FloatArray
from zeroshot.labels import text_warnings
from zeroshot.service.context import current, timed
from zeroshot.service.documents import body, problems
from zeroshot.service.embedding import embed_texts
from zeroshot.service.pipeline import Pipeline
from zeroshot.service.problems import RequestError
from zeroshot.service.requests import read_body, to_source
from zeroshot.service.schemas import PIXEL, Warned
from zeroshot.service.waiting import all_of

_PICTURE: JsonDict = {"type": "base64", "value": PIXEL.partition(",")[2]}

Kind = Literal["image", "text"]


class RoboflowImage(BaseModel):
    """A picture."""

    type: Literal["base64", "url"]
    value: str


class RoboflowImages(BaseModel):
    """Pictures to embed; what else a client sends is not looked at."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": _PICTURE}]})

    image: RoboflowImage | list[RoboflowImage]


class RoboflowTexts(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": ["a photo of a cat"]}]})

    text: str | list[str]


class RoboflowComparison(BaseModel):
    """A subject, and what to compare it with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"subject": _PICTURE, "prompt": ["cat", "dog"]}]})

    subject: RoboflowImage | str
    subject_type: Kind = "image"
    prompt: str | RoboflowImage | list[str | RoboflowImage]
    prompt_type: Kind = "text"


class RoboflowEmbeddings(Warned):
    """Unit vectors."""

    frame_id: str | None = None
    time: float = Field(description="Seconds it took.")
    embeddings: list[list[float]]


class RoboflowSimilarities(Warned):
    """Cosines of the subject with each prompt."""

    frame_id: str | None = None
    time: float = Field(description="Seconds it took.")
    similarity: list[float]


def roboflow_routes(pipeline: Pipeline, *, max_images: int) -> APIRouter:
    """Build the routes below ``/clip``."""
    router = APIRouter(prefix="/clip", tags=["compatibility"])

    encoder = pipeline.classifier.encoder

    async def embed(
        items: list[str | RoboflowImage], kind: Kind, field: str, warnings: list[str] | None = None
    ) -> FloatArray:
        if not items or len(items) > max_images:
            raise RequestError(
                422, "invalid-request", f"{field} has {len(items)} items, not 1 to {max_images}.", "Split them.", field
            )
        if kind == "text":
            texts = [item for item in items if isinstance(item, str) and item.strip()]
            if len(texts) != len(items):
                raise RequestError(422, "invalid-request", f"{field} is not text, or blank.", "Send texts.", field)
            with timed("text"):
                rows = await pipeline.in_text_thread(lambda: embed_texts(pipeline, texts))
                found = await pipeline.in_text_thread(lambda: text_warnings(encoder, texts))
            if warnings is not None:
                warnings.extend(found)
            return rows
        pictures = [item.value for item in items if isinstance(item, RoboflowImage)]
        if len(pictures) != len(items):
            raise RequestError(
                422, "invalid-request", f"{field} is not a picture.", 'Send {"type": "base64", "value": ...}.', field
            )
        current().pictures += len(pictures)
        with pipeline.admitted(len(pictures) - 1):
            return np.stack(await all_of(pipeline.embed(to_source(value)) for value in pictures))

    @router.post(
        "/embed_image",
        summary="Embed pictures (Roboflow's schema)",
        openapi_extra=body(RoboflowImages),
        responses=problems(400, 408, 413, 422, 503, 504),
    )
    async def embed_image(request: Request) -> RoboflowEmbeddings:
        start = time.monotonic()
        with pipeline.admitted(1):
            asked = await read_body(request, RoboflowImages)
            rows = await embed(_listed(asked.image), "image", "image")
        return RoboflowEmbeddings(time=time.monotonic() - start, embeddings=rows.tolist())

    @router.post(
        "/embed_text",
        summary="Embed texts (Roboflow's schema)",
        openapi_extra=body(RoboflowTexts),
        responses=problems(400, 408, 413, 422, 503, 504),
    )
    async def embed_text(request: Request) -> RoboflowEmbeddings:
        start = time.monotonic()
        with pipeline.admitted(1):
            asked = await read_body(request, RoboflowTexts)
            warnings: list[str] = []
            rows = await embed(_listed(asked.text), "text", "text", warnings)
        return RoboflowEmbeddings(time=time.monotonic() - start, embeddings=rows.tolist(), warnings=warnings)

    @router.post(
        "/compare",
        summary="Compare a picture or a text with others (Roboflow's schema)",
        openapi_extra=body(RoboflowComparison),
        responses=problems(400, 408, 413, 422, 503, 504),
    )
    async def compare(request: Request) -> RoboflowSimilarities:
        start = time.monotonic()
        with pipeline.admitted(1):
            asked = await read_body(request, RoboflowComparison)
            warnings: list[str] = []
            subject = await embed([asked.subject], asked.subject_type, "subject", warnings)
            prompts = await embed(_listed(asked.prompt), asked.prompt_type, "prompt", warnings)
        cosines = np.clip(prompts @ subject[0], -1, 1)
        return RoboflowSimilarities(
            time=time.monotonic() - start, similarity=cosines.tolist(), warnings=list(dict.fromkeys(warnings))
        )

    return router


def _listed(
    given: str | RoboflowImage | list[RoboflowImage] | list[str] | list[str | RoboflowImage],
) -> list[str | RoboflowImage]:
    return list(given) if isinstance(given, list) else [given]
