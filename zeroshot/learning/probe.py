"""A logistic probe that starts from the text: softmax regression on frozen features, drawn towards zero-shot.

The class matrix is where the weights begin and what the ridge pulls them back to, so that with little to learn from
little changes (CLIP's own linear probe, Radford et al., ICML 2021, section 3; starting from the text: Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroshot.encoders import FloatArray
from zeroshot.extra import require
from zeroshot.scoring import Scores

IntArray = npt.NDArray[np.int64]

_STEPS = 200


@dataclass(frozen=True, eq=False)
class Lesson:
    """Pictures whose labels are known, and the text they are known under.

    Parameters
    ----------
    matrix : ndarray of float32, shape (k, dim)
        The class matrix.
    logit_scale : float
        The encoder's.
    vectors : ndarray of float32, shape (n, dim)
        Unit rows.
    right : ndarray of int64, shape (n,)
        Rows of the class matrix.
    weights : ndarray of float64, shape (n,)
        How much each picture counts.
    """

    matrix: FloatArray
    logit_scale: float
    vectors: FloatArray
    right: IntArray
    weights: Scores

    @property
    def seen(self) -> IntArray:
        """The labels that have pictures."""
        return np.unique(self.right)

    def text_logits(self, vectors: FloatArray) -> Scores:
        """Give the logits of the text alone.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Pictures.

        Returns
        -------
        ndarray of float64, shape (n, k)
            logit_scale x cosine.
        """
        return self.logit_scale * (vectors @ self.matrix.T).astype(np.float64)

    def take(self, rows: IntArray) -> Lesson:
        """Keep some of the pictures.

        Parameters
        ----------
        rows : ndarray of int64
            Which.

        Returns
        -------
        Lesson
            Under the same text.
        """
        return Lesson(self.matrix, self.logit_scale, self.vectors[rows], self.right[rows], self.weights[rows])

    def join(self, other: Lesson) -> Lesson:
        """Add the pictures of another lesson under the same text.

        Parameters
        ----------
        other : Lesson
            Its pictures come last.

        Returns
        -------
        Lesson
            Both.
        """
        return Lesson(
            self.matrix,
            self.logit_scale,
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.right, other.right]),
            np.concatenate([self.weights, other.weights]),
        )


def fit_probe(lesson: Lesson, ridge: float, start: Scores | None = None) -> Scores:
    """Find the correction to the class matrix under which the right labels are likeliest.

    Minimised, with L-BFGS, is the weighted mean of -log softmax(logit_scale x (T + D)')[right] plus
    ridge / 2 ||D||^2; D is 0 for labels without pictures.

    Parameters
    ----------
    lesson : Lesson
        What is learnt from.
    ridge : float
        The larger, the closer to the text; its scale does not depend on logit_scale.
    start : ndarray of float64, shape (k, dim), or None
        Where to begin: another ridge's answer. Zeros when None.

    Returns
    -------
    ndarray of float64, shape (k, dim)
        D.
    """
    minimize = require("scipy.optimize").minimize
    scale, seen = lesson.logit_scale, lesson.seen
    text = lesson.text_logits(lesson.vectors)
    share = lesson.weights / lesson.weights.sum()
    rows = np.arange(len(lesson.right))
    shape = (len(seen), lesson.matrix.shape[1])

    def loss(flat: Scores) -> tuple[float, Scores]:
        correction = flat.reshape(shape)
        logits = text.copy()
        logits[:, seen] += scale * (lesson.vectors @ correction.T.astype(np.float32))
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        total = chances.sum(axis=1)
        missed = share @ (np.log(total) - logits[rows, lesson.right])
        chances /= total[:, None]
        chances[rows, lesson.right] -= 1.0
        blame = (chances[:, seen] * (share * scale)[:, None]).astype(np.float32)
        slope = (blame.T @ lesson.vectors).astype(np.float64) + ridge * correction
        return float(missed + ridge / 2 * (flat @ flat)), slope.ravel()

    first = np.zeros(shape) if start is None else start[seen]
    found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": 1e-7})
    result = np.zeros(lesson.matrix.shape)
    result[seen] = found.x.reshape(shape)
    return result
