"""What two evaluations differ in, and whether that is more than chance.

McNemar's test, exact, on the images that one run got right and the other did not (McNemar, "Note on the Sampling
Error of the Difference Between Correlated Proportions or Percentages", Psychometrika 1947); the difference's interval
by paired bootstrap.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from zeroshot.errors import DatasetError
from zeroshot.evaluate.result import FORMAT, Evaluation
from zeroshot.optional import require
from zeroshot.statistics import interval_of_mean

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class Difference:
    """Of two evaluations on the same images."""

    images: int
    only_first: int
    only_second: int
    accuracy: tuple[float, float]
    low: float
    high: float
    lost: int
    won: int
    p_value: float
    changed: list[str]
    labels: list[tuple[str, float, float]]

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the difference would be seen by chance in fewer than one of twenty cases."""
        return self.p_value < 0.05


def read_evaluation(file: Path) -> Evaluation:
    """Read the JSON of a report."""
    path = file / "report.json" if file.is_dir() else file
    try:
        found = Evaluation.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.", "Give a report.json.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise DatasetError(f"{path} is not a report: {place}: {first['msg']}.", "Evaluate again.") from error
    if found.format != FORMAT:
        raise DatasetError(f"{path} is of format {found.format}, and {FORMAT} is read.", "Evaluate again.")
    return found


def compare(first: Path, second: Path) -> Difference:
    """Compare two reports, image by image.

    Parameters
    ----------
    first : Path
        A report.json, with predictions.csv beside it.
    second : Path
        Another.

    Returns
    -------
    Difference
        Of the second from the first.

    Raises
    ------
    DatasetError
        If one cannot be read, or they have no image in common.
    """
    reports = [read_evaluation(path) for path in (first, second)]
    tables = [_predictions(path, report) for path, report in zip((first, second), reports, strict=True)]
    common = [key for key in tables[0] if key in tables[1]]
    if not common:
        raise DatasetError(
            f"{reports[0].dataset.name} and {reports[1].dataset.name} have no image in common.",
            "Compare two evaluations of the same dataset.",
        )
    hits = np.array([[table[key][1] for key in common] for table in tables], dtype=np.bool_)
    lost, won = int((hits[0] & ~hits[1]).sum()), int((~hits[0] & hits[1]).sum())
    test = require("scipy.stats", "evaluate").binomtest
    p_value = float(test(won, lost + won, 0.5).pvalue) if lost + won else 1.0
    low, high = interval_of_mean(hits[1].astype(np.float64) - hits[0])
    return Difference(
        images=len(common),
        only_first=len(tables[0]) - len(common),
        only_second=len(tables[1]) - len(common),
        accuracy=(float(hits[0].mean()), float(hits[1].mean())),
        low=low,
        high=high,
        lost=lost,
        won=won,
        p_value=p_value,
        changed=_changed(reports[0], reports[1]),
        labels=_labels(tables, common),
    )


def _predictions(path: Path, report: Evaluation) -> dict[str, tuple[str, bool]]:
    """Key to label and whether the answer is right."""
    file = (path if path.is_dir() else path.parent) / PREDICTIONS
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{file} cannot be read: {error.strerror}.", "It is written beside report.json; keep the two together."
        ) from error
    if hashlib.sha256(content).hexdigest() != report.predictions_sha256:
        raise DatasetError(f"{file} is not the file that {path} was written with.", "Evaluate again.")
    rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return {row["file"]: (row["label"], row["hit"] == "1") for row in rows}


def _changed(first: Evaluation, second: Evaluation) -> list[str]:
    """Dataset, model, options and package versions, where the two differ."""
    found = []
    for part in ("dataset", "model", "scoring"):
        one, two = (_as_data(getattr(report, part)) for report in (first, second))
        found += [
            f"{shown}: {_short(one.get(name))} -> {_short(two.get(name))}"
            for name, shown in _FACT_NAMES.items()
            if one.get(name) != two.get(name)
        ]
    for package in sorted({*first.run.versions, *second.run.versions}):
        before, after = (report.run.versions.get(package, "none") for report in (first, second))
        if before != after:
            found.append(f"{package}: {before} -> {after}")
    return found


_FACT_NAMES = {
    "name": "dataset",
    "origin": "from",
    "spec": "model",
    "fingerprint": "weights",
    "mode": "mode",
    "label_set": "label set",
    "labels": "labels",
    "template_set": "template set",
    "templates": "templates",
    "temperature": "temperature",
    "has_head": "head",
}


def _as_data(part: BaseModel | None) -> dict[str, Any]:
    return {} if part is None else part.model_dump(mode="json")


def _short(value: object) -> str:
    if isinstance(value, list) and len(value) != 1:
        return f"{len(value)}"
    value = value[0] if isinstance(value, list) else value
    text = str(value)
    return text if len(text) <= 60 else f"{text[:12]}..."


def _labels(tables: list[dict[str, tuple[str, bool]]], common: list[str]) -> list[tuple[str, float, float]]:
    recalls: dict[str, list[list[bool]]] = {}
    for key in common:
        for side, table in enumerate(tables):
            recalls.setdefault(tables[0][key][0], [[], []])[side].append(table[key][1])
    means = [(label, float(np.mean(one)), float(np.mean(two))) for label, (one, two) in recalls.items()]
    return sorted((row for row in means if row[1] != row[2]), key=lambda row: -abs(row[2] - row[1]))[:10]
