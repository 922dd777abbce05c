"""Work on a whole gallery: labels for every item, near-duplicates, and whether the index agrees with the database."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.encoders.base import IntArray
from zeroshot.gallery.filters import Mask
from zeroshot.gallery.index import GalleryIndex
from zeroshot.gallery.ivf_index import GroundTruth, sample_numbers
from zeroshot.gallery.store import GalleryStore
from zeroshot.gallery.types import LabelCount, Statistics, Verification
from zeroshot.scoring import Scorer, Scores

_RECALL_QUERIES = 64
_ROWS_AT_ONCE = 1024
_MAX_COMPARED = 100_000


def count_labels(index: GalleryIndex, store: GalleryStore, scorer: Scorer, examples: int) -> list[LabelCount]:
    """Count for how many items each label is the answer."""

    def answer(numbers: IntArray, vectors: FloatArray) -> tuple[IntArray, IntArray, Scores]:
        rows, labels, scores = scorer.choose(vectors)
        return numbers[rows], labels, scores

    parts = list(index.map_blocks(answer))
    if not parts:
        return [LabelCount(name, 0, ()) for name in scorer.names]
    numbers, best, scores = (np.concatenate([part[column] for part in parts]) for column in range(3))
    counts = np.bincount(best, minlength=len(scorer.names)).tolist()
    result = []
    for position, name in enumerate(scorer.names):
        members = np.flatnonzero(best == position)
        if len(members) > examples > 0:
            least = np.partition(scores[members], -examples)[-examples]
            members = members[scores[members] >= least]
        best_members = members[np.lexsort((numbers[members], -scores[members]))[:examples]]
        items = store.items([int(number) for number in numbers[best_members]])
        named = [(int(numbers[row]), float(scores[row])) for row in best_members]
        shown = tuple((items[number].id, score) for number, score in named if number in items)
        result.append(LabelCount(name, counts[position], shown))
    return result


def find_duplicates(index: GalleryIndex, store: GalleryStore, min_similarity: float) -> list[list[str]]:
    """Group near-duplicates."""
    blocks = [block for block in index.map_blocks(lambda *block: block) if len(block[0])]
    if not blocks:
        return []
    numbers = np.sort(np.concatenate([part for part, _ in blocks]))
    if len(numbers) <= _MAX_COMPARED:  # all pairs; above, near-duplicates share a list, but for some on a border
        blocks = [(np.concatenate([part for part, _ in blocks]), np.concatenate([part for _, part in blocks]))]
    groups = _Groups(len(numbers))
    for part, vectors in blocks:
        positions = np.searchsorted(numbers, part)
        for start in range(0, len(part), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            groups.join(positions[rows], positions[start:], vectors[rows] @ vectors[start:].T >= min_similarity)
    grouped = [numbers[group] for group in groups.of_two_or_more()]
    items = store.items([int(number) for group in grouped for number in group])
    named = [[items[int(number)].id for number in group if int(number) in items] for group in grouped]
    return sorted((group for group in named if len(group) > 1), key=lambda group: (-len(group), group[0]))


class _Groups:
    """Disjoint sets of positions."""

    def __init__(self, size: int) -> None:
        self._parents = np.arange(size)

    def join(self, rows: IntArray, columns: IntArray, near: Mask) -> None:
        for row, beside in zip(rows, near, strict=True):
            others = columns[beside]
            root = self._root(row)
            for parent in np.unique(self._parents[others]):
                other = self._root(parent)
                root, other = min(root, other), max(root, other)
                self._parents[other] = root
            self._parents[others] = root

    def of_two_or_more(self) -> list[IntArray]:
        roots = np.array([self._root(position) for position in range(len(self._parents))], dtype=np.int64)
        order = np.argsort(roots, kind="stable")
        starts = np.flatnonzero(np.diff(roots[order])) + 1
        return [group for group in np.split(order, starts) if len(group) > 1]

    def _root(self, position: int) -> int:
        while self._parents[position] != position:
            self._parents[position] = self._parents[self._parents[position]]
            position = self._parents[position]
        return int(position)


def compare_index(index: GalleryIndex, store: GalleryStore) -> Verification:
    """Compare the index with the database: every number, every vector, and the recall of a sample of searches."""
    weights = np.random.default_rng(0).integers(1, 2**63, size=store.dim, dtype=np.uint64)

    def summed(vectors: FloatArray) -> np.ndarray:
        bits = np.ascontiguousarray(vectors).view(np.uint32).astype(np.uint64)
        sums: np.ndarray = (bits * weights).sum(axis=1, dtype=np.uint64)
        return sums

    with index.consistent_read():
        blocks = list(index.map_blocks(lambda numbers, vectors: (numbers, summed(vectors))))
        indexed = np.concatenate([numbers for numbers, _ in blocks]) if blocks else np.empty(0, np.int64)
        sums = np.concatenate([part for _, part in blocks]) if blocks else np.empty(0, np.uint64)
        order = np.argsort(indexed)
        indexed, sums = indexed[order], sums[order]
        snapshot = index.snapshot
        rounded = np.empty(0, np.int64) if snapshot is None else snapshot.numbers
        true_numbers = store.numbers()
        own, queries = store.vectors_of(sample_numbers(true_numbers, _RECALL_QUERIES).tolist())
        truth = GroundTruth(queries, np.asarray(own, dtype=np.int64))
        missing = different = 0
        for part, vectors in store.vectors():
            numbers = np.asarray(part, dtype=np.int64)
            truth.update(numbers, vectors)
            expected = summed(vectors)
            inexact = np.isin(numbers, rounded, assume_unique=True)
            if snapshot is not None and inexact.any():
                expected[inexact] = summed(snapshot.encoded(vectors[inexact]))
            positions = np.minimum(np.searchsorted(indexed, numbers), max(0, len(indexed) - 1))
            found = indexed[positions] == numbers if len(indexed) else np.zeros(len(numbers), np.bool_)
            missing += int((~found).sum())
            different += int((sums[positions[found]] != expected[found]).sum())
        surplus = int((~np.isin(indexed, true_numbers)).sum()) + len(indexed) - len(np.unique(indexed))
        recall = _recall(index, truth)
    return Verification(len(true_numbers), missing, surplus, different, recall)


def describe_gallery(index: GalleryIndex, store: GalleryStore, folder: Path) -> Statistics:
    """Describe a gallery in numbers."""
    first, last, fields = store.overview()
    snapshot = index.snapshot
    facts = None if snapshot is None else snapshot.facts
    return Statistics(
        count=store.count(),
        dim=store.dim,
        model=store.spec,
        fingerprint=store.fingerprint,
        bytes=sum(path.stat().st_size for path in folder.iterdir()),
        first_added=first,
        last_added=last,
        fields=fields,
        index="exact" if snapshot is None else f"IVF{snapshot.list_count},{snapshot.facts.quantization}",
        indexed=0 if facts is None else facts.count,
        nprobe=None if facts is None else facts.nprobe,
        recall=None if facts is None else facts.recall,
    )


def _recall(index: GalleryIndex, truth: GroundTruth) -> float:
    found = [index.search(query, truth.count + 1) for query in truth.queries]
    width = max((len(row) for row in found), default=0)
    candidates = np.full((len(found), width), -2, dtype=np.int64)
    for row, numbers in enumerate(found):
        candidates[row, : len(numbers)] = numbers
    return truth.recall(candidates, slice(None))
