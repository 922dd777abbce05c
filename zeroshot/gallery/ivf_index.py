"""The approximate index of a large gallery: FAISS's inverted file on disk, mapped into memory, never changed.

What a snapshot covers is said in one JSON line in the database, checksums included, so that a file that is missing,
damaged or of another gallery is noticed before it answers. Searches give candidates; the similarities that users see
are computed from the database's float32 vectors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.encoders.base import IntArray
from zeroshot.gallery.filters import Mask
from zeroshot.gallery.store import GalleryStore

FORMAT = 1
QUANTIZATIONS = ("float16", "int8")
CANDIDATES = {"float16": 2, "int8": 6}
"""Candidates per result: rounding swaps neighbours; the exact similarities restore their order."""

ROUNDING = {"float16": 2.0**-10, "int8": 2.0}
"""Twice the most by which rounding changes a similarity of unit vectors: a lower one is no candidate."""

_COST_OF_A_VECTOR, _COST_OF_A_MATCH, _COST_OF_A_TEST = 45.0, 90.0, 5.0
"""About how many nanoseconds it takes to score a vector, one that a filter lets through, and to test one."""

_TIMES_UNFILTERED = 1.4  # what a filtered search may cost more
_FEW_REMOVED = 0.9  # share of a snapshot that is still there
_RARE = 0.02  # up to this share of all vectors, every match is looked at

_TRAINED_PER_LIST = 40
_TRAINING_ROUNDS = 10
_SAMPLE = 256  # queries by which recall is measured
_NEAREST = 10
_ROWS_AT_ONCE = 32_768


@dataclass(frozen=True)
class SnapshotFacts:
    """What the database stores about a snapshot."""

    format: int
    token: str
    sha256: str
    numbers_sha256: str
    generation: int
    last_number: int
    count: int
    quantization: str
    nprobe: int
    recall: float

    def to_json(self) -> str:
        """Serialise."""
        return json.dumps(asdict(self))


_parameters: Any = faiss.SearchParametersIVF  # takes keywords, which FAISS's stubs do not know


class SnapshotUnusableError(Exception):
    """A snapshot is missing, damaged or of another version; caught by the index, which does without."""


class Snapshot:
    """An opened snapshot."""

    def __init__(self, facts: SnapshotFacts, numbers: IntArray, index: Any) -> None:
        self.facts = facts
        self.numbers = numbers
        self._index = index
        self._index.parallel_mode = 1  # a single query uses every core
        self.alive: Mask = np.ones(len(numbers), dtype=np.bool_)

    @classmethod
    def open(cls, folder: Path, written: str | None) -> Snapshot:
        """Map the files into memory, after checking them."""
        if written is None:
            raise SnapshotUnusableError
        try:
            facts = SnapshotFacts(**json.loads(written))
            index_path, numbers_path = snapshot_paths(folder, facts.token)
            sound = (
                facts.format == FORMAT
                and sha256_of(index_path) == facts.sha256
                and sha256_of(numbers_path) == facts.numbers_sha256
            )
            if not sound:
                raise SnapshotUnusableError
            index: Any = faiss.read_index(str(index_path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
            lists: Any = faiss.downcast_InvertedLists(index.invlists)
            lists.prefetch_nthread = 0  # its threads cost a search more than they save
            return cls(facts, np.load(numbers_path, allow_pickle=False), index)
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            raise SnapshotUnusableError from error

    def remove(self, numbers: IntArray) -> None:
        """Leave items out of all later searches."""
        positions = np.searchsorted(self.numbers, numbers)
        inside = positions < len(self.numbers)
        inside[inside] &= self.numbers[positions[inside]] == numbers[inside]
        alive = self.alive.copy()  # searches in other threads go on with the old one
        alive[positions[inside]] = False
        self.alive = alive

    def search(self, query: FloatArray, count: int, among: Mask | None, *, exact: bool) -> IntArray:
        """Find candidates for the most similar."""
        alive = self.alive
        allowed = alive if among is None else alive & among
        matches = int(np.count_nonzero(allowed))
        if matches == 0:
            return np.empty(0, np.int64)
        wanted = min(matches, max(10, count * CANDIDATES[self.facts.quantization]))
        probes = self.list_count if exact else self.facts.nprobe
        found = None
        if among is None and matches >= _FEW_REMOVED * len(alive):  # cheaper to find some of the removed than to test
            found = self._nearest(
                query, wanted, wanted + wanted // 4 if matches < len(alive) else wanted, alive, probes
            )
        if found is None:
            bits = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(alive), faiss.swig_ptr(bits))
            probes = self.list_count if exact else self._probes(matches)
            found = self._nearest(query, 0, wanted, alive, probes, sel=selector)
        similarities, positions = found or (np.empty(0, np.float32), np.empty(0, np.int64))
        if len(similarities) > count:
            positions = positions[similarities >= similarities[count - 1] - ROUNDING[self.facts.quantization]]
        numbers: IntArray = self.numbers[positions]
        return numbers

    def _nearest(
        self, query: FloatArray, at_least: int, count: int, alive: Mask, probes: int, **selector: Any
    ) -> tuple[FloatArray, IntArray] | None:
        """Similarities and positions of what is alive, best first; None if those are fewer than `at_least`."""
        parameters = _parameters(nprobe=probes, **selector)
        similarities, positions = self._index.search(query[np.newaxis], count, params=parameters)
        kept = positions[0] >= 0
        exhausted = not kept.all()
        kept[kept] &= alive[positions[0][kept]]
        if not exhausted and int(np.count_nonzero(kept)) < at_least:
            return None
        return similarities[0][kept], positions[0][kept]

    def read(self, lists: range) -> tuple[IntArray, FloatArray]:
        """Give what is alive in some of the index's lists, as stored there."""
        stored, width = self._index.invlists, self._index.code_size
        positions, codes = [np.empty(0, np.int64)], [np.empty((0, width), np.uint8)]
        for which in lists:
            if size := stored.list_size(which):
                positions.append(faiss.rev_swig_ptr(stored.get_ids(which), size))
                codes.append(faiss.rev_swig_ptr(stored.get_codes(which), size * width).reshape(size, width))
        together, rows = np.concatenate(positions), np.concatenate(codes)
        kept = self.alive[together]
        if not kept.all():
            together, rows = together[kept], rows[kept]
        return self.numbers[together], self._decoded(rows)

    @property
    def list_count(self) -> int:
        """How many lists there are."""
        return int(self._index.nlist)

    def encoded(self, vectors: FloatArray) -> FloatArray:
        """Round vectors as the index does."""
        return self._decoded(self._index.sq.compute_codes(np.ascontiguousarray(vectors)))

    def _decoded(self, codes: np.ndarray) -> FloatArray:
        rows: FloatArray = self._index.sq.decode(codes)  # several times faster than NumPy's conversion
        return rows

    def _probes(self, matches: int) -> int:
        """Lists to search with a filter: all if matches are rare, else as many as the time allows.

        The nearest matches are further away than the nearest items, and lists with fewer matches cost less.
        """
        share = matches / len(self.numbers)
        if share <= _RARE:
            return self.list_count
        cheaper = _COST_OF_A_VECTOR / (_COST_OF_A_TEST + share * _COST_OF_A_MATCH)
        return min(self.list_count, max(self.facts.nprobe, int(self.facts.nprobe * _TIMES_UNFILTERED * cheaper)))


