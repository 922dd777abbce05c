"""Bodies and answers about stored label sets."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from zeroshot.labels import Change, StoredLabelSet
from zeroshot.labels.files import LabelEntry
from zeroshot.service.schemas.classify import NAME, ModeName, Strict, Threshold, Warned


class LabelSetSummary(BaseModel):
    """A label set, in short."""

    name: str = Field(examples=["pets"])
    shipped: bool = Field(description="Whether it comes with the program, and cannot be changed.")
    version: int | None = Field(None, description="The newest.")
    count: int | None = Field(None, description="Labels in it.")
    changed: float | None = Field(None, description="Unix time of the newest version.")

    @classmethod
    def of(cls, stored: StoredLabelSet) -> LabelSetSummary:
        """Put a summary into the form of answers."""
        return cls(shipped=False, **vars(stored))


class LabelSetList(BaseModel):
    """The label sets there are: stored ones, then shipped ones."""

    label_sets: list[LabelSetSummary]


class LabelSetCreated(Warned):
    """A set after a change."""

    name: str
    version: int
    count: int = Field(description="Labels in it.")


class NewLabels(Strict):
    """Labels to add."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"labels": ["guinea pig", {"name": "hamster"}]}]}
    )

    labels: Annotated[list[str | LabelEntry], Field(min_length=1)]


class LabelSetOptions(Strict):
    """What to change about a set; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"mode": "multilabel", "threshold": 0.6}]}
    )

    name: str | None = Field(None, description="Another name.", json_schema_extra={"pattern": NAME})
    mode: ModeName | None = None
    threshold: Threshold | None = None
    templates: str | list[str] | None = Field(None, description="A template set's name, or templates with one {} each.")
    description: str | None = None


class CopyRequest(Strict):
    """Where to copy a set to."""

    name: str = Field(description="A free name.", examples=["pets-2"], json_schema_extra={"pattern": NAME})


class ChangeObject(BaseModel):
    """One line of a set's history."""

    version: int
    changed: float = Field(description="Unix time.")
    change: str

    @classmethod
    def of(cls, change: Change) -> ChangeObject:
        """Put a change into the form of answers."""
        return cls(**vars(change))


class History(BaseModel):
    """What was done to a set, oldest first."""

    versions: list[ChangeObject]
