"""Evaluate a classifier on a dataset: one pass, in memory that hardly grows with the number of images."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import Dataset, Problem, Sample
from zeroshot.encoders import FloatArray
from zeroshot.errors import DatasetError, quote
from zeroshot.evaluate.metrics import confusion, measure_multi, measure_single, measure_tree
from zeroshot.evaluate.records import MultiRecorder, SingleRecorder, rank
from zeroshot.evaluate.result import (
    CalibrationBins,
    Confusion,
    DatasetFacts,
    Evaluation,
    Mistake,
    ModelFacts,
    Result,
    RunFacts,
    ScoringFacts,
)
from zeroshot.evaluate.retrieval import measure_retrieval
from zeroshot.evaluate.vector_cache import Change, VectorCache
from zeroshot.labels import Label, LabelSet, Mode, parse_labels
from zeroshot.prompts import TemplateSet
from zeroshot.scoring import Scorer, Scores, ScoringOptions
from zeroshot.scoring.multilabel import PresenceScorer
from zeroshot.statistics import IntArray, count_bins

_BATCH = 256  # vectors scored, or captions encoded, together
_MISTAKES = 24
_PAIRS = 1000  # of a confusion matrix that are kept

Progress = Callable[[], object]


@dataclass(eq=False)
class Run:
    """A classifier, a dataset, and what decides the scores.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        What is evaluated.
    dataset : Dataset
        What it is evaluated on.
    cache : VectorCache
        Keeps the images' vectors.
    labels : LabelSet or None
        The dataset's own classes when None.
    templates : TemplateSet or None
        When None: those published with the dataset for models that are not read by bare names, else the classifier's
        choice.
    options : ScoringOptions
        Mode, threshold and temperature.
    batch_size : int
        Images encoded at once.
    limit : int or None
        Most images.
    change : Change or None
        What is done to each image first.
    """

    classifier: ZeroShotClassifier
    dataset: Dataset
    cache: VectorCache
    labels: LabelSet | None = None
    templates: TemplateSet | None = None
    options: ScoringOptions = field(default_factory=ScoringOptions)
    batch_size: int = 16
    limit: int | None = None
    change: Change | None = None

    @property
    def has_labels(self) -> bool:
        """Whether there are labels to evaluate on: given ones, or the dataset's."""
        return self.labels is not None or bool(self.dataset.classes)

    @cached_property
    def label_set(self) -> LabelSet:
        """The labels that were given, else the dataset's."""
        if self.labels is not None:
            return self.labels
        names, wordings = self.dataset.classes, self.dataset.wordings
        labels = [Label(name, wording=wordings.get(name, "")) for name in names]
        return LabelSet(self.dataset.name, parse_labels(labels, at_least=1))

    @cached_property
    def template_set(self) -> TemplateSet:
        """The templates that were given, else the dataset's own or the classifier's choice."""
        own, recommended = self.dataset.templates, self.classifier.chosen(self.label_set, None)[1]
        if own is None or recommended.is_bare:
            own = recommended
        return self.templates or own

    @cached_property
    def scorer(self) -> Scorer:
        """Scores and decides; built, which embeds the labels, when it is first used."""
        mode = self.options.mode or self.label_set.mode or (Mode.MULTILABEL if self.dataset.several else None)
        return self.build_scorer(replace(self.options, mode=mode))

    @property
    def count(self) -> int | None:
        """How many images there are to evaluate, where that is known beforehand."""
        count = self.dataset.count
        return count if count is None or self.limit is None else min(self.limit, count)

    def column(self, sample: Sample) -> int | None:
        """Find the column of an image's one label.

        Parameters
        ----------
        sample : Sample
            An image.

        Returns
        -------
        int or None
            The scorer's column; None where the image has no label that is a column, or several labels.
        """
        names = {self.label_set.names[row] for row in map(self.label_set.find, sample.labels) if row is not None}
        return self._columns.get(names.pop()) if len(names) == 1 else None

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.scorer.names)}

    def build_scorer(self, options: ScoringOptions) -> Scorer:
        """Build a scorer for the run's labels and templates.

        Parameters
        ----------
        options : ScoringOptions
            Mode, threshold and temperature.

        Returns
        -------
        Scorer
            The same one for the same options.
        """
        return self.classifier.scorer(self.label_set, templates=self.template_set, options=options)

    def embed(self, on_progress: Progress | None = None) -> Iterator[tuple[Sample, FloatArray] | Problem]:
        """Embed the dataset's images.

        Parameters
        ----------
        on_progress : callable or None
            Called once per image.

        Yields
        ------
        (Sample, ndarray of float32, shape (dim,)) or Problem
            In order.
        """
        samples = itertools.islice(self.dataset.samples(), self.limit)
        stream = self.cache.stream(
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
            Called once per image.

        Returns
        -------
        Result
            With figures of what could be used, and a list of what could not.

        Raises
        ------
        DatasetError
            If nothing could be used.
        """
        start, encoded = time.monotonic(), self.cache.encoded
        tally = _Tally(self)
        usable = tally.select(self.embed(on_progress))
        while part := list(itertools.islice(usable, _BATCH)):
            tally.add(np.stack([vector for _, vector in part]), [sample for sample, _ in part])
        if not tally.count:
            reason = f"{len(tally.problems)} could not be used"
            unknown = ", ".join(map(quote, list(tally.unknown)[:5]))
            if unknown:
                reason += f", and the labels of the others are not in {self.label_set.name}: {unknown}"
            raise DatasetError(
                f"{self.dataset.name} has no image to evaluate: {reason}.",
                f"The labels are {', '.join(map(quote, self.label_set.names[:5]))}...; give --label-set, or aliases.",
            )
        done, seconds = tally.count + len(tally.problems), time.monotonic() - start
        evaluation = Evaluation(
            dataset=DatasetFacts.of(self.dataset, tally.count, tally.problems, tally.unknown),
            model=ModelFacts.model_validate(self.classifier.encoder),
            scoring=self._scoring_facts(),
            run=RunFacts.of(done, seconds, self.cache.encoded - encoded),
        )
        return tally.finish(evaluation)

    def retrieve(self, on_progress: Progress | None = None) -> Result:
        """Find images by their captions and captions by their images.

        All vectors are in memory: 2 KB for each image and caption at 512 dimensions.

        Parameters
        ----------
        on_progress : callable or None
            Called once per image.

        Returns
        -------
        Result
            With figures of retrieval alone.

        Raises
        ------
        DatasetError
            If fewer than two images could be used.
        """
        start, encoded = time.monotonic(), self.cache.encoded
        problems: list[Problem] = []
        vectors: list[FloatArray] = []
        captions: list[str] = []
        captioned: list[int] = []  # each caption's image
        for one in self.embed(on_progress):
            if isinstance(one, Problem):
                problems.append(one)
                continue
            sample, vector = one
            if not sample.captions:
                problems.append(Problem(sample.key, "It has no caption."))
                continue
            captions += sample.captions
            captioned += [len(vectors)] * len(sample.captions)
            vectors.append(vector)
        if len(vectors) < 2:
            raise DatasetError(
                f"{self.dataset.name} has {len(vectors)} images with captions that can be used.",
                "Give a dataset that has two at least.",
            )
        encode = self.classifier.encoder.encode_texts
        texts = [encode(captions[part : part + _BATCH]) for part in range(0, len(captions), _BATCH)]
        figures = measure_retrieval(np.stack(vectors), np.concatenate(texts), np.array(captioned, dtype=np.int64))
        evaluation = Evaluation(
            dataset=DatasetFacts.of(self.dataset, len(vectors), problems, {}),
            model=ModelFacts.model_validate(self.classifier.encoder),
            run=RunFacts.of(len(vectors) + len(problems), time.monotonic() - start, self.cache.encoded - encoded),
            retrieval=figures,
        )
        return Result(evaluation, (), None, [])

    def _scoring_facts(self) -> ScoringFacts:
        label_set, scorer = self.label_set, self.scorer
        return ScoringFacts(
            mode=scorer.mode,
            label_set=label_set.name if label_set.version is None else f"{label_set.name}@{label_set.version}",
            labels=len(label_set.labels),
            template_set=self.template_set.name,
            templates=list(self.template_set.templates),
            temperature=scorer.temperature,
            has_head=scorer.inputs.head is not None,
        )


class _Tally:
    """Counts and records of the images of one run."""

    def __init__(self, run: Run) -> None:
        self.problems: list[Problem] = []
        self.unknown: Counter[str] = Counter()
        self.count = 0
        self._label_set, self._scorer = run.label_set, run.scorer
        self._mode = run.scorer.mode
        self._is_presence = isinstance(run.scorer, PresenceScorer)
        self._flat: Scorer = run.scorer  # a tree is also measured as its leaves, which exclude each other
        if self._mode is Mode.HIERARCHICAL:
            self._flat = run.build_scorer(ScoringOptions(Mode.MULTICLASS, None, run.options.temperature))
        self._names = self._flat.names
        self._rows = {name: row for row, name in enumerate(self._names)}
        self._recorder = MultiRecorder() if self._mode is Mode.MULTILABEL else SingleRecorder()
        self._tree_parts: list[tuple[IntArray, IntArray, IntArray]] = []
        self._worst: list[tuple[float, int, Mistake, Sample]] = []
        self._numbers = itertools.count()  # the earlier of two equals is kept

    def select(self, stream: Iterator[tuple[Sample, FloatArray] | Problem]) -> Iterator[tuple[Sample, FloatArray]]:
        """Keep what can be evaluated, and count the rest."""
        for one in stream:
            if isinstance(one, Problem):
                self.problems.append(one)
                continue
            sample, vector = one
            known = self._known(sample)
            if not self._is_presence:
                self.unknown.update(label for label in sample.labels if self._label_set.find(label) is None)
            if self._mode is not Mode.MULTILABEL and not self._is_presence and len(known) != 1:
                if known or not sample.labels:
                    reason = f"It has {len(sample.labels)} labels, and in the mode {self._mode} an image has one."
                    self.problems.append(Problem(sample.key, reason))
                continue
            if self._mode is Mode.MULTILABEL and sample.labels and not known:
                continue
            if self._mode is Mode.MULTICLASS and (name := self._label_set.names[known[0]]) not in self._rows:
                reason = f"{quote(name)} has labels below it, and in the mode {self._mode} those are the answers."
                self.problems.append(Problem(sample.key, reason))
                continue
            yield sample, vector

    def _known(self, sample: Sample) -> list[int]:
        """The rows, in the label set, of an image's labels."""
        return [row for label in sample.labels if (row := self._label_set.find(label)) is not None]

    def add(self, vectors: FloatArray, samples: Sequence[Sample]) -> None:
        """Score some images and record the answers."""
        self.count += len(samples)
        names = self._label_set.names
        known = [self._known(sample) for sample in samples]
        if self._mode is Mode.HIERARCHICAL:
            self._add_tree(vectors, np.array([own[0] for own in known]))
            leaves = [row for row, own in enumerate(known) if names[own[0]] in self._rows]
            vectors, samples, known = vectors[leaves], [samples[row] for row in leaves], [known[row] for row in leaves]
        if not samples:
            return
        scores = self._flat.scores(vectors)
        chosen = self._flat.decide(scores, vectors)
        keys, groups = [one.key for one in samples], [one.group for one in samples]
        if isinstance(self._recorder, MultiRecorder):
            has = np.zeros((len(samples), len(self._names)), dtype=np.bool_)
            for row, own in enumerate(known):
                for label in own:
                    has[row, self._label_set.hierarchy.path(label)] = True
            self._recorder.add(keys, groups, has, scores, chosen)
            return
        if self._is_presence:
            truth = np.array([int(self._names[1] in [names[label] for label in own]) for own in known])
        else:
            truth = np.array([self._rows[names[own[0]]] for own in known])
        self._recorder.add(keys, groups, truth, scores, chosen)
        self._record_mistakes(samples, truth, scores, rank(scores, chosen)[:, 0])

    def _add_tree(self, vectors: FloatArray, truth: IntArray) -> None:
        rows, nodes, _ = self._scorer.choose(vectors)
        answers = np.full(len(vectors), -1, dtype=np.int64)
        answers[rows] = nodes
        scores = self._flat.scores(vectors)
        best = rank(scores, self._flat.decide(scores, vectors))[:, 0]
        self._tree_parts.append((truth, answers, self._label_set.hierarchy.leaves[best]))

    def _record_mistakes(self, samples: Sequence[Sample], truth: IntArray, scores: Scores, best: IntArray) -> None:
        for row in np.flatnonzero(best != truth).tolist():
            mistake = Mistake(
                key=samples[row].key,
                truth=[self._names[truth[row]]],
                answer=[self._names[best[row]]],
                confidence=float(scores[row, best[row]]),
            )
            heapq.heappush(self._worst, (mistake.confidence, -next(self._numbers), mistake, samples[row]))
            if len(self._worst) > _MISTAKES:
                heapq.heappop(self._worst)

    def finish(self, evaluation: Evaluation) -> Result:
        """Compute the figures."""
        if self._tree_parts:
            columns = (np.concatenate(column) for column in zip(*self._tree_parts, strict=True))
            evaluation.tree = measure_tree(self._label_set.hierarchy, *columns)
        if isinstance(self._recorder, MultiRecorder):
            several = self._recorder.done()
            evaluation.multi = measure_multi(several, self._names)
            return Result(evaluation, self._names, several, [])
        if self._recorder.is_empty:
            return Result(evaluation, self._names, None, [])
        single = self._recorder.done()
        evaluation.single = measure_single(single, self._names)
        bins = count_bins(single.confidence, single.hits)
        evaluation.calibration = CalibrationBins(
            counts=bins.counts.tolist(), hits=bins.hits.tolist(), confidence=bins.confidence.tolist()
        )
        pairs = [(self._names[t], self._names[p], count) for t, p, count in confusion(single.truth, single.prediction)]
        evaluation.confusion = Confusion(pairs=pairs[:_PAIRS])
        worst = [one[2:] for one in sorted(self._worst, key=lambda one: one[:2], reverse=True)]
        evaluation.mistakes = [mistake for mistake, _ in worst]
        return Result(evaluation, self._names, single, worst)
