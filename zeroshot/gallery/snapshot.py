"""The approximate index of a large gallery: FAISS's inverted file on disk, mapped into memory, never changed.

What a snapshot covers is said in one JSON line in the database, checksums included, so that a file that is missing,
damaged or of another gallery is noticed before it answers. Searches give candidates; the similarities that users see
are computed from the database's float32 vectors.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.gallery.columns import Mask
from zeroshot.gallery.rows import IntArray

FORMAT = 1
STORAGES = ("float16", "int8")
CANDIDATES = {"float16": 2, "int8": 6}
"""Candidates per result wanted: rounding swaps neighbours, and the exact similarities put them right again."""

ROUNDING = {"float16": 2.0**-10, "int8": 2.0}
"""Twice the most by which rounding changes a similarity of unit vectors: what is further behind is no candidate."""

_COST_OF_A_VECTOR, _COST_OF_A_MATCH, _COST_OF_A_TEST = 45.0, 90.0, 5.0
"""Nanoseconds, more or less: to score a vector, one that a filter lets through, and to see that a filter does not."""

_TIMES_UNFILTERED = 1.4  # what a filtered search may cost more
_FEW_REMOVED = 0.9  # share of a snapshot that is still there
_RARE = 0.02  # up to this share of all vectors, every match is looked at


@dataclass(frozen=True)
class SnapshotFacts:
    """What the database remembers of a snapshot."""

    format: int
    token: str
    sha256: str
    numbers_sha256: str
    generation: int
    last_number: int
    count: int
    storage: str
    nprobe: int
    recall: float

    def to_json(self) -> str:
        """Write it down."""
        return json.dumps(asdict(self))


_parameters: Any = faiss.SearchParametersIVF  # takes keywords, which FAISS's stubs do not know


class SnapshotUnusableError(Exception):
    """A snapshot is missing, damaged or of another version; never seen outside the gallery, which makes another."""


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
        """Leave items out from here on."""
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
        wanted = min(matches, max(10, count * CANDIDATES[self.facts.storage]))
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
            positions = positions[similarities >= similarities[count - 1] - ROUNDING[self.facts.storage]]
        numbers: IntArray = self.numbers[positions]
        return numbers

    def _nearest(
        self, query: FloatArray, needed: int, asked: int, alive: Mask, probes: int, **selector: Any
    ) -> tuple[FloatArray, IntArray] | None:
        """Similarities and positions of what is alive, best first; None if that leaves fewer than needed."""
        parameters = _parameters(nprobe=probes, **selector)
        similarities, positions = self._index.search(query[np.newaxis], asked, params=parameters)
        kept = positions[0] >= 0
        exhausted = not kept.all()
        kept[kept] &= alive[positions[0][kept]]
        if not exhausted and int(np.count_nonzero(kept)) < needed:
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
        """Lists to look into with a filter: all if matches are rare, or as many as the time allows.

        The nearest that match are further away than the nearest of all, and lists that are thinned out cost less.
        """
        share = matches / len(self.numbers)
        if share <= _RARE:
            return self.list_count
        cheaper = _COST_OF_A_VECTOR / (_COST_OF_A_TEST + share * _COST_OF_A_MATCH)
        return min(self.list_count, max(self.facts.nprobe, int(self.facts.nprobe * _TIMES_UNFILTERED * cheaper)))


def snapshot_paths(folder: Path, token: str) -> tuple[Path, Path]:
    """Name the files of a snapshot."""
    return folder / f"index-{token}.faiss", folder / f"index-{token}.npy"


def remove_snapshots(folder: Path, keep: str) -> None:
    """Delete the files of other snapshots; processes that have them mapped are not disturbed."""
    for path in folder.glob("index-*"):
        if not path.name.startswith(f"index-{keep}."):
            path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Sum up a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
