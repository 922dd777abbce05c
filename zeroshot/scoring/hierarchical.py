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
from zeroshot.scoring.answers import Classification
from zeroshot.scoring.base import Question, Scorer, Scores


class HierarchicalScorer(Scorer):
    """Probabilities of all nodes; an answer goes down while the likeliest child is sure enough.

    Parameters
    ----------
    question : Question
        What is asked.
    """

    mode: ClassVar[Mode] = Mode.HIERARCHICAL

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        depths, parents = question.hierarchy.depths, question.hierarchy.parents
        self._leaves = question.hierarchy.leaves
        self._levels: list[IntArray] = [np.flatnonzero(depths == depth) for depth in range(int(depths.max()) + 1)]
        self._children: dict[int, IntArray] = {
            int(parent): np.flatnonzero(parents == parent) for parent in np.unique(parents)
        }

    def from_similarities(self, similarities: FloatArray, vectors: FloatArray) -> Scores:
        """Give every node's probability.

        Parameters
        ----------
        similarities : ndarray of float32, shape (n, k)
            Cosines.
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        ndarray of float64, shape (n, k)
            Siblings' sum to their parent's; those without a parent sum to 1.
        """
        parents = self.question.hierarchy.parents
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

    def conclude(self, scores: Scores, similarities: FloatArray, top_k: int | None) -> Classification:
        """Rank the leaves, and go down as far as is sure enough.

        Parameters
        ----------
        scores : ndarray of float64, shape (k,)
            One picture's.
        similarities : ndarray of float32, shape (k,)
            Its cosines.
        top_k : int or None
            How many leaves to keep.

        Returns
        -------
        Classification
            With the levels on the way to the answer.
        """
        order = self._leaves[np.argsort(-scores[self._leaves], kind="stable")]
        path: list[int] = []
        node = -1
        while node in self._children:
            children = self._children[node]
            node = int(children[scores[children].argmax()])
            if scores[node] < self.needed[node]:
                break
            path.append(node)
        way = self.predictions(np.array(path, dtype=np.int64), scores, similarities)
        labels = (way[-1].label,) if way else ()
        return Classification(self.predictions(order[:top_k], scores, similarities), labels, self.mode, way)

    def choose(self, vectors: FloatArray) -> tuple[IntArray, IntArray, Scores]:
        """Give the answers of many pictures.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Unit rows.

        Returns
        -------
        (ndarray of int64, ndarray of int64, ndarray of float64), each of shape (m,)
            Pictures, their nodes, and the nodes' probabilities.
        """
        scores = self.scores(vectors)
        nodes = np.full(len(vectors), -1, dtype=np.int64)
        for level in self._levels:
            for parent in np.unique(self.question.hierarchy.parents[level]):
                here = np.flatnonzero(nodes == parent)
                children = self._children[int(parent)]
                best = children[scores[np.ix_(here, children)].argmax(axis=1)]
                sure = scores[here, best] >= self.needed[best]
                nodes[here[sure]] = best[sure]
        rows = np.flatnonzero(nodes >= 0)
        return rows, nodes[rows], scores[rows, nodes[rows]]
