"""What goes over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from zeroshot.labels import LabelEntry, LabelSet, Mode
from zeroshot.scoring import Classification, Prediction

_PIXEL = (  # a red pixel
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


class ClassifyRequest(BaseModel):
    """One picture, and the labels to rank."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"image": _PIXEL, "labels": ["cat", "dog", "a cup of coffee"], "top_k": 2}]},
    )

    image: str = Field(description="The picture's bytes in base64, or a data URI.")
    labels: list[str | LabelEntry] | None = Field(
        None, description="At least two labels (one will do for binary and multilabel); or give `label_set`."
    )
    label_set: str | None = Field(
        None,
        description="A stored or shipped label set's name, instead of `labels`; 'pets@3' is the third version of pets.",
        examples=["cifar10"],
    )
    mode: Literal["multiclass", "binary", "multilabel", "hierarchical"] | None = Field(
        None, description="What kind of answer. Default: the label set's; hierarchical where a label has a parent."
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Score that a label needs to be the answer; below it the answer is unknown (no labels)."
    )
    temperature: Annotated[float, Field(ge=1e-6, le=1e6)] | None = Field(
        None, description="Divides the logits. Default: what was calibrated, or 1."
    )
    templates: str | list[str] | None = Field(
        None, description="A template set's name, or templates with one {} each. Default: what the model recommends."
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(None, description="How many labels to return. Default: all.")


class PredictionObject(BaseModel):
    """One label's rank."""

    label: str = Field(examples=["cat"])
    score: float = Field(ge=0, le=1, description="Probability; they sum to 1 where labels exclude each other.")
    similarity: float = Field(ge=-1, le=1, description="Cosine between the picture and the label.")

    @classmethod
    def of(cls, prediction: Prediction) -> PredictionObject:
        """Put a prediction into the wire's form."""
        return cls(label=prediction.label, score=prediction.score, similarity=prediction.similarity)


class ClassifyResponse(BaseModel):
    """The labels, best first."""

    mode: Mode = Field(description="What was asked.")
    labels: list[str] = Field(description="The answer: one label; several or none in multilabel; none for unknown.")
    predictions: list[PredictionObject] = Field(description="Best first; in hierarchical, the leaves.")
    levels: list[PredictionObject] | None = Field(None, description="In hierarchical, from the top to the answer.")
    label_set: str | None = Field(None, description="The stored set and version that answered.", examples=["pets@3"])
    model: str = Field(description="The model spec that answered.", examples=["tiny"])

    @classmethod
    def of(cls, answer: Classification, label_set: LabelSet, model: str) -> ClassifyResponse:
        """Put an answer into the wire's form."""
        return cls(
            mode=answer.mode,
            labels=list(answer.labels),
            predictions=[PredictionObject.of(p) for p in answer.predictions],
            levels=[PredictionObject.of(p) for p in answer.levels] if answer.mode is Mode.HIERARCHICAL else None,
            label_set=None if label_set.version is None else f"{label_set.name}@{label_set.version}",
            model=model,
        )


class Health(BaseModel):
    """Whether the service is up."""

    status: str = Field(examples=["ok"])


MULTIPART_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "format": "binary", "description": "The picture."},
        "labels": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Repeat the field per label, or give one field with comma-separated labels.",
        },
        "label_set": {"type": "string"},
        "templates": {"type": "array", "items": {"type": "string"}},
        "mode": {"type": "string", "enum": [mode.value for mode in Mode]},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "temperature": {"type": "number"},
        "top_k": {"type": "integer", "minimum": 1},
    },
}
"""The multipart form of `ClassifyRequest`."""
