"""Items with vectors and the index made from them: all that can be done without knowing what the vectors mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from zeroshot.encoders import FloatArray
from zeroshot.errors import GalleryBusy, GalleryError
from zeroshot.gallery.filters import Filter
from zeroshot.gallery.types import Item
from zeroshot.gallery.upkeep import IndexedStore


class Collection(IndexedStore):
    """Items in and out; what is written is searched at once."""

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

    def add_each(self, rows: Sequence[tuple[Item, FloatArray]], *, replace: bool = False) -> list[GalleryError | None]:
        """Store what can be stored of some items.

        Parameters
        ----------
        rows : sequence of (Item, ndarray of float32, shape (dim,))
            Items and their vectors, unit length.
        replace : bool
            Whether an item of a known id takes the other's place.

        Returns
        -------
        list of GalleryError or None
            By row: None if it is safe on disk, or why it was not stored.

        Raises
        ------
        GalleryBusy
            If another process is writing.
        """
        try:
            self.add(rows, replace=replace)
            return [None] * len(rows)
        except GalleryBusy:
            raise
        except GalleryError as error:
            if len(rows) == 1:
                return [error]
        return [error for row in rows for error in self.add_each([row], replace=replace)]

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

    def known_files(self) -> Mapping[str, tuple[int | None, int | None]]:
        """Give size and time of every file that was indexed.

        Returns
        -------
        mapping of str to (int or None, int or None)
            By uri: bytes, and nanoseconds of the last change.
        """
        return self._store.files()

    def __len__(self) -> int:
        """How many items there are."""
        return self._store.count()
