"""Labels in a tree: an answer as deep as it is sure.

A node's mass is the softmax mass of its own text and of every text below it; among siblings it has the share of its
mass, and its probability is the product of the shares on the way down to it. So "animal" is likely when "cat" is, even
where the word "animal" itself fits badly. (Conditional softmaxes along the path: Redmon and Farhadi, "YOLO9000", CVPR
2017; using what is below a class to recognise it: Novack et al., "CHiLS", ICML 2023.)
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.labels import Mode
from zeroshot.labels.hierarchy import IntArray
from zeroshot.scoring.base import BoolArray, Scorer, Scores, ScoringInputs
from zeroshot.scoring.results import Classification


class HierarchicalScorer(Scorer):
    """Probabilities of all nodes; an answer goes down while the likeliest child is sure enough."""

    mode: ClassVar[Mode] = Mode.HIERARCHICAL

    def __init__(self, inputs: ScoringInputs) -> None:
        super().__init__(inputs)
        depths, parents = inputs.hierarchy.depths, inputs.hierarchy.parents
        self.classes = inputs.hierarchy.leaves
        self._levels: list[IntArray] = [np.flatnonzero(depths == depth) for depth in range(int(depths.max()) + 1)]
        self._children: dict[int, IntArray] = {
            int(parent): np.flatnonzero(parents == parent) for parent in np.unique(parents)
        }

    def from_similarities(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Turn cosines (n, k) of images (n, dim) into every node's probability (n, k).

        Siblings' sum to their parent's; those of the nodes without a parent, and of the leaves, sum to 1.
        """
        parents = self.inputs.hierarchy.parents
        logits = self.logits(similarities, vectors).T
        mass = np.exp(logits - logits.max(axis=0))
        for level in self._levels[:0:-1]:
            np.add.at(mass, parents[level], mass[level])
        probabilities = np.empty_like(mass)
        top = self._levels[0]
        probabilities[top] = mass[top] / mass[top].sum(axis=0)
        for level in self._levels[1:]:
            siblings = np.zeros_like(mass)
            np.add.at(siblings, parents[level], mass[level])
            share = mass[level] / np.maximum(siblings[parents[level]], np.finfo(np.float64).tiny)
            probabilities[level] = probabilities[parents[level]] * share
        return np.ascontiguousarray(probabilities.T)

    def _reach(self, scores: Scores) -> BoolArray:
        """The deepest node that is reached while the likeliest child reaches its threshold."""
        nodes = np.full(len(scores), -1, dtype=np.int64)
        for level in self._levels:
            for parent in np.unique(self.inputs.hierarchy.parents[level]):
                here = np.flatnonzero(nodes == parent)
                children = self._children[int(parent)]
                best = children[scores[np.ix_(here, children)].argmax(axis=1)]
                sure = scores[here, best] >= self.thresholds[best]
                nodes[here[sure]] = best[sure]
        chosen = np.zeros(scores.shape, dtype=np.bool_)
        rows = np.flatnonzero(nodes >= 0)
        chosen[rows, nodes[rows]] = True
        return chosen

    def _classification(
        self, chosen: IntArray, scores: Scores, similarities: FloatArray, top_k: int | None
    ) -> Classification:
        """The leaves, ranked, and the levels on the way to the answer."""
        order = self.classes[np.argsort(-scores[self.classes], kind="stable")]
        path = self.inputs.hierarchy.path(int(chosen[0])) if len(chosen) else []
        levels = self._predictions(np.array(path, dtype=np.int64), scores, similarities)
        labels = (levels[-1].label,) if levels else ()
        return Classification(self._predictions(order[:top_k], scores, similarities), labels, self.mode, levels)
