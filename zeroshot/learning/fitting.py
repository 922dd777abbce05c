"""A few labelled pictures made into a head, and what that is worth on pictures it has not seen.

Candidates blend the text's logits with a logistic probe and a Tip-Adapter cache in several strengths. Cross-validation
takes the one under which the right labels of left-out pictures are likeliest. What the choice gains is measured by
bootstrapping its out-of-fold answers, the choice included (BBC-CV: Tsamardinos et al., "Bootstrapping the out-of-sample
predictions for efficient and accurate cross-validation", Machine Learning 2018), so that the best of many candidates is
not called better for being the luckiest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.errors import LearningError, quote
from zeroshot.labels import Head, Measured
from zeroshot.learning.blending import Blender, Choice, build_head, candidates
from zeroshot.learning.calibration import fit_temperature
from zeroshot.learning.probe import IntArray, Lesson, fit_probe
from zeroshot.learning.propagation import neighbour_graph, propagate
from zeroshot.scoring import Scores, softmax
from zeroshot.statistics import BoolArray, interval, log_likelihoods, resamples

_TEACHER = 0.3  # the ridge of the probe that unlabelled pictures are first judged by
_FOLDS = 5
_MEASURABLE = 10  # pictures; fewer say nothing about which candidate is best
_DRAWS = 1000


_UNMEASURED = Choice(ridge=None, beta=5.0, strength=0.5)
"""What one picture per label is good for: not below zero-shot on any data it was tried on, where the probe was."""


@dataclass(frozen=True, eq=False)
class Fit:
    """What was learnt."""

    head: Head
    temperature: float
    propagated: Scores | None = None

    @property
    def is_gain(self) -> bool:
        """Whether the head was right more often than the text on left-out pictures, or nothing could be measured."""
        measured = self.head.measured
        return measured is None or measured.accuracy > measured.zero_shot


def fit_head(
    lesson: Lesson,
    names: Sequence[str],
    *,
    model: str,
    fingerprint: str,
    unlabelled: FloatArray | None = None,
    partial: bool = False,
) -> Fit:
    """Learn a head."""
    _check(lesson, names, unlabelled, partial=partial)
    if not _is_measurable(lesson, _assign_folds(lesson)):
        return Fit(build_head(lesson, _UNMEASURED, names, model=model, fingerprint=fingerprint), 1.0)
    pool = None if unlabelled is None or not len(unlabelled) else _Pool(lesson, unlabelled)
    choices = candidates(with_unlabelled=pool is not None)
    trial = _cross_validate(lesson, choices, pool)
    choice = choices[trial.best]
    added, propagated = None, None
    if pool is not None:
        added, propagated = pool.spread(lesson, np.arange(len(lesson.right)))
    head = build_head(lesson, choice, names, model=model, fingerprint=fingerprint, added=added)
    return Fit(replace(head, measured=trial.measured), trial.temperature, propagated)


class _Pool:
    """Unlabelled pictures, in one graph with the labelled."""

    def __init__(self, lesson: Lesson, unlabelled: FloatArray) -> None:
        self._unlabelled = unlabelled
        self._everything = np.concatenate([lesson.vectors, unlabelled])
        self._graph: Any = neighbour_graph(self._everything)

    def spread(self, lesson: Lesson, rows: IntArray) -> tuple[Lesson, Scores]:
        """Spread the labels of these rows; give the surer half of the unlabelled pictures, and what is made of all."""
        known = lesson.take(rows)
        teacher = fit_probe(known, _TEACHER)
        logits = known.text_logits(self._everything)
        logits += known.logit_scale * (self._everything @ teacher.T.astype(np.float32))
        confidence = propagate(self._graph, rows, known.right, softmax(logits))[len(lesson.right) :]
        surest = confidence.max(axis=1)
        half = np.flatnonzero(surest >= np.median(surest))
        labels = confidence.argmax(axis=1)[half]
        return Lesson(lesson.matrix, lesson.logit_scale, self._unlabelled[half], labels, surest[half]), confidence


@dataclass(frozen=True, eq=False)
class _Trial:
    best: int
    temperature: float
    measured: Measured


def _cross_validate(lesson: Lesson, choices: Sequence[Choice], pool: _Pool | None) -> _Trial:
    folds = _assign_folds(lesson)
    tested = np.flatnonzero(folds >= 0)
    right = lesson.right[tested]
    blenders: list[tuple[IntArray, Blender]] = []
    for fold in range(_FOLDS):
        held_out = np.flatnonzero(folds[tested] == fold)
        if len(held_out):
            taught = np.flatnonzero(folds != fold)
            added = None if pool is None else pool.spread(lesson, taught)[0]
            blender = Blender(lesson.take(taught), lesson.vectors[tested[held_out]], added)
            blenders.append((held_out, blender))
    rows = np.arange(len(tested))
    hits = np.empty((len(choices), len(tested)), dtype=np.bool_)
    likelihoods = np.empty((len(choices), len(tested)))
    temperatures = []
    for number, choice in enumerate(choices):
        logits = np.empty((len(tested), len(lesson.matrix)))
        for held_out, blender in blenders:
            logits[held_out] = blender.logits(choice)
        temperatures.append(fit_temperature(logits, right))
        likelihoods[number] = log_likelihoods(softmax(logits / temperatures[-1])[rows, right])
        hits[number] = logits.argmax(axis=1) == right
    best = int(likelihoods.mean(axis=1).argmax())
    return _Trial(best, temperatures[best], _bootstrap(hits, likelihoods))


def _bootstrap(hits: BoolArray, likelihoods: Scores) -> Measured:
    """Choose on a draw of the pictures, and compare with the text, candidate 0, on the pictures not drawn.

    Those give the mean. The interval is as wide as the same comparison's on the pictures drawn, which are as many as
    there are; on those not drawn, a third, it would be wider than the truth.
    """
    count = hits.shape[1]
    gains = hits.astype(np.float64) - hits[0]
    unseen: list[float] = []
    seen: list[float] = []
    for rows in resamples(count):
        drawn = np.bincount(rows, minlength=count)
        if (left := drawn == 0).any():
            chosen = int((likelihoods @ drawn).argmax())
            unseen.append(float(gains[chosen, left].mean()))
            seen.append(float(gains[chosen] @ drawn / count))
        if len(unseen) == _DRAWS:
            break
    gain, zero_shot = float(np.mean(unseen)), float(hits[0].mean())
    low, high = (bound - float(np.mean(seen)) + gain for bound in interval(seen))
    return Measured(count, zero_shot, zero_shot + gain, low, high)


def _assign_folds(lesson: Lesson) -> IntArray:
    """Give each picture a fold: labels spread evenly, copies of one picture together, -1 for a label's only one."""
    chance = np.random.default_rng(0)
    _, copies = np.unique(lesson.vectors, axis=0, return_inverse=True)
    folds = np.full(len(lesson.right), -1, dtype=np.int64)
    start = 0
    for label in lesson.seen:
        members = np.flatnonzero(lesson.right == label)
        distinct = chance.permutation(np.unique(copies[members]))
        if len(distinct) < 2:
            continue
        for place, copy in enumerate(distinct):
            folds[members[copies[members] == copy]] = (start + place) % _FOLDS
        start += len(distinct)
    return folds


def _is_measurable(lesson: Lesson, folds: IntArray) -> bool:
    tested = folds >= 0
    return int(tested.sum()) >= _MEASURABLE and len(np.unique(lesson.right[tested])) > 1


def _check(lesson: Lesson, names: Sequence[str], unlabelled: FloatArray | None, *, partial: bool) -> None:
    vectors = lesson.vectors if unlabelled is None else np.concatenate([lesson.vectors, unlabelled])
    if not np.isfinite(vectors).all() or not np.isfinite(lesson.matrix).all():
        raise LearningError("There are vectors that are not finite.", "Check the model.")
    seen = lesson.seen
    if len(seen) < 2:
        raise LearningError(
            f"The pictures show {len(seen)} of the labels.",
            "Give pictures of two labels at least: nothing is told apart.",
        )
    missing = [name for row, name in enumerate(names) if row not in set(seen.tolist())]
    if missing and not partial:
        shown = ", ".join(map(quote, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise LearningError(
            f"There are no pictures of {shown}.",
            "Give some; or --partial (partial=True) leaves those labels to their text.",
        )
