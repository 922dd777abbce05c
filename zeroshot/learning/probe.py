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
from zeroshot.optional import require
from zeroshot.scoring import Scores

IntArray = npt.NDArray[np.int64]

_STEPS = 200


@dataclass(frozen=True, eq=False)
class Lesson:
    """Pictures whose labels are known, and the text they are known under."""

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
        """Give the logits of the text alone."""
        return self.logit_scale * (vectors @ self.matrix.T).astype(np.float64)

    def take(self, rows: IntArray) -> Lesson:
        """Keep some of the pictures."""
        return Lesson(self.matrix, self.logit_scale, self.vectors[rows], self.right[rows], self.weights[rows])

    def join(self, other: Lesson) -> Lesson:
        """Add the pictures of another lesson under the same text."""
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
