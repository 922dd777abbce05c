"""Bodies and answers of classification."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from zeroshot.labels import Mode
from zeroshot.labels.files import LabelEntry
from zeroshot.names import NAME_PATTERN
from zeroshot.service.problems import Problem

PIXEL = (  # a red pixel
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)

NAME = rf"^{NAME_PATTERN}(@[0-9]{{1,9}})?$"
"""What the names of label sets and galleries look like, a label set's version included."""

ModeName = Literal["multiclass", "binary", "multilabel", "hierarchical"]
Threshold = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]


class Strict(BaseModel):
    """A request in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Question(Strict):
    """The labels, and how they are asked about."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"labels": ["cat", "dog"], "top_k": 1}]}
    )

    labels: list[str | LabelEntry] | None = Field(
        None, description="At least two labels (one will do for binary and multilabel); or give `label_set`."
    )
    label_set: str | None = Field(
        None,
        description="A stored or shipped label set's name, instead of `labels`; 'pets@3' is the third version of pets.",
        examples=["cifar10"],
    )
    mode: ModeName | None = Field(
        None, description="What kind of answer. Default: the label set's; hierarchical where a label has a parent."
    )
    threshold: Threshold | None = Field(
        None, description="Score that a label needs to be the answer; below it the answer is unknown (no labels)."
    )
    temperature: Temperature | None = Field(None, description="Divides the logits. Default: what was calibrated, or 1.")
    unknown: bool = Field(False, description="Whether an image that shows none of the labels is answered 'unknown'.")
    templates: str | list[str] | None = Field(
        None, description="A template set's name, or templates with one {} each. Default: what the model recommends."
    )
    top_k: Annotated[int, Field(ge=1)] | None = Field(None, description="How many labels to return. Default: all.")


class ClassifyRequest(Question):
    """One image or several, and the labels to rank."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"image": PIXEL, "labels": ["cat", "dog", "a cup of coffee"], "top_k": 2}]},
    )

    image: str | None = Field(
        None, description="The image's bytes in base64, a data URI, or a URL where the server fetches any."
    )
    images: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Several images instead of `image`; each is answered or refused by itself, in `results`."
    )


class StreamLine(Strict):
    """One image of a stream."""

    image: str = Field(description="As in `ClassifyRequest`.")
    id: str | None = Field(None, max_length=1000, description="Comes back with the answer.")


class Warned(BaseModel):
    """An answer that may say what is to be known of its texts; where there is nothing, the field is not there."""

    warnings: list[str] | None = Field(
        None, description="What is to be known of the texts: ends that are not read, names that look alike."
    )

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialise: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        values = serialise(self)
        if not values.get("warnings"):
            values.pop("warnings", None)
        return values


class PredictionObject(BaseModel):
    """One label's rank."""

    label: str = Field(examples=["cat"])
    score: float = Field(ge=0, le=1, description="Probability; they sum to 1 where labels exclude each other.")
    similarity: float = Field(ge=-1, le=1, description="Cosine between the image and the label.")


class Answer(BaseModel):
    """The labels, best first."""

    mode: Mode = Field(description="What was asked.")
    labels: list[str] = Field(description="The answer: one label; several or none in multilabel; none for unknown.")
    predictions: list[PredictionObject] = Field(description="Best first; in hierarchical, the leaves.")
    levels: list[PredictionObject] | None = Field(None, description="In hierarchical, from the top to the answer.")
    label_set: str | None = Field(None, description="The stored set and version that answered.", examples=["pets@3"])
    model: str = Field(description="The model spec that answered.", examples=["tiny"])
    warnings: list[str] | None = Field(
        None, description="What is to be known of the labels: ends that are not read, names that look alike."
    )


class Refusal(BaseModel):
    """Why one image of several has no answer."""

    problem: Problem


class Answers(BaseModel):
    """One answer or refusal per image, in order."""

    results: list[Answer | Refusal]


class StreamAnswer(BaseModel):
    """One line of a stream's answers: of one image, an `answer` or a `problem`."""

    index: int = Field(description="Which image, from 0.")
    id: str | None = Field(None, description="As it was given.")
    answer: Answer | None = None
    problem: Problem | None = None


class Health(BaseModel):
    """Whether the service is up."""

    status: str = Field(examples=["ok"])


OPTIONS: dict[str, Any] = {  # a question's fields, where they come one by one
    "labels": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Repeat it per label, or give it once with comma-separated labels.",
    },
    "label_set": {"type": "string"},
    "templates": {"type": "array", "items": {"type": "string"}},
    "mode": {"type": "string", "enum": [mode.value for mode in Mode]},
    "threshold": {"type": "number", "minimum": 0, "maximum": 1},
    "temperature": {"type": "number", "minimum": 1e-6, "maximum": 1e6},
    "unknown": {"type": "boolean"},
    "top_k": {"type": "integer", "minimum": 1},
}

MULTIPART_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "description": "The image; several of them are answered in `results`.",
        },
        **OPTIONS,
    },
}
"""The multipart form of `ClassifyRequest`."""

QUERY_PARAMETERS: list[dict[str, Any]] = [
    {"name": name, "in": "query", "required": False, "schema": schema, "description": "For a body that is an image."}
    for name, schema in OPTIONS.items()
]
"""The options of a request whose body is the image itself."""
