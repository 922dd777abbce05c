"""``zeroshot calibrate``: temperatures and thresholds from labelled images, kept in a stored label set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.learning import CalibrationReport


def calibrate(
    label_set: options.StoredSetOption,
    data: options.DataOption,
    precision: Annotated[
        float | None, typer.Option(help="Multilabel: the precision wanted of every label. [default: the best F1]")
    ] = None,
    diagram: Annotated[
        Path | None, typer.Option(help="A new PNG file: how often answers of each confidence are right.")
    ] = None,
    split: options.SplitOption = None,
    root: options.RootOption = None,
    download: options.DownloadOption = False,
    columns: options.ColumnsOption = None,
    limit: options.LimitOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
) -> None:
    """Fit a label set's temperature, or in the mode multilabel its thresholds, and say what that changes.

    The figures are of images that were not fitted on: each fifth is measured with what the other four give. What is
    fitted on all of them is kept if it is better on those than nothing.
    """
    from zeroshot.cli.inputs import build_classifier, open_data
    from zeroshot.cli.rendering import progress_over, show_problems
    from zeroshot.labels import LabelSetStore
    from zeroshot.learning import calibrate as fit_calibration
    from zeroshot.learning import reliability_diagram
    from zeroshot.output import check_new_files, write_new_files

    settings = load_settings()
    if diagram is not None:
        check_new_files([diagram])
    store = LabelSetStore(settings.home)
    chosen = store.get(label_set)
    opened = open_data(data, settings, split=split, root=root, download=download, columns=columns)
    classifier = build_classifier(settings, model=model, device=device)
    with progress_over(opened.count, limit) as advance:
        _, report = fit_calibration(opened, chosen, classifier, precision=precision, limit=limit, on_progress=advance)
    show_problems(report.problems)
    _show(report)
    if diagram is not None:
        write_new_files({diagram: reliability_diagram(report.readings)})
        sys.stdout.write(f"{diagram}: how often answers of each confidence are right\n")
    if not report.is_kept:
        sys.stdout.write(f"{chosen.name} stays as it is.\n")
        return
    fitted, encoder = report.calibration, classifier.encoder
    kept = store.update(
        label_set.partition("@")[0],
        lambda newest: newest.with_fitted(encoder.fingerprint, fitted, chosen.head_for(encoder.fingerprint)),
        what=f"calibrated for {encoder.spec} on {fitted.images} images: {report.summary}",
    )
    sys.stdout.write(f"{kept.name}@{kept.version}: {report.summary}, for {encoder.spec}\n")


def _show(report: CalibrationReport) -> None:
    """What the calibration changes on images not fitted on."""
    from zeroshot.learning import Quality, ThresholdQuality

    old, new, out = report.before, report.after, sys.stdout.write
    if isinstance(old, Quality) and isinstance(new, Quality):
        out(f"{old.images} images, accuracy {old.accuracy:.3f}   untuned   fitted\n")
        out(f"ECE (calibration error)    {old.ece:14.3f} {new.ece:8.3f}    by chance alone {new.ece_floor:.3f}\n")
        out(f"NLL                        {old.nll:14.3f} {new.nll:8.3f}\n")
        out(f"Brier                      {old.brier:14.3f} {new.brier:8.3f}\n")
    elif isinstance(old, ThresholdQuality) and isinstance(new, ThresholdQuality):
        for what, found in (("untuned", old), ("fitted", new)):
            out(f"{what:7}  macro-F1 {found.macro_f1:.3f}  precision {found.precision:.3f}\n")
    out(f"{report.reason}\n")
