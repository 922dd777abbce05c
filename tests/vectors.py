"""Vectors with the shape of real ones, for galleries too large for images in a test."""

from __future__ import annotations

import numpy as np


def unit(seed: int, dim: int = 640) -> np.ndarray:
    """One random unit vector."""
    vector = np.random.default_rng(seed).normal(size=dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


def clustered(count: int, dim: int, seed: int = 0, clusters: int = 40) -> np.ndarray:
    """Unit rows around some centres, as images of some kinds are."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, dim))
    rows = centres[random.integers(clusters, size=count)] + 0.7 * random.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class StubEncoder:
    """Stands in where a test's gallery holds ready vectors: a process that is killed again and again opens it at once.

    Sentences, by which the recall of an index is measured, are random rows.
    """

    spec, template_set = "stub", "none"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.fingerprint = f"stub-{dim}"

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return clustered(len(texts), self.dim)
