"""Metadata fields as columns in memory, so that a filter over a million items takes milliseconds.

A field is read from the database when a filter first names it, and followed along from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot.gallery.rows import IntArray
from zeroshot.gallery.store import GalleryStore

_EXACT = 2.0**53  # up to here every whole number is a float
Mask = npt.NDArray[np.bool_]
_KINDS = {"integer": "number", "real": "number", "text": "text", "true": "boolean", "false": "boolean"}


class Column:
    """One field of every item: a code per item, and what the codes stand for."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.kinds: list[str] = ["missing"]
        self.values: list[Any] = [None]
        self._codes = np.zeros(0, dtype=np.int32)
        self._code_of: dict[tuple[str, Any], int] = {}
        self._last = 0
        self._numeric = np.zeros(0)

    def code(self, kind: str, value: object) -> int | None:
        """Give the code of a value."""
        return self._code_of.get((kind, value))

    def as_floats(self) -> npt.NDArray[np.float64] | None:
        """Give the values as numbers, to be compared at once."""
        if len(self._numeric) != len(self.values):
            self._numeric = np.array(
                [value if kind == "number" else np.nan for kind, value in zip(self.kinds, self.values, strict=True)],
                dtype=np.float64,
            )
        return None if bool((np.abs(self._numeric) > _EXACT).any()) else self._numeric

    def where(self, chosen: Mask) -> Mask:
        """Give the items whose code is among those chosen."""
        result: Mask = chosen[self._codes]
        return result

    def follow(self, store: GalleryStore, numbers: IntArray) -> None:
        """Read the items added since the last call."""
        if len(self._codes) == len(numbers):
            return
        found: list[int] = []
        codes: list[int] = []
        for number, type_, value in store.values(self.path, self._last):
            kind = _KINDS.get(type_ or "null", "missing" if type_ in (None, "null") else "other")
            if kind != "missing":
                found.append(number)
                codes.append(
                    self._learn(kind, None if kind == "other" else bool(value) if kind == "boolean" else value)
                )
        grown = np.zeros(len(numbers), dtype=np.int32)
        grown[: len(self._codes)] = self._codes
        positions = np.searchsorted(numbers, np.asarray(found, dtype=np.int64))
        inside = positions < len(numbers)
        grown[positions[inside]] = np.asarray(codes, dtype=np.int32)[inside]
        self._codes = grown
        self._last = int(numbers[-1])

    def _learn(self, kind: str, value: object) -> int:
        code = self._code_of.setdefault((kind, value), len(self.values))
        if code == len(self.values):
            self.kinds.append(kind)
            self.values.append(value)
        return code


class Columns:
    """The columns of a gallery, aligned to the numbers of its items."""

    def __init__(self, store: GalleryStore, numbers: IntArray) -> None:
        self._store = store
        self.numbers = numbers
        self._columns: dict[str, Column] = {}

    def extend(self, numbers: IntArray) -> None:
        """Say that items were added."""
        self.numbers = np.concatenate([self.numbers, numbers])

    def column(self, path: str) -> Column:
        """Give a field's column, up to date."""
        column = self._columns.setdefault(path, Column(path))
        column.follow(self._store, self.numbers)
        return column
