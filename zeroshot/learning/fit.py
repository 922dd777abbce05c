"""A few labelled images made into a head, and what that is worth on images it has not seen.

Candidates blend the text's logits with a logistic probe and a Tip-Adapter cache in several strengths. Cross-validation
takes the one under which the right labels of left-out images are likeliest. What the choice gains is measured by
bootstrapping its out-of-fold answers, the choice included (BBC-CV: Tsamardinos et al., "Bootstrapping the out-of-sample
predictions for efficient and accurate cross-validation", Machine Learning 2018), so that the best of many candidates is
not called better for being the luckiest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import Dataset, Problem
from zeroshot.encoders import FloatArray
from zeroshot.errors import ImageError, LearningError, quote
from zeroshot.images import ImageSource
from zeroshot.labels import Calibration, Head, LabelSet, Measured, Mode
from zeroshot.learning.calibrate import fit_temperature
from zeroshot.learning.examples import embed_images, read_examples
from zeroshot.learning.probe import Blender, Choice, TrainingSet, build_head, candidates, fit_probe
from zeroshot.learning.propagation import neighbour_graph, propagate
from zeroshot.scoring import Scores, ScoringOptions, softmax
from zeroshot.statistics import BoolArray, IntArray, interval, log_likelihoods, resamples

_TEACHER = 0.3  # the ridge of the probe that unlabelled images are first judged by
_FOLDS = 5
_MEASURABLE = 10  # images; fewer say nothing about which candidate is best
_DRAWS = 1000

_UNMEASURED = Choice(ridge=None, beta=5.0, strength=0.5)
"""What one image per label is good for: not below zero-shot on any data it was tried on, where the probe was."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A head, and what cross-validation found out about it."""

    head: Head
    temperature: float
    pseudo_labels: Scores | None = None

    @property
    def is_gain(self) -> bool:
        """Whether the head was right more often than the text on left-out images, or nothing could be measured."""
        measured = self.head.measured
        return measured is None or measured.accuracy > measured.zero_shot


@dataclass(frozen=True, eq=False)
class FitReport:
    """What was fitted, what it gains on images left out, and whether it is kept.

    Parameters
    ----------
    head : Head
        What was fitted; ``head.measured`` are its held-out figures, None where there are too few images.
    calibration : Calibration
        The temperature that was fitted with it.
    is_kept : bool
        Whether the label set has got them.
    names : tuple of str
        k labels, the columns of `pseudo_labels`.
    pseudo_labels : ndarray of float64, shape (u, k), or None
        What the unlabelled images were taken for: rows sum to 1. None without them, or where they were not used.
    unlabelled : list of int
        Which of the unlabelled images could be used: u positions.
    problems : tuple of Problem
        Images that could not be used.
    """

    head: Head
    calibration: Calibration
    is_kept: bool
    names: tuple[str, ...]
    pseudo_labels: Scores | None
    unlabelled: list[int]
    problems: tuple[Problem, ...]

    @property
    def reason(self) -> str:
        """Why it is kept, or not, in words."""
        measured = self.head.measured
        if measured is None:
            unused = " The unlabelled images were not used: what they add cannot be measured either."
            return "Too few images to measure anything: a cautious blend is used, and no gain is claimed." + (
                unused if self.unlabelled else ""
            )
        if not self.is_kept:
            return "On images left out it is no better than the text alone."
        beyond = "more than chance" if measured.gain_low > 0 else "though chance alone could give that"
        return f"On images left out it is right more often than the text alone, {beyond}."


