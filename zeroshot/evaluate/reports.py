"""Reports: report.html for people, report.md and report.json with the same, predictions.csv with every answer."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np

from zeroshot.errors import DatasetError, OptionError
from zeroshot.evaluate.comparing import PREDICTIONS
from zeroshot.evaluate.html_report import to_html
from zeroshot.evaluate.records import MultiRecords, SingleRecords
from zeroshot.evaluate.tally import Result
from zeroshot.evaluate.text_report import to_markdown
from zeroshot.images import ImageLimits

FILES = ("report.html", "report.md", PREDICTIONS, "report.json")


def check_folder(folder: Path) -> None:
    """Refuse, before any work is done, a folder in which a report would overwrite something."""
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder} is a file.", "Give a folder.", field="report")
    others = [path.name for path in folder.iterdir() if path.name not in FILES] if folder.is_dir() else []
    if others:
        raise OptionError(
            f"{folder} holds {others[0]}, which is no part of a report.", "Give a new folder.", field="report"
        )


def write_report(result: Result, folder: Path, limits: ImageLimits | None) -> None:
    """Write a report; report.json comes last, so that where it is the rest is whole.

    Parameters
    ----------
    result : Result
        What was found.
    folder : Path
        Of ``check_folder``; an earlier report in it is replaced.
    limits : ImageLimits or None
        Limits on the pictures that are shown; None shows none.

    Raises
    ------
    DatasetError
        If it cannot be written.
    """
    table = predictions(result).encode()
    result.evaluation.predictions_sha256 = hashlib.sha256(table).hexdigest()
    contents = {
        "report.html": to_html(result, limits).encode(),
        "report.md": to_markdown(result.evaluation).encode(),
        PREDICTIONS: table,
        "report.json": (result.evaluation.model_dump_json(indent=1) + "\n").encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").unlink(missing_ok=True)
        for name, content in contents.items():
            partial = folder / f".{name}.partial"
            partial.write_bytes(content)
            partial.replace(folder / name)
    except OSError as error:
        raise DatasetError(
            f"The report cannot be written to {folder}: {error.strerror}.", "Name a folder that can be written."
        ) from error


def predictions(result: Result) -> str:
    """Give every answer as CSV: file, label, prediction, confidence, hit."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(["file", "label", "prediction", "confidence", "hit"])
    names, records = result.names, result.records
    if isinstance(records, SingleRecords):
        for row, key in enumerate(records.keys):
            best = int(records.top[row, 0])
            hit = int(best == records.truth[row])
            writer.writerow([key, names[records.truth[row]], names[best], f"{records.confidence[row]:.6f}", hit])
    elif isinstance(records, MultiRecords):
        for row, key in enumerate(records.keys):
            truth, chosen = (np.flatnonzero(one[row]) for one in (records.truth, records.chosen))
            given = "|".join(names[column] for column in chosen)
            confidence = f"{records.scores[row].max():.6f}"
            hit = int(set(truth) == set(chosen))
            writer.writerow([key, "|".join(names[column] for column in truth), given, confidence, hit])
    return content.getvalue()
