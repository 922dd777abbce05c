"""A gallery's items and their vectors, as rows of a SQLite file. It knows rows, not nearest neighbours.

An acknowledged write survives a killed process and a lost power supply. Every row and every vector has a checksum.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.encoders.base import IntArray
from zeroshot.errors import (
    GalleryBusy,
    GalleryCorrupt,
    GalleryError,
    GalleryMismatch,
    GalleryRefused,
    ItemExists,
    ItemNotFound,
    quote,
)
from zeroshot.gallery.catalog import DATABASE
from zeroshot.gallery.types import Item
from zeroshot.sqlite import SqliteFile
from zeroshot.vector_codec import CHECK_BYTES, encode_vector, verify

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE facts (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
    CREATE TABLE items (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        uri TEXT,
        sha256 TEXT,
        width INTEGER,
        height INTEGER,
        file_size INTEGER,
        file_mtime_ns INTEGER,
        metadata TEXT NOT NULL,
        added REAL NOT NULL,
        checksum INTEGER NOT NULL
    );
    CREATE INDEX items_uri ON items (uri);
    CREATE TABLE vectors (number INTEGER PRIMARY KEY, vector BLOB NOT NULL);
    CREATE TABLE removed (number INTEGER PRIMARY KEY, generation INTEGER NOT NULL);
    INSERT INTO facts VALUES ('generation', 0), ('forgotten', 0);
    """,
)
"""Numbered by position, append-only; ``user_version`` says how many a file has had.

A number is never used twice, so that what was added since a snapshot has higher numbers; what was removed since is in
``removed``, from which everything up to the generation ``forgotten`` has been deleted.
"""

