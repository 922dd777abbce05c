"""What every mode's scorer shares: logits, ranking, and what a label needs to be the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from zeroshot.cores import products
from zeroshot.encoders import FloatArray
from zeroshot.labels import Head, Hierarchy, Mode
from zeroshot.labels.hierarchy import IntArray
from zeroshot.scoring.answers import Classification, Prediction

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a picture, ready to be computed.

    Parameters
    ----------
    names : tuple of str
        k labels.
    matrix : ndarray of float32, shape (k, dim)
        The class matrix.
    hierarchy : Hierarchy
        Who is whose parent.
    logit_scale : float
        The encoder's.
    logit_bias : float or None
        The encoder's, where it was trained with a sigmoid.
    temperature : float
        Divides the logits.
    needed : ndarray of float64, shape (k,)
        Score that each label needs to be the answer.
    head : Head or None
        What labelled pictures add.
    reference : ndarray of float32, shape (v, dim), or None
        A vocabulary's class matrix, for the mode multilabel.
    """

    names: tuple[str, ...]
    matrix: FloatArray
    hierarchy: Hierarchy
    logit_scale: float
    logit_bias: float | None
    temperature: float
    needed: Scores
    head: Head | None = None
    reference: FloatArray | None = None


class Scorer(ABC):
    """Turns pictures' vectors into scores and answers, in one mode.

    Parameters
    ----------
    question : Question
        What is asked.
    """

    mode: ClassVar[Mode] = Mode.MULTICLASS
    warnings: tuple[str, ...] = ()
    """What is to be known of the labels: see ``zeroshot.labels.label_warnings``."""

    def __init__(self, question: Question) -> None:
        self.names = question.names
        self.temperature = question.temperature
        self.needed = question.needed
        self.question = question

    def scores(self, vectors: FloatArray) -> Scores:
        """Give every label's score for any number of pictures.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        ndarray of float64, shape (n, k)
            In [0, 1].
        """
        return self.from_similarities(vectors @ self.question.matrix.T, vectors)

    @abstractmethod
    def from_similarities(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Turn cosines (n, k) of pictures (n, dim) into scores (n, k)."""

    def answer(self, vector: FloatArray, top_k: int | None = None) -> Classification:
        """Rank the labels for one picture.

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
        similarities = products(vector[None], self.question.matrix)
        scores = self.from_similarities(similarities, vector[None])[0]
        return self.conclude(scores, similarities[0], top_k)

    def choose(self, vectors: FloatArray) -> tuple[IntArray, IntArray, Scores]:
        """Give the answers of many pictures, without their rankings.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        (ndarray of int64, ndarray of int64, ndarray of float64), each of shape (m,)
            Pictures, their labels, and the labels' scores; pictures whose answer is "unknown" are not there.
        """
        scores = self.scores(vectors)
        best = scores.argmax(axis=1) if len(scores) else np.empty(0, np.int64)
        highest = scores[np.arange(len(best)), best]
        rows = np.flatnonzero(highest >= self.needed[best])
        return rows, best[rows], highest[rows]

    def conclude(self, scores: Scores, similarities: FloatArray, top_k: int | None) -> Classification:
        """Rank scores, and say whether the best is good enough.

        Parameters
        ----------
        scores : ndarray of float64, shape (k,)
            One picture's.
        similarities : ndarray of float32, shape (k,)
            Its cosines.
        top_k : int or None
            How many to keep.

        Returns
        -------
        Classification
            The answer.
        """
        order = np.lexsort((-similarities, -scores))
        best = int(order[0])
        labels = (self.names[best],) if scores[best] >= self.needed[best] else ()
        return Classification(self.predictions(order[:top_k], scores, similarities), labels, self.mode)

    def predictions(self, rows: IntArray, scores: Scores, similarities: FloatArray) -> tuple[Prediction, ...]:
        """Put rows into words.

        Parameters
        ----------
        rows : ndarray of int64, shape (m,)
            Labels.
        scores : ndarray of float64, shape (k,)
            All labels' scores.
        similarities : ndarray of float32, shape (k,)
            All labels' cosines.

        Returns
        -------
        tuple of Prediction
            In the order of `rows`.
        """
        return tuple(
            Prediction(self.names[row], float(scores[row]), float(min(1.0, max(-1.0, similarities[row]))))
            for row in rows
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
            (logit_scale x cosine + head's) / temperature.
        """
        asked = self.question
        logits: Scores = asked.logit_scale * similarities.astype(np.float64)
        if asked.head is not None:
            logits += asked.head.logits(vectors, self.names)
        return logits / self.temperature
