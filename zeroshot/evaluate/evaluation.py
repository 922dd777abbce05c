"""What an evaluation found: everything that a report says, and that two runs are compared by, as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from zeroshot.evaluate.metrics import GroupFigures, LabelFigures, MultiFigures, SingleFigures, TreeFigures
from zeroshot.evaluate.retrieval import RetrievalFigures
from zeroshot.labels import Mode

FORMAT = 1


class DatasetFacts(BaseModel):
    """What was evaluated on."""

    name: str
    origin: str = Field(description="Where it is, and which split.")
    classes: int
    empty_classes: list[str] = Field(default_factory=list, description="Classes of which there is no picture.")
    pictures: int = Field(description="That were evaluated.")
    unknown_labels: dict[str, int] = Field(
        default_factory=dict,
        description="Labels of the data that the label set has not, and how many pictures they have.",
    )
    problems: list[tuple[str, str]] = Field(default_factory=list, description="What could not be used, and why.")


class ModelFacts(BaseModel):
    """What was evaluated."""

    model_config = ConfigDict(protected_namespaces=())

    spec: str
    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float | None


class QuestionFacts(BaseModel):
    """What it was asked."""

    mode: Mode
    label_set: str = Field(description="Its name, and version where it is stored.")
    labels: int
    template_set: str
    templates: list[str]
    temperature: float
    has_head: bool = Field(description="Whether labelled pictures add to the text.")


class RunFacts(BaseModel):
    """Where and how fast."""

    made: str = Field(description="When, as ISO 8601.")
    machine: str
    versions: dict[str, str]
    seconds: float
    pictures_per_s: float
    encoded: int = Field(description="Pictures that were encoded; the others' vectors were there already.")


class CalibrationBins(BaseModel):
    """Answers sorted by their confidence."""

    counts: list[int]
    hits: list[float]
    confidence: list[float] = Field(description="Sums.")


class Confusion(BaseModel):
    """How often which label was answered where another is right."""

    pairs: list[tuple[str, str, int]] = Field(description="Right label, answer, count; the most frequent first.")


class Mistake(BaseModel):
    """A wrong answer."""

    key: str
    truth: list[str]
    answer: list[str]
    confidence: float


class RobustnessRow(BaseModel):
    """Accuracy under one change of the pictures."""

    change: str
    level: float
    pictures: int
    accuracy: float = Field(description="Multilabel: micro-F1.")
    relative: float = Field(description="Over that of the same pictures unchanged.")
    note: str = ""


class Expectation(BaseModel):
    """A published figure, and whether this run comes to it."""

    published: float
    measured: float
    tolerance: float
    source: str

    @property
    def is_met(self) -> bool:
        """Whether they are as near as they have to be."""
        return abs(self.published - self.measured) <= self.tolerance


class Evaluation(BaseModel):
    """One run."""

    format: int = FORMAT
    dataset: DatasetFacts
    model: ModelFacts
    question: QuestionFacts | None = Field(None, description="None where pictures have captions and no labels.")
    run: RunFacts
    single: SingleFigures | None = None
    multi: MultiFigures | None = None
    tree: TreeFigures | None = None
    retrieval: RetrievalFigures | None = None
    calibration: CalibrationBins | None = None
    confusion: Confusion | None = None
    mistakes: list[Mistake] = Field(default_factory=list)
    robustness: list[RobustnessRow] = Field(default_factory=list)
    expectation: Expectation | None = None
    predictions_sha256: str | None = Field(None, description="Of predictions.csv beside this file.")

    @property
    def labels(self) -> list[LabelFigures]:
        """Each label's figures, whichever kind they are."""
        figures = self.single or self.multi
        return [] if figures is None else figures.labels

    @property
    def groups(self) -> list[GroupFigures]:
        """Each group's figures, whichever kind they are."""
        figures = self.single or self.multi
        return [] if figures is None else figures.groups

    @property
    def worst_gap(self) -> float | None:
        """Between the best and the worst group, where there are groups."""
        figures = self.single or self.multi
        return None if figures is None else figures.worst_gap

    @property
    def accuracy(self) -> float:
        """The first figure that people ask for."""
        if self.single is not None:
            return self.single.top_1.value
        if self.multi is not None:
            return self.multi.mean_average_precision.value
        return 0.0 if self.retrieval is None else self.retrieval.text_to_image["recall@1"]
