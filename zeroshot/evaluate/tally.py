"""What is taken note of while a dataset's pictures go by, and the figures that come of it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zeroshot.datasets import Problem, Sample
from zeroshot.encoders import FloatArray
from zeroshot.errors import quote
from zeroshot.evaluate import evaluation as facts
from zeroshot.evaluate.metrics import confusion, measure_multi, measure_single, measure_tree
from zeroshot.evaluate.records import MultiRecorder, MultiRecords, SingleRecorder, SingleRecords
from zeroshot.labels import Mode
from zeroshot.scoring import PresenceScorer, Scorer, Scores, ScoringOptions
from zeroshot.statistics import count_bins

if TYPE_CHECKING:
    from zeroshot.evaluate.running import Run

_MISTAKES = 24
_PAIRS = 1000  # of a confusion matrix that are kept


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
        Every picture's answer.
    worst : list of (Mistake, Sample)
        The most confident wrong answers.
    """

    evaluation: facts.Evaluation
    names: tuple[str, ...]
    records: SingleRecords | MultiRecords | None
    worst: list[tuple[facts.Mistake, Sample]]


class Tally:
    """What is taken note of while pictures go by."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.problems: list[Problem] = []
        self.unknown: Counter[str] = Counter()
        self.count = 0
        scorer = run.scorer
        self.mode = scorer.mode
        self.is_presence = isinstance(scorer, PresenceScorer)
        self.names = scorer.names
        self.flat: Scorer = scorer
        self.tree_truth: list[int] = []
        self.tree_answers: list[np.ndarray] = []
        self.tree_leaves: list[np.ndarray] = []
        if self.mode is Mode.HIERARCHICAL:
            options = ScoringOptions(Mode.MULTICLASS, None, run.asked.temperature)
            self.flat = run.classifier.scorer(run.label_set, templates=run.template_set, options=options)
            self.names = self.flat.names
        self.rows = {name: row for row, name in enumerate(self.names)}
        self.recorder: SingleRecorder | MultiRecorder = (
            MultiRecorder() if self.mode is Mode.MULTILABEL else SingleRecorder()
        )
        self.worst: list[tuple[float, int, facts.Mistake, Sample]] = []

    def sift(self, stream: Iterator[tuple[Sample, FloatArray] | Problem]) -> Iterator[tuple[Sample, FloatArray]]:
        """Keep what can be evaluated, and note the rest."""
        for one in stream:
            if isinstance(one, Problem):
                self.problems.append(one)
                continue
            sample, vector = one
            known = [name for label in sample.labels if (name := self._name(label)) is not None]
            if not self.is_presence:
                self.unknown.update(label for label in sample.labels if self._name(label) is None)
            if self.mode is not Mode.MULTILABEL and not self.is_presence and len(known) != 1:
                if known or not sample.labels:
                    reason = f"It has {len(sample.labels)} labels, and in the mode {self.mode} a picture has one."
                    self.problems.append(Problem(sample.key, reason))
                continue
            if self.mode is Mode.MULTILABEL and sample.labels and not known:
                continue
            if self.mode is Mode.MULTICLASS and known[0] not in self.rows:
                reason = f"{quote(known[0])} has labels below it, and in the mode {self.mode} those are the answers."
                self.problems.append(Problem(sample.key, reason))
                continue
            yield sample, vector

    def _name(self, label: str) -> str | None:
        row = self.run.label_set.find(label)
        return None if row is None else self.run.label_set.names[row]

    def add(self, vectors: FloatArray, samples: list[Sample]) -> None:
        """Take in some pictures."""
        self.count += len(samples)
        names = [[name for label in one.labels if (name := self._name(label)) is not None] for one in samples]
        if self.mode is Mode.HIERARCHICAL:
            self._add_tree(vectors, names)
            leaves = [row for row, own in enumerate(names) if own[0] in self.rows]
            vectors, samples, names = vectors[leaves], [samples[row] for row in leaves], [names[row] for row in leaves]
        if not samples:
            return
        scores = self.flat.scores(vectors)
        chosen = self.flat.decide(scores)
        keys, groups = [one.key for one in samples], [one.group for one in samples]
        if isinstance(self.recorder, MultiRecorder):
            has = np.zeros((len(samples), len(self.names)), dtype=np.bool_)
            for row, own in enumerate(names):
                for name in self._with_ancestors(own):
                    has[row, self.rows[name]] = True
            self.recorder.add(keys, groups, has, scores, chosen)
            return
        if self.is_presence:
            truth = np.array([int(self.names[1] in own) for own in names])
        else:
            truth = np.array([self.rows[own[0]] for own in names])
        self.recorder.add(keys, groups, truth, scores, chosen)
        self._note_worst(samples, truth, scores)

    def _with_ancestors(self, names: Sequence[str]) -> set[str]:
        label_set = self.run.label_set
        rows = [label_set.find(name) for name in names]
        return {label_set.names[above] for row in rows if row is not None for above in label_set.hierarchy.path(row)}

    def _add_tree(self, vectors: FloatArray, names: list[list[str]]) -> None:
        label_set = self.run.label_set
        rows_of = {name: row for row, name in enumerate(label_set.names)}
        self.tree_truth += [rows_of[own[0]] for own in names]
        rows, nodes, _ = self.run.scorer.choose(vectors)
        answers = np.full(len(vectors), -1, dtype=np.int64)
        answers[rows] = nodes
        self.tree_answers.append(answers)
        leaves = label_set.hierarchy.leaves
        self.tree_leaves.append(leaves[self.flat.scores(vectors).argmax(axis=1)])

    def _note_worst(self, samples: list[Sample], truth: np.ndarray, scores: Scores) -> None:
        best = scores.argmax(axis=1)
        for row in np.flatnonzero(best != truth):
            mistake = facts.Mistake(
                key=samples[row].key,
                truth=[self.names[truth[row]]],
                answer=[self.names[best[row]]],
                confidence=float(scores[row, best[row]]),
            )
            heapq.heappush(self.worst, (mistake.confidence, -self.count - int(row), mistake, samples[row]))
            if len(self.worst) > _MISTAKES:
                heapq.heappop(self.worst)

    def finish(self, evaluation: facts.Evaluation) -> Result:
        """Make figures of it all."""
        if self.mode is Mode.HIERARCHICAL:
            evaluation.tree = measure_tree(
                self.run.label_set.hierarchy,
                np.array(self.tree_truth),
                np.concatenate(self.tree_answers),
                np.concatenate(self.tree_leaves),
            )
        if isinstance(self.recorder, MultiRecorder):
            several = self.recorder.done()
            evaluation.multi = measure_multi(several, self.names)
            return Result(evaluation, self.names, several, [])
        if self.recorder.is_empty:
            return Result(evaluation, self.names, None, [])
        single = self.recorder.done()
        evaluation.single = measure_single(single, self.names)
        bins = count_bins(np.clip(single.confidence, 0, 1), single.hits)
        evaluation.calibration = facts.CalibrationBins(
            counts=bins.counts.tolist(), hits=bins.hits.tolist(), confidence=bins.confidence.tolist()
        )
        evaluation.confusion = _pairs(single, self.names)
        worst = [(mistake, sample) for _, _, mistake, sample in sorted(self.worst, key=lambda one: -one[0])]
        evaluation.mistakes = [mistake for mistake, _ in worst]
        return Result(evaluation, self.names, single, worst)


def _pairs(records: SingleRecords, names: Sequence[str]) -> facts.Confusion:
    pairs = [
        (names[right], names[answer], count) for right, answer, count in confusion(records.truth, records.prediction)
    ]
    return facts.Confusion(pairs=pairs[:_PAIRS])
