"""Labels that do not exclude each other: each on its own scale.

Raw cosines have no natural cut: their level differs between images. An image's cosine with a label is therefore
compared with its cosines with a reference vocabulary, a thousand everyday names that have nothing to do with the
question: a label that stands 2.5 standard deviations above what names in general reach is as likely there as not.

    z = (s - mean_v s_v) / std_v s_v            score = 1 / (1 + exp(-1.5 (z - 2.5)))

(Z-score normalisation of retrieval scores; the cut and the slope were chosen on other images than those that
docs/benchmarks.md reports.) A model that was trained with a sigmoid needs none of this: score = sigmoid(logit_scale s +
logit_bias) (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.labels import Mode
from zeroshot.labels.hierarchy import IntArray
from zeroshot.scoring.base import BoolArray, Scorer, Scores, ScoringInputs
from zeroshot.scoring.presence import standardise
from zeroshot.scoring.results import Classification

CUT = 2.5
SLOPE = 1.5


class MultilabelScorer(Scorer):
    """Every label's score is its own; the answer is every label that reaches its threshold."""

    mode: ClassVar[Mode] = Mode.MULTILABEL

    def from_similarities(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Turn cosines (n, k) of images (n, dim) into scores (n, k), each in [0, 1]."""
        inputs = self.inputs
        if inputs.logit_bias is not None:
            logits = inputs.logit_scale * similarities.astype(np.float64) + inputs.logit_bias
            return sigmoid(logits / self.temperature)
        if inputs.reference is None:
            raise ValueError("labels on their own scale need a reference vocabulary")
        z = standardise(similarities, vectors, inputs.reference)
        return sigmoid(SLOPE * (z - CUT) / self.temperature)

    def _reach(self, scores: Scores) -> BoolArray:
        """Every label that reaches its threshold."""
        return np.asarray(scores >= self.thresholds)


class PresenceScorer(MultilabelScorer):
    """One label, or its absence: two columns, "not x" and "x", whose scores sum to 1."""

    mode: ClassVar[Mode] = Mode.BINARY

    def __init__(self, inputs: ScoringInputs) -> None:
        (name,), (threshold,) = inputs.names, inputs.thresholds
        super().__init__(inputs)
        self.names = (f"not {name}", name)
        self.thresholds = np.array([1 - threshold, threshold])
        self.classes = np.arange(2)

    def similarities(self, vectors: FloatArray) -> FloatArray:
        """Give the cosines of n images with the label, once for each of its two columns."""
        return np.repeat(super().similarities(vectors), 2, axis=1)

    def from_similarities(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Turn cosines (n, 2) of images (n, dim) into scores (n, 2): what is left of 1, and the label's own."""
        present = super().from_similarities(similarities[:, 1:], vectors)
        return np.hstack([1 - present, present])

    def _reach(self, scores: Scores) -> BoolArray:
        """The label where it reaches its threshold, else its absence."""
        present = scores[:, 1] >= self.thresholds[1]
        return np.stack([~present, present], axis=1)

    def _classification(
        self, chosen: IntArray, scores: Scores, similarities: FloatArray, top_k: int | None
    ) -> Classification:
        """The answer comes first, also where a threshold above 0.5 makes it the less likely one."""
        order = np.array([chosen[0], 1 - chosen[0]])
        labels = (self.names[chosen[0]],)
        return Classification(self._predictions(order[:top_k], scores, similarities), labels, self.mode)


def sigmoid(logits: Scores) -> Scores:
    """Squash numbers into [0, 1].

    >>> sigmoid(np.array([0.0, 1000.0, -1000.0])).tolist()
    [0.5, 1.0, 0.0]
    """
    halves: Scores = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return halves
