"""From similarities to ranked, probability-like scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """One label's rank for one picture.

    Parameters
    ----------
    label : str
        The label's name.
    score : float
        Probability in [0, 1]; all labels' scores sum to 1.
    similarity : float
        Cosine between the picture and the label, in [-1, 1].
    """

    label: str
    score: float
    similarity: float


@dataclass(frozen=True)
class Classification:
    """One picture's answer.

    Parameters
    ----------
    predictions : tuple of Prediction
        Best first; all labels, or the best `top_k`.
    """

    predictions: tuple[Prediction, ...]

    @property
    def label(self) -> str:
        """The best label's name."""
        return self.predictions[0].label

    @property
    def score(self) -> float:
        """The best label's score."""
        return self.predictions[0].score


def softmax(similarities: FloatArray, logit_scale: float) -> npt.NDArray[np.float64]:
    """Turn similarities into scores that sum to 1.

    Parameters
    ----------
    similarities : ndarray of float32, shape (k,)
        Cosines.
    logit_scale : float
        The model's scale (the inverse of its temperature).

    Returns
    -------
    ndarray of float64, shape (k,)
        Scores in [0, 1].

    Examples
    --------
    >>> softmax(np.array([0.5, 0.5], dtype=np.float32), 100.0).tolist()
    [0.5, 0.5]
    """
    logits = logit_scale * similarities.astype(np.float64)
    exponentials = np.exp(logits - logits.max())
    return np.asarray(exponentials / exponentials.sum(), dtype=np.float64)


def rank(
    names: Sequence[str], similarities: FloatArray, logit_scale: float, top_k: int | None = None
) -> Classification:
    """Rank labels by similarity.

    Parameters
    ----------
    names : sequence of str
        k labels' names.
    similarities : ndarray of float32, shape (k,)
        Cosine of the picture and each label.
    logit_scale : float
        The model's scale.
    top_k : int or None
        How many to keep; all when None.

    Returns
    -------
    Classification
        Best first; ties keep the order of `names`.
    """
    scores = softmax(similarities, logit_scale)
    order = np.argsort(-similarities, kind="stable")[:top_k]
    return Classification(
        tuple(Prediction(names[i], float(scores[i]), float(np.clip(similarities[i], -1, 1))) for i in order)
    )
