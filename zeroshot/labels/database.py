"""The SQLite file of label sets: its form, its transactions, and its errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zeroshot.errors import LabelSetCorrupt, LabelSetError
from zeroshot.migrations import NewerFormat, migrate

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE sets (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, version INTEGER NOT NULL);
    CREATE TABLE versions (
        set_id INTEGER NOT NULL,
        version INTEGER NOT NULL,
        changed REAL NOT NULL,
        change TEXT NOT NULL,
        settings TEXT,
        PRIMARY KEY (set_id, version)
    ) WITHOUT ROWID;
    CREATE TABLE labels (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        set_id INTEGER NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER,
        name TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX labels_of ON labels (set_id, until);
    CREATE TABLE heads (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        set_id INTEGER NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER,
        fingerprint TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        content BLOB NOT NULL
    );
    CREATE INDEX heads_of ON heads (set_id, until);
    """,
)
"""A label or a head is there in the versions from `since` until before `until`. A version's settings are those of the
newest version up to it that wrote any. Numbers are never used twice, so a set's number and version name its content."""


class LabelDatabase:
    """One connection, shared by the threads of a process under a lock; opened when first used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to read from."""
        with self._lock, self._in_our_words():
            connection = self._open() if self._connection or self.path.exists() else _empty()
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction: committed, and safe on disk, when the block is left without an error.

        Another process that writes is waited for.
        """
        with self._lock, self._in_our_words():
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                migrate(connection, MIGRATIONS)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except NewerFormat as error:
            raise LabelSetCorrupt(f"{self.path} cannot be read: {error}.", "Upgrade zeroshot.") from error
        except (sqlite3.OperationalError, OSError) as error:
            raise LabelSetError(
                f"{self.path} cannot be used: {error}.", "Check the disk's space and permissions; nothing was changed."
            ) from error
        except sqlite3.DatabaseError as error:
            raise LabelSetCorrupt(
                f"{self.path} is damaged: {error}.", "Restore a copy of the file; nothing was changed."
            ) from error


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, MIGRATIONS)
    return connection
