"""Datasets of files: a folder per class, or a table of paths and labels."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zeroshot.datasets.base import Dataset, Problem, Sample
from zeroshot.errors import DatasetError, quote
from zeroshot.labels import load_label_set
from zeroshot.optional import require

SEPARATOR = "|"  # between several labels, or captions, of one image
COLUMNS = ("file", "label", "group", "caption")
_WNID = re.compile(r"n\d{8}")

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k",
})  # fmt: skip
"""Ends of the names that are taken from a folder; a file that is named itself may have any name."""


def image_files(folder: Path) -> Iterator[Path]:
    """List the images in a folder and below it.

    This is the only walk through folders: whatever reads a folder takes the same files from it. Files with other
    endings (Thumbs.db, desktop.ini, notes) and hidden files and folders (.DS_Store) are passed over.
    """
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith("."):  # noqa: PTH122
                yield Path(parent) / name


def open_folder(folder: Path) -> Dataset:
    """Open a folder per class.

    ImageNet's folders, named n01440764 and so on, get its class names where all thousand are there; so do ImageNetV2's,
    named 0 to 999.
    """
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(inner) < 2:
        raise DatasetError(
            f"{folder} has {len(inner)} folders, and a dataset has one per class, two at least.",
            "Sort the images into a folder per class, or give a table: a CSV file with the columns file and label.",
        )
    files = [(path.name, file) for path in inner for file in image_files(path)]
    if not files:
        raise DatasetError(
            f"The folders in {folder} hold no images.", "Put files into them whose names end in .jpg, .png or .webp."
        )
    names = {path.name: path.name for path in inner}
    if len(inner) == 1000 and all(_WNID.fullmatch(name) for name in names):
        names = dict(zip(names, load_label_set("imagenet").names, strict=True))
    elif set(names) == {str(number) for number in range(1000)}:
        by_number = load_label_set("imagenet").names
        names = {name: by_number[int(name)] for name in sorted(names, key=int)}
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
    """Open a CSV, JSON Lines or Parquet file."""
    called = {name: (columns or {}).get(name, name) for name in COLUMNS}
    rows = list(_rows(file, list(called.values())))
    if not rows:
        raise DatasetError(f"{file} has no rows.", "Write a line per image below the line of column names.")
    wanted = [called["file"], *(called[name] for name in columns or ())]
    there = [name for name in dict.fromkeys(name for row in rows for name in row) if name is not None]
    if not {called["label"], called["caption"]} & set(there):
        wanted.append(called["label"])
    if missing := [name for name in wanted if name not in there]:
        raise DatasetError(
            f"{file} has no column {quote(missing[0])}; it has {', '.join(map(quote, there))}.",
            "Name its columns file and label (or caption), or say what they are called: --columns file=...,label=....",
        )
    rows = [{name: row.get(column) for name, column in called.items()} for row in rows]
    classes = dict.fromkeys(label for row in rows for label in _split(row.get("label")))
    captioned = any(_split(row.get("caption")) for row in rows)

    def samples() -> Iterator[Sample | Problem]:
        for number, row in enumerate(rows, start=2 if file.suffix.lower() == ".csv" else 1):
            labels, captions = _split(row.get("label")), _split(row.get("caption"))
            name = row["file"] or ""
            if not name or (captioned and not labels and not captions):
                yield Problem(f"{file.name}, line {number}", "There is no file, or nothing is said of it.")
                continue
            yield Sample(name, file.parent / name, labels, row.get("group") or None, captions)

    several = any(len(_split(row.get("label"))) > 1 for row in rows)
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
            if file.suffix.lower() == ".jsonl":
                for line in filter(str.strip, content):
                    yield {name: _joined(value) for name, value in dict(json.loads(line)).items()}
                return
            yield from csv.DictReader(content)
    except (OSError, UnicodeDecodeError, csv.Error, TypeError, ValueError) as error:
        raise DatasetError(
            f"{file} cannot be read: {error}.", "Give a CSV or JSON Lines file in UTF-8, or a Parquet file."
        ) from error


def _joined(value: object) -> str | None:
    """A value as a CSV file would have it: lists become several values."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return SEPARATOR.join(map(str, value))
    return None if value is None else str(value)


def _split(cell: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (cell or "").split(SEPARATOR) if part.strip()))
