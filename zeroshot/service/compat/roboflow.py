"""CLIP's routes in the schema of Roboflow's inference server, for its SDK as it is."""

from __future__ import annotations

import time
from typing import Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from zeroshot.encoders import FloatArray
from zeroshot.service.openapi import body, problems
from zeroshot.service.requests import invalid, read_body
from zeroshot.service.schemas.classify import PIXEL, Warned
from zeroshot.service.state import ServiceState

_IMAGE: JsonDict = {"type": "base64", "value": PIXEL.partition(",")[2]}

Kind = Literal["image", "text"]


class RoboflowImage(BaseModel):
    """An image."""

    type: Literal["base64", "url"]
    value: str


class RoboflowImages(BaseModel):
    """Images to embed; what else a client sends is not looked at."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"image": _IMAGE}]})

    image: RoboflowImage | list[RoboflowImage]


class RoboflowTexts(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"text": ["a photo of a cat"]}]})

    text: str | list[str]


class RoboflowComparison(BaseModel):
    """A subject, and what to compare it with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"subject": _IMAGE, "prompt": ["cat", "dog"]}]})

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


router = APIRouter(prefix="/clip", tags=["compatibility"])
_RESPONSES = problems(400, 408, 413, 422, 503, 504)


@router.post(
    "/embed_image",
    summary="Embed images (Roboflow's schema)",
    openapi_extra=body(RoboflowImages),
    responses=_RESPONSES,
)
async def embed_image(request: Request) -> RoboflowEmbeddings:
    start = time.monotonic()
    asked = await read_body(request, RoboflowImages)
    rows, _ = await _embed(request, _listed(asked.image), "image", "image")
    return RoboflowEmbeddings(time=time.monotonic() - start, embeddings=rows.tolist())


@router.post(
    "/embed_text", summary="Embed texts (Roboflow's schema)", openapi_extra=body(RoboflowTexts), responses=_RESPONSES
)
async def embed_text(request: Request) -> RoboflowEmbeddings:
    start = time.monotonic()
    asked = await read_body(request, RoboflowTexts)
    rows, warnings = await _embed(request, _listed(asked.text), "text", "text")
    return RoboflowEmbeddings(time=time.monotonic() - start, embeddings=rows.tolist(), warnings=list(warnings))


@router.post(
    "/compare",
    summary="Compare an image or a text with others (Roboflow's schema)",
    openapi_extra=body(RoboflowComparison),
    responses=_RESPONSES,
)
async def compare(request: Request) -> RoboflowSimilarities:
    start = time.monotonic()
    asked = await read_body(request, RoboflowComparison)
    subject, about_subject = await _embed(request, [asked.subject], asked.subject_type, "subject")
    prompts, about_prompts = await _embed(request, _listed(asked.prompt), asked.prompt_type, "prompt")
    cosines = np.clip(prompts @ subject[0], -1, 1)
    warnings = list(dict.fromkeys([*about_subject, *about_prompts]))
    return RoboflowSimilarities(time=time.monotonic() - start, similarity=cosines.tolist(), warnings=warnings)


async def _embed(
    request: Request, items: list[str | RoboflowImage], kind: Kind, field: str
) -> tuple[FloatArray, tuple[str, ...]]:
    """Embed images or texts: vectors, and the texts' warnings."""
    state: ServiceState = request.app.state.service
    most = state.config.max_images_per_request
    if not 1 <= len(items) <= most:
        raise invalid(f"{field} has {len(items)} items, not 1 to {most}.", "Split them.", field)
    if kind == "text":
        texts = [item for item in items if isinstance(item, str) and item.strip()]
        if len(texts) != len(items):
            raise invalid(f"{field} is not text, or blank.", "Send texts.", field)
        return await state.pipeline.embed_texts(texts)
    images = [item.value for item in items if isinstance(item, RoboflowImage)]
    if len(images) != len(items):
        raise invalid(f"{field} is not an image.", 'Send {"type": "base64", "value": ...}.', field)
    return await state.pipeline.embed_images(images), ()


def _listed(
    given: str | RoboflowImage | list[RoboflowImage] | list[str] | list[str | RoboflowImage],
) -> list[str | RoboflowImage]:
    return list(given) if isinstance(given, list) else [given]
