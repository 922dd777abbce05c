"""Confidence that means something: temperatures and thresholds fitted on labelled pictures.

Temperature scaling and ECE: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Thresholds for F1:
Lipton et al., "Optimal Thresholding of Classifiers to Maximize F1 Measure", ECML PKDD 2014.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zeroshot.errors import LearningError, OptionError
from zeroshot.scoring import Scores, softmax
from zeroshot.statistics import BoolArray, IntArray, brier_scores, count_bins, f1_scores, log_likelihoods

_LOWEST, _HIGHEST = 0.01, 100.0  # temperatures
_PULL = 0.044  # of a threshold towards 0.5, per squared logit, over the number of pictures that have the label


@dataclass(frozen=True)
class Quality:
    """How far probabilities can be trusted."""

    pictures: int
    accuracy: float
    ece: float
    ece_floor: float
    nll: float
    brier: float


def measure(probabilities: Scores, right: IntArray) -> Quality:
    """Measure probabilities of labels that exclude each other."""
    rows = np.arange(len(right))
    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == right
    chance = np.random.default_rng(0)
    floors = [count_bins(confidence, chance.random(len(confidence)) < confidence).ece for _ in range(50)]
    return Quality(
        pictures=len(right),
        accuracy=float(hit.mean()),
        ece=count_bins(confidence, hit).ece,
        ece_floor=float(np.mean(floors)),
        nll=float(-log_likelihoods(probabilities[rows, right]).mean()),
        brier=float(brier_scores(probabilities, right).mean()),
    )


def fit_temperature(logits: Scores, right: IntArray) -> float:
    """Find the temperature under which the right labels are likeliest.

    Parameters
    ----------
    logits : ndarray of float64, shape (n, k)
        At temperature 1.
    right : ndarray of int64, shape (n,)
        The right columns.

    Returns
    -------
    float
        Between 0.01 and 100.

    Raises
    ------
    LearningError
        If there are fewer than two pictures or two right labels, or a number is not finite.

    Examples
    --------
    >>> logits = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [0.0, 4.0]])
    >>> round(fit_temperature(logits, np.array([0, 1, 0, 0])), 2)  # three of four are right: 4 / log 3
    3.64
    """
    if not np.isfinite(logits).all():
        raise LearningError("There are logits that are not finite.", "Check the model and its vectors.")
    if len(np.unique(right)) < 2:
        raise LearningError(
            f"The pictures show {len(np.unique(right))} of the labels.", "Give pictures of two labels at least."
        )
    rows = np.arange(len(right))
    low, high = 1 / _HIGHEST, 1 / _LOWEST  # the slope of the likelihood in 1 / temperature only ever grows
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        slope = ((softmax(middle * logits) * logits).sum(axis=1) - logits[rows, right]).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return 1 / float(np.sqrt(low * high))


def fit_thresholds(scores: Scores, right: BoolArray, *, precision: float | None = None) -> Scores:
    """Find each label's threshold, on its own scale, for the best F1 or for a wanted precision.

    Few pictures say little: a threshold is drawn towards 0.5, the more the fewer pictures have the label.
    """
    if precision is not None and not 0 < precision <= 1:
        raise OptionError(
            f"precision={precision} is not above 0 and at most 1.", "Use for example 0.95.", field="precision"
        )
    if not np.isfinite(scores).all():
        raise LearningError("There are scores that are not finite.", "Check the model and its vectors.")
    if not right.any():
        raise LearningError("No picture has any of the labels.", "Check the names of the labels in the data.")
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
