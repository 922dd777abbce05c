"""Figures from records; scikit-learn's where it has them.

Confidence intervals are bootstraps over images. Hierarchical precision, recall and F1 count a node's ancestors as
right with it (Kiritchenko et al., "Functional Annotation of Genes Using Hierarchical Text Categorization", 2005).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, computed_field

from zeroshot.evaluate.records import TOP, MultiRecords, SingleRecords
from zeroshot.labels import Hierarchy
from zeroshot.optional import require
from zeroshot.statistics import (
    BoolArray,
    IntArray,
    count_bins,
    f1_scores,
    interval,
    log_likelihoods,
    resamples,
)

_DRAWS = 1000
_MANY = 20_000  # images from which on a fifth of the draws is enough


class Interval(BaseModel):
    """A figure, and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


class LabelFigures(BaseModel):
    """One label's figures."""

    label: str
    images: int = Field(description="That have it.")
    precision: float
    recall: float
    f1: float
    average_precision: float | None = Field(None, description="Multilabel.")


class GroupFigures(BaseModel):
    """One group's figures."""

    group: str
    images: int
    accuracy: float = Field(description="Multilabel: micro-F1.")


class Figures(BaseModel):
    """Of labels of any kind."""

    images: int
    labels: list[LabelFigures]
    groups: list[GroupFigures]

    @computed_field
    def worst_gap(self) -> float | None:
        """Between the best and the worst group's accuracy, where there are groups."""
        figures = [group.accuracy for group in self.groups]
        return max(figures) - min(figures) if len(figures) > 1 else None


class SingleFigures(Figures):
    """Of labels that exclude each other."""

    hits: int
    top_1: Interval
    top_5: float | None = Field(None, description="Where there are five labels or more.")
    top_5_hits: int | None = None
    mean_per_class_recall: Interval
    macro_precision: float
    macro_recall: float
    macro_f1: Interval
    weighted_f1: float
    answered: float = Field(description="Share whose answer is a label rather than unknown.")
    accuracy_where_answered: float | None
    ece: float
    nll: float
    brier: float
    roc_auc: float | None = Field(None, description="Of two labels: the second against the first.")
    average_precision: float | None = Field(None, description="Of two labels: the second's.")


class MultiFigures(Figures):
    """Of images that may have several labels."""

    mean_average_precision: Interval
    micro_f1: Interval
    macro_f1: Interval
    micro_precision: float
    micro_recall: float
    exact_match: float = Field(description="Share whose labels are all right and none too many.")


class TreeFigures(BaseModel):
    """Of labels in a tree."""

    answered: float = Field(description="Share that has any answer.")
    exact: float = Field(description="Share whose answer is the right node itself.")
    right_or_coarser: float = Field(description="Share whose answer is the right node or above it, unknown included.")
    hierarchical_precision: float
    hierarchical_recall: float
    hierarchical_f1: float
    mean_steps: float = Field(description="Through the tree, from the answer to the right node.")
    flat_mean_steps: float = Field(description="The same for the likeliest leaf.")


def measure_single(records: SingleRecords, names: Sequence[str]) -> SingleFigures:
    """Measure answers of labels that exclude each other."""
    truth, prediction, hits = records.truth, records.prediction, records.hits
    present = np.unique(truth)
    precision, recall, f1, support = _per_label(truth, prediction, len(names))
    top_5 = (records.top == truth[:, None]).any(axis=1) if len(names) >= TOP else None
    answered = records.answered
    binary = _binary(records) if len(names) == 2 else {}
    draws = [
        (float(hits[rows].mean()), *_macro(truth[rows], prediction[rows], len(names)))
        for rows in resamples(len(truth), _draws(len(truth)))
    ]
    accuracies, recalls, f1s = zip(*draws, strict=True)
    return SingleFigures(
        images=len(truth),
        hits=int(hits.sum()),
        top_1=_interval(float(hits.mean()), accuracies),
        top_5=None if top_5 is None else float(top_5.mean()),
        top_5_hits=None if top_5 is None else int(top_5.sum()),
        mean_per_class_recall=_interval(float(recall[present].mean()), recalls),
        macro_precision=float(precision[present].mean()),
        macro_recall=float(recall[present].mean()),
        macro_f1=_interval(float(f1[present].mean()), f1s),
        weighted_f1=float((f1 * support).sum() / support.sum()),
        answered=float(answered.mean()),
        accuracy_where_answered=float(hits[answered].mean()) if answered.any() else None,
        ece=count_bins(records.confidence, hits).ece,
        nll=float(-log_likelihoods(records.likelihood).mean()),
        brier=float(records.brier.mean()),
        labels=_label_figures(names, (precision, recall, f1, support)),
        groups=_groups(records.groups, lambda rows: float(hits[rows].mean())),
        **binary,
    )


