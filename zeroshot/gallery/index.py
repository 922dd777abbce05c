"""A gallery's index: a snapshot for most items, an exact index for the recent ones, kept in sync with the database."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import faiss
import numpy as np

from zeroshot.cpu import available_cpus
from zeroshot.encoders import FloatArray
from zeroshot.encoders.base import IntArray
from zeroshot.errors import GalleryBusy, GalleryError, OptionError
from zeroshot.gallery.filters import Columns, Filter, matching
from zeroshot.gallery.ivf_index import (
    QUANTIZATIONS,
    BuildStoppedError,
    Snapshot,
    SnapshotUnusableError,
    build_snapshot,
)
from zeroshot.gallery.store import GalleryStore

ResultT = TypeVar("ResultT")

_LOG = logging.getLogger(__name__)
_ROWS_PER_BLOCK = 2048


class ExactIndex:
    """Compares a query with every vector."""

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
        """Give the numbers and vectors of all items."""
        numbers = faiss.vector_to_array(self._index.id_map)
        rows = faiss.downcast_index(self._index.index).reconstruct_n(0, len(self))
        return numbers, rows

    def __len__(self) -> int:
        """How many vectors there are."""
        return int(self._index.ntotal)


class GalleryIndex:
    """Gives candidates for the most similar items, whatever any process has written up to now, and builds its snapshot.

    Safe to call from several threads. Without a snapshot, or with one that is missing or damaged, a query is compared
    with every vector. With more than `exact_up_to` items beyond the snapshot, a new one is built that finds the share
    `recall` of the true ten nearest of stored vectors and of those that `sentences` gives, shape (m, dim).
    """

    def __init__(
        self,
        store: GalleryStore,
        folder: Path,
        *,
        exact_up_to: int,
        recall: float,
        sentences: Callable[[], FloatArray],
    ) -> None:
        self._store = store
        self._folder = folder
        self.exact_up_to, self._recall, self._sentences = exact_up_to, recall, sentences
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._building = threading.Lock()
        self._builder: threading.Thread | None = None
        self.reload()
        self._unindexed = self.recent_count

    @property
    def snapshot(self) -> Snapshot | None:
        """The approximate part, if there is one."""
        return self._snapshot

    @property
    def recent_count(self) -> int:
        """How many vectors are compared with every query."""
        return len(self._recent)

    def reload(self, *, use_snapshot: bool = True) -> None:
        """Open the current snapshot, and read what was written since."""
        written = self._store.facts().get("snapshot")
        try:
            snapshot = Snapshot.open(self._folder, written if use_snapshot else None)
        except SnapshotUnusableError:
            snapshot = None
        recent = ExactIndex(self._store.dim)
        with self.consistent_read():
            facts = self._store.facts()
            if snapshot is not None and snapshot.facts.generation < facts["forgotten"]:
                snapshot = None  # another was published while this one was opened; the next search opens that
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
            self._sync()
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
        """Give a function that says whether an item matches a filter."""
        with self._lock:
            self._sync()
            numbers = self._columns.numbers
            mask = matching(where, self._columns)
        wanted = numbers[mask]

        def keep(number: int) -> bool:
            position = int(np.searchsorted(wanted, number))
            return position < len(wanted) and int(wanted[position]) == number

        return keep

    @contextmanager
    def consistent_read(self) -> Iterator[None]:
        """Keep index and database as they are while the block runs; other threads' searches wait.

        Code that needs both locks takes them in this order.
        """
        with self._lock, self._store.consistent_read():
            yield

    def map_blocks(self, work: Callable[[IntArray, FloatArray], ResultT]) -> Iterator[ResultT]:
        """Run a function on every vector as the index has it, a block at a time, on every core."""
        with self._lock:
            self._sync()
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

    @property
    def is_build_due(self) -> bool:
        """Whether more recent items are compared one by one than `exact_up_to`."""
        return self._unindexed > self.exact_up_to

    def note_added(self, count: int) -> None:
        """Count added items, and start building a snapshot if one is due."""
        self._unindexed += count
        self.build_in_background()

    def build(self, *, quantization: str | None = None) -> None:
        """Build a snapshot of all items and open it; None keeps the last one's quantization."""
        if quantization is not None and quantization not in QUANTIZATIONS:
            raise OptionError(
                f"There is no quantization {quantization!r}.", f"Use {' or '.join(QUANTIZATIONS)}.",
                field="quantization",
            )  # fmt: skip
        with self._building:
            snapshot = self._snapshot
            kept = quantization or (snapshot.facts.quantization if snapshot else QUANTIZATIONS[0])
            try:
                build_snapshot(
                    self._store, self._folder, self._sentences(), recall=self._recall, quantization=kept,
                    stopped=self._closing.is_set,
                )  # fmt: skip
            except OSError as error:
                raise GalleryError(
                    f"The index of {self._folder.name} could not be written: {error}.",
                    "Check the disk's space; the items are safe, and compared one by one until then.",
                ) from error
            self.reload()
            self._unindexed = self.recent_count

    def rebuild(self) -> None:
        """Read everything from the database again, and build the snapshot again if there was one."""
        had_snapshot = self._snapshot is not None
        self.reload(use_snapshot=False)
        if had_snapshot:
            self.build()

    def build_in_background(self) -> None:
        """Start building a snapshot in a thread if one is due and none is being built."""
        if not self.is_build_due or (self._builder is not None and self._builder.is_alive()):
            return

        def build() -> None:
            try:
                self.build()
            except BuildStoppedError:
                pass  # the gallery is being closed
            except GalleryBusy:
                _LOG.info("%s: another process is writing; its index will be used when it is built", self._folder.name)
            except Exception:  # without a snapshot everything is compared one by one
                _LOG.exception("the index of %s could not be built", self._folder.name)

        self._builder = threading.Thread(target=build, name=f"zeroshot-index-{self._folder.name}", daemon=True)
        self._builder.start()

    def wait(self) -> None:
        """Wait for the snapshot that is being built, and build one if one is due."""
        if self._builder is not None:
            self._builder.join()
        if self.is_build_due:
            self.build()

    def close(self) -> None:
        """Stop building."""
        self._closing.set()
        if self._builder is not None:
            self._builder.join()

    def _sync(self) -> None:
        """Apply what any process has written since the last call."""
        if self._store.generation() == self._generation:
            return
        with self._store.consistent_read():
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