def fit(
    dataset: Dataset,
    label_set: LabelSet,
    classifier: ZeroShotClassifier,
    *,
    unlabelled: Iterable[ImageSource | ImageError] | None = None,
    partial: bool = False,
    limit: int | None = None,
    on_progress: Callable[[], object] = lambda: None,
) -> tuple[LabelSet, FitReport]:
    """Fit a head to a few labelled images, and measure what it gains on images left out.

    Parameters
    ----------
    dataset : Dataset
        Labelled images: see ``zeroshot.datasets.open_dataset``.
    label_set : LabelSet
        Its labels, or their aliases, are the dataset's, and exclude each other.
    classifier : ZeroShotClassifier
        The head belongs to its encoder.
    unlabelled : iterable of ImageSource or ImageError, or None
        Further images, to which the labels are spread.
    partial : bool
        Whether labels without images keep what their text says, rather than being an error.
    limit : int or None
        Most labelled images.
    on_progress : callable
        Called once per image.

    Returns
    -------
    (LabelSet, FitReport)
        The label set with the head and its temperature, not stored; as it was where the head is no better than the
        text alone on images left out.

    Raises
    ------
    LearningError
        If nothing can be fitted: labels do not exclude each other, are unknown or have no images, or no image can be
        used.
    """
    if label_set.effective_mode is Mode.MULTILABEL or len(label_set.labels) < 2:
        raise LearningError(
            f"The labels of {label_set.name} do not exclude each other, and a head tells labels apart.",
            "Fit their thresholds instead: zeroshot calibrate.",
        )
    examples = read_examples(dataset, label_set, classifier, exclusive=True, limit=limit, on_progress=on_progress)
    used: list[int] = []
    more, problems = None, examples.problems
    if unlabelled is not None:
        used, more, others = embed_images(unlabelled, classifier, on_progress)
        problems += others
    encoder = classifier.encoder
    inputs = classifier.scorer(label_set, options=ScoringOptions(Mode.MULTICLASS)).inputs
    right = examples.single(label_set, inputs.names)
    training = TrainingSet(inputs.matrix, encoder.logit_scale, examples.vectors, right, np.ones(len(right)))
    found = fit_head(
        training, inputs.names, model=encoder.spec, fingerprint=encoder.fingerprint, unlabelled=more, partial=partial
    )
    old = label_set.calibration_for(encoder.fingerprint)
    calibration = Calibration(
        model=encoder.spec,
        fingerprint=encoder.fingerprint,
        temperature=found.temperature,
        thresholds={} if old is None else old.thresholds,
        images=len(right),
        fitted_on=dataset.name,
    )
    report = FitReport(found.head, calibration, found.is_gain, inputs.names, found.pseudo_labels, used, problems)
    if not found.is_gain:
        return label_set, report
    return label_set.with_fitted(encoder.fingerprint, calibration, found.head), report


def fit_head(
    training: TrainingSet,
    names: Sequence[str],
    *,
    model: str,
    fingerprint: str,
    unlabelled: FloatArray | None = None,
    partial: bool = False,
) -> Fit:
    """Learn a head."""
    _check(training, names, unlabelled, partial=partial)
    if not _is_measurable(training, _assign_folds(training)):
        return Fit(build_head(training, _UNMEASURED, names, model=model, fingerprint=fingerprint), 1.0)
    pool = None if unlabelled is None or not len(unlabelled) else _Pool(training, unlabelled)
    choices = candidates(with_unlabelled=pool is not None)
    trial = _cross_validate(training, choices, pool)
    choice = choices[trial.best]
    added, pseudo_labels = None, None
    if pool is not None:
        added, pseudo_labels = pool.spread(training, np.arange(len(training.right)))
    head = build_head(training, choice, names, model=model, fingerprint=fingerprint, added=added)
    return Fit(replace(head, measured=trial.measured), trial.temperature, pseudo_labels)


class _Pool:
    """Unlabelled images, in one graph with the labelled."""

    def __init__(self, training: TrainingSet, unlabelled: FloatArray) -> None:
        self._unlabelled = unlabelled
        self._everything = np.concatenate([training.vectors, unlabelled])
        self._graph: Any = neighbour_graph(self._everything)

    def spread(self, training: TrainingSet, rows: IntArray) -> tuple[TrainingSet, Scores]:
        """Spread the labels of these rows; give the surer half of the unlabelled images, and what is made of all."""
        known = training.take(rows)
        teacher = fit_probe(known, _TEACHER)
        logits = known.text_logits(self._everything)
        logits += known.logit_scale * (self._everything @ teacher.T.astype(np.float32))
        confidence = propagate(self._graph, rows, known.right, softmax(logits))[len(training.right) :]
        surest = confidence.max(axis=1)
        half = np.flatnonzero(surest >= np.median(surest))
        labels = confidence.argmax(axis=1)[half]
        return TrainingSet(
            training.matrix, training.logit_scale, self._unlabelled[half], labels, surest[half]
        ), confidence