def measure_multi(records: MultiRecords, names: Sequence[str]) -> MultiFigures:
    """Measure answers to images that may have several labels."""
    metrics = require("sklearn.metrics", "evaluate")
    truth, chosen = records.truth, records.chosen
    present = np.flatnonzero(truth.any(axis=0))
    nobody = np.zeros((len(truth), 1), dtype=np.bool_)  # a lone column would be taken for a binary question
    both = np.hstack([truth, nobody]), np.hstack([chosen, nobody])
    precision, recall, f1, support = (
        one[:-1] for one in metrics.precision_recall_fscore_support(*both, average=None, zero_division=0.0)
    )
    ranked = _Ranked(truth, records.scores)
    areas = ranked.average_precisions(np.ones(len(truth)))
    micro = metrics.precision_recall_fscore_support(*both, average="micro", zero_division=0.0)
    draws = [_f1(truth[rows], chosen[rows]) for rows in resamples(len(truth), _draws(len(truth)))]
    micros, macros = zip(*draws, strict=True)
    maps = []
    for rows in resamples(len(truth), _draws(len(truth)) // 10):
        drawn = ranked.average_precisions(np.bincount(rows, minlength=len(truth)))
        maps.append(float(np.mean(list(drawn.values()))) if drawn else 0.0)
    return MultiFigures(
        images=len(truth),
        mean_average_precision=_interval(float(np.mean(list(areas.values()))), maps),
        micro_f1=_interval(float(micro[2]), micros),
        macro_f1=_interval(float(f1[present].mean()), macros),
        micro_precision=float(micro[0]),
        micro_recall=float(micro[1]),
        exact_match=float((truth == chosen).all(axis=1).mean()),
        labels=_label_figures(names, (precision, recall, f1, support), areas),
        groups=_groups(records.groups, lambda rows: _f1(truth[rows], chosen[rows])[0]),
    )


def measure_tree(hierarchy: Hierarchy, truth: IntArray, answers: IntArray, leaves: IntArray) -> TreeFigures:
    """Measure answers that may stop above the right node."""
    count = len(hierarchy.parents)
    paths = [set(hierarchy.path(row)) for row in range(count)]
    pairs = list(zip(answers.tolist(), truth.tolist(), strict=True))
    shared = sum(len(paths[a] & paths[t]) for a, t in pairs if a >= 0)
    given = sum(len(paths[a]) for a, _ in pairs if a >= 0)
    wanted = sum(len(paths[t]) for _, t in pairs)
    return TreeFigures(
        answered=float((answers >= 0).mean()),
        exact=float((answers == truth).mean()),
        right_or_coarser=float(np.mean([a < 0 or a in paths[t] for a, t in pairs])),
        hierarchical_precision=shared / given if given else 0.0,
        hierarchical_recall=shared / wanted,
        hierarchical_f1=float(f1_scores(shared, given, wanted)),
        mean_steps=float(np.mean([hierarchy.distance(a, t) for a, t in pairs])),
        flat_mean_steps=float(
            np.mean([hierarchy.distance(a, t) for a, t in zip(leaves.tolist(), truth.tolist(), strict=True)])
        ),
    )


def confusion(truth: IntArray, prediction: IntArray) -> list[tuple[int, int, int]]:
    """Count answers: (right label, answer, how often), the most frequent first; only those that there are."""
    pairs, counts = np.unique(np.stack([truth, prediction]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(pairs[0, row]), int(pairs[1, row]), int(counts[row])) for row in order]


def _per_label(truth: IntArray, prediction: IntArray, count: int) -> tuple[Any, Any, Any, Any]:
    found = require("sklearn.metrics", "evaluate").precision_recall_fscore_support(
        truth, prediction, labels=np.arange(count), average=None, zero_division=0.0
    )
    return found[0], found[1], found[2], found[3]


def _label_figures(
    names: Sequence[str], columns: tuple[Any, Any, Any, Any], areas: Mapping[int, float] | None = None
) -> list[LabelFigures]:
    precision, recall, f1, support = columns
    return [
        LabelFigures(
            label=name,
            images=int(support[row]),
            precision=float(precision[row]),
            recall=float(recall[row]),
            f1=float(f1[row]),
            average_precision=(areas or {}).get(row),
        )
        for row, name in enumerate(names)
    ]


def _macro(truth: IntArray, prediction: IntArray, count: int) -> tuple[float, float]:
    """Mean recall and mean F1 over the labels that have images: what scikit-learn says, for a thousand draws."""
    right = np.bincount(truth[truth == prediction], minlength=count)
    there, given = np.bincount(truth, minlength=count), np.bincount(prediction, minlength=count)
    present = there > 0
    f1 = f1_scores(right, given, there)[present]
    return float((right[present] / there[present]).mean()), float(f1.mean())


def _f1(truth: BoolArray, chosen: BoolArray) -> tuple[float, float]:
    """Micro- and macro-F1, the latter over the labels that have images."""
    right, given, there = ((truth & chosen).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0))
    present = there > 0
    macro = f1_scores(right, given, there)[present].mean() if present.any() else 0.0
    return float(f1_scores(right.sum(), given.sum(), there.sum())), float(macro)


