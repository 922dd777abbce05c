"""A gallery's truth: items and their vectors as rows. It knows rows, not nearest neighbours."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.errors import GalleryRefused, ItemExists, ItemNotFound, quote
from zeroshot.gallery.rows import RowReader, row_checksum
from zeroshot.gallery.types import Item
from zeroshot.vector_codec import encode_vector

_INSERT = """
    INSERT INTO items (id, uri, sha256, width, height, file_size, file_mtime_ns, metadata, added, checksum)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class GalleryStore(RowReader):
    """Rows in, rows out; every write is all or nothing, and on disk when the call returns."""

    def add(self, rows: Iterable[tuple[Item, FloatArray]], *, replace: bool = False) -> int:
        """Store items, all or none."""
        prepared = [self._prepared(item, vector) for item, vector in rows]
        with self.writing() as (connection, generation):
            for values, vector in prepared:
                if replace:
                    _remove(connection, values[0], generation)
                try:
                    cursor = connection.execute(_INSERT, (*values, row_checksum(values)))
                except sqlite3.IntegrityError as error:
                    raise ItemExists(
                        f"There is an item {quote(values[0])} already.", "Replace it, or give another id."
                    ) from error
                connection.execute("INSERT INTO vectors VALUES (?, ?)", (cursor.lastrowid, vector))
        return len(prepared)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items, all or none."""
        unique = list(dict.fromkeys(ids))
        with self.writing() as (connection, generation):
            for id_ in unique:
                if not _remove(connection, id_, generation):
                    raise ItemNotFound(f"There is no item {quote(id_)}.", "Check the id.")
        return len(unique)

    def publish(self, snapshot: str, generation: int) -> None:
        """Write down which snapshot of the index is the current one, and forget removals that it knows of."""
        with self.writing() as (connection, _):
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('snapshot', ?)", (snapshot,))
            connection.execute("UPDATE facts SET value = max(value, ?) WHERE key = 'forgotten'", (generation,))
            connection.execute("DELETE FROM removed WHERE generation <= ?", (generation,))

    def _prepared(self, item: Item, vector: FloatArray) -> tuple[tuple[Any, ...], bytes]:
        if not item.id or len(item.id) > 4096:
            raise GalleryRefused(f"The id {quote(item.id)} is empty or too long.", "Use 1 to 4,096 characters.")
        norm = float(np.linalg.norm(vector))
        if vector.shape != (self.dim,) or not abs(norm - 1) < 1e-3:
            raise GalleryRefused(
                f"The vector of {quote(item.id)} has shape {vector.shape} and norm {norm:.4g}.",
                f"Give a unit vector of {self.dim} numbers.",
            )
        try:
            metadata = json.dumps(item.metadata, ensure_ascii=False, allow_nan=False)
            (item.id + (item.uri or "") + metadata).encode()
        except (TypeError, ValueError) as error:
            raise GalleryRefused(
                f"The metadata of {quote(item.id)} is not JSON: {error}.", "Use JSON's types and valid Unicode."
            ) from error
        values = (item.uri, item.sha256, item.width, item.height, item.file_size, item.file_mtime_ns)
        return (item.id, *values, metadata, time.time()), encode_vector(vector)


def _remove(connection: sqlite3.Connection, id_: str, generation: int) -> bool:
    row = connection.execute("DELETE FROM items WHERE id = ? RETURNING number", (id_,)).fetchone()
    if row is None:
        return False
    connection.execute("DELETE FROM vectors WHERE number = ?", row)
    connection.execute("INSERT INTO removed VALUES (?, ?)", (row[0], generation))
    return True
