"""Zero-shot image classification in the schema of Hugging Face's inference API, for its clients as they are."""

from __future__ import annotations

import json

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from zeroshot.service.context import current
from zeroshot.service.inference.pipeline import Pipeline
from zeroshot.service.openapi import body, problems
from zeroshot.service.requests import read_body
from zeroshot.service.routes.classify import prepare
from zeroshot.service.schemas.classify import PIXEL, Question


class HuggingFaceParameters(BaseModel):
    """Labels and a template."""

    candidate_labels: list[str] = Field(description="At least two.")
    hypothesis_template: str | None = Field(
        None, description="One template with one {}. Default: what the model recommends."
    )


class HuggingFaceRequest(BaseModel):
    """An image and its labels, in Hugging Face's schema; what else a client sends is not looked at."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"inputs": PIXEL.partition(",")[2], "parameters": {"candidate_labels": ["cat", "dog"]}}]
        }
    )

    inputs: str = Field(description="The image's bytes in base64.")
    parameters: HuggingFaceParameters


class HuggingFaceScore(BaseModel):
    """One label's score."""

    label: str
    score: float


_SCORES = TypeAdapter(list[HuggingFaceScore])


router = APIRouter(tags=["compatibility"])


@router.post(
    "/hf/zero-shot-image-classification",
    response_model=list[HuggingFaceScore],
    summary="Rank labels for one image (Hugging Face's schema)",
    description=(
        "The labels' warnings are in the header X-Zeroshot-Warnings, a JSON list. "
        'For `huggingface_hub.InferenceClient(model="http://.../hf/zero-shot-image-classification")`.'
    ),
    openapi_extra=body(HuggingFaceRequest),
    responses=problems(400, 408, 413, 422, 503, 504),
)
async def classify(request: Request) -> Response:
    pipeline: Pipeline = request.app.state.service.pipeline
    asked = await read_body(request, HuggingFaceRequest)
    template = asked.parameters.hypothesis_template
    question = Question(labels=[*asked.parameters.candidate_labels], templates=None if template is None else [template])
    ranking = await prepare(pipeline, question)
    current.get().images = 1
    answer = await ranking.rank(await pipeline.embed(asked.inputs))
    scores = [HuggingFaceScore(label=one.label, score=one.score) for one in answer.predictions]
    headers = {"X-Zeroshot-Warnings": json.dumps(answer.warnings)} if answer.warnings else None
    return Response(_SCORES.dump_json(scores), media_type="application/json", headers=headers)
