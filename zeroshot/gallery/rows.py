"""Reading a gallery's rows, each under its checksum."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot.encoders import FloatArray
from zeroshot.errors import GalleryCorrupt, ItemNotFound, quote
from zeroshot.gallery.database import Database
from zeroshot.gallery.types import Item
from zeroshot.vector_codec import CHECK_BYTES, verify

IntArray = npt.NDArray[np.int64]

_ROWS_PER_READ = 2000
_VALUES_PER_QUERY = 500
_COLUMNS = "number, id, uri, sha256, width, height, file_size, file_mtime_ns, metadata, added, checksum"
_WITH_VECTORS = f"SELECT {_COLUMNS}, vector FROM items JOIN vectors USING (number) WHERE number IN"  # noqa: S608


class RowReader(Database):
    """Items and vectors by number, by id and by page."""

    def get(self, id_: str) -> tuple[Item, FloatArray]:
        """Give one item and its vector."""
        with self.reading() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM items WHERE id = ?", (id_,)).fetchone()  # noqa: S608
            if row is None:
                raise ItemNotFound(f"There is no item {quote(id_)}.", "Check the id.")
            return self._item(row), self.vectors_of([row[0]])[1][0]

    def items(self, numbers: Sequence[int]) -> dict[int, Item]:
        """Give items by number."""
        with self.reading() as connection:
            query = f"SELECT {_COLUMNS} FROM items WHERE number IN "  # noqa: S608
            return {row[0]: self._item(row) for row in _rows_of(connection, query, numbers)}

    def with_vectors(self, numbers: Sequence[int]) -> tuple[list[Item], FloatArray]:
        """Give items and their vectors by number."""
        with self.reading() as connection:
            rows = list(_rows_of(connection, _WITH_VECTORS, sorted(numbers)))
            return [self._item(row[:-1]) for row in rows], self._stacked([(row[0], row[-1]) for row in rows])[1]

    def vectors_of(self, numbers: Sequence[int]) -> tuple[list[int], FloatArray]:
        """Give vectors by number."""
        with self.reading() as connection:
            rows = list(_rows_of(connection, "SELECT number, vector FROM vectors WHERE number IN ", numbers))
        return self._stacked(rows)

    def vectors(self, after: int = 0) -> Iterator[tuple[list[int], FloatArray]]:
        """Read all vectors, some thousand at a time."""
        while True:
            with self.reading() as connection:
                rows = connection.execute(
                    "SELECT number, vector FROM vectors WHERE number > ? ORDER BY number LIMIT ?",
                    (after, _ROWS_PER_READ),
                ).fetchall()
            if not rows:
                return
            yield self._stacked(rows)
            after = rows[-1][0]

    def page(self, *, limit: int, after: str | None = None, keep: Callable[[int], bool] | None = None) -> list[Item]:
        """List items by id."""
        with self.reading() as connection:
            numbers: list[int] = []
            for (number,) in connection.execute("SELECT number FROM items WHERE id > ? ORDER BY id", (after or "",)):
                if len(numbers) == limit:
                    break
                if keep is None or keep(number):
                    numbers.append(number)
            found = self.items(numbers)
        return [found[number] for number in numbers]

    def numbers(self, after: int = 0) -> IntArray:
        """Give the numbers of all items."""
        with self.reading() as connection:
            rows = connection.execute("SELECT number FROM items WHERE number > ? ORDER BY number", (after,))
            return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def values(self, path: str, after: int = 0) -> Iterator[tuple[int, str | None, Any]]:
        """Read one metadata field of all items."""
        with self.reading() as connection:
            query = "SELECT number, json_type(metadata, ?), json_extract(metadata, ?) FROM items WHERE number > ?"
            yield from connection.execute(query + " ORDER BY number", (path, path, after))

    def files(self) -> dict[str, tuple[int | None, int | None]]:
        """Give size and time of every file that was indexed."""
        with self.reading() as connection:
            rows = connection.execute("SELECT uri, file_size, file_mtime_ns FROM items WHERE uri IS NOT NULL")
            return {uri: (size, mtime) for uri, size, mtime in rows}

    def count(self, after: int = 0) -> int:
        """Count the items."""
        with self.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM items WHERE number > ?", (after,)).fetchone()[0])

    def overview(self) -> tuple[float | None, float | None, dict[str, int]]:
        """Say when items were added and which metadata fields they have."""
        with self.reading() as connection:
            first, last = connection.execute("SELECT min(added), max(added) FROM items").fetchone()
            fields = connection.execute("SELECT key, count(*) FROM items, json_each(metadata) GROUP BY key ORDER BY 1")
            return first, last, dict(fields.fetchall())

    def facts(self) -> dict[str, Any]:
        """Give what is written down about the gallery as a whole."""
        with self.reading() as connection:
            return dict(connection.execute("SELECT key, value FROM facts").fetchall())

    def generation(self) -> int:
        """Count the writes there have been."""
        with self.reading() as connection:
            return int(connection.execute("SELECT value FROM facts WHERE key = 'generation'").fetchone()[0])

    def removed_since(self, generation: int) -> list[int]:
        """Give the numbers of items taken away since."""
        with self.reading() as connection:
            rows = connection.execute("SELECT number FROM removed WHERE generation > ?", (generation,))
            return [row[0] for row in rows]

    def _item(self, row: tuple[Any, ...]) -> Item:
        number, id_, uri, sha256, width, height, file_size, file_mtime_ns, metadata, _, checksum = row
        if row_checksum(row[1:-1]) != checksum:
            raise GalleryCorrupt(
                f"{self.path}: the row of {quote(id_)} (number {number}) is damaged.",
                "Delete that item and add it again, or restore a copy of the file.",
            )
        return Item(id_, uri, sha256, width, height, file_size, file_mtime_ns, json.loads(metadata))

    def _stacked(self, rows: list[tuple[int, bytes]]) -> tuple[list[int], FloatArray]:
        size = self.dim * 4 + CHECK_BYTES
        for number, stored in rows:
            if len(stored) != size or not verify(stored):
                with self.reading() as connection:
                    known = connection.execute("SELECT id FROM items WHERE number = ?", (number,)).fetchone()
                raise GalleryCorrupt(
                    f"{self.path}: the vector of {quote(known[0] if known else number)} is damaged.",
                    "Delete that item and add it again, or restore a copy of the file.",
                )
        together = np.frombuffer(b"".join([stored for _, stored in rows]), dtype=np.uint8).reshape(len(rows), size)
        vectors: FloatArray = together[:, :-CHECK_BYTES].copy().view("<f4").astype(np.float32, copy=False)
        return [number for number, _ in rows], vectors


def _rows_of(connection: sqlite3.Connection, query: str, numbers: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(numbers), _VALUES_PER_QUERY):
        part = [int(number) for number in numbers[start : start + _VALUES_PER_QUERY]]
        yield from connection.execute(f"{query} ({','.join('?' * len(part))})", part)


def row_checksum(values: tuple[Any, ...]) -> int:
    """Sum up a row: a flipped bit in a page is not SQLite's to notice."""
    return zlib.crc32(repr(values).encode("utf-8", "backslashreplace"))
