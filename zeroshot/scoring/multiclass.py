"""One answer out of several labels: softmax over temperature-scaled logits."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from zeroshot.encoders import FloatArray
from zeroshot.labels import Mode
from zeroshot.labels.hierarchy import IntArray
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

    def choose(self, vectors: FloatArray) -> tuple[IntArray, IntArray, Scores]:
        """Give the answers of many pictures: of a softmax only the highest score, in single precision.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        (ndarray of int64, ndarray of int64, ndarray of float64), each of shape (m,)
            Pictures, their labels, and the labels' scores; pictures whose answer is "unknown" are not there.
        """
        if self.question.head is not None or not len(vectors):
            return super().choose(vectors)
        logits = (vectors @ self.question.matrix.T) * np.float32(self.question.logit_scale / self.temperature)
        best = logits.argmax(axis=1)
        logits -= logits[np.arange(len(best)), best][:, None]
        highest = 1.0 / np.exp(logits, out=logits).sum(axis=1, dtype=np.float64)
        rows = np.flatnonzero(highest >= self.needed[best])
        return rows, best[rows], highest[rows]


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
