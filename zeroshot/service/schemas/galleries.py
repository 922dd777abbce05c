"""Bodies and answers about galleries."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from zeroshot.gallery import GallerySummary, Hit, Item, LabelCount, Statistics, Verification
from zeroshot.labels.files import LabelEntry
from zeroshot.names import NAME_PATTERN
from zeroshot.service.problems import Problem
from zeroshot.service.schemas.classify import ModeName, Strict, Temperature, Threshold, Warned

GALLERY_NAME = f"^{NAME_PATTERN}$"

Where = Annotated[
    dict[str, Any] | None,
    Field(description='A condition on metadata: {"year": {"gte": 2020}, "colour": "red"}.'),
]


class NewGallery(Strict):
    """A gallery to make."""

    name: str = Field(
        description="Letters, digits, dots, dashes and underscores.",
        examples=["cars"],
        json_schema_extra={"pattern": GALLERY_NAME},
    )


class GalleryObject(BaseModel):
    """A gallery, in short."""

    name: str
    count: int | None = Field(None, description="Items in it.")
    model: str | None = Field(None, description="The model spec its vectors are of.")
    problem: Problem | None = Field(None, description="Why nothing can be said of it.")

    @classmethod
    def of(cls, summary: GallerySummary) -> GalleryObject:
        """Put a summary into the form of answers."""
        return cls(name=summary.name, count=summary.count, model=summary.model)


class GalleryList(BaseModel):
    """The galleries there are."""

    galleries: list[GalleryObject]


class GalleryInfo(BaseModel):
    """A gallery in numbers."""

    name: str
    count: int
    dim: int
    model: str
    fingerprint: str
    bytes: int = Field(description="On disk.")
    first_added: float | None = Field(description="Unix time.")
    last_added: float | None = Field(description="Unix time.")
    fields: dict[str, int] = Field(description="Metadata fields, and how many items have each.")
    index: str = Field(examples=["exact"])
    indexed: int = Field(description="Items in the approximate index; the others are compared one by one.")
    nprobe: int | None
    recall: float | None = Field(description="Share of the true ten nearest found, measured when the index was built.")

    @classmethod
    def of(cls, name: str, statistics: Statistics) -> GalleryInfo:
        """Put statistics into the form of answers."""
        return cls(name=name, **vars(statistics))


class NewItem(Strict):
    """An item to store: an image, or a ready vector."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"id": "car-1", "image": "iVBORw0KGgo...", "metadata": {"year": 2021}}]},
    )

    id: str | None = Field(None, description="Default: the image's SHA-256, or a random one for a vector.")
    image: str | None = Field(None, description="The image's bytes in base64, or a data URI.")
    vector: list[float] | None = Field(None, description="A ready vector of the gallery's model, instead of an image.")
    uri: str | None = Field(None, description="Where the image is.")
    metadata: dict[str, Any] = Field(default_factory=dict)


class NewItems(Strict):
    """Items to store. Each is stored or refused by itself."""

    items: Annotated[list[NewItem], Field(min_length=1, max_length=1000)]
    replace: bool = Field(False, description="Whether an item of a known id takes the other's place.")


class ItemResult(BaseModel):
    """What became of one item."""

    id: str | None
    status: Literal["stored", "refused"]
    problem: Problem | None = Field(None, description="Why it was refused.")


class ItemResults(BaseModel):
    """What became of each item, in order."""

    stored: int
    results: list[ItemResult]


class ItemObject(BaseModel):
    """A stored item."""

    id: str
    uri: str | None
    sha256: str | None
    width: int | None
    height: int | None
    metadata: dict[str, Any]
    vector: list[float] | None = Field(None, description="Only where it was asked for.")

    @classmethod
    def of(cls, item: Item, vector: list[float] | None = None) -> ItemObject:
        """Put an item into the form of answers."""
        return cls(
            id=item.id, uri=item.uri, sha256=item.sha256, width=item.width, height=item.height,
            metadata=item.metadata, vector=vector,
        )  # fmt: skip


class ItemPage(BaseModel):
    """Items by id, a page at a time."""

    items: list[ItemObject]
    next: str | None = Field(description="Give it as `after` for the next page; null on the last.")


class QueryObject(Strict):
    """One thing to look for: exactly one of text, image, id and vector."""

    text: str | None = Field(None, examples=["red sports car"])
    image: str | None = Field(None, description="The image's bytes in base64, or a data URI.")
    id: str | None = Field(None, description="A stored item.")
    vector: list[float] | None = None
    weight: float = Field(1.0, description="How much it counts; below 0 it is moved away from.")


class SearchRequest(Strict):
    """What to look for: one query, or several whose vectors are added by weight."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"queries": [{"text": "car"}, {"text": "night", "weight": -1}], "top_k": 5}]},
    )

    queries: Annotated[list[QueryObject], Field(min_length=1, max_length=100)]
    top_k: Annotated[int, Field(ge=1, le=10_000)] = 10
    min_similarity: float | None = None
    where: Where = None
    exact: bool = Field(False, description="Whether to compare with every vector, however many there are.")


class HitObject(BaseModel):
    """A found item."""

    id: str
    similarity: float = Field(description="Cosine with the query.")
    uri: str | None
    sha256: str | None
    width: int | None
    height: int | None
    metadata: dict[str, Any]

    @classmethod
    def of(cls, hit: Hit) -> HitObject:
        """Put a hit into the form of answers."""
        item = hit.item
        return cls(
            id=item.id, similarity=hit.similarity, uri=item.uri, sha256=item.sha256, width=item.width,
            height=item.height, metadata=item.metadata,
        )  # fmt: skip


class SearchResponse(Warned):
    """The most similar items, best first."""

    hits: list[HitObject]


class RelabelRequest(Strict):
    """Labels for a whole gallery."""

    labels: list[str | LabelEntry] | None = Field(None, description="At least two labels; or give `label_set`.")
    label_set: str | None = Field(None, description="A label set's name, instead of `labels`.")
    templates: str | list[str] | None = Field(None, description="A template set's name, or templates with one {} each.")
    mode: ModeName | None = Field(None, description="What kind of answer. Default: the label set's.")
    threshold: Threshold | None = Field(None, description="Score that a label needs to count.")
    temperature: Temperature | None = Field(None, description="Divides the logits. Default: what was calibrated, or 1.")
    unknown: bool = Field(False, description="Whether an image that shows none of the labels is answered 'unknown'.")
    examples: Annotated[int, Field(ge=0, le=100)] = Field(5, description="How many of the surest items to name.")


class Example(BaseModel):
    """An item that is surely of a label."""

    id: str
    score: float


class LabelCountObject(BaseModel):
    """How a label fared."""

    label: str
    count: int = Field(description="Items for which it is the best.")
    examples: list[Example]

    @classmethod
    def of(cls, counted: LabelCount) -> LabelCountObject:
        """Put a count into the form of answers."""
        examples = [Example(id=id_, score=score) for id_, score in counted.examples]
        return cls(label=counted.label, count=counted.count, examples=examples)


class RelabelResponse(Warned):
    """Every label's count, in the order given."""

    labels: list[LabelCountObject]


class VerificationObject(BaseModel):
    """What a check of index against database found."""

    count: int
    missing: int
    surplus: int
    different: int
    recall: float
    repaired: bool

    @classmethod
    def of(cls, found: Verification) -> VerificationObject:
        """Put a verification into the form of answers."""
        return cls(**vars(found), repaired=found.repaired)


class DuplicateGroups(BaseModel):
    """Groups of items that are as good as the same."""

    groups: list[list[str]]
