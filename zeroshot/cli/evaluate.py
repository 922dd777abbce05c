"""``zeroshot evaluate`` and ``zeroshot compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.evaluate import Evaluation


def evaluate(
    dataset: options.DatasetArgument,
    split: options.SplitOption = None,
    root: options.RootOption = None,
    download: options.DownloadOption = False,
    columns: options.ColumnsOption = None,
    label_set: options.LabelSetOption = None,
    templates: options.TemplatesOption = None,
    mode: options.ModeOption = None,
    threshold: options.ThresholdOption = None,
    temperature: options.TemperatureOption = None,
    unknown: options.UnknownOption = False,
    robustness: Annotated[
        str | None,
        typer.Option(
            help="Also on changed images: all, or some of noise, blur, jpeg, brightness, contrast, occlusion, "
            "typographic, adversarial, with commas."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="A folder for report.html, .md, .json and predictions.csv.")
    ] = None,
    thumbnails: Annotated[
        bool, typer.Option(help="Whether the report shows the most confident mistakes' images.")
    ] = True,
    check_published: Annotated[
        bool,
        typer.Option(
            "--check-published", help="Compare the accuracy with the published one; exit code 1 if it differs."
        ),
    ] = False,
    limit: options.LimitOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
    precision: options.PrecisionOption = None,
) -> None:
    """Measure accuracy, precision, recall, F1, calibration and more on a dataset.

    The images' vectors are kept in ZEROSHOT_HOME: a second run under other labels or prompts encodes nothing, and one
    that was interrupted goes on where it was. What cannot be used is counted and listed.
    """
    from zeroshot.cli.inputs import build_classifier, limits_from, to_columns
    from zeroshot.cli.rendering import progress, working
    from zeroshot.datasets import open_dataset
    from zeroshot.evaluate import evaluate_dataset, write_report
    from zeroshot.evaluate.published import find_published
    from zeroshot.evaluate.reports import check_folder
    from zeroshot.evaluate.robustness import choose_changes
    from zeroshot.evaluate.run import Run
    from zeroshot.evaluate.vector_cache import VectorCache
    from zeroshot.labels import LabelSetStore, find_label_set
    from zeroshot.prompts import load_templates
    from zeroshot.scoring import ScoringOptions
    from zeroshot.scoring.options import to_mode

    settings = load_settings()
    if report is not None:
        check_folder(report)
    with working("opening the dataset"):
        opened = open_dataset(
            dataset, split=split, root=root, home=settings.home, download=download, columns=to_columns(columns)
        )
    published = find_published(model or settings.model, opened.name) if check_published else None
    cache = VectorCache(settings.home)
    run = Run(
        build_classifier(settings, model=model, device=device, precision=precision),
        opened,
        cache,
        labels=None if label_set is None else find_label_set(label_set, LabelSetStore(settings.home)),
        templates=None if templates is None else load_templates(templates),
        options=ScoringOptions(to_mode(mode), threshold, temperature, unknown),
        batch_size=settings.batch_size,
        limit=limit,
    )
    with working("embedding the labels"):  # which the changes are checked against
        changes = choose_changes(run, [word.strip() for word in (robustness or "").split(",") if word.strip()])
    result = evaluate_dataset(
        run,
        changes=changes,
        published=published,
        progress=progress,
    )
    cache.close()
    _show(result.evaluation)
    if report is not None:
        with working("writing the report"):
            write_report(result, report, limits_from(settings) if thumbnails else None)
        sys.stdout.write(f"{report / 'report.html'}\n")
    if result.evaluation.published is not None and not result.evaluation.published.agrees:
        raise typer.Exit(1)


def _show(evaluation: Evaluation) -> None:
    """Figures on standard output; what could not be used on standard error."""
    from zeroshot.evaluate.reports import to_lines

    for line in to_lines(evaluation):
        sys.stdout.write(line + "\n")
    for key, reason in evaluation.dataset.problems[:5]:
        print(f"{key}: {reason}", file=sys.stderr)  # noqa: T201
    if (more := len(evaluation.dataset.problems) - 5) > 0:
        print(f"and {more:,} more that could not be used; --report lists them all", file=sys.stderr)  # noqa: T201


def compare(
    first: Annotated[Path, typer.Argument(help="A report.json, or its folder.")],
    second: Annotated[Path, typer.Argument(help="Another of the same dataset.")],
) -> None:
    """Say what changed between two evaluations, and whether it is more than chance."""
    from zeroshot.evaluate import compare as compare_reports

    found = compare_reports(first, second)
    out = sys.stdout.write
    for line in found.changed or ["nothing about the two runs"]:
        out(f"changed: {line}\n")
    before, after = found.accuracy
    out(f"images {found.images:,}" + (
        f" in both ({found.only_first:,} only in the first, {found.only_second:,} only in the second)\n"
        if found.only_first or found.only_second else "\n"
    ))  # fmt: skip
    out(f"right    {before:.4f} -> {after:.4f}: {100 * (after - before):+.2f} points, ")
    out(f"95 % between {100 * found.low:+.2f} and {100 * found.high:+.2f}\n")
    out(f"{found.won:,} won, {found.lost:,} lost; McNemar p = {found.p_value:.3g}: ")
    out("more than chance\n" if found.is_beyond_chance else "chance alone could give that\n")
    for label, one, two in found.labels:
        out(f"  {label}: recall {one:.3f} -> {two:.3f}\n")