@dataclass(frozen=True, eq=False)
class _Trial:
    best: int
    temperature: float
    measured: Measured


def _cross_validate(training: TrainingSet, choices: Sequence[Choice], pool: _Pool | None) -> _Trial:
    folds = _assign_folds(training)
    tested = np.flatnonzero(folds >= 0)
    right = training.right[tested]
    blenders: list[tuple[IntArray, Blender]] = []
    for fold in range(_FOLDS):
        held_out = np.flatnonzero(folds[tested] == fold)
        if len(held_out):
            kept = np.flatnonzero(folds != fold)
            added = None if pool is None else pool.spread(training, kept)[0]
            blender = Blender(training.take(kept), training.vectors[tested[held_out]], added)
            blenders.append((held_out, blender))
    rows = np.arange(len(tested))
    hits = np.empty((len(choices), len(tested)), dtype=np.bool_)
    likelihoods = np.empty((len(choices), len(tested)))
    temperatures = []
    for number, choice in enumerate(choices):
        logits = np.empty((len(tested), len(training.matrix)))
        for held_out, blender in blenders:
            logits[held_out] = blender.logits(choice)
        temperatures.append(fit_temperature(logits, right))
        likelihoods[number] = log_likelihoods(softmax(logits / temperatures[-1])[rows, right])
        hits[number] = logits.argmax(axis=1) == right
    best = int(likelihoods.mean(axis=1).argmax())
    return _Trial(best, temperatures[best], _bootstrap(hits, likelihoods))


def _bootstrap(hits: BoolArray, likelihoods: Scores) -> Measured:
    """Choose on a draw of the images, and compare with the text, candidate 0, on the images not drawn.

    Those give the mean. The interval is as wide as the same comparison's on the images drawn, which are as many as
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


def _assign_folds(training: TrainingSet) -> IntArray:
    """Give each image a fold: labels spread evenly, copies of one image together, -1 for a label's only one."""
    chance = np.random.default_rng(0)
    _, copies = np.unique(training.vectors, axis=0, return_inverse=True)
    folds = np.full(len(training.right), -1, dtype=np.int64)
    start = 0
    for label in training.seen:
        members = np.flatnonzero(training.right == label)
        distinct = chance.permutation(np.unique(copies[members]))
        if len(distinct) < 2:
            continue
        for place, copy in enumerate(distinct):
            folds[members[copies[members] == copy]] = (start + place) % _FOLDS
        start += len(distinct)
    return folds


def _is_measurable(training: TrainingSet, folds: IntArray) -> bool:
    tested = folds >= 0
    return int(tested.sum()) >= _MEASURABLE and len(np.unique(training.right[tested])) > 1


def _check(training: TrainingSet, names: Sequence[str], unlabelled: FloatArray | None, *, partial: bool) -> None:
    vectors = training.vectors if unlabelled is None else np.concatenate([training.vectors, unlabelled])
    if not np.isfinite(vectors).all() or not np.isfinite(training.matrix).all():
        raise LearningError(
            "There are vectors that are not finite.", "Try another model: this one gives infinite or undefined numbers."
        )
    seen = training.seen
    if len(seen) < 2:
        raise LearningError(
            f"The images show {len(seen)} of the labels.",
            "Give images of two labels at least.",
        )
    missing = [name for row, name in enumerate(names) if row not in set(seen.tolist())]
    if missing and not partial:
        shown = ", ".join(map(quote, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise LearningError(
            f"There are no images of {shown}.",
            "Give images of them, or use --partial (partial=True): those labels then keep what their text says.",
        )
