"""The SQLite file of a gallery: opening, migrations, transactions, and who may write.

An acknowledged write survives a killed process and a lost power supply (WAL, ``synchronous=FULL``).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zeroshot.errors import GalleryBusy, GalleryCorrupt, GalleryError, GalleryMismatch
from zeroshot.migrations import NewerFormat, migrate

DATABASE = "gallery.sqlite3"

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

A number is never used twice, so that what was added since a snapshot is what has higher numbers; what was taken away
since is in ``removed``, of which everything up to the generation ``forgotten`` is gone.
"""


class Database:
    """One connection, shared by the threads of a process under a lock."""

    def __init__(self, folder: Path, *, fingerprint: str, spec: str, dim: int) -> None:
        self.path = folder / DATABASE
        self.fingerprint, self.spec, self.dim = fingerprint, spec, dim
        self._lock = threading.RLock()
        self._writers = 0
        self._lock_file = -1
        with self._speaking_of_damage():
            self._connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                self._check_encoder({"fingerprint": fingerprint, "spec": spec, "dim": dim})
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to read from."""
        with self._lock, self._speaking_of_damage():
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Open a transaction: committed, and safe on disk, when the block is left without an error."""
        with self.exclusive(), self._lock, self._speaking_of_damage():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                ((generation,),) = self._connection.execute(
                    "UPDATE facts SET value = value + 1 WHERE key = 'generation' RETURNING value"
                ).fetchall()
                yield self._connection, generation
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

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
        """Have SQLite read every page."""
        with self.reading() as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
        if problems != ["ok"]:
            raise GalleryCorrupt(f"{self.path} is damaged: {'; '.join(problems)}.", "Restore a copy of the folder.")

    def compact(self) -> None:
        """Give back the room of what was deleted."""
        with self.exclusive(), self._lock, self._speaking_of_damage():
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

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

    @contextmanager
    def _speaking_of_damage(self) -> Iterator[None]:
        try:
            yield
        except NewerFormat as error:
            raise GalleryCorrupt(f"{self.path} cannot be read: {error}.", "Upgrade zeroshot.") from error
        except sqlite3.OperationalError as error:
            raise GalleryError(
                f"{self.path} cannot be used: {error}.", "Check the disk's space and permissions; nothing was changed."
            ) from error
        except sqlite3.ProgrammingError as error:
            raise GalleryError(f"{self.path} cannot be used: {error}", "Open the gallery again.") from error
        except sqlite3.DatabaseError as error:
            raise GalleryCorrupt(
                f"{self.path} is damaged: {error}.", "Restore a copy of the folder; nothing was changed."
            ) from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA page_size=16384")  # five vectors of 768 numbers; counts for a new file only
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA cache_size=-16384")
        migrate(self._connection, MIGRATIONS)

    def _check_encoder(self, facts: dict[str, str | int]) -> None:
        stored = dict(self._connection.execute("SELECT key, value FROM facts"))
        if "fingerprint" not in stored:
            self._connection.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts.items())
            stored = dict(self._connection.execute("SELECT key, value FROM facts"))
        if stored["fingerprint"] != facts["fingerprint"]:
            raise GalleryMismatch(
                f"{self.path.parent.name} holds vectors of {stored['spec']} ({stored['fingerprint'][:12]}), not of "
                f"{facts['spec']} ({str(facts['fingerprint'])[:12]}).",
                "Open it with that model, or index the pictures into a new gallery.",
            )
