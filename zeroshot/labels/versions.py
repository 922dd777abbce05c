"""Label sets' versions as rows of a database: the tables, and how a version is written to them and read back."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from zeroshot.errors import DefinitionError, LabelSetCorrupt
from zeroshot.labels.files import LabelEntry, LabelSetFile, dump_label
from zeroshot.labels.head import Head
from zeroshot.labels.label import Label
from zeroshot.labels.label_set import LabelSet

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
"""A label or a head is in the versions from `since` until before `until`. A version's settings are those of the
newest version up to it that wrote any. Numbers are never used twice, so a set's number and version name its content."""


@dataclass(frozen=True)
class Change:
    """One line of a stored set's history.

    Parameters
    ----------
    version : int
        The version that it made.
    changed : float
        Unix time.
    change : str
        What was done.
    """

    version: int
    changed: float
    change: str


@dataclass(frozen=True)
class StoredLabelSet:
    """One line about a stored set.

    Parameters
    ----------
    name : str
        Its name.
    version : int
        Its newest version.
    count : int
        Labels in it.
    changed : float
        Unix time of the newest version.
    """

    name: str
    version: int
    count: int
    changed: float


def read_summaries(connection: sqlite3.Connection) -> list[StoredLabelSet]:
    """List the sets."""
    rows = connection.execute(
        "SELECT name, version, (SELECT count(*) FROM labels WHERE set_id = id AND until IS NULL), "
        "(SELECT changed FROM versions WHERE set_id = id AND versions.version = sets.version) "
        "FROM sets ORDER BY name"
    )
    return [StoredLabelSet(*row) for row in rows]


def read_version(connection: sqlite3.Connection, set_id: int, name: str, version: int) -> LabelSet:
    """Read a version."""
    bodies = connection.execute(
        "SELECT name, body FROM labels WHERE set_id = ? AND since <= ? AND (until IS NULL OR until > ?) "
        "ORDER BY number",
        (set_id, version, version),
    ).fetchall()
    heads = connection.execute(
        "SELECT sha256, content FROM heads WHERE set_id = ? AND since <= ? AND (until IS NULL OR until > ?) "
        "ORDER BY number",
        (set_id, version, version),
    ).fetchall()
    row = connection.execute(
        "SELECT settings FROM versions WHERE set_id = ? AND version <= ? AND settings IS NOT NULL "
        "ORDER BY version DESC LIMIT 1",
        (set_id, version),
    ).fetchone()
    try:
        file = LabelSetFile.model_validate(
            {**json.loads(row[0]), "name": name, "labels": [_entry(label, body) for label, body in bodies]}
        )
        label_set = file.to_label_set([_head(digest, content) for digest, content in heads])
    except (TypeError, ValueError, ValidationError, DefinitionError) as error:
        raise LabelSetCorrupt(
            f"Version {version} of {name} cannot be read: {error}.",
            "Restore the file from a backup, or delete the set.",
        ) from error
    return replace(label_set, version=version)


def write_version(connection: sqlite3.Connection, set_id: int, new: LabelSet, old: LabelSet | None, what: str) -> int:
    """Write what differs from the previous version."""
    ((version,),) = connection.execute(
        "UPDATE sets SET version = version + 1 WHERE id = ? RETURNING version", (set_id,)
    ).fetchall()
    settings = _settings(new)
    changed = old is None or settings != _settings(old)
    connection.execute(
        "INSERT INTO versions VALUES (?, ?, ?, ?, ?)",
        (set_id, version, time.time(), what, settings if changed else None),
    )
    before = () if old is None else old.labels
    kept = len(before) if new.labels[: len(before)] == before else 0
    if kept < len(before):
        connection.execute("UPDATE labels SET until = ? WHERE set_id = ? AND until IS NULL", (version, set_id))
    connection.executemany(
        "INSERT INTO labels (set_id, since, name, body) VALUES (?, ?, ?, ?)",
        [(set_id, version, label.name, _body(label)) for label in new.labels[kept:]],
    )
    if [head.digest for head in new.heads] != [head.digest for head in (() if old is None else old.heads)]:
        connection.execute("UPDATE heads SET until = ? WHERE set_id = ? AND until IS NULL", (version, set_id))
        connection.executemany(
            "INSERT INTO heads (set_id, since, fingerprint, sha256, content) VALUES (?, ?, ?, ?, ?)",
            [(set_id, version, head.fingerprint, head.digest, head.to_bytes()) for head in new.heads],
        )
    return int(version)


def read_changes(connection: sqlite3.Connection, set_id: int) -> list[Change]:
    """Read a set's history."""
    rows = connection.execute(
        "SELECT version, changed, change FROM versions WHERE set_id = ? ORDER BY version", (set_id,)
    )
    return [Change(*row) for row in rows]


def delete_set(connection: sqlite3.Connection, set_id: int) -> None:
    """Remove a set and all its versions."""
    connection.execute("DELETE FROM labels WHERE set_id = ?", (set_id,))
    connection.execute("DELETE FROM heads WHERE set_id = ?", (set_id,))
    connection.execute("DELETE FROM versions WHERE set_id = ?", (set_id,))
    connection.execute("DELETE FROM sets WHERE id = ?", (set_id,))


def _settings(label_set: LabelSet) -> str:
    data: dict[str, Any] = LabelSetFile.of(label_set).as_data()
    return json.dumps({key: value for key, value in data.items() if key not in ("name", "labels")}, sort_keys=True)


def _body(label: Label) -> str:
    dumped = dump_label(label)
    return "" if isinstance(dumped, str) else dumped.model_dump_json(exclude_defaults=True)


def _entry(name: str, body: str) -> str | LabelEntry:
    return LabelEntry.model_validate_json(body) if body else name


def _head(digest: str, content: bytes) -> Head:
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("a head is damaged")
    return Head.from_bytes(content)
