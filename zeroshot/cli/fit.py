"""``zeroshot fit``: a head from a few labelled images, kept in a stored label set."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.learning import FitReport


def fit(
    label_set: options.StoredSetOption,
    data: options.DataOption,
    unlabelled: Annotated[
        Path | None, typer.Option(help="A folder of images without labels; the labels are spread to them.")
    ] = None,
    pseudo_labels: Annotated[
        Path | None,
        typer.Option(help="A new CSV file for what the unlabelled images were taken for, and how surely."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Let labels without images keep what their text says.")
    ] = False,
    split: options.SplitOption = None,
    root: options.RootOption = None,
    download: options.DownloadOption = False,
    columns: options.ColumnsOption = None,
    limit: options.LimitOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
) -> None:
    """Learn from a few labelled images, and say what that gains on images left out.

    One to twenty images per label are enough. A head that is no better than the text alone on images left out is not
    kept.
    """
    from zeroshot.cli.inputs import build_classifier, find_images, open_data
    from zeroshot.cli.rendering import progress_over, show_problems
    from zeroshot.errors import OptionError
    from zeroshot.labels import LabelSetStore
    from zeroshot.learning import fit as fit_head
    from zeroshot.output import check_new_files, write_new_files

    settings = load_settings()
    if pseudo_labels is not None:
        if unlabelled is None:
            raise OptionError(
                "Without --unlabelled there is nothing to give pseudo-labels to.",
                "Add --unlabelled FOLDER, or leave --pseudo-labels out.",
            )
        check_new_files([pseudo_labels])
    store = LabelSetStore(settings.home)
    chosen = store.get(label_set)
    opened = open_data(data, settings, split=split, root=root, download=download, columns=columns)
    classifier = build_classifier(settings, model=model, device=device)
    others = [] if unlabelled is None else find_images([str(unlabelled)], classifier.limits)
    with progress_over(opened.count, limit, len(others)) as advance:
        _, report = fit_head(
            opened,
            chosen,
            classifier,
            unlabelled=None if unlabelled is None else [image.source for image in others],
            partial=partial,
            limit=limit,
            on_progress=advance,
        )
    show_problems(report.problems)
    _show(report)
    if pseudo_labels is not None and report.pseudo_labels is not None:
        paths = [others[position].path for position in report.unlabelled]
        write_new_files({pseudo_labels: _table(pseudo_labels.absolute().parent, paths, report).encode()})
        sys.stdout.write(f"{pseudo_labels}: what the unlabelled images were taken for\n")
    if not report.is_kept:
        sys.stdout.write(f"{chosen.name} stays as it is.\n")
        return
    kept = store.update(
        label_set.partition("@")[0],
        lambda newest: newest.with_fitted(report.head.fingerprint, report.calibration, report.head),
        what=f"fitted for {report.head.model}: {report.head.summary}",
    )
    sys.stdout.write(f"{kept.name}@{kept.version}: {report.head.summary}, for {report.head.model}\n")


def _show(report: FitReport) -> None:
    measured = report.head.measured
    if measured is not None:
        low, high = (100 * share for share in (measured.gain_low, measured.gain_high))
        sys.stdout.write(
            f"{measured.images} images, each left out in turn   text alone   fitted\n"
            f"accuracy {measured.zero_shot:39.3f} {measured.accuracy:8.3f}\n"
            f"gain {100 * (measured.accuracy - measured.zero_shot):+.1f} points, "
            f"95 % between {low:+.1f} and {high:+.1f}\n"
        )
    sys.stdout.write(f"{report.reason}\n")


def _table(folder: Path, paths: Sequence[str], report: FitReport) -> str:
    """Surest first."""
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["file", "label", "confidence"])
    if (confidence := report.pseudo_labels) is not None:
        for row in (-confidence.max(axis=1)).argsort(kind="stable"):
            best = int(confidence[row].argmax())
            writer.writerow([os.path.relpath(paths[row], folder), report.names[best], f"{confidence[row, best]:.4f}"])
    return content.getvalue()
