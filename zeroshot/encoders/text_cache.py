"""Text embeddings kept on disk, so that a label set is embedded once, whichever process asks for it next.

Memory first, then SQLite. Whatever goes wrong with the file costs time and a warning, never an answer. It knows keys
and vectors; it does not know encoders or labels.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from zeroshot.encoders.base import FloatArray
from zeroshot.errors import OptionError
from zeroshot.sqlite import SqliteFile
from zeroshot.vector_codec import decode_vector, encode_vector

_LOG = logging.getLogger(__name__)
_KEYS_PER_QUERY = 500
_TOUCH_AFTER_S = 3600.0  # how stale "last used" may get, so that reading seldom writes
_MIGRATIONS = (
    """
    CREATE TABLE embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL, used REAL NOT NULL);
    CREATE INDEX embeddings_used ON embeddings (used);
    """,
)


class _Unusable(Exception):
    """The file cannot be used now."""


class _Damaged(Exception):
    """The file is not sound."""


class TextCache:
    """Vectors by (encoder fingerprint, text); safe for several threads and processes.

    Parameters
    ----------
    path : str or Path
        The SQLite file; it and its folder are made when missing. A damaged file is replaced, with a warning.
    max_bytes : int
        Bound on the vectors kept on disk; the least recently used go first.
    max_memory_bytes : int
        Bound on the vectors kept in memory.

    Raises
    ------
    OptionError
        If a bound is negative.
    """

    def __init__(self, path: str | Path, *, max_bytes: int = 2**30, max_memory_bytes: int = 64 * 2**20) -> None:
        if min(max_bytes, max_memory_bytes) < 0:
            raise OptionError(f"A cache cannot have {min(max_bytes, max_memory_bytes)} bytes.", "Use 0 or more.")
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.max_memory_bytes = max_memory_bytes
        self.hits = 0
        self.misses = 0
        self._memory: OrderedDict[bytes, FloatArray] = OrderedDict()
        self._memory_bytes = 0
        self._lock = threading.RLock()
        self._file = self._new_file()
        self._unusable = False

    def get_many(self, fingerprint: str, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Look up the vectors of texts.

        Parameters
        ----------
        fingerprint : str
            Of the encoder.
        texts : sequence of str
            What was embedded.

        Returns
        -------
        dict of str to ndarray of float32, shape (dim,)
            By text; texts that are not stored are absent.
        """
        keys = {_key(fingerprint, text): text for text in texts}
        found: dict[str, FloatArray] = {}
        with self._lock:
            missing = []
            for key, text in keys.items():
                if key in self._memory:
                    self._memory.move_to_end(key)
                    found[text] = self._memory[key]
                else:
                    missing.append(key)
            for key, vector in self._read(missing).items():
                self._remember(key, vector)
                found[keys[key]] = vector
            self.hits += len(found)
            self.misses += len(keys) - len(found)
        return found

    def put_many(self, fingerprint: str, vectors: Mapping[str, FloatArray]) -> None:
        """Store vectors.

        Parameters
        ----------
        fingerprint : str
            Of the encoder.
        vectors : mapping of str to ndarray of float32, shape (dim,)
            Texts and what they were embedded to.
        """
        rows = []
        with self._lock:
            for text, vector in vectors.items():
                key, own = _key(fingerprint, text), np.array(vector, dtype=np.float32)
                own.flags.writeable = False
                self._remember(key, own)
                rows.append((key, encode_vector(own), time.time()))
            if rows:
                self._on_disk(lambda database: self._write(database, rows), write=True)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._file.close()
            self._file = self._new_file()

    def _remember(self, key: bytes, vector: FloatArray) -> None:
        old = self._memory.pop(key, None)
        self._memory_bytes += vector.nbytes - (0 if old is None else old.nbytes)
        self._memory[key] = vector
        while self._memory_bytes > self.max_memory_bytes and self._memory:
            self._memory_bytes -= self._memory.popitem(last=False)[1].nbytes

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, FloatArray]:
        found: dict[bytes, FloatArray] = {}
        stale: list[tuple[float, bytes]] = []
        now = time.time()

        def look_up(database: sqlite3.Connection) -> None:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[start : start + _KEYS_PER_QUERY]
                query = f"SELECT key, vector, used FROM embeddings WHERE key IN ({','.join('?' * len(part))})"  # noqa: S608
                for key, stored, used in database.execute(query, part):
                    vector = decode_vector(stored)
                    if vector is not None:
                        found[key] = vector
                        if now - used > _TOUCH_AFTER_S:
                            stale.append((now, key))

        def touch(database: sqlite3.Connection) -> None:
            database.executemany("UPDATE embeddings SET used = ? WHERE key = ?", stale)

        if keys:
            self._on_disk(look_up, write=False)
        if stale:
            self._on_disk(touch, write=True)
        return found

    def _write(self, database: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes, float]]) -> None:
        database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", rows)
        self._evict(database)

    def _evict(self, database: sqlite3.Connection) -> None:
        """Drop the least recently used rows, a tenth more than needed so that it is seldom done."""
        (size,) = database.execute("SELECT coalesce(sum(length(vector)), 0) FROM embeddings").fetchone()
        if size <= self.max_bytes:
            return
        for key, length in database.execute("SELECT key, length(vector) FROM embeddings ORDER BY used").fetchall():
            if size <= self.max_bytes * 9 // 10:
                break
            database.execute("DELETE FROM embeddings WHERE key = ?", (key,))
            size -= length

    def _on_disk(self, action: Callable[[sqlite3.Connection], None], *, write: bool) -> None:
        """Do something with the file; errors are logged, and a damaged file is deleted and the action tried again."""
        damaged = False
        for _ in range(2):
            if self._unusable:
                return
            try:
                if damaged:
                    self._file.delete()
                with self._file.writing() if write else self._file.reading() as database:
                    action(database)
                return
            except _Unusable as error:  # locked for long, read-only, disk full: do without
                _LOG.warning("text cache: %s", " ".join(error.args))
                self._unusable = not self._file.is_open
                return
            except _Damaged as error:
                _LOG.warning("text cache: %s It is rebuilt.", error.args[0])
                damaged = True

    def _new_file(self) -> SqliteFile:
        return SqliteFile(
            self.path, _MIGRATIONS, unusable=_Unusable, damaged=_Damaged, synchronous="NORMAL", timeout_s=10
        )


def _key(fingerprint: str, text: str) -> bytes:
    return hashlib.blake2b(f"{fingerprint}\0{text}".encode("utf-8", "surrogatepass"), digest_size=20).digest()
