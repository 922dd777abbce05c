"""Nearest neighbours one by one: a small gallery's index, and for what a large one was given since its snapshot."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.gallery.rows import IntArray


class ExactIndex:
    """Inner products of unit vectors, computed one by one."""

    def __init__(self, dim: int) -> None:
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))

    def add(self, numbers: Sequence[int] | IntArray, vectors: FloatArray) -> None:
        """Add vectors."""
        self._index.add_with_ids(np.ascontiguousarray(vectors), np.asarray(numbers, dtype=np.int64))

    def remove(self, numbers: Sequence[int] | IntArray) -> None:
        """Remove vectors."""
        if len(numbers):
            self._index.remove_ids(faiss.IDSelectorBatch(np.asarray(numbers, dtype=np.int64)))

    def search(self, query: FloatArray, count: int, among: IntArray | None = None) -> IntArray:
        """Find the most similar vectors."""
        count = min(count, len(self))
        if count == 0 or (among is not None and len(among) == 0):
            return np.empty(0, np.int64)
        parameters = None
        if among is not None:
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(among))  # type: ignore[call-arg]  # FAISS adds it at import
        _, numbers = self._index.search(query[np.newaxis], count, params=parameters)
        found: IntArray = numbers[0][numbers[0] >= 0]
        return found

    def vectors(self) -> tuple[IntArray, FloatArray]:
        """Give everything."""
        numbers = faiss.vector_to_array(self._index.id_map)
        rows = faiss.downcast_index(self._index.index).reconstruct_n(0, len(self))
        return numbers, rows

    def __len__(self) -> int:
        """How many vectors there are."""
        return int(self._index.ntotal)
