"""Published accuracies that an installation can be checked against: other people's measurements, kept as data."""

from __future__ import annotations

import csv
from importlib.resources import files

from zeroshot.errors import OptionError
from zeroshot.evaluate.result import Evaluation, PublishedCheck

TOLERANCE = 0.003
_FILE = files("zeroshot") / "data" / "published" / "datasets.csv"


def published_accuracies() -> dict[tuple[str, str], tuple[float, str]]:
    """Give accuracy and source by model and dataset."""
    rows = csv.DictReader(_FILE.read_text(encoding="utf-8").splitlines())
    return {(row["model"], row["dataset"]): (float(row["accuracy"]), row["source"]) for row in rows}


def find_published(model: str, dataset: str) -> tuple[float, str]:
    """Give the published accuracy of a model on a dataset, and its source."""
    known = published_accuracies()
    if (model, dataset) not in known:
        there = ", ".join(sorted({name for spec, name in known if spec == model}))
        models = ", ".join(sorted({spec for spec, _ in known}))
        raise OptionError(
            f"No accuracy of {model} on {dataset} is known here.",
            f"Leave --check-published out. Known are {f'{model} on {there}' if there else models}.",
        )
    return known[model, dataset]


def check_published(found: Evaluation, accuracy: float, source: str) -> PublishedCheck:
    """Compare the accuracy of an evaluation with a published one."""
    return PublishedCheck(published=accuracy, measured=found.accuracy, tolerance=TOLERANCE, source=source)
