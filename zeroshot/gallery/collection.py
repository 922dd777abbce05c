"""Items with vectors and the index made from them: all that can be done without knowing what the vectors mean."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.errors import GalleryBusy, GalleryError, OptionError
from zeroshot.gallery.analysis import compare_index, describe_gallery
from zeroshot.gallery.building import BuildStoppedError, build_snapshot
from zeroshot.gallery.filters import Filter
from zeroshot.gallery.index import GalleryIndex
from zeroshot.gallery.records import Item, Statistics, Verification
from zeroshot.gallery.snapshot import STORAGES
from zeroshot.gallery.store import GalleryStore

EXACT_UP_TO = 50_000
RECALL = 0.99
_LOG = logging.getLogger(__name__)


class Collection:
    """Items, vectors and index of a folder.

    Parameters
    ----------
    folder : Path
        It exists.
    fingerprint : str
        The encoder's.
    spec : str
        The encoder's.
    dim : int
        Length of a vector.
    exact_up_to : int
        With more items than this beyond the last snapshot, an approximate index is built, in the background.
    recall : float
        Share of the true ten nearest that searches in the approximate index shall find.
    sentences : callable or None
        Gives embedded texts by which recall is measured, beside the stored vectors; shape (m, dim).
    """

    def __init__(
        self,
        folder: Path,
        *,
        fingerprint: str,
        spec: str,
        dim: int,
        exact_up_to: int = EXACT_UP_TO,
        recall: float = RECALL,
        sentences: Callable[[], FloatArray] | None = None,
    ) -> None:
        self.folder = folder
        self._exact_up_to, self._recall, self._sentences = exact_up_to, recall, sentences
        self._closing = threading.Event()
        self._building = threading.Lock()
        self._builder: threading.Thread | None = None
        self._store = GalleryStore(folder, fingerprint=fingerprint, spec=spec, dim=dim)
        try:
            self._index = GalleryIndex(self._store, folder)
        except BaseException:
            self._store.close()
            raise
        self._unindexed = self._index.recent_count

    def add(self, items: Iterable[tuple[Item, FloatArray]], *, replace: bool = False) -> int:
        """Store items with ready vectors, all or none; when this returns they are safe on disk.

        Parameters
        ----------
        items : iterable of (Item, ndarray of float32, shape (dim,))
            Items and their vectors, unit length.
        replace : bool
            Whether an item of a known id takes the other's place; of one id given twice the later counts.

        Returns
        -------
        int
            How many were stored.

        Raises
        ------
        ItemExists
            If an id is known and `replace` is False.
        GalleryBusy
            If another process is writing.
        GalleryError
            If an item or a vector cannot be stored, or the disk is full.
        """
        rows = list(items)
        if replace:
            rows = list({item.id: (item, vector) for item, vector in rows}.values())
        if not rows:
            return 0
        stored = self._store.add(rows, replace=replace)
        self._unindexed += stored
        self.build_in_background()
        return stored

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items, all or none.

        Parameters
        ----------
        ids : sequence of str
            Which.

        Returns
        -------
        int
            How many were removed.

        Raises
        ------
        ItemNotFound
            If an id is not known.
        GalleryBusy
            If another process is writing.
        """
        return self._store.delete(ids)

    def get(self, id: str) -> tuple[Item, FloatArray]:  # noqa: A002
        """Give one item and its vector.

        Parameters
        ----------
        id : str
            Which.

        Returns
        -------
        (Item, ndarray of float32, shape (dim,))
            As stored.

        Raises
        ------
        ItemNotFound
            If the id is not known.
        """
        return self._store.get(id)

    def list_items(self, where: Filter | None = None, *, limit: int = 100, after: str | None = None) -> list[Item]:
        """List items by id, a page at a time.

        Parameters
        ----------
        where : Filter or None
            Only those whose metadata match; ``zeroshot.gallery.filters`` has the form.
        limit : int
            Most items given.
        after : str or None
            Only ids beyond this one: the last of the page before.

        Returns
        -------
        list of Item
            In the order of their ids.
        """
        keep = None if where is None else self._index.matching(where)
        return self._store.page(limit=limit, after=after, keep=keep)

    def everything(self) -> Iterator[tuple[list[Item], FloatArray]]:
        """Read all items and their vectors, some thousand at a time.

        Yields
        ------
        (list of Item, ndarray of float32, shape (n, dim))
            In the order in which they were added.
        """
        for numbers, vectors in self._store.vectors():
            items = self._store.items(numbers)
            kept = [row for row, number in enumerate(numbers) if number in items]
            yield [items[numbers[row]] for row in kept], vectors[kept]

    def statistics(self) -> Statistics:
        """Describe the gallery in numbers.

        Returns
        -------
        Statistics
            As of now.
        """
        return describe_gallery(self._index, self._store, self.folder)

    def verify(self) -> Verification:
        """Prove that index and database agree, every id and every vector; make the index anew if they do not.

        Returns
        -------
        Verification
            What was found.

        Raises
        ------
        GalleryCorrupt
            If the database itself is damaged.
        """
        self._store.check()
        found = compare_index(self._index, self._store)
        if found.repaired:
            had_snapshot = self._index.snapshot is not None
            self._index.reload(usable=False)
            if had_snapshot:
                self.build_index()
        return found

    def build_index(self, *, storage: str | None = None) -> None:
        """Make the approximate index now, whatever the number of items, and take it up.

        Parameters
        ----------
        storage : str or None
            ``float16`` or ``int8`` (half the memory, more candidates compared); None keeps what the last one had.

        Raises
        ------
        OptionError
            If there is no such storage.
        GalleryBusy
            If another process is writing.
        GalleryError
            If the disk is full.
        """
        if storage is not None and storage not in STORAGES:
            raise OptionError(f"There is no storage {storage!r}.", f"Use {' or '.join(STORAGES)}.", field="storage")
        with self._building:
            snapshot = self._index.snapshot
            sentences = np.empty((0, self._store.dim), np.float32) if self._sentences is None else self._sentences()
            kept = storage or (snapshot.facts.storage if snapshot else STORAGES[0])
            try:
                build_snapshot(
                    self._store, self.folder, sentences, recall=self._recall, storage=kept,
                    stopped=self._closing.is_set,
                )  # fmt: skip
            except OSError as error:
                raise GalleryError(
                    f"The index of {self.folder.name} could not be written: {error}.",
                    "Check the disk's space; the pictures are safe, and searched one by one until then.",
                ) from error
            self._index.reload()
            self._unindexed = self._index.recent_count

    def settle(self) -> None:
        """Wait for the index that is being built, and build it if there are too many recent items without one."""
        if self._builder is not None:
            self._builder.join()
        if self.needs_index:
            self.build_index()

    @property
    def needs_index(self) -> bool:
        """Whether there are more recent items than are searched one by one at leisure."""
        return self._unindexed > self._exact_up_to

    def compact(self, *, storage: str | None = None) -> None:
        """Give back the room of what was deleted, and make the index anew if the gallery is large enough for one.

        Parameters
        ----------
        storage : str or None
            As for ``build_index``.

        Raises
        ------
        GalleryBusy
            If another process is writing.
        """
        with self.writing():
            if storage is not None or self._index.snapshot is not None or len(self) > self._exact_up_to:
                self.build_index(storage=storage)
            self._store.compact()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other processes from writing to this gallery while the block runs.

        Raises
        ------
        GalleryBusy
            If another process does so already.
        """
        with self._store.exclusive():
            yield

    def known_files(self) -> Mapping[str, tuple[int | None, int | None]]:
        """Give size and time of every file that was indexed.

        Returns
        -------
        mapping of str to (int or None, int or None)
            By uri: bytes, and nanoseconds of the last change.
        """
        return self._store.files()

    def close(self) -> None:
        """Stop building, and close the database."""
        self._closing.set()
        if self._builder is not None:
            self._builder.join()
        self._store.close()

    def __len__(self) -> int:
        """How many items there are."""
        return self._store.count()

    def __enter__(self) -> Self:
        """Give itself, to be closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def build_in_background(self) -> None:
        """Start building the index if there are too many recent items without one, and nobody is at it."""
        if not self.needs_index or (self._builder is not None and self._builder.is_alive()):
            return

        def build() -> None:
            try:
                self.build_index()
            except BuildStoppedError:
                pass
            except GalleryBusy:
                _LOG.info("%s: another process is writing; its index will be taken up.", self.folder.name)
            except Exception:  # the gallery goes on without: everything is searched one by one
                _LOG.exception("The index of %s could not be built.", self.folder.name)

        self._builder = threading.Thread(target=build, name=f"zeroshot-index-{self.folder.name}", daemon=True)
        self._builder.start()
