"""Labels that do not exclude each other: each on its own scale.

Raw cosines have no natural cut: their level differs between pictures. A picture's cosine with a label is therefore
compared with its cosines with a reference vocabulary, a thousand everyday names that have nothing to do with the
question: a label that stands 2.5 standard deviations above what names in general reach is as likely there as not.

    z = (s - mean_v s_v) / std_v s_v            score = 1 / (1 + exp(-1.5 (z - 2.5)))

(Z-score normalisation of retrieval scores; the cut and the slope were chosen on other pictures than those that
docs/benchmarks.md reports.) A model that was trained with a sigmoid needs none of this: score = sigmoid(logit_scale s +
logit_bias) (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.labels import Mode
from zeroshot.labels.hierarchy import IntArray
from zeroshot.scoring.answers import Classification, Prediction
from zeroshot.scoring.base import Scorer, Scores

CUT = 2.5
SLOPE = 1.5


class MultilabelScorer(Scorer):
    """Every label's score is its own; the answer is every label that is sure enough."""

    mode: ClassVar[Mode] = Mode.MULTILABEL

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
            Each in [0, 1].
        """
        asked = self.question
        if asked.logit_bias is not None:
            return sigmoid((asked.logit_scale * similarities.astype(np.float64) + asked.logit_bias) / self.temperature)
        if asked.reference is None:
            raise ValueError("labels on their own scale need a reference vocabulary")
        usual = (vectors @ asked.reference.T).astype(np.float64)
        spread = np.maximum(usual.std(axis=1, keepdims=True), 1e-6)
        z = (similarities - usual.mean(axis=1, keepdims=True)) / spread
        return sigmoid(SLOPE * (z - CUT) / self.temperature)

    def choose(self, vectors: FloatArray) -> tuple[IntArray, IntArray, Scores]:
        """Give the answers of many pictures.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        (ndarray of int64, ndarray of int64, ndarray of float64), each of shape (m,)
            Pictures, their labels (a picture may have several), and the labels' scores.
        """
        scores = self.scores(vectors)
        rows, columns = np.nonzero(scores >= self.needed)
        return rows, columns, scores[rows, columns]

    def conclude(self, scores: Scores, similarities: FloatArray, top_k: int | None) -> Classification:
        """Rank scores, and take every label that is sure enough.

        Parameters
        ----------
        scores : ndarray of float64, shape (k,)
            One picture's.
        similarities : ndarray of float32, shape (k,)
            Its cosines.
        top_k : int or None
            How many predictions to keep; the answer has all its labels whatever this is.

        Returns
        -------
        Classification
            The answer.
        """
        order = np.lexsort((-similarities, -scores))
        labels = tuple(self.names[row] for row in order if scores[row] >= self.needed[row])
        return Classification(self.predictions(order[:top_k], scores, similarities), labels, self.mode)


class PresenceScorer(MultilabelScorer):
    """One label, or its absence: the label's own score, and what is left of 1."""

    mode: ClassVar[Mode] = Mode.BINARY

    def answer(self, vector: FloatArray, top_k: int | None = None) -> Classification:
        """Say whether the label applies to one picture.

        Parameters
        ----------
        vector : ndarray of float32, shape (dim,)
            A unit row.
        top_k : int or None
            How many predictions to keep.

        Returns
        -------
        Classification
            The label and "not label", the likelier first.
        """
        cosine = self.question.matrix @ vector
        name, score = self.names[0], float(self.from_similarities(cosine[None], vector[None])[0, 0])
        similarity = float(min(1.0, max(-1.0, cosine[0])))
        there, absent = Prediction(name, score, similarity), Prediction(f"not {name}", 1 - score, similarity)
        ranked = (there, absent) if score >= self.needed[0] else (absent, there)
        return Classification(ranked[:top_k], (ranked[0].label,), self.mode)


def sigmoid(logits: Scores) -> Scores:
    """Squash numbers into [0, 1].

    Parameters
    ----------
    logits : ndarray of float64
        Any finite numbers.

    Returns
    -------
    ndarray of float64
        Of the same shape.

    Examples
    --------
    >>> sigmoid(np.array([0.0, 1000.0, -1000.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    halves: Scores = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return halves
