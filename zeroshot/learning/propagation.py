"""Labels that spread from few images to many over the graph of nearest neighbours.

F = alpha S F + (1 - alpha) Y, iterated, where S is the symmetrically normalised graph and Y holds the known labels
(Zhou et al., "Learning with Local and Global Consistency", NIPS 2003). What a model already believes of the unlabelled
images stands in their rows of Y with a smaller weight (as the text's nodes do in Stojnic et al., "Label Propagation
for Zero-shot Classification with Vision-Language Models", CVPR 2024).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.optional import require
from zeroshot.scoring import Scores
from zeroshot.statistics import IntArray

_NEIGHBOURS = 10
_SHARPNESS = 3  # an edge is worth its cosine to this power
_ALPHA = 0.5  # measured best of 0.5 and 0.9, with _BELIEF of 0, 0.1, 0.3 and 1
_BELIEF = 0.3
_ROUNDS = 25  # 0.5 ** 25 of the way is left


def neighbour_graph(vectors: FloatArray) -> Any:
    """Connect each image with the ten most similar to it."""
    import faiss

    sparse = require("scipy.sparse")
    count = len(vectors)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    similarities, found = index.search(np.ascontiguousarray(vectors), min(_NEIGHBOURS + 1, count))
    rows = np.repeat(np.arange(count), found.shape[1])
    others = rows != found.ravel()
    strengths = np.maximum(similarities.ravel()[others], 0.0).astype(np.float64) ** _SHARPNESS
    graph = sparse.csr_array((strengths, (rows[others], found.ravel()[others])), shape=(count, count))
    graph = graph.maximum(graph.T)
    root = sparse.diags_array(1.0 / np.sqrt(np.maximum(graph.sum(axis=1), 1e-12)))
    return (root @ graph @ root).tocsr()


def propagate(graph: Any, labelled: IntArray, right: IntArray, belief: Scores) -> Scores:
    """Spread known labels."""
    known = _BELIEF * belief
    known[labelled] = 0.0
    known[labelled, right] = 1.0
    spread = known.copy()
    for _ in range(_ROUNDS):
        spread = _ALPHA * (graph @ spread) + (1 - _ALPHA) * known
    return np.asarray(spread / np.maximum(spread.sum(axis=1, keepdims=True), 1e-300))
