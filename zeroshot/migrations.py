"""SQLite files that change their form with the program: numbered, append-only migrations."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence


class NewerFormat(sqlite3.DatabaseError):
    """The file was written by a newer version of the program."""


def migrate(connection: sqlite3.Connection, migrations: Sequence[str]) -> None:
    """Bring a database to the newest form, or leave it as it was."""
    (done,) = connection.execute("PRAGMA user_version").fetchone()
    if done > len(migrations):
        raise NewerFormat(f"it has format {done}, from a newer version")
    if done == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        (done,) = connection.execute("PRAGMA user_version").fetchone()  # another process may have been faster
        for migration in migrations[done:]:
            for statement in migration.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
