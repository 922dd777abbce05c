"""A store and the index made from it, kept in step: opening, building, checking, closing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.errors import GalleryBusy, GalleryError, OptionError
from zeroshot.gallery.analysis import compare_index, describe_gallery
from zeroshot.gallery.building import BuildStoppedError, build_snapshot
from zeroshot.gallery.index import GalleryIndex
from zeroshot.gallery.snapshot import STORAGES
from zeroshot.gallery.store import GalleryStore
from zeroshot.gallery.types import Statistics, Verification

EXACT_UP_TO = 50_000
RECALL = 0.99
_LOG = logging.getLogger(__name__)


class IndexedStore:
    """The store and the index of a folder.

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

    def build_in_background(self) -> None:
        """Start building the index if there are too many recent items without one, and nobody is at it."""
        if not self.needs_index or (self._builder is not None and self._builder.is_alive()):
            return

        def build() -> None:
            try:
                self.build_index()
            except BuildStoppedError:
                pass  # the gallery is being closed
            except GalleryBusy:
                _LOG.info("%s: another process is writing; its index will be taken up.", self.folder.name)
            except Exception:  # the gallery goes on without: everything is searched one by one
                _LOG.exception("The index of %s could not be built.", self.folder.name)

        self._builder = threading.Thread(target=build, name=f"zeroshot-index-{self.folder.name}", daemon=True)
        self._builder.start()

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
            if storage is not None or self._index.snapshot is not None or self._store.count() > self._exact_up_to:
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

    def close(self) -> None:
        """Stop building, and close the database."""
        self._closing.set()
        if self._builder is not None:
            self._builder.join()
        self._store.close()

    def __enter__(self) -> Self:
        """Give itself, to be closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
