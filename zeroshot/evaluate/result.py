"""What an evaluation measured: everything that a report says, and that two runs are compared by, as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from pydantic import BaseModel, ConfigDict, Field

from zeroshot.datasets import Dataset, Problem, Sample
from zeroshot.evaluate.metrics import Figures, MultiFigures, SingleFigures, TreeFigures
from zeroshot.evaluate.records import MultiRecords, SingleRecords
from zeroshot.evaluate.retrieval import RetrievalFigures
from zeroshot.labels import Mode

FORMAT = 1
_PACKAGES = ("zeroshot", "numpy", "pillow", "onnxruntime", "torch", "open_clip_torch", "scikit-learn")


class DatasetFacts(BaseModel):
    """What was evaluated on."""

    name: str
    origin: str = Field(description="Where it is, and which split.")
    classes: int
    empty_classes: list[str] = Field(default_factory=list, description="Classes of which there is no image.")
    images: int = Field(description="That were evaluated.")
    unknown_labels: dict[str, int] = Field(
        default_factory=dict,
        description="Labels of the data that the label set has not, and how many images they have.",
    )
    problems: list[tuple[str, str]] = Field(default_factory=list, description="What could not be used, and why.")

    @classmethod
    def of(cls, dataset: Dataset, images: int, problems: Sequence[Problem], unknown: Mapping[str, int]) -> DatasetFacts:
        """Describe a dataset."""
        return cls(
            name=dataset.name,
            origin=dataset.origin,
            classes=len(dataset.classes),
            empty_classes=list(dataset.empty_classes),
            images=images,
            unknown_labels=dict(unknown),
            problems=[(problem.key, problem.reason) for problem in problems],
        )


class ModelFacts(BaseModel):
    """What was evaluated: an encoder."""

    model_config = ConfigDict(from_attributes=True)

    spec: str
    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float | None


class ScoringFacts(BaseModel):
    """Labels, prompts and options."""

    mode: Mode
    label_set: str = Field(description="Its name, and version where it is stored.")
    labels: int
    template_set: str
    templates: list[str]
    temperature: float
    has_head: bool = Field(description="Whether labelled images add to the text.")


class RunFacts(BaseModel):
    """Where and how fast."""

    made: str = Field(description="When, as ISO 8601.")
    machine: str
    versions: dict[str, str]
    seconds: float
    images_per_s: float
    encoded: int = Field(description="Images that were encoded; the others' vectors were there already.")

    @classmethod
    def of(cls, images: int, seconds: float, encoded: int) -> RunFacts:
        """Describe this machine, and what it did."""
        return cls(
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
            f"Python {platform.python_version()}",
            versions=_versions(),
            seconds=seconds,
            images_per_s=images / max(seconds, 1e-9),
            encoded=encoded,
        )


class CalibrationBins(BaseModel):
    """Answers sorted by their confidence."""

    counts: list[int]
    hits: list[float]
    confidence: list[float] = Field(description="Sums.")


class Confusion(BaseModel):
    """How often which label was answered where another is right."""

    pairs: list[tuple[str, str, int]] = Field(description="Right label, answer, count; the most frequent first.")

    @property
    def wrong(self) -> list[tuple[str, str, int]]:
        """Only the wrong answers."""
        return [pair for pair in self.pairs if pair[0] != pair[1]]


class Mistake(BaseModel):
    """A wrong answer."""

    key: str
    truth: list[str]
    answer: list[str]
    confidence: float


class RobustnessRow(BaseModel):
    """Accuracy under one change of the images."""

    change: str
    level: float
    images: int
    accuracy: float = Field(description="Multilabel: micro-F1.")
    relative: float = Field(description="Over that of the same images unchanged.")
    note: str = ""


class PublishedCheck(BaseModel):
    """A published accuracy, and the one that was measured."""

    published: float
    measured: float
    tolerance: float
    source: str

    @property
    def agrees(self) -> bool:
        """Whether they differ by no more than the tolerance."""
        return abs(self.published - self.measured) <= self.tolerance


class Evaluation(BaseModel):
    """What one run measured, and what was run."""

    format: int = FORMAT
    dataset: DatasetFacts
    model: ModelFacts
    scoring: ScoringFacts | None = Field(None, description="None where images have captions and no labels.")
    run: RunFacts
    single: SingleFigures | None = None
    multi: MultiFigures | None = None
    tree: TreeFigures | None = None
    retrieval: RetrievalFigures | None = None
    calibration: CalibrationBins | None = None
    confusion: Confusion | None = None
    mistakes: list[Mistake] = Field(default_factory=list)
    robustness: list[RobustnessRow] = Field(default_factory=list)
    published: PublishedCheck | None = None
    predictions_sha256: str | None = Field(None, description="Of predictions.csv beside this file.")

    @property
    def figures(self) -> Figures | None:
        """Those of labels, whether they exclude each other or not."""
        return self.single or self.multi

    @property
    def accuracy(self) -> float:
        """Top-1; for several labels mean average precision, for captions recall@1 of images."""
        if self.single is not None:
            return self.single.top_1.value
        if self.multi is not None:
            return self.multi.mean_average_precision.value
        return 0.0 if self.retrieval is None else self.retrieval.text_to_image["recall@1"]


@dataclass(frozen=True, eq=False)
class Result:
    """An evaluation with what its report needs beside the figures.

    Parameters
    ----------
    evaluation : Evaluation
        The figures.
    names : tuple of str
        The labels.
    records : SingleRecords, MultiRecords or None
        Every image's answer.
    worst : list of (Mistake, Sample)
        The most confident wrong answers.
    """

    evaluation: Evaluation
    names: tuple[str, ...]
    records: SingleRecords | MultiRecords | None
    worst: list[tuple[Mistake, Sample]]


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
