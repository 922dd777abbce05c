"""From similarities to scores to answers: what every mode shares, and the modes in which labels exclude each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from zeroshot.encoders import FloatArray
from zeroshot.labels import Head, Hierarchy, Mode
from zeroshot.labels.hierarchy import IntArray
from zeroshot.scoring.presence import shows_any
from zeroshot.scoring.results import Classification, Prediction
from zeroshot.similarity import cosine_similarities

Scores = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ScoringInputs:
    """What a scorer computes with."""

    names: tuple[str, ...]
    matrix: FloatArray
    hierarchy: Hierarchy
    logit_scale: float
    logit_bias: float | None
    temperature: float
    thresholds: Scores
    head: Head | None = None
    reference: FloatArray | None = None
    unknown: bool = False


class Scorer(ABC):
    """Turns images' vectors into scores and answers, in one mode: an image alone is a batch of one.

    Parameters
    ----------
    inputs : ScoringInputs
        What it computes with.

    Attributes
    ----------
    names : tuple of str
        k columns' names: the labels, and "not x" where one label is asked about.
    thresholds : ndarray of float64, shape (k,)
        Score that each of them needs to be the answer.
    classes : ndarray of int64, shape (c,)
        The columns that are classes of their own: all, or the leaves of a tree.
    """

    mode: ClassVar[Mode] = Mode.MULTICLASS
    warnings: tuple[str, ...] = ()
    """What is to be known of the labels: see ``zeroshot.labels.label_warnings``."""

    def __init__(self, inputs: ScoringInputs) -> None:
        self.inputs = inputs
        self.names = inputs.names
        self.thresholds = inputs.thresholds
        self.temperature = inputs.temperature
        self.classes: IntArray = np.arange(len(inputs.names))

    def similarities(self, vectors: FloatArray) -> FloatArray:
        """Give the cosines of n images with every column's label, shape (n, k)."""
        return cosine_similarities(vectors, self.inputs.matrix)

    @abstractmethod
    def from_similarities(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Turn cosines (n, k) of images (n, dim) into scores (n, k)."""

    def scores(self, vectors: FloatArray) -> Scores:
        """Give every column's score for any number of images.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        ndarray of float64, shape (n, k)
            In [0, 1].
        """
        return self.from_similarities(self.similarities(vectors), vectors)

    def decide(self, scores: Scores, vectors: FloatArray) -> BoolArray:
        """Say which labels are the answer.

        Parameters
        ----------
        scores : ndarray of float64, shape (n, k)
            As ``scores`` gives them.
        vectors : ndarray of float32, shape (n, dim)
            The same images' unit rows.

        Returns
        -------
        ndarray of bool, shape (n, k)
            A row without any is "unknown"; only in the mode multilabel may a row have several.
        """
        chosen = self._reach(scores)
        if self.inputs.unknown and self.inputs.reference is not None:
            chosen &= shows_any(self.similarities(vectors), vectors, self.inputs.reference)[:, None]
        return chosen

    def _reach(self, scores: Scores) -> BoolArray:
        """What scores alone decide: here the best label, if it reaches its threshold."""
        chosen = np.zeros(scores.shape, dtype=np.bool_)
        if len(scores):
            rows, best = np.arange(len(scores)), scores.argmax(axis=1)
            chosen[rows, best] = scores[rows, best] >= self.thresholds[best]
        return chosen

    def choose(self, vectors: FloatArray) -> tuple[IntArray, IntArray, Scores]:
        """Give the answers of many images, without their rankings.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        (ndarray of int64, ndarray of int64, ndarray of float64), each of shape (m,)
            Images, their columns, and the scores of these; images whose answer is "unknown" are not there.
        """
        scores = self.scores(vectors)
        rows, columns = np.nonzero(self.decide(scores, vectors))
        return rows, columns, scores[rows, columns]

    def answer(self, vector: FloatArray, top_k: int | None = None) -> Classification:
        """Rank the labels for one image.

        Parameters
        ----------
        vector : ndarray of float32, shape (dim,)
            A unit row.
        top_k : int or None
            How many to keep; all when None.

        Returns
        -------
        Classification
            Best first; ties keep the order of the labels.
        """
        similarities = self.similarities(vector[None])
        scores = self.from_similarities(similarities, vector[None])
        return self._classification(
            np.flatnonzero(self.decide(scores, vector[None])[0]), scores[0], similarities[0], top_k
        )

    def logits(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Give the text's logits and what the head adds, over the temperature.

        Parameters
        ----------
        similarities : ndarray of float32, shape (n, k)
            Cosines.
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        ndarray of float64, shape (n, k)
            (logit_scale x cosine + head's) / temperature; labels unknown to the head keep the share of their texts.
        """
        inputs = self.inputs
        logits: Scores = inputs.logit_scale * similarities.astype(np.float64)
        if inputs.head is not None:
            logits = inputs.head.apply(logits, vectors, inputs.names)
        return logits / self.temperature

    def _classification(
        self, chosen: IntArray, scores: Scores, similarities: FloatArray, top_k: int | None
    ) -> Classification:
        """One image's ranking, and the columns that were decided on, in that order."""
        order = np.lexsort((-similarities, -scores))
        labels = tuple(self.names[column] for column in order[np.isin(order, chosen)]) if len(chosen) else ()
        return Classification(self._predictions(order[:top_k], scores, similarities), labels, self.mode)

    def _predictions(self, columns: IntArray, scores: Scores, similarities: FloatArray) -> tuple[Prediction, ...]:
        return tuple(
            Prediction(self.names[column], float(scores[column]), float(min(1.0, max(-1.0, similarities[column]))))
            for column in columns
        )


class MulticlassScorer(Scorer):
    """Scores sum to 1: score = softmax(logits / temperature)."""

    def from_similarities(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Turn cosines (n, k) of images (n, dim) into scores (n, k) whose rows sum to 1."""
        return softmax(self.logits(similarities, vectors))

    def choose(self, vectors: FloatArray) -> tuple[IntArray, IntArray, Scores]:
        """Give the answers of many images: of a softmax only the highest score, in single precision."""
        if self.inputs.head is not None or self.inputs.unknown or not len(vectors):
            return super().choose(vectors)
        logits = self.similarities(vectors)
        best = logits.argmax(axis=1)
        logits -= logits[np.arange(len(best)), best][:, None]
        logits *= np.float32(self.inputs.logit_scale / self.temperature)
        highest = 1.0 / np.exp(logits, out=logits).sum(axis=1, dtype=np.float64)
        rows = np.flatnonzero(highest >= self.thresholds[best])
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
