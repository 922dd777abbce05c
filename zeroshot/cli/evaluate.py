"""``zeroshot evaluate`` and ``zeroshot compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.evaluate.evaluation import Evaluation
    from zeroshot.evaluate.running import Run
    from zeroshot.evaluate.tally import Result
    from zeroshot.images import ImageLimits


def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A folder with a folder per class, WebDataset shards, a CSV or Parquet file (file, label, group, "
            "caption), a name (cifar10, food101, imagenet, digits...), or hf:org/name."
        ),
    ],
    split: Annotated[str | None, typer.Option(help="Which part. [default: the dataset's own for testing]")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Where a named dataset's files are. [default: ZEROSHOT_HOME/datasets/NAME]")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Let torchvision download it to there.")] = False,
    columns: Annotated[
        str | None, typer.Option(help="What a table calls its columns: label=species,group=site,file=path.")
    ] = None,
    label_set: Annotated[
        str | None, typer.Option(help="A label set's name or file. [default: the dataset's classes]")
    ] = None,
    templates: Annotated[
        str | None, typer.Option(help="A template set's name or file, or one template. [default: the dataset's own]")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="multiclass, binary, multilabel or hierarchical.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Score that a label needs to be the answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Divides the logits.")] = None,
    robustness: Annotated[
        str | None,
        typer.Option(
            help="Also on changed pictures: all, or some of noise, blur, jpeg, brightness, contrast, occlusion, "
            "typographic, adversarial, with commas."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="A folder for report.html, .md, .json and predictions.csv.")
    ] = None,
    thumbnails: Annotated[
        bool, typer.Option(help="Whether the report shows the most confident mistakes' pictures.")
    ] = True,
    expect: Annotated[
        bool, typer.Option("--expect", help="Hold the accuracy to the published one; exit code 1 if it is another.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Most pictures.")] = None,
    model: Annotated[str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny]")] = None,
    device: Annotated[str | None, typer.Option(help="For open_clip models: auto, cpu, cuda, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="For open_clip models: auto, fp32, fp16, bf16.")] = None,
) -> None:
    """Measure accuracy, precision, recall, F1, calibration and more on a dataset.

    The pictures' vectors are kept in ZEROSHOT_HOME: a second run under other labels or prompts encodes nothing, and one
    that was interrupted goes on where it was. What cannot be used is counted and listed.
    """
    from zeroshot.cli.inputs import PROGRESS_FROM, build_classifier, limits_from, to_columns
    from zeroshot.cli.rendering import progress, working
    from zeroshot.datasets import open_dataset
    from zeroshot.errors import DatasetError
    from zeroshot.evaluate import expectations
    from zeroshot.evaluate.reports import check_folder
    from zeroshot.evaluate.retrieving import retrieve
    from zeroshot.evaluate.robustness import measure_robustness
    from zeroshot.evaluate.running import Run
    from zeroshot.evaluate.vectors import VectorStore
    from zeroshot.labels import LabelSetStore, find_label_set
    from zeroshot.prompts import load_templates
    from zeroshot.scoring import ScoringOptions, to_mode

    settings = load_settings()
    if report is not None:
        check_folder(report)
    with working("opening the dataset"):
        opened = open_dataset(
            dataset, split=split, root=root, home=settings.home, download=download, columns=to_columns(columns)
        )
    wanted = expectations.expect(model or settings.model, opened.name) if expect else None
    labels = None if label_set is None else find_label_set(label_set, LabelSetStore(settings.home))
    classifier = build_classifier(settings, model=model, device=device, precision=precision)
    store = VectorStore(settings.home)
    count = opened.count if limit is None or opened.count is None else min(limit, opened.count)
    shown = count is None or count >= PROGRESS_FROM
    result = None
    if opened.classes or labels is not None:
        chosen = None if templates is None else load_templates(templates)
        options = ScoringOptions(to_mode(mode), threshold, temperature)
        with working("embedding the labels"):
            run = Run(classifier, opened, store, labels, chosen, options, settings.batch_size, limit)
        changes = _changes(run, robustness)
        with progress(count, shown=shown) as advance:
            result = run.evaluate(advance)
        if changes:
            with progress(None, shown=True) as advance:
                result.evaluation.robustness = measure_robustness(run, changes, result.evaluation, advance)
    if opened.captioned:
        with progress(count, shown=shown) as advance:
            found = retrieve(
                classifier, opened, store, batch_size=settings.batch_size, limit=limit, on_progress=advance
            )
        if result is None:
            result = found
        else:
            result.evaluation.retrieval = found.evaluation.retrieval
    if result is None:
        raise DatasetError(f"{opened.name} has neither labels nor captions.", "Give --label-set.")
    if wanted is not None:
        result.evaluation.expectation = expectations.hold(result.evaluation, *wanted)
    store.close()
    _finish(result, report, limits_from(settings) if thumbnails else None)


def _finish(result: Result, report: Path | None, limits: ImageLimits | None) -> None:
    """Figures, the report where one is wanted, and the exit code."""
    from zeroshot.cli.rendering import working
    from zeroshot.evaluate.reports import write_report

    _show(result.evaluation)
    if report is not None:
        with working("writing the report"):
            write_report(result, report, limits)
        sys.stdout.write(f"{report / 'report.html'}\n")
    if result.evaluation.expectation is not None and not result.evaluation.expectation.is_met:
        raise typer.Exit(1)


def _changes(run: Run, words: str | None) -> list[str]:
    """Which changes are meant; "all" is without what the model has no gradients for."""
    from zeroshot.evaluate.adversarial import has_gradients
    from zeroshot.evaluate.robustness import KINDS, check_changes

    named = [] if words is None else [word.strip() for word in words.split(",")]
    kinds = [word for word in named if word != "all"]
    if "all" in named:
        kinds += [kind for kind in KINDS if kind != "adversarial" or has_gradients(run.classifier.encoder)]
    check_changes(run, kinds)
    return kinds


def _show(evaluation: Evaluation) -> None:
    """Figures on standard output; what could not be used on standard error."""
    from zeroshot.evaluate.text_report import to_lines

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
    from zeroshot.evaluate.comparing import compare as compare_reports

    found = compare_reports(first, second)
    out = sys.stdout.write
    for line in found.changed or ["nothing about the two runs"]:
        out(f"changed: {line}\n")
    before, after = found.accuracy
    out(f"pictures {found.pictures:,}" + (
        f" in both ({found.only_first:,} only in the first, {found.only_second:,} only in the second)\n"
        if found.only_first or found.only_second else "\n"
    ))  # fmt: skip
    out(f"right    {before:.4f} -> {after:.4f}: {100 * (after - before):+.2f} points, ")
    out(f"95 % between {100 * found.low:+.2f} and {100 * found.high:+.2f}\n")
    out(f"{found.won:,} won, {found.lost:,} lost; McNemar p = {found.p_value:.3g}: ")
    out("more than chance\n" if found.is_beyond_chance else "chance alone could give that\n")
    for label, one, two in found.labels:
        out(f"  {label}: recall {one:.3f} -> {two:.3f}\n")
