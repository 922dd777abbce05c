"""Confidence that means something: temperatures and thresholds fitted on labelled images.

Temperature scaling and ECE: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Thresholds for F1:
Lipton et al., "Optimal Thresholding of Classifiers to Maximize F1 Measure", ECML PKDD 2014.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import Dataset, Problem
from zeroshot.errors import LearningError, OptionError
from zeroshot.labels import Calibration, LabelSet, Mode
from zeroshot.learning.examples import Examples, check_unseen, read_examples
from zeroshot.scoring import Scores, ScoringOptions, softmax
from zeroshot.statistics import BoolArray, IntArray, brier_scores, count_bins, f1_scores, log_likelihoods

_LOWEST, _HIGHEST = 0.01, 100.0  # temperatures
_SHRINK = 1.0  # of a temperature towards 1, per squared logarithm, against the sum of all images' NLL
_FEWEST = 10  # images
_FOLDS = 5
_PULL = 0.044  # of a threshold towards 0.5, per squared logit, over the number of images that have the label


@dataclass(frozen=True)
class Quality:
    """How far probabilities of labels that exclude each other can be trusted.

    Parameters
    ----------
    images : int
        How many were measured.
    accuracy : float
        Share whose best label is right.
    ece : float
        Expected calibration error, fifteen bins.
    ece_floor : float
        What chance alone makes of it on so many images.
    nll : float
        Negative log-likelihood of the right labels.
    brier : float
        Brier score, in [0, 2].
    """

    images: int
    accuracy: float
    ece: float
    ece_floor: float
    nll: float
    brier: float


@dataclass(frozen=True)
class ThresholdQuality:
    """How well thresholds separate images that have a label from those that have not.

    Parameters
    ----------
    macro_f1 : float
        Mean F1 of the labels that images have.
    precision : float
        Share of all answers that are right.
    """

    macro_f1: float
    precision: float


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """What was fitted, what it changes on images it was not fitted on, and whether it is kept.

    Parameters
    ----------
    calibration : Calibration
        What was fitted, on all images.
    before : Quality or ThresholdQuality
        Without it.
    after : Quality or ThresholdQuality
        Each fifth of the images with what was fitted on the others.
    is_kept : bool
        Whether the label set has got it: a temperature that makes held-out labels likelier, thresholds that raise the
        held-out macro-F1 or reach the precision that was asked for.
    readings : tuple of (str, ndarray of float64, ndarray of bool)
        Title, confidences and whether each is right, (m,) each: what ``reliability_diagram`` draws.
    problems : tuple of Problem
        Images that could not be used.
    """

    calibration: Calibration
    before: Quality | ThresholdQuality
    after: Quality | ThresholdQuality
    is_kept: bool
    readings: tuple[tuple[str, Scores, BoolArray], ...]
    problems: tuple[Problem, ...]

    @property
    def summary(self) -> str:
        """What was fitted, in words."""
        count = len(self.calibration.thresholds)
        return f"{count} threshold{'s' * (count > 1)}" if count else f"temperature {self.calibration.temperature:.3g}"

    @property
    def reason(self) -> str:
        """Why it is kept, or not, in words."""
        worth = "It is better" if self.is_kept else "It is no better"
        return f"{worth} than no calibration on images it was not fitted on."


def calibrate(
    dataset: Dataset,
    label_set: LabelSet,
    classifier: ZeroShotClassifier,
    *,
    precision: float | None = None,
    limit: int | None = None,
    on_progress: Callable[[], object] = lambda: None,
) -> tuple[LabelSet, CalibrationReport]:
    """Fit a label set's temperature, or in the mode multilabel its thresholds.

    Parameters
    ----------
    dataset : Dataset
        Labelled images: see ``zeroshot.datasets.open_dataset``.
    label_set : LabelSet
        Its labels, or their aliases, are the dataset's.
    classifier : ZeroShotClassifier
        What is calibrated; a calibration belongs to its encoder.
    precision : float or None
        Multilabel: the precision, in (0, 1], wanted of every label; the best F1 when None.
    limit : int or None
        Most images.
    on_progress : callable
        Called once per image.

    Returns
    -------
    (LabelSet, CalibrationReport)
        The label set with the calibration, not stored, and what it changes; the label set is as it was where the
        calibration is no better than none on images it was not fitted on.

    Raises
    ------
    LearningError
        If nothing can be fitted: fewer than 10 images can be used, labels are unknown, or all images have the same.
    OptionError
        If `precision` is out of range, or given for labels that exclude each other.
    """
    multilabel = label_set.effective_mode is Mode.MULTILABEL
    if precision is not None and not multilabel:
        raise OptionError(
            f"precision={precision} is for labels on their own, and those of {label_set.name} are "
            f"{label_set.effective_mode}.",
            f"Leave it out, or: zeroshot labels set {label_set.name} --mode multilabel",
            field="precision",
        )
    examples = read_examples(
        dataset, label_set, classifier, exclusive=not multilabel, limit=limit, on_progress=on_progress
    )
    if len(examples.keys) < _FEWEST:
        raise LearningError(
            f"{dataset.name} has {len(examples.keys)} images that can be used, too few to tell if calibrating helps.",
            f"Give {_FEWEST} at least; a hundred is better.",
        )
    encoder = classifier.encoder
    fitted = Calibration(
        model=encoder.spec, fingerprint=encoder.fingerprint, images=len(examples.keys), fitted_on=dataset.name
    )
    head = label_set.head_for(encoder.fingerprint)
    if multilabel:
        scores = classifier.scorer(label_set).scores(examples.vectors)
        right = _with_ancestors(label_set, examples)
        thresholds = fit_thresholds(scores, right, precision=precision)
        found = {name: float(thresholds[row]) for row, name in enumerate(label_set.names) if right[:, row].any()}
        fitted = fitted.model_copy(update={"thresholds": found})
        report = _compare_thresholds(fitted, scores, right, precision, examples.problems)
    else:
        scorer = classifier.scorer(label_set, options=ScoringOptions(Mode.MULTICLASS, temperature=1.0))
        answers = examples.single(label_set, scorer.names)
        if head is not None:
            check_unseen(examples, head, label_set.calibration_for(encoder.fingerprint), dataset.name)
        logits = scorer.logits(scorer.similarities(examples.vectors), examples.vectors)
        fitted = fitted.model_copy(update={"temperature": fit_temperature(logits, answers)})
        report = _compare_temperatures(fitted, logits, answers, examples.problems)
    if not report.is_kept:
        return label_set, report
    return label_set.with_fitted(encoder.fingerprint, fitted, head), report


def _folds(count: int) -> list[tuple[IntArray, IntArray]]:
    """Rows to fit on and rows to measure on, five times."""
    fold = np.random.default_rng(0).permutation(count) % _FOLDS
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(_FOLDS)]


def _compare_temperatures(
    fitted: Calibration, logits: Scores, right: IntArray, problems: tuple[Problem, ...]
) -> CalibrationReport:
    """Measure what the temperature changes on images not fitted on."""
    probabilities = {"untuned": softmax(logits), "fitted": np.empty_like(logits)}
    for fit, held_out in _folds(len(right)):
        temperature = fit_temperature(logits[fit], right[fit])
        probabilities["fitted"][held_out] = softmax(logits[held_out] / temperature)
    before, after = (measure(chances, right) for chances in probabilities.values())
    readings = tuple((name, p.max(axis=1), p.argmax(axis=1) == right) for name, p in probabilities.items())
    return CalibrationReport(fitted, before, after, after.nll < before.nll, readings, problems)


def _compare_thresholds(
    fitted: Calibration, scores: Scores, right: BoolArray, precision: float | None, problems: tuple[Problem, ...]
) -> CalibrationReport:
    """Measure what the thresholds change on images not fitted on."""
    readings = (("every label of every image", scores.ravel(), right.ravel()),)
    chosen = np.zeros_like(right)
    for fit, held_out in _folds(len(right)):
        chosen[held_out] = scores[held_out] >= fit_thresholds(scores[fit], right[fit], precision=precision)
    before, after = _measure_answers(scores >= 0.5, right), _measure_answers(chosen, right)
    if precision is None:
        is_kept = after.macro_f1 > before.macro_f1
    else:
        is_kept = after.precision >= min(precision, np.nextafter(before.precision, 2))
    return CalibrationReport(fitted, before, after, is_kept, readings, problems)


def _measure_answers(answer: BoolArray, right: BoolArray) -> ThresholdQuality:
    there = right.any(axis=0)
    hits = (answer & right).sum(axis=0)
    f1 = f1_scores(hits, answer.sum(axis=0), right.sum(axis=0))
    return ThresholdQuality(float(f1[there].mean()), float(hits.sum() / max(1, int(answer.sum()))))


def _with_ancestors(label_set: LabelSet, examples: Examples) -> BoolArray:
    """What is a cat is an animal too."""
    right = examples.right.copy()
    for row in range(len(label_set.labels)):
        for above in label_set.hierarchy.path(row):
            right[:, above] |= examples.right[:, row]
    return right


def measure(probabilities: Scores, right: IntArray) -> Quality:
    """Measure probabilities of labels that exclude each other."""
    rows = np.arange(len(right))
    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == right
    chance = np.random.default_rng(0)
    floors = [count_bins(confidence, chance.random(len(confidence)) < confidence).ece for _ in range(50)]
    return Quality(
        images=len(right),
        accuracy=float(hit.mean()),
        ece=count_bins(confidence, hit).ece,
        ece_floor=float(np.mean(floors)),
        nll=float(-log_likelihoods(probabilities[rows, right]).mean()),
        brier=float(brier_scores(probabilities, right).mean()),
    )


def fit_temperature(logits: Scores, right: IntArray) -> float:
    """Find the temperature, from 0.01 to 100, under which the right labels (n,) of logits (n, k) are likeliest.

    Few images say little: it is drawn towards 1, the more the fewer they are (a normal prior on its logarithm).
    """
    if not np.isfinite(logits).all():
        raise LearningError(
            "There are logits that are not finite.",
            "Try another model or image: these give infinite or undefined numbers.",
        )
    if len(np.unique(right)) < 2:
        raise LearningError(
            f"The images show {len(np.unique(right))} of the labels.", "Give images of two labels at least."
        )
    rows = np.arange(len(right))
    low, high = 1 / _HIGHEST, 1 / _LOWEST  # of 1 / temperature; in its logarithm the slope is below 0 first, then above
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        slope = middle * ((softmax(middle * logits) * logits).sum() - logits[rows, right].sum())
        slope += 2 * _SHRINK * np.log(middle)
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 1 / float(np.sqrt(low * high))


def fit_thresholds(scores: Scores, right: BoolArray, *, precision: float | None = None) -> Scores:
    """Find each label's threshold, on its own scale, for the best F1 or for a wanted precision.

    Few images say little: a threshold is drawn towards 0.5, the more the fewer images have the label.
    """
    if precision is not None and not 0 < precision <= 1:
        raise OptionError(
            f"precision={precision} is not above 0 and at most 1.", "Use for example 0.95.", field="precision"
        )
    if not np.isfinite(scores).all():
        raise LearningError(
            "There are scores that are not finite.",
            "Try another model or image: these give infinite or undefined numbers.",
        )
    if not right.any():
        raise LearningError("No image has any of the labels.", "Name the labels in the data as the label set does.")
    return np.array([_threshold(scores[:, label], right[:, label], precision) for label in range(scores.shape[1])])


def _threshold(scores: Scores, right: BoolArray, precision: float | None) -> float:
    if not right.any():
        return 0.5
    distinct = np.unique(scores)
    cuts = np.concatenate([[distinct[0]], (distinct[1:] + distinct[:-1]) / 2])
    chosen = scores[None, :] >= cuts[:, None]
    hits, taken = (chosen & right).sum(axis=1), chosen.sum(axis=1)
    if precision is not None:
        reached = np.flatnonzero(hits / taken >= precision)
        return float(cuts[reached[0]]) if len(reached) else 0.5
    clipped = np.clip(cuts, 1e-6, 1 - 1e-6)
    pull = _PULL / right.sum() * np.log(clipped / (1 - clipped)) ** 2
    return float(cuts[np.argmax(f1_scores(hits, taken, right.sum()) - pull)])
