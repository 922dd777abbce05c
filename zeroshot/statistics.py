"""Statistics that fitting and evaluating share: confidence bins, likelihood, Brier score, F1, bootstrap.

ECE over fifteen bins: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Intervals are percentile
bootstraps (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_BINS = 15
_FLOOR = 1e-12  # of a probability, so that its logarithm is finite
_DRAWS = 2000


@dataclass(frozen=True, eq=False)
class Bins:
    """Answers sorted by their confidence into fifteen parts of [0, 1]: counts, hits, and sums of the confidence."""

    counts: IntArray
    hits: Float64Array
    confidence: Float64Array

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean over answers of how far their bin's confidence is from its accuracy."""
        return float(np.abs(self.confidence - self.hits).sum() / self.counts.sum())


def count_bins(confidence: Float64Array, hits: BoolArray) -> Bins:
    """Sort answers by confidence; rounding may have put one just outside [0, 1]."""
    confidence = np.clip(confidence, 0, 1)
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    right, sums = (np.bincount(bins, weights=weights, minlength=_BINS) for weights in (hits, confidence))
    return Bins(np.bincount(bins, minlength=_BINS), np.asarray(right, np.float64), np.asarray(sums, np.float64))


def log_likelihoods(probabilities: Float64Array) -> Float64Array:
    """Give the logarithms of the right answers' probabilities; the negative of their mean is the NLL."""
    return np.asarray(np.log(np.maximum(probabilities, _FLOOR)))


def brier_scores(probabilities: Float64Array, right: IntArray) -> Float64Array:
    """Give each row's squared distance from the right answer: (n, k) and (n,) to (n,), each in [0, 2]."""
    return np.asarray((probabilities**2).sum(axis=1) - 2 * probabilities[np.arange(len(right)), right] + 1)


def f1_scores(hits: npt.ArrayLike, answered: npt.ArrayLike, right: npt.ArrayLike) -> Float64Array:
    """Give F1 from counts: answers that are right, all answers, all right answers; 0 where there is none of either."""
    return np.asarray(2 * np.asarray(hits) / np.maximum(np.asarray(answered) + np.asarray(right), 1))


def resamples(count: int, draws: int | None = None) -> Iterator[IntArray]:
    """Draw `count` rows of as many, with replacement, again and again (without end for None): the same each time."""
    chance = np.random.default_rng(0)
    for _ in itertools.count() if draws is None else range(draws):
        yield chance.integers(count, size=count)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Give the bounds that 95 % of some draws' figures lie between."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def interval_of_mean(values: Float64Array) -> tuple[float, float]:
    """Give the 95 % interval of a mean."""
    return interval([float(values[rows].mean()) for rows in resamples(len(values), _DRAWS)])