class BuildStoppedError(Exception):
    """The gallery was closed while its index was being built."""


def build_snapshot(
    store: GalleryStore,
    folder: Path,
    sentences: FloatArray,
    *,
    recall: float,
    quantization: str,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Index all of a gallery's items, write the index to the folder, and make it the current one.

    Reading and writing go on meanwhile: items written after the start are not in it, and read from the database by the
    process that opens it.
    """
    generation = int(store.facts()["generation"])
    numbers = store.numbers()
    if not len(numbers):
        return
    index = _trained(store, numbers, quantization, stopped)
    own_numbers, own = store.vectors_of(sample_numbers(numbers, _SAMPLE).tolist())
    queries = np.concatenate([own, sentences])
    truth = GroundTruth(queries, np.concatenate([np.asarray(own_numbers, np.int64), np.full(len(sentences), -1)]))
    stored: list[IntArray] = []
    for part, vectors in _in_blocks(store, int(numbers[-1])):
        if stopped():
            raise BuildStoppedError
        index.add(vectors)
        truth.update(part, vectors)
        stored.append(part)
    if not stored:  # everything was deleted meanwhile
        return
    numbers = np.concatenate(stored)
    probes, found = _choose_probes(index, numbers, truth, len(own), recall, CANDIDATES[quantization])
    token = uuid.uuid4().hex
    index_path, numbers_path = snapshot_paths(folder, token)
    try:
        _write(index, index_path)
        _write_numbers(numbers, numbers_path)
        facts = SnapshotFacts(
            FORMAT, token, sha256_of(index_path), sha256_of(numbers_path), generation, int(numbers[-1]), len(numbers),
            quantization, probes, found,
        )  # fmt: skip
        store.publish(facts.to_json(), generation)
    except BaseException:
        index_path.unlink(missing_ok=True)
        numbers_path.unlink(missing_ok=True)
        raise
    remove_snapshots(folder, token)


def _trained(
    store: GalleryStore, numbers: IntArray, quantization: str, stopped: Callable[[], bool]
) -> faiss.IndexIVFScalarQuantizer:
    lists = max(1, int(4 * math.sqrt(len(numbers))))
    _, sample = store.vectors_of(sample_numbers(numbers, lists * _TRAINED_PER_LIST).tolist())
    if stopped():
        raise BuildStoppedError
    kinds = {"float16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(store.dim), store.dim, min(lists, len(sample)), kinds[quantization],
        faiss.METRIC_INNER_PRODUCT, False,
    )  # fmt: skip
    index.cp.niter = _TRAINING_ROUNDS
    index.cp.spherical = True
    index.cp.max_points_per_centroid = _TRAINED_PER_LIST
    index.cp.min_points_per_centroid = 1  # small galleries are indexed in tests; FAISS would warn
    index.train(sample)
    return index


def sample_numbers(numbers: IntArray, count: int) -> IntArray:
    """Choose items at random, with a fixed seed."""
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


class GroundTruth:
    """The true nearest neighbours of some queries, found block by block; `own` are the queries' own numbers, or -1."""

    def __init__(self, queries: FloatArray, own: IntArray) -> None:
        self.queries, self.own = queries, own
        self.numbers = np.full((len(queries), _NEAREST), -1, dtype=np.int64)
        self._similarities = np.full((len(queries), _NEAREST), -np.inf, dtype=np.float32)

    @property
    def count(self) -> int:
        """How many neighbours of each query are kept."""
        return _NEAREST

    def update(self, numbers: IntArray, vectors: FloatArray) -> None:
        """Compare the queries with another block of vectors."""
        similarities = self.queries @ vectors.T
        similarities[self.own[:, np.newaxis] == numbers] = -np.inf
        joined = np.concatenate([self._similarities, similarities], axis=1)
        both = np.concatenate([self.numbers, np.broadcast_to(numbers, similarities.shape)], axis=1)
        best = np.argpartition(-joined, _NEAREST - 1, axis=1)[:, :_NEAREST]
        self._similarities = np.take_along_axis(joined, best, axis=1)
        self.numbers = np.take_along_axis(both, best, axis=1)

    def recall(self, candidates: IntArray, rows: slice) -> float:
        """Compute the share of the true neighbours that are among candidates."""
        expected, found = self.numbers[rows], candidates[rows]
        counted = expected >= 0
        hit = (expected[:, :, np.newaxis] == found[:, np.newaxis, :]).any(axis=2) & counted
        return float(hit.sum() / max(1, counted.sum())) if counted.any() else 1.0


def _choose_probes(
    index: faiss.IndexIVFScalarQuantizer, numbers: IntArray, truth: GroundTruth, stored: int, target: float, factor: int
) -> tuple[int, float]:
    """Find the fewest probes, in steps of a quarter, with which stored vectors and sentences both reach the target.

    A sample's recall differs from the whole gallery's, so the target is raised by a quarter of what may be missed.
    """
    wanted = target + (1 - target) / 4
    probes = 1
    while True:
        parameters = faiss.SearchParametersIVF(nprobe=probes)  # type: ignore[call-arg]  # FAISS adds it at import
        _, positions = index.search(truth.queries, _NEAREST * factor + 1, params=parameters)
        candidates = np.where(positions >= 0, numbers[positions], -2)
        found = min(truth.recall(candidates, slice(stored)), truth.recall(candidates, slice(stored, None)))
        if found >= wanted or probes >= index.nlist:
            return probes, found
        probes = min(int(index.nlist), probes + max(1, probes // 4))


def _write(index: faiss.Index, path: Path) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # FAISS names its source lines only
        raise OSError(f"{path} could not be written; is the disk full?") from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_numbers(numbers: IntArray, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, numbers)
        file.flush()
        os.fsync(file.fileno())


def snapshot_paths(folder: Path, token: str) -> tuple[Path, Path]:
    """Give the paths of a snapshot's files."""
    return folder / f"index-{token}.faiss", folder / f"index-{token}.npy"


def remove_snapshots(folder: Path, keep: str) -> None:
    """Delete the files of other snapshots; processes that have them mapped go on."""
    for path in folder.glob("index-*"):
        if not path.name.startswith(f"index-{keep}."):
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
