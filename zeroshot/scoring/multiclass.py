"""One answer out of several labels: softmax over temperature-scaled logits."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from zeroshot.encoders import FloatArray
from zeroshot.labels import Mode
from zeroshot.scoring.base import Scorer, Scores


class MulticlassScorer(Scorer):
    """Scores sum to 1: score = softmax(logits / temperature)."""

    def from_similarities(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Give every label's probability.

        Parameters
        ----------
        similarities : ndarray of float32, shape (n, k)
            Cosines.
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        ndarray of float64, shape (n, k)
            Rows sum to 1.
        """
        return softmax(self.logits(similarities, vectors))


class BinaryScorer(MulticlassScorer):
    """Two labels of which one is right."""

    mode: ClassVar[Mode] = Mode.BINARY


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Turn logits into probabilities.

    Parameters
    ----------
    logits : ndarray of float64, shape (..., k)
        Any finite numbers.

    Returns
    -------
    ndarray of float64, shape (..., k)
        Sums to 1 along the last axis.

    Examples
    --------
    >>> softmax(np.array([3.0, 3.0])).tolist()
    [0.5, 0.5]
    """
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), dtype=np.float64)