_ROWS_PER_READ = 2000
_VALUES_PER_QUERY = 500
_PRAGMAS = ("page_size=16384", "cache_size=-16384")  # a page: five vectors of 768 numbers; counts for a new file only
_COLUMNS = "number, id, uri, sha256, width, height, file_size, file_mtime_ns, metadata, added, checksum"
_WITH_VECTORS = f"SELECT {_COLUMNS}, vector FROM items JOIN vectors USING (number) WHERE number IN"  # noqa: S608
_INSERT = """
    INSERT INTO items (id, uri, sha256, width, height, file_size, file_mtime_ns, metadata, added, checksum)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class GalleryStore:
    """Rows in, rows out; every write is all or nothing, and on disk when the call returns."""

    def __init__(self, folder: Path, *, fingerprint: str, spec: str, dim: int) -> None:
        self.path = folder / DATABASE
        self.fingerprint, self.spec, self.dim = fingerprint, spec, dim
        self._file = SqliteFile(self.path, MIGRATIONS, unusable=GalleryError, damaged=GalleryCorrupt, pragmas=_PRAGMAS)
        self._lock = threading.Lock()
        self._writers = 0
        self._lock_file = -1
        try:
            self._check_encoder()
        except BaseException:
            self._file.close()
            raise

    def consistent_read(self) -> AbstractContextManager[sqlite3.Connection]:
        """Everything that this thread reads while the block runs is of one moment; other threads wait."""
        return self._file.reading()

    def get(self, id_: str) -> tuple[Item, FloatArray]:
        """Give one item and its vector."""
        with self._file.reading() as connection:
            row = connection.execute(f"SELECT {_COLUMNS} FROM items WHERE id = ?", (id_,)).fetchone()  # noqa: S608
            if row is None:
                raise ItemNotFound(
                    f"There is no item {quote(id_)}.", "Use the id of a stored item; 'zeroshot search' prints them."
                )
            return self._item(row), self.vectors_of([row[0]])[1][0]

    def items(self, numbers: Sequence[int]) -> dict[int, Item]:
        """Give items by number."""
        with self._file.reading() as connection:
            query = f"SELECT {_COLUMNS} FROM items WHERE number IN "  # noqa: S608
            return {row[0]: self._item(row) for row in _rows_of(connection, query, numbers)}

    def with_vectors(self, numbers: Sequence[int]) -> tuple[list[Item], FloatArray]:
        """Give items and their vectors by number."""
        with self._file.reading() as connection:
            rows = list(_rows_of(connection, _WITH_VECTORS, sorted(numbers)))
            return [self._item(row[:-1]) for row in rows], self._stacked([(row[0], row[-1]) for row in rows])[1]

    def vectors_of(self, numbers: Sequence[int]) -> tuple[list[int], FloatArray]:
        """Give vectors by number."""
        with self._file.reading() as connection:
            rows = list(_rows_of(connection, "SELECT number, vector FROM vectors WHERE number IN ", numbers))
        return self._stacked(rows)

    def vectors(self, after: int = 0) -> Iterator[tuple[list[int], FloatArray]]:
        """Read all vectors, some thousand at a time."""
        while True:
            with self._file.reading() as connection:
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
        with self._file.reading() as connection:
            numbers: list[int] = []
            for (number,) in connection.execute("SELECT number FROM items WHERE id > ? ORDER BY id", (after or "",)):
                if len(numbers) == limit:
                    break
                if keep is None or keep(number):
                    numbers.append(number)
            found = self.items(numbers)
        return [found[number] for number in numbers]

    def numbers(self) -> IntArray:
        """Give the numbers of all items."""
        with self._file.reading() as connection:
            rows = connection.execute("SELECT number FROM items ORDER BY number")
            return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def values(self, path: str, after: int = 0) -> Iterator[tuple[int, str | None, Any]]:
        """Read one metadata field of all items."""
        with self._file.reading() as connection:
            query = "SELECT number, json_type(metadata, ?), json_extract(metadata, ?) FROM items WHERE number > ?"
            yield from connection.execute(query + " ORDER BY number", (path, path, after))

    def files(self) -> dict[str, tuple[int | None, int | None]]:
        """Give size and time of every file that was indexed."""
        with self._file.reading() as connection:
            rows = connection.execute("SELECT uri, file_size, file_mtime_ns FROM items WHERE uri IS NOT NULL")
            return {uri: (size, mtime) for uri, size, mtime in rows}

    def count(self) -> int:
        """Count the items."""
        with self._file.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM items").fetchone()[0])

    def overview(self) -> tuple[float | None, float | None, dict[str, int]]:
        """Give the times of the oldest and newest item, and how many items have each metadata field."""
        with self._file.reading() as connection:
            first, last = connection.execute("SELECT min(added), max(added) FROM items").fetchone()
            fields = connection.execute("SELECT key, count(*) FROM items, json_each(metadata) GROUP BY key ORDER BY 1")
            return first, last, dict(fields.fetchall())

    def facts(self) -> dict[str, Any]:
        """Give what is stored about the gallery as a whole."""
        with self._file.reading() as connection:
            return dict(connection.execute("SELECT key, value FROM facts").fetchall())

    def generation(self) -> int:
        """Count the writes there have been."""
        with self._file.reading() as connection:
            return int(connection.execute("SELECT value FROM facts WHERE key = 'generation'").fetchone()[0])

    def removed_since(self, generation: int) -> list[int]:
        """Give the numbers of the items removed since a generation."""
        with self._file.reading() as connection:
            rows = connection.execute("SELECT number FROM removed WHERE generation > ?", (generation,))
            return [row[0] for row in rows]

    def add(self, rows: Iterable[tuple[Item, FloatArray]], *, replace: bool = False) -> int:
        """Store items, all or none."""
        prepared = [self._prepared(item, vector) for item, vector in rows]
        with self._writing() as (connection, generation):
            for values, vector in prepared:
                if replace:
                    _remove(connection, values[0], generation)
                try:
                    cursor = connection.execute(_INSERT, (*values, _row_checksum(values)))
                except sqlite3.IntegrityError as error:
                    raise ItemExists(
                        f"There is an item {quote(values[0])} already.", "Use replace, or another id."
                    ) from error
                connection.execute("INSERT INTO vectors VALUES (?, ?)", (cursor.lastrowid, vector))
        return len(prepared)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove items, all or none."""
        unique = list(dict.fromkeys(ids))
        with self._writing() as (connection, generation):
            for id_ in unique:
                if not _remove(connection, id_, generation):
                    raise ItemNotFound(
                        f"There is no item {quote(id_)}.", "Use the id of a stored item; 'zeroshot search' prints them."
                    )
        return len(unique)

    def publish(self, snapshot: str, generation: int) -> None:
        """Make a snapshot of the index the current one, and forget the removals that it includes."""
        with self._writing() as (connection, _):
            connection.execute("INSERT OR REPLACE INTO facts VALUES ('snapshot', ?)", (snapshot,))
            connection.execute("UPDATE facts SET value = max(value, ?) WHERE key = 'forgotten'", (generation,))
            connection.execute("DELETE FROM removed WHERE generation <= ?", (generation,))

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes from writing while the block runs."""
        with self._lock:
            if self._writers == 0:
                self._lock_file = self._take_lock_file()
            self._writers += 1
        try:
            yield
        finally:
            with self._lock:
                self._writers -= 1
                if self._writers == 0:
                    os.close(self._lock_file)

    def check(self) -> None:
        """Read every page of the file."""
        self._file.check()

    def reclaim_space(self) -> None:
        """Reclaim the disk space of deleted rows."""
        with self.exclusive():
            self._file.vacuum()

    def close(self) -> None:
        """Close the file for good."""
        self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Open a transaction, which makes a generation."""
        with self.exclusive(), self._file.writing() as connection:
            ((generation,),) = connection.execute(
                "UPDATE facts SET value = value + 1 WHERE key = 'generation' RETURNING value"
            ).fetchall()
            yield connection, generation

    def _check_encoder(self) -> None:
        own = {"fingerprint": self.fingerprint, "spec": self.spec, "dim": self.dim}
        stored = self.facts()
        if "fingerprint" not in stored:
            with self._file.writing() as connection:
                connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", own.items())
            stored = self.facts()
        if stored["fingerprint"] != self.fingerprint:
            raise GalleryMismatch(
                f"{self.path.parent.name} holds vectors of {stored['spec']} ({stored['fingerprint'][:12]}), not of "
                f"{self.spec} ({self.fingerprint[:12]}).",
                "Open it with that model, or index the images into a new gallery.",
            )

    def _take_lock_file(self) -> int:
        try:
            handle = os.open(self.path.with_name("writer.lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise GalleryError(
                f"{self.path.parent} cannot be written to: {error.strerror}.", "Check the disk's space and permissions."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            writer = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise GalleryBusy(
                f"{self.path.parent.name}: process {writer or '?'} is writing to this gallery.",
                "Wait until it is done; reading goes on meanwhile.",
            ) from error
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        return handle

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

    def _item(self, row: tuple[Any, ...]) -> Item:
        number, id_, uri, sha256, width, height, file_size, file_mtime_ns, metadata, _, checksum = row
        if _row_checksum(row[1:-1]) != checksum:
            raise GalleryCorrupt(
                f"{self.path}: the row of {quote(id_)} (number {number}) is damaged.",
                "Delete that item and add it again, or restore the file from a backup.",
            )
        return Item(id_, uri, sha256, width, height, file_size, file_mtime_ns, json.loads(metadata))

    def _stacked(self, rows: list[tuple[int, bytes]]) -> tuple[list[int], FloatArray]:
        size = self.dim * 4 + CHECK_BYTES
        for number, stored in rows:
            if len(stored) != size or not verify(stored):
                with self._file.reading() as connection:
                    known = connection.execute("SELECT id FROM items WHERE number = ?", (number,)).fetchone()
                raise GalleryCorrupt(
                    f"{self.path}: the vector of {quote(known[0] if known else number)} is damaged.",
                    "Delete that item and add it again, or restore the file from a backup.",
                )
        together = np.frombuffer(b"".join([stored for _, stored in rows]), dtype=np.uint8).reshape(len(rows), size)
        vectors: FloatArray = together[:, :-CHECK_BYTES].copy().view("<f4").astype(np.float32, copy=False)
        return [number for number, _ in rows], vectors


def _remove(connection: sqlite3.Connection, id_: str, generation: int) -> bool:
    row = connection.execute("DELETE FROM items WHERE id = ? RETURNING number", (id_,)).fetchone()
    if row is None:
        return False
    connection.execute("DELETE FROM vectors WHERE number = ?", row)
    connection.execute("INSERT INTO removed VALUES (?, ?)", (row[0], generation))
    return True


def _rows_of(connection: sqlite3.Connection, query: str, numbers: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(numbers), _VALUES_PER_QUERY):
        part = [int(number) for number in numbers[start : start + _VALUES_PER_QUERY]]
        yield from connection.execute(f"{query} ({','.join('?' * len(part))})", part)


def _row_checksum(values: tuple[Any, ...]) -> int:
    """Checksum of a row: SQLite does not notice a flipped bit in a page."""
    return zlib.crc32(repr(values).encode("utf-8", "backslashreplace"))
