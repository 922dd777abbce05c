"""SQLite files: opening, numbered append-only migrations, transactions, and SQLite's errors as the caller's."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

MakeError = Callable[[str, str], Exception]
"""An error's class: takes a message and a remedy."""

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "Another process is writing to it; try again when that is done.",
    sqlite3.SQLITE_LOCKED: "Another process is writing to it; try again when that is done.",
    sqlite3.SQLITE_FULL: "Check the disk's space; nothing was changed.",
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable; nothing was changed.",
}
_REMEDY = "Check the disk's space and permissions; nothing was changed."


class NewerFormat(sqlite3.DatabaseError):
    """The file was written by a newer version of the program."""


class SqliteFile:
    """One connection to a file, shared by the threads of a process under a lock; opened when first used.

    An acknowledged write survives a killed process (WAL), and a lost power supply if `synchronous` is FULL. Reading a
    file that does not exist reads an empty database and makes no file. A read-only file is taken as it is.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str] = (),
        *,
        unusable: MakeError,
        damaged: MakeError,
        pragmas: Sequence[str] = (),
        synchronous: str = "FULL",
        timeout_s: float = 30,
        read_only: bool = False,
    ) -> None:
        self.path = path
        self._migrations, self._pragmas, self._synchronous = migrations, pragmas, synchronous
        self._unusable, self._damaged = unusable, damaged
        self._timeout_s, self._read_only = timeout_s, read_only
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether the file could be opened, and was."""
        return self._connection is not None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; all that is read in the block is of one moment."""
        with self._lock, self.translate_errors():
            if self._connection is None and not self._exists():
                with closing(self._connect(":memory:")) as empty:
                    yield empty
            elif (connection := self._open()).in_transaction:
                yield connection
            else:
                connection.execute("BEGIN")
                try:
                    yield connection
                finally:
                    if connection.in_transaction:  # some errors end it
                        connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection; the block's changes are all committed when it ends, or none if it raises.

        Another process that writes is waited for.
        """
        with self._lock, self.translate_errors(), _transaction(self._open()) as connection:
            yield connection

    def check(self) -> None:
        """Read every page, and raise `damaged` if one is not sound."""
        with self.reading() as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
        if problems != ["ok"]:
            raise self._damaged(f"{self.path} is damaged: {'; '.join(problems)}.", "Restore it from a backup.")

    def vacuum(self) -> None:
        """Reclaim the disk space of deleted rows."""
        with self._lock, self.translate_errors():
            connection = self._open()
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file for good."""
        with self._lock:
            self._disconnect()
            self._is_closed = True

    def delete(self) -> None:
        """Delete the file; the next use makes another."""
        with self._lock, self._translate_os_errors():
            self._disconnect()
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise SQLite's errors as the caller's: `damaged` if the file is not sound or not ours, else `unusable`."""
        try:
            yield
        except NewerFormat as error:
            raise self._damaged(f"{self.path} cannot be read: {error}.", "Upgrade zeroshot.") from error
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:  # which is: no such table
                raise self._unusable(f"{self.path} cannot be used: {error}.", _REMEDIES.get(code, _REMEDY)) from error
            raise self._damaged(
                f"{self.path} is damaged: {error}.", "Restore it from a backup; nothing was changed."
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self._is_closed:
            raise self._unusable(f"{self.path} cannot be used: it was closed.", "Open it again.")
        if self._connection is None:
            with self._translate_os_errors():
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect(str(self.path))
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exists(self) -> bool:
        with self._translate_os_errors():
            return self._is_closed or self.path.exists()

    @contextmanager
    def _translate_os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(f"{self.path} cannot be used: {error.strerror or error}.", _REMEDY) from error

    def _connect(self, name: str) -> sqlite3.Connection:
        connection = sqlite3.connect(name, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)
        try:
            if self._read_only:
                connection.execute("PRAGMA query_only=ON")
                return connection
            for pragma in (*self._pragmas, "journal_mode=WAL", f"synchronous={self._synchronous}"):
                connection.execute(f"PRAGMA {pragma}")
            _migrate(connection, self._migrations)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    """Bring a database to the newest format, or leave it as it was."""
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(migrations):
        raise NewerFormat(f"it has format {done}, from a newer version")
    if done == len(migrations):
        return
    with _transaction(connection):
        (done,) = connection.execute("PRAGMA user_version").fetchone()  # another process may have been faster
        for migration in migrations[done:]:
            for statement in migration.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
