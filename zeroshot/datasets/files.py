"""Datasets of files: a folder per class, or a table of paths and labels."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zeroshot.datasets.base import Dataset, Problem, Sample
from zeroshot.errors import DatasetError, quote
from zeroshot.labels import load_label_set
from zeroshot.optional import require

SEPARATOR = "|"  # between several labels, or captions, of one picture
COLUMNS = ("file", "label", "group", "caption")
_WNID = re.compile(r"n\d{8}")


def open_folder(folder: Path) -> Dataset:
    """Open a folder per class.

    ImageNet's folders, named n01440764 and so on, get its class names where all thousand are there; so do ImageNetV2's,
    named 0 to 999.
    """
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(inner) < 2:
        raise DatasetError(
            f"{folder} has {len(inner)} folders.", "A dataset of folders has one per class, two at least."
        )
    files = [(path.name, file) for path in inner for file in _files_in(path)]
    if not files:
        raise DatasetError(f"The folders in {folder} are empty.", "Put pictures into them.")
    names = {path.name: path.name for path in inner}
    if len(inner) == 1000 and all(_WNID.fullmatch(name) for name in names):
        names = dict(zip(names, load_label_set("imagenet").names, strict=True))
    elif set(names) == {str(number) for number in range(1000)}:
        names = {name: load_label_set("imagenet").names[int(name)] for name in sorted(names, key=int)}
    full = {label for label, _ in files}

    def samples() -> Iterator[Sample | Problem]:
        for label, file in files:
            yield Sample(file.relative_to(folder).as_posix(), file, (names[label],))

    return Dataset(
        folder.name,
        samples,
        tuple(names.values()),
        len(files),
        origin=str(folder),
        empty_classes=tuple(name for folder_name, name in names.items() if folder_name not in full),
        wordings={name: readable for name in names.values() if (readable := name.replace("_", " ").strip()) != name},
    )


def open_table(file: Path, columns: Mapping[str, str] | None = None) -> Dataset:
    """Open a CSV or Parquet file."""
    called = {name: (columns or {}).get(name, name) for name in COLUMNS}
    rows = list(_rows(file, list(called.values())))
    if not rows:
        raise DatasetError(f"{file} has no rows.", "It needs a line per picture.")
    wanted = [called["file"], *(called[name] for name in columns or ())]
    if not {called["label"], called["caption"]} & set(rows[0]):
        wanted.append(called["label"])
    if missing := [name for name in wanted if name not in rows[0]]:
        raise DatasetError(
            f"{file} has no column {quote(missing[0])}; it has {', '.join(map(quote, rows[0]))}.",
            "It needs file and label (or caption), and may have group; or give --columns label=...,file=....",
        )
    rows = [{name: row.get(column) for name, column in called.items()} for row in rows]
    classes = dict.fromkeys(label for row in rows for label in _split(row.get("label")))

    def samples() -> Iterator[Sample | Problem]:
        for number, row in enumerate(rows, start=2):
            labels, captions = _split(row.get("label")), _split(row.get("caption"))
            name = row["file"] or ""
            if not name or not (labels or captions):
                yield Problem(f"{file.name}, line {number}", "There is no file, or nothing is said of it.")
                continue
            yield Sample(name, file.parent / name, labels, row.get("group") or None, captions)

    several = any(len(_split(row.get("label"))) > 1 for row in rows)
    captioned = any(_split(row.get("caption")) for row in rows)
    return Dataset(
        file.stem, samples, tuple(classes), len(rows), origin=str(file), several=several, captioned=captioned
    )


def _rows(file: Path, wanted: Sequence[str]) -> Iterator[Mapping[str, str | None]]:
    try:
        if file.suffix.lower() == ".parquet":
            table = require("pyarrow.parquet", "parquet").read_table(file)
            there = [name for name in wanted if name in table.column_names] or table.column_names
            for row in table.select(there).to_pylist():
                yield {name: _joined(value) for name, value in row.items()}
            return
        with file.open(newline="", encoding="utf-8-sig") as content:
            reader = csv.DictReader(content)
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DatasetError(
            f"{file} cannot be read: {error}.", "Give a CSV file in UTF-8, or a Parquet file."
        ) from error


def _joined(value: object) -> str | None:
    """A Parquet cell as a CSV file would have it: lists become several values."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return SEPARATOR.join(map(str, value))
    return None if value is None else str(value)


def _split(cell: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (cell or "").split(SEPARATOR) if part.strip()))


def _files_in(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))
