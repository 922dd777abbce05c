"""A gallery's index: a snapshot for the many, an exact index for the recent, both followed along with the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from zeroshot.cpu import available_cpus
from zeroshot.encoders import FloatArray
from zeroshot.gallery.columns import Columns
from zeroshot.gallery.exact import ExactIndex
from zeroshot.gallery.filters import Filter, matching
from zeroshot.gallery.rows import IntArray
from zeroshot.gallery.snapshot import Snapshot, SnapshotUnusableError
from zeroshot.gallery.store import GalleryStore

ResultT = TypeVar("ResultT")

_ROWS_PER_BLOCK = 2048


class GalleryIndex:
    """Candidates for the nearest, whatever any process has written up to now.

    Safe to call from several threads. A snapshot that is missing or damaged is done without: everything is searched
    one by one until there is another.
    """

    def __init__(self, store: GalleryStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._lock = threading.RLock()
        self.reload()

    @property
    def snapshot(self) -> Snapshot | None:
        """The approximate part, if there is one."""
        return self._snapshot

    @property
    def recent_count(self) -> int:
        """How many vectors are searched one by one."""
        return len(self._recent)

    def reload(self, *, usable: bool = True) -> None:
        """Take up the current snapshot, and replay what was written since."""
        written = self._store.facts().get("snapshot")
        try:
            snapshot = Snapshot.open(self._folder, written if usable else None)
        except SnapshotUnusableError:
            snapshot = None
        recent = ExactIndex(self._store.dim)
        with self.steady():
            facts = self._store.facts()
            if snapshot is not None and snapshot.facts.generation < facts["forgotten"]:
                snapshot = None  # another was published while this one was opened; the next search takes that up
            added = []
            for numbers, vectors in self._store.vectors(after=snapshot.facts.last_number if snapshot else 0):
                recent.add(numbers, vectors)
                added.append(np.asarray(numbers, dtype=np.int64))
            if snapshot is not None:
                snapshot.remove(np.asarray(self._store.removed_since(snapshot.facts.generation), dtype=np.int64))
            covered = snapshot.numbers if snapshot is not None else np.empty(0, np.int64)
            everything = np.concatenate([covered, *added])
            self._snapshot, self._recent, self._written = snapshot, recent, written
            self._columns = Columns(self._store, everything)
            self._generation = facts["generation"]
            self._last_number = int(everything[-1]) if len(everything) else 0

    def search(self, query: FloatArray, count: int, where: Filter | None = None, *, exact: bool = False) -> IntArray:
        """Find candidates for the most similar items."""
        with self._lock:
            self._follow()
            snapshot = self._snapshot
            covered = 0 if snapshot is None else len(snapshot.numbers)
            among, among_recent = None, None
            if where is not None:
                mask = matching(where, self._columns)
                among, among_recent = mask[:covered], self._columns.numbers[covered:][mask[covered:]]
            recent = self._recent.search(query, count, among_recent)
        if snapshot is None:
            return recent
        return np.concatenate([recent, snapshot.search(query, count, among, exact=exact)])

    def matching(self, where: Filter) -> Callable[[int], bool]:
        """Prepare to say which items match a filter."""
        with self._lock:
            self._follow()
            numbers = self._columns.numbers
            mask = matching(where, self._columns)
        wanted = numbers[mask]

        def keep(number: int) -> bool:
            position = int(np.searchsorted(wanted, number))
            return position < len(wanted) and int(wanted[position]) == number

        return keep

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Keep index and database as they are while the block runs; other threads' searches wait.

        Whoever needs both locks takes them in this order.
        """
        with self._lock, self._store.reading():
            yield

    def map_blocks(self, work: Callable[[IntArray, FloatArray], ResultT]) -> Iterator[ResultT]:
        """Do something with every vector as the index has it, a block at a time, on every core."""
        with self._lock:
            self._follow()
            snapshot = self._snapshot
            numbers, vectors = self._recent.vectors()
        if len(numbers):
            yield work(numbers, vectors)
        if snapshot is None:
            return
        step = max(1, _ROWS_PER_BLOCK * snapshot.list_count // max(1, len(snapshot.numbers)))
        parts = [range(start, min(start + step, snapshot.list_count)) for start in range(0, snapshot.list_count, step)]
        with ThreadPoolExecutor(available_cpus()) as pool:
            yield from pool.map(lambda part: work(*snapshot.read(part)), parts)

    def _follow(self) -> None:
        """Replay what any process has written since the last call."""
        if self._store.generation() == self._generation:
            return
        with self._store.reading():
            facts = self._store.facts()
            if facts.get("snapshot") != self._written or self._generation < facts["forgotten"]:
                self.reload()
                return
            removed = np.asarray(self._store.removed_since(self._generation), dtype=np.int64)
            if self._snapshot is not None:
                self._snapshot.remove(removed)
            self._recent.remove(removed)
            for numbers, vectors in self._store.vectors(after=self._last_number):
                self._recent.add(numbers, vectors)
                self._columns.extend(np.asarray(numbers, dtype=np.int64))
                self._last_number = numbers[-1]
            self._generation = facts["generation"]
