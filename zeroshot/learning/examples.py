"""Labelled pictures: a folder per label, or a CSV file, as vectors and truths."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.encoders import FloatArray
from zeroshot.encoders.streaming import encode_stream
from zeroshot.errors import ImageError, LearningError, quote
from zeroshot.labels import Calibration, Head, LabelSet
from zeroshot.statistics import BoolArray, IntArray

_SEPARATOR = "|"  # between the labels of one picture


@dataclass(frozen=True, eq=False)
class Examples:
    """Pictures whose labels are known."""

    paths: tuple[str, ...]
    right: BoolArray
    vectors: FloatArray
    unreadable: tuple[tuple[str, str], ...]

    def single(self, label_set: LabelSet, names: Sequence[str]) -> IntArray:
        """Give each picture's one label, where labels exclude each other."""
        right = self.right[:, [label_set.names.index(name) for name in names]]
        wrong = np.flatnonzero(right.sum(axis=1) != 1)
        if len(wrong):
            has = [label_set.names[row] for row in np.flatnonzero(self.right[wrong[0]])]
            raise LearningError(
                f"{self.paths[wrong[0]]} has the labels {', '.join(map(quote, has)) or 'none'}.",
                "Where labels exclude each other a picture has one, and none that is another's parent.",
            )
        return np.asarray(right.argmax(axis=1), dtype=np.int64)


def read_examples(source: Path, label_set: LabelSet, classifier: ZeroShotClassifier) -> Examples:
    """Read and embed labelled pictures."""
    pairs = _from_folder(source) if source.is_dir() else _from_csv(source)
    unknown = sorted({label for _, labels in pairs for label in labels if label_set.find(label) is None})
    if unknown:
        raise LearningError(
            f"{source} has labels that {label_set.name} has not: {', '.join(map(quote, unknown[:5]))}.",
            f"It has {', '.join(label_set.names[:8])}...; add them, or an alias.",
        )
    kept, rows, vectors, unreadable = [], [], [], []
    encoded = encode_stream(classifier.encoder, [path for path, _ in pairs], limits=classifier.limits)
    for (path, labels), (_, outcome) in zip(pairs, encoded, strict=True):
        if isinstance(outcome, ImageError):
            unreadable.append((path, str(outcome)))
            continue
        row = np.zeros(len(label_set.labels), dtype=np.bool_)
        for label in labels:
            row[label_set.find(label)] = True
        kept.append(path)
        rows.append(row)
        vectors.append(outcome)
    if not kept:
        raise LearningError(f"{source} holds no picture that can be used.", "Give a folder with a folder per label.")
    return Examples(tuple(kept), np.stack(rows), np.stack(vectors), tuple(unreadable))


def check_unseen(examples: Examples, head: Head, fitted: Calibration | None, name: str) -> None:
    """Refuse to calibrate a head on the pictures that it was taught with: it is surer of them than of any other."""
    copies = int(((examples.vectors @ head.keys.T) > 1 - 1e-5).any(axis=1).sum()) if len(head.keys) else 0
    same = fitted is not None and (fitted.fitted_on, fitted.pictures) == (name, len(examples.paths))
    if copies or same:
        raise LearningError(
            f"The set's head was fitted on {copies or len(examples.paths)} of these pictures and is too sure of them.",
            "Give others; 'zeroshot fit' has fitted the temperature already, on pictures left out.",
        )


def _from_folder(folder: Path) -> list[tuple[str, Sequence[str]]]:
    pairs: list[tuple[str, Sequence[str]]] = []
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for parent, folders, names in os.walk(inner):
            folders.sort()
            pairs += [(str(Path(parent) / name), (inner.name,)) for name in sorted(names) if not name.startswith(".")]
    return pairs


def _from_csv(path: Path) -> list[tuple[str, Sequence[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"file", "label"} - set(reader.fieldnames or ())
            if missing:
                raise LearningError(f"{path} has no column {quote(sorted(missing)[0])}.", "It needs file and label.")
            return [(str(path.parent / (row["file"] or "")), _split(row["label"] or "")) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LearningError(f"{path} cannot be read: {error}.", "Give a folder, or a CSV file in UTF-8.") from error


def _split(cell: str) -> list[str]:
    return [label.strip() for label in cell.split(_SEPARATOR) if label.strip()]
