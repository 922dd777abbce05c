"""Make the approximate index of a large gallery: centroids from its own vectors, and as many probes as recall needs."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.gallery.rows import IntArray
from zeroshot.gallery.snapshot import (
    CANDIDATES,
    FORMAT,
    SnapshotFacts,
    remove_snapshots,
    sha256_of,
    snapshot_paths,
)
from zeroshot.gallery.store import GalleryStore

_TRAINED_PER_LIST = 40
_TRAINING_ROUNDS = 10
_SAMPLE = 256  # queries by which recall is measured
_NEAREST = 10
_ROWS_AT_ONCE = 32_768


class BuildStoppedError(Exception):
    """The gallery was closed while its index was being built."""


def build_snapshot(
    store: GalleryStore,
    folder: Path,
    sentences: FloatArray,
    *,
    recall: float,
    storage: str,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Index everything a gallery holds, write the index beside it, and make it the current one.

    Reading and writing go on meanwhile: what is written after the start is not covered, and replayed by who opens it.
    """
    generation = int(store.facts()["generation"])
    numbers = store.numbers()
    if not len(numbers):
        return
    index = _trained(store, numbers, storage, stopped)
    own_numbers, own = store.vectors_of(sample_numbers(numbers, _SAMPLE).tolist())
    queries = np.concatenate([own, sentences])
    nearest = Nearest(queries, np.concatenate([np.asarray(own_numbers, np.int64), np.full(len(sentences), -1)]))
    stored: list[IntArray] = []
    for part, vectors in _in_blocks(store, int(numbers[-1])):
        if stopped():
            raise BuildStoppedError
        index.add(vectors)
        nearest.see(part, vectors)
        stored.append(part)
    if not stored:  # everything was deleted meanwhile
        return
    numbers = np.concatenate(stored)
    probes, found = _choose_probes(index, numbers, nearest, len(own), recall, CANDIDATES[storage])
    token = uuid.uuid4().hex
    index_path, numbers_path = snapshot_paths(folder, token)
    try:
        _write(index, index_path)
        _write_numbers(numbers, numbers_path)
        facts = SnapshotFacts(
            FORMAT, token, sha256_of(index_path), sha256_of(numbers_path), generation, int(numbers[-1]), len(numbers),
            storage, probes, found,
        )  # fmt: skip
        store.publish(facts.to_json(), generation)
    except BaseException:
        index_path.unlink(missing_ok=True)
        numbers_path.unlink(missing_ok=True)
        raise
    remove_snapshots(folder, token)


def _trained(
    store: GalleryStore, numbers: IntArray, storage: str, stopped: Callable[[], bool]
) -> faiss.IndexIVFScalarQuantizer:
    lists = max(1, int(4 * math.sqrt(len(numbers))))
    _, sample = store.vectors_of(sample_numbers(numbers, lists * _TRAINED_PER_LIST).tolist())
    if stopped():
        raise BuildStoppedError
    kinds = {"float16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(store.dim), store.dim, min(lists, len(sample)), kinds[storage],
        faiss.METRIC_INNER_PRODUCT, False,
    )  # fmt: skip
    index.cp.niter = _TRAINING_ROUNDS
    index.cp.spherical = True
    index.cp.max_points_per_centroid = _TRAINED_PER_LIST
    index.cp.min_points_per_centroid = 1  # small galleries are indexed in tests; FAISS would warn
    index.train(sample)
    return index


def sample_numbers(numbers: IntArray, count: int) -> IntArray:
    """Choose some items at random, the same every time."""
    random = np.random.default_rng(len(numbers))
    chosen: IntArray = np.sort(random.choice(numbers, min(count, len(numbers)), replace=False))
    return chosen


def _in_blocks(store: GalleryStore, last: int) -> Iterator[tuple[IntArray, FloatArray]]:
    waiting: list[tuple[IntArray, FloatArray]] = []
    for part, vectors in store.vectors():
        row_numbers = np.asarray(part, dtype=np.int64)
        covered = int(np.searchsorted(row_numbers, last, side="right"))
        waiting.append((row_numbers[:covered], vectors[:covered]))
        if sum(len(rows) for rows, _ in waiting) >= _ROWS_AT_ONCE or covered < len(row_numbers):
            yield np.concatenate([a for a, _ in waiting]), np.concatenate([b for _, b in waiting])
            waiting = []
        if covered < len(row_numbers):
            return
    if waiting:
        yield np.concatenate([a for a, _ in waiting]), np.concatenate([b for _, b in waiting])


class Nearest:
    """The true nearest of some queries, found as the vectors go by."""

    def __init__(self, queries: FloatArray, own: IntArray) -> None:
        self.queries, self.own = queries, own
        self.numbers = np.full((len(queries), _NEAREST), -1, dtype=np.int64)
        self._similarities = np.full((len(queries), _NEAREST), -np.inf, dtype=np.float32)

    @property
    def count(self) -> int:
        """How many neighbours of each query are looked for."""
        return _NEAREST

    def see(self, numbers: IntArray, vectors: FloatArray) -> None:
        """Compare with some more."""
        similarities = self.queries @ vectors.T
        similarities[self.own[:, np.newaxis] == numbers] = -np.inf
        joined = np.concatenate([self._similarities, similarities], axis=1)
        both = np.concatenate([self.numbers, np.broadcast_to(numbers, similarities.shape)], axis=1)
        best = np.argpartition(-joined, _NEAREST - 1, axis=1)[:, :_NEAREST]
        self._similarities = np.take_along_axis(joined, best, axis=1)
        self.numbers = np.take_along_axis(both, best, axis=1)

    def recall(self, candidates: IntArray, rows: slice) -> float:
        """Say how many of the nearest are among candidates."""
        truth, found = self.numbers[rows], candidates[rows]
        counted = truth >= 0
        hit = (truth[:, :, np.newaxis] == found[:, np.newaxis, :]).any(axis=2) & counted
        return float(hit.sum() / max(1, counted.sum())) if counted.any() else 1.0


def _choose_probes(
    index: faiss.IndexIVFScalarQuantizer, numbers: IntArray, nearest: Nearest, pictures: int, target: float, factor: int
) -> tuple[int, float]:
    """The fewest probes, on a scale by steps of a quarter, with which pictures and sentences both reach the target.

    A sample's recall is not the whole's, so a quarter of what may be missed is kept in hand.
    """
    wanted = target + (1 - target) / 4
    probes = 1
    while True:
        parameters = faiss.SearchParametersIVF(nprobe=probes)  # type: ignore[call-arg]  # FAISS adds it at import
        _, positions = index.search(nearest.queries, _NEAREST * factor + 1, params=parameters)
        candidates = np.where(positions >= 0, numbers[positions], -2)
        found = min(nearest.recall(candidates, slice(pictures)), nearest.recall(candidates, slice(pictures, None)))
        if found >= wanted or probes >= index.nlist:
            return probes, found
        probes = min(int(index.nlist), probes + max(1, probes // 4))


def _write(index: faiss.Index, path: Path) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS speaks of its own source lines
        raise OSError(f"{path} could not be written; is the disk full?") from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_numbers(numbers: IntArray, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, numbers)
        file.flush()
        os.fsync(file.fileno())
