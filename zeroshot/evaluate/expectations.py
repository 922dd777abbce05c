"""Published accuracies that an installation can be held to: other people's measurements, kept as data."""

from __future__ import annotations

import csv
from importlib.resources import files

from zeroshot.errors import OptionError
from zeroshot.evaluate.evaluation import Evaluation, Expectation

TOLERANCE = 0.003
_FILE = files("zeroshot") / "data" / "published" / "datasets.csv"


def published() -> dict[tuple[str, str], tuple[float, str]]:
    """Give what was published."""
    rows = csv.DictReader(_FILE.read_text(encoding="utf-8").splitlines())
    return {(row["model"], row["dataset"]): (float(row["accuracy"]), row["source"]) for row in rows}


def expect(model: str, dataset: str) -> tuple[float, str]:
    """Find the published accuracy."""
    known = published()
    if (model, dataset) not in known:
        there = ", ".join(sorted({name for spec, name in known if spec == model}))
        models = ", ".join(sorted({spec for spec, _ in known}))
        raise OptionError(
            f"No accuracy of {model} on {dataset} is known here.",
            f"There are some of {model} on {there}." if there else f"There are some of {models}.",
        )
    return known[model, dataset]


def hold(found: Evaluation, published_accuracy: float, source: str) -> Expectation:
    """Hold an evaluation to a published accuracy."""
    return Expectation(published=published_accuracy, measured=found.accuracy, tolerance=TOLERANCE, source=source)
