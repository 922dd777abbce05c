"""Conditions on metadata.

A filter is JSON-like: ``{"colour": "red"}``, ``{"year": {"gte": 2020, "lt": 2024}}``, ``{"tag": {"in": ["a", "b"]}}``,
``{"note": {"exists": false}}``; several keys are all required; ``{"and": [...]}``, ``{"or": [...]}`` and
``{"not": {...}}`` combine. A dot reaches inside objects: ``{"camera.make": "x"}``. Types must agree: 1 is neither "1"
nor true, and a range holds numbers against numbers and texts against texts. A field that is missing or null matches
nothing but ``{"exists": false}`` and ``not``.

Fields are columns in memory, so that a filter over a million items takes milliseconds: a field is read from the
database when a filter first names it, and kept in sync from there.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from zeroshot.encoders.base import IntArray
from zeroshot.errors import OptionError, quote
from zeroshot.gallery.store import GalleryStore

Filter = Mapping[str, Any]
Mask = npt.NDArray[np.bool_]

_RANGES: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
_MAX_DEPTH = 20
_EXACT = 2.0**53  # up to here every whole number is a float
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
        """Give the code of a value, or None if no item has it."""
        return self._code_of.get((kind, value))

    def as_floats(self) -> npt.NDArray[np.float64] | None:
        """Give the values as float64, NaN for others; None if a number is too large for that."""
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

    def update(self, store: GalleryStore, numbers: IntArray) -> None:
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
                    self._code_for(kind, None if kind == "other" else bool(value) if kind == "boolean" else value)
                )
        grown = np.zeros(len(numbers), dtype=np.int32)
        grown[: len(self._codes)] = self._codes
        positions = np.searchsorted(numbers, np.asarray(found, dtype=np.int64))
        inside = positions < len(numbers)
        grown[positions[inside]] = np.asarray(codes, dtype=np.int32)[inside]
        self._codes = grown
        self._last = int(numbers[-1])

    def _code_for(self, kind: str, value: object) -> int:
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
        """Append the numbers of added items."""
        self.numbers = np.concatenate([self.numbers, numbers])

    def column(self, path: str) -> Column:
        """Give a field's column, up to date."""
        column = self._columns.setdefault(path, Column(path))
        column.update(self._store, self.numbers)
        return column


def matching(where: Filter, columns: Columns) -> Mask:
    """Find the items that meet a condition."""
    return _all(where, columns, 0)


def _all(where: object, columns: Columns, depth: int) -> Mask:
    if not isinstance(where, Mapping) or depth > _MAX_DEPTH:
        raise _bad(where, "is not an object of conditions" if depth <= _MAX_DEPTH else "is nested too deeply")
    return _join(np.logical_and, [_condition(key, value, columns, depth) for key, value in where.items()], columns)


def _condition(key: object, value: object, columns: Columns, depth: int) -> Mask:
    if not isinstance(key, str) or not key:
        raise _bad(key, "is not a field's name")
    if key in ("and", "or"):
        if not isinstance(value, list):
            raise _bad({key: value}, f"needs a list after {key!r}")
        parts = [_all(part, columns, depth + 1) for part in value]
        return _join(np.logical_and if key == "and" else np.logical_or, parts, columns)
    if key == "not":
        return ~_all(value, columns, depth + 1)
    comparisons = value if isinstance(value, Mapping) else {"eq": value}
    if not comparisons:
        raise _bad({key: value}, "has no comparison")
    column = columns.column(_path(key))
    return _join(np.logical_and, [_compare(column, key, *one) for one in comparisons.items()], columns)


def _compare(column: Column, key: str, name: object, operand: object) -> Mask:
    chosen = np.zeros(len(column.kinds), dtype=np.bool_)
    if name == "exists" and isinstance(operand, bool):
        chosen[0] = not operand
        chosen[1:] = operand
    elif name == "eq" or (name == "in" and isinstance(operand, list)):
        for value in operand if name == "in" and isinstance(operand, list) else [operand]:
            code = column.code(_kind(key, value), value)
            if code is not None:
                chosen[code] = True
    elif name in _RANGES and isinstance(operand, (int, float, str)) and not isinstance(operand, bool):
        kind, compare = _kind(key, operand), _RANGES[str(name)]
        if kind == "number" and (floats := column.as_floats()) is not None:
            return column.where(compare(floats, operand))
        for code, (own, value) in enumerate(zip(column.kinds, column.values, strict=True)):
            chosen[code] = own == kind and compare(value, operand)
    else:
        raise _bad({key: {str(name): operand}}, "is not a known comparison (eq, in, lt, lte, gt, gte, exists)")
    return column.where(chosen)


def _kind(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "text"
    raise _bad({key: value}, "compares with neither text, number nor true/false")


def _path(key: str) -> str:
    """SQLite's JSON path of a dotted field, each part quoted."""
    if '"' in key or "\\" in key:
        raise _bad(key, "has a quote or a backslash in a field's name")
    return "$" + "".join(f".{json.dumps(part, ensure_ascii=False)}" for part in key.split("."))


def _join(combine: np.ufunc, parts: list[Mask], columns: Columns) -> Mask:
    nothing = np.full(len(columns.numbers), combine is np.logical_and, dtype=np.bool_)
    return reduce(combine, parts, nothing)


def _bad(what: object, why: str) -> OptionError:
    return OptionError(
        f"The filter {quote(what)} {why}.", 'For example: {"year": {"gte": 2020}, "colour": "red"}.', field="where"
    )
