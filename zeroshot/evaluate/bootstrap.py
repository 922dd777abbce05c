"""Intervals by resampling (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_DRAWS = 2000


def interval_of_mean(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Say where a mean lies with 95 % confidence: the percentiles of means of draws with replacement."""
    chance = np.random.default_rng(0)
    draws = [values[chance.integers(len(values), size=len(values))].mean() for _ in range(_DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