class _Ranked:
    """Scores sorted once per label, so that the average precision of many draws costs one pass each.

    Average precision as scikit-learn defines it: the precision at each distinct score, weighted by the recall it adds.
    """

    def __init__(self, truth: BoolArray, scores: npt.NDArray[np.float32]) -> None:
        self._columns: dict[int, tuple[IntArray, BoolArray, IntArray]] = {}
        for column in np.flatnonzero(truth.any(axis=0)):
            order = np.argsort(-scores[:, column], kind="stable")
            ranked = scores[order, column]
            last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each distinct score
            self._columns[int(column)] = order, truth[order, column], last

    def average_precisions(self, counts: npt.NDArray[Any]) -> dict[int, float]:
        """Give each label's figure where every image counts so often, for the labels that have images then."""
        found = {}
        for column, (order, right, last) in self._columns.items():
            weights = counts[order].astype(np.float64)
            hits, answers = np.cumsum(weights * right)[last], np.cumsum(weights)[last]
            if hits[-1]:
                added = np.diff(hits, prepend=0.0)
                found[column] = float((added * hits / np.maximum(answers, 1)).sum() / hits[-1])
        return found


def _binary(records: SingleRecords) -> dict[str, float | None]:
    """Areas under the curves of the second label's score."""
    metrics = require("sklearn.metrics", "evaluate")
    second = records.truth == 1
    if second.all() or not second.any():
        return {}
    score = np.where(second, records.likelihood, 1 - records.likelihood)
    return {
        "roc_auc": float(metrics.roc_auc_score(second, score)),
        "average_precision": float(metrics.average_precision_score(second, score)),
    }


def _draws(count: int) -> int:
    return _DRAWS if count <= _MANY else _DRAWS // 5


def _interval(value: float, draws: Sequence[float]) -> Interval:
    low, high = interval(draws)
    return Interval(value=value, low=low, high=high)


def _groups(groups: Sequence[str | None], figure: Callable[[IntArray], float]) -> list[GroupFigures]:
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(groups):
        if name is not None:
            rows_of.setdefault(name, []).append(row)
    return [
        GroupFigures(group=name, images=len(rows), accuracy=figure(np.array(rows)))
        for name, rows in sorted(rows_of.items())
    ]
