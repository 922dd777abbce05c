"""Stored label sets: named, versioned, kept in ``<home>/label-sets.sqlite3``.

Every change makes a version, and every version can be read back, so that an answer can be reproduced.
"""

from __future__ import annotations

import difflib
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from zeroshot.errors import LabelSetCorrupt, LabelSetError, LabelSetExists, LabelSetNotFound, LabelSetRefused, quote
from zeroshot.labels.files import label_set_names
from zeroshot.labels.label import Label, parse_labels
from zeroshot.labels.label_set import LabelSet
from zeroshot.labels.versions import (
    MIGRATIONS,
    Change,
    StoredLabelSet,
    delete_set,
    read_changes,
    read_summaries,
    read_version,
    write_version,
)
from zeroshot.names import NAME_RULE, is_name
from zeroshot.sqlite import SqliteFile

FILE = "label-sets.sqlite3"

_KEPT_IN_MEMORY = 16


class LabelSetStore:
    """The label sets of a home folder. Safe for several threads and processes; a second writer waits for the first.

    Parameters
    ----------
    home : Path
        ZEROSHOT_HOME.
    """

    def __init__(self, home: Path) -> None:
        self._file = SqliteFile(home / FILE, MIGRATIONS, unusable=LabelSetError, damaged=LabelSetCorrupt)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int, str], LabelSet] = OrderedDict()

    def summaries(self) -> list[StoredLabelSet]:
        """List the sets.

        Returns
        -------
        list of StoredLabelSet
            By name.
        """
        with self._file.reading() as connection:
            return read_summaries(connection)

    def __contains__(self, name: str) -> bool:
        with self._file.reading() as connection:
            return connection.execute("SELECT 1 FROM sets WHERE name = ?", (name,)).fetchone() is not None

    def get(self, name: str) -> LabelSet:
        """Read a set, in its newest version or in an older one.

        Parameters
        ----------
        name : str
            "pets", or "pets@3" for its third version.

        Returns
        -------
        LabelSet
            With its version.

        Raises
        ------
        LabelSetNotFound
            If there is no such set or version.
        """
        plain, at, wanted = name.partition("@")
        with self._file.reading() as connection:
            set_id, newest = self._find(connection, plain)
            version = newest if not at else int(wanted) if wanted.isdecimal() and len(wanted) < 10 else 0
            if not 1 <= version <= newest:
                raise LabelSetNotFound(
                    f"{plain} has no version {quote(wanted)}.", f"It has 1 to {newest}.", field="label_set"
                )
            return self._read(connection, set_id, plain, version)

    def history(self, name: str) -> list[Change]:
        """Read a set's history.

        Parameters
        ----------
        name : str
            The set's name.

        Returns
        -------
        list of Change
            Oldest first.

        Raises
        ------
        LabelSetNotFound
            If there is no such set.
        """
        with self._file.reading() as connection:
            set_id, _ = self._find(connection, name)
            return read_changes(connection, set_id)

    def create(self, label_set: LabelSet, *, change: str = "created") -> LabelSet:
        """Store a new set.

        Parameters
        ----------
        label_set : LabelSet
            Its name must be free.
        change : str
            The line in its history.

        Returns
        -------
        LabelSet
            As stored, version 1.

        Raises
        ------
        LabelSetExists
            If there is a set of that name, stored or shipped.
        LabelSetRefused
            If the name cannot be used.
        """
        _check_name(label_set.name)
        labels = parse_labels(label_set.labels, at_least=1)
        with self._file.writing() as connection:
            _check_free(connection, label_set.name)
            cursor = connection.execute("INSERT INTO sets (name, version) VALUES (?, 0)", (label_set.name,))
            set_id = cursor.lastrowid or 0
            version = write_version(connection, set_id, replace(label_set, labels=labels), None, change)
        return self.get(f"{label_set.name}@{version}")

    def rename(self, name: str, new: str) -> None:
        """Rename a set; its versions stay.

        Parameters
        ----------
        name : str
            The set's name.
        new : str
            A free name.

        Raises
        ------
        LabelSetNotFound
            If there is no such set.
        LabelSetExists
            If the new name is taken.
        """
        _check_name(new)
        with self._file.writing() as connection:
            set_id, _ = self._find(connection, name)
            _check_free(connection, new)
            connection.execute("UPDATE sets SET name = ? WHERE id = ?", (new, set_id))

    def delete(self, name: str) -> None:
        """Remove a set with all its versions.

        Parameters
        ----------
        name : str
            The set's name.

        Raises
        ------
        LabelSetNotFound
            If there is no such set.
        """
        with self._file.writing() as connection:
            set_id, _ = self._find(connection, name)
            delete_set(connection, set_id)

    def add(self, name: str, labels: Iterable[str | Label]) -> LabelSet:
        """Add labels at the end of a set.

        Parameters
        ----------
        name : str
            The set's name.
        labels : iterable of str or Label
            New ones.

        Returns
        -------
        LabelSet
            The new version.

        Raises
        ------
        LabelSetNotFound
            If there is no such set.
        LabelSetExists
            If it has one of the labels already.
        LabelError
            If a label cannot be used.
        """
        new = [label if isinstance(label, Label) else Label(label) for label in labels]

        def change(old: LabelSet) -> LabelSet:
            for label in new:
                if isinstance(label.name, str) and old.find(label.name.strip()) is not None:
                    raise LabelSetExists(
                        f"{name} has {quote(label.name)} already.", "Leave it out, or remove it first.", field="labels"
                    )
            return replace(old, labels=parse_labels([*old.labels, *new], at_least=1))

        return self.update(name, change, what=f"added {_some([str(label.name) for label in new])}")

    def remove(self, name: str, labels: Sequence[str]) -> LabelSet:
        """Remove labels from a set.

        Parameters
        ----------
        name : str
            The set's name.
        labels : sequence of str
            Names or aliases.

        Returns
        -------
        LabelSet
            The new version.

        Raises
        ------
        LabelSetNotFound
            If there is no such set, or no such label in it.
        LabelError
            If a label that stays is below one that goes, or none would stay.
        """

        def change(old: LabelSet) -> LabelSet:
            rows = set()
            for label in labels:
                row = old.find(label)
                if row is None:
                    close = difflib.get_close_matches(label, old.names, n=3, cutoff=0.5)
                    there = f"Did you mean {' or '.join(close)}?" if close else f"It has {_some(old.names)}."
                    raise LabelSetNotFound(f"{name} has no label {quote(label)}.", there, field="labels")
                rows.add(row)
            stay = [label for row, label in enumerate(old.labels) if row not in rows]
            return replace(old, labels=parse_labels(stay, at_least=1))

        return self.update(name, change, what=f"removed {_some(labels)}")

    def update(self, name: str, change: Callable[[LabelSet], LabelSet], *, what: str) -> LabelSet:
        """Change a set in one transaction: other writers come before or after, never between.

        Parameters
        ----------
        name : str
            The set's name.
        change : callable
            Takes the newest version and gives the next.
        what : str
            The line in the set's history.

        Returns
        -------
        LabelSet
            The new version.

        Raises
        ------
        LabelSetNotFound
            If there is no such set.
        LabelError
            If the labels cannot be used.
        """
        with self._file.writing() as connection:
            set_id, newest = self._find(connection, name)
            old = self._read(connection, set_id, name, newest)
            version = write_version(connection, set_id, change(old), old, what)
        return self.get(f"{name}@{version}")

    def _read(self, connection: sqlite3.Connection, set_id: int, name: str, version: int) -> LabelSet:
        key = (set_id, version, name)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        label_set = read_version(connection, set_id, name, version)
        with self._lock:
            self._kept[key] = label_set
            while len(self._kept) > _KEPT_IN_MEMORY:
                self._kept.popitem(last=False)
        return label_set

    def _find(self, connection: sqlite3.Connection, name: str) -> tuple[int, int]:
        row = connection.execute("SELECT id, version FROM sets WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise _not_found(name, [found for (found,) in connection.execute("SELECT name FROM sets ORDER BY name")])
        return int(row[0]), int(row[1])


def _check_name(name: str) -> None:
    if not is_name(name) or name.lower().endswith((".yaml", ".yml", ".json")):
        raise LabelSetRefused(
            f"{quote(name)} cannot be a label set's name.",
            f"{NAME_RULE} It may not end as a file does (.yaml, .yml, .json).",
            field="name",
        )


def _check_free(connection: sqlite3.Connection, name: str) -> None:
    if name in label_set_names():
        raise LabelSetExists(f"{quote(name)} is a shipped label set.", "Choose another name.", field="name")
    if connection.execute("SELECT 1 FROM sets WHERE name = ?", (name,)).fetchone():
        raise LabelSetExists(f"There is a label set {quote(name)} already.", "Choose another name.", field="name")


def _not_found(name: str, names: Sequence[str]) -> LabelSetNotFound:
    remedy = f"There are: {_some(names)}." if names else "'zeroshot labels create' makes one."
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        remedy = f"Did you mean {' or '.join(close)}?"
    if name in label_set_names():
        remedy = f"It is a shipped one: 'zeroshot labels copy {name} NEW' stores a copy that can be changed."
    return LabelSetNotFound(f"There is no stored label set {quote(name)}.", remedy, field="label_set")


def _some(names: Sequence[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
