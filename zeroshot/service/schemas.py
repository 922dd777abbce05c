"""What goes over the wire."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from zeroshot.labels import Label
from zeroshot.scoring import Classification

_PIXEL = (  # a red pixel
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


class LabelObject(BaseModel):
    """A label that is more than a name."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="What the answer calls it.", examples=["cat"])
    descriptions: list[str] = Field(
        default_factory=list,
        description="Sentences embedded in place of the filled templates; their mean is the class.",
    )

    wording: str = Field("", description="What is put into the templates, where that is not the name itself.")

    def to_label(self) -> Label:
        """Give the label itself."""
        return Label(self.name, tuple(self.descriptions), self.wording)


class ClassifyRequest(BaseModel):
    """One picture, and the labels to rank."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"image": _PIXEL, "labels": ["cat", "dog", "a cup of coffee"], "top_k": 2}]},
    )

    image: str = Field(description="The picture's bytes in base64, or a data URI.")
    labels: list[str | LabelObject] | None = Field(None, description="At least two labels; or give `label_set`.")
    label_set: str | None = Field(None, description="A label set's name, instead of `labels`.", examples=["cifar10"])
    templates: str | list[str] | None = Field(
        None, description="A template set's name, or templates with one {} each. Default: what the model recommends."
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(None, description="How many labels to return. Default: all.")


class PredictionObject(BaseModel):
    """One label's rank."""

    label: str = Field(examples=["cat"])
    score: float = Field(ge=0, le=1, description="Probability; all labels' scores sum to 1.")
    similarity: float = Field(ge=-1, le=1, description="Cosine between the picture and the label.")


class ClassifyResponse(BaseModel):
    """The labels, best first."""

    predictions: list[PredictionObject]
    model: str = Field(description="The model spec that answered.", examples=["tiny"])

    @classmethod
    def of(cls, classification: Classification, model: str) -> ClassifyResponse:
        """Put a classification into the wire's form."""
        return cls(
            predictions=[
                PredictionObject(label=p.label, score=p.score, similarity=p.similarity)
                for p in classification.predictions
            ],
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
        "top_k": {"type": "integer", "minimum": 1},
    },
}
"""The multipart form of `ClassifyRequest`."""
