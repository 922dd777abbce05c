"""Evaluate a classifier on a dataset: one pass, in memory that hardly grows with the number of pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import Dataset, Problem, Sample
from zeroshot.encoders import FloatArray
from zeroshot.errors import DatasetError, quote
from zeroshot.evaluate import evaluation as facts
from zeroshot.evaluate.describing import dataset_facts, model_facts, run_facts
from zeroshot.evaluate.tally import Result, Tally
from zeroshot.evaluate.vectors import Change, VectorStore
from zeroshot.labels import Label, LabelSet, Mode, parse_labels
from zeroshot.prompts import TemplateSet
from zeroshot.scoring import ScoringOptions

_AT_ONCE = 256  # vectors scored together

Progress = Callable[[], object]


@dataclass(eq=False)
class Run:
    """A classifier, a dataset and a question.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        What is evaluated.
    dataset : Dataset
        What it is evaluated on.
    store : VectorStore
        Keeps the pictures' vectors.
    labels : LabelSet or None
        The dataset's own classes when None.
    templates : TemplateSet or None
        When None: those published with the dataset for models that are not read by bare names, else the classifier's
        choice.
    options : ScoringOptions
        Mode, threshold and temperature.
    batch_size : int
        Pictures encoded at once.
    limit : int or None
        Most pictures.
    change : Change or None
        What is done to each picture first.
    """

    classifier: ZeroShotClassifier
    dataset: Dataset
    store: VectorStore
    labels: LabelSet | None = None
    templates: TemplateSet | None = None
    options: ScoringOptions = field(default_factory=ScoringOptions)
    batch_size: int = 16
    limit: int | None = None
    change: Change | None = None

    def __post_init__(self) -> None:
        self.label_set = self.labels or _own_labels(self.dataset)
        chosen = self.templates
        own, recommended = self.dataset.templates, self.classifier.chosen(self.label_set, None)[1]
        if chosen is None and own is not None and not recommended.is_bare:
            chosen = own
        self.template_set = chosen or recommended
        mode = self.options.mode or self.label_set.mode or (Mode.MULTILABEL if self.dataset.several else None)
        self.asked = ScoringOptions(mode, self.options.threshold, self.options.temperature)
        self.scorer = self.classifier.scorer(self.label_set, templates=self.template_set, options=self.asked)

    def answers(self, on_progress: Progress | None = None) -> Iterator[tuple[Sample, FloatArray] | Problem]:
        """Embed the dataset's pictures.

        Parameters
        ----------
        on_progress : callable or None
            Called once per picture.

        Yields
        ------
        (Sample, ndarray of float32, shape (dim,)) or Problem
            In order.
        """
        samples = islice(self.dataset.samples(), self.limit)
        stream = self.store.stream(
            samples,
            self.classifier.encoder,
            limits=self.classifier.limits,
            batch_size=self.batch_size,
            change=self.change,
        )
        for one in stream:
            if on_progress is not None:
                on_progress()
            yield one

    def evaluate(self, on_progress: Progress | None = None) -> Result:
        """Evaluate.

        Parameters
        ----------
        on_progress : callable or None
            Called once per picture.

        Returns
        -------
        Result
            With figures of what could be used, and a list of what could not.

        Raises
        ------
        DatasetError
            If nothing could be used.
        """
        start, encoded = time.monotonic(), self.store.encoded
        tally = Tally(self)
        for vectors, samples in _batches(tally.sift(self.answers(on_progress))):
            tally.add(vectors, samples)
        if not tally.count:
            reason = f"{len(tally.problems)} could not be used"
            unknown = ", ".join(map(quote, list(tally.unknown)[:5]))
            if unknown:
                reason += f", and the labels of the others are not in {self.label_set.name}: {unknown}"
            raise DatasetError(
                f"{self.dataset.name} has no picture to evaluate: {reason}.",
                f"The labels are {', '.join(map(quote, self.label_set.names[:5]))}...; give --label-set, or aliases.",
            )
        seconds = time.monotonic() - start
        evaluation = facts.Evaluation(
            dataset=dataset_facts(self.dataset, tally.count, tally.problems, tally.unknown),
            model=model_facts(self.classifier.encoder),
            question=_question_facts(self),
            run=run_facts(tally.count + len(tally.problems), seconds, self.store.encoded - encoded),
        )
        return tally.finish(evaluation)


def _own_labels(dataset: Dataset) -> LabelSet:
    labels = [Label(name, wording=dataset.wordings.get(name, "")) for name in dataset.classes]
    return LabelSet(dataset.name, parse_labels(labels, at_least=1))


def _batches(stream: Iterator[tuple[Sample, FloatArray]]) -> Iterator[tuple[FloatArray, list[Sample]]]:
    while part := list(islice(stream, _AT_ONCE)):
        yield np.stack([vector for _, vector in part]), [sample for sample, _ in part]


def _question_facts(run: Run) -> facts.QuestionFacts:
    label_set, scorer = run.label_set, run.scorer
    return facts.QuestionFacts(
        mode=scorer.mode,
        label_set=label_set.name if label_set.version is None else f"{label_set.name}@{label_set.version}",
        labels=len(label_set.labels),
        template_set=run.template_set.name,
        templates=list(run.template_set.templates),
        temperature=scorer.temperature,
        has_head=scorer.inputs.head is not None,
    )
