"""``zeroshot prompts``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.evaluate.prompt_tuning import Tuned

prompts_app = typer.Typer(no_args_is_help=True, help="Choose prompts by what they do on images.")

_CANDIDATES = "none,photo,simple,imagenet"


@prompts_app.callback()
def _root() -> None:
    """Choose prompts by what they do on images."""


@prompts_app.command()
def tune(
    dataset: options.DatasetArgument,
    output: Annotated[
        Path | None, typer.Option(help="A new .yaml file for what was chosen: a template set, or a label set.")
    ] = None,
    target: Annotated[
        str, typer.Option(help="What is chosen: templates, or the label set's descriptions.")
    ] = "templates",
    candidates: Annotated[
        str, typer.Option(help="Template sets to choose from, by name or file, with commas.")
    ] = _CANDIDATES,
    baseline: Annotated[
        str | None, typer.Option(help="The template set to compare with. [default: what evaluate would use]")
    ] = None,
    columns: options.ColumnsOption = None,
    label_set: options.LabelSetOption = None,
    max_templates: Annotated[int, typer.Option(min=1, help="Most templates that are chosen.")] = 8,
    validation_fraction: Annotated[
        float, typer.Option(help="Share of the images to choose on; the gain is measured on the others.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Decides which images those are.")] = 0,
    split: options.SplitOption = None,
    root: options.RootOption = None,
    limit: options.LimitOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
) -> None:
    """Choose templates or descriptions on one part of a dataset, and measure the gain on the other.

    The second part is held out from the choice. No gain is claimed whose 95 % interval reaches zero.
    """
    from zeroshot.cli.inputs import build_classifier, to_columns
    from zeroshot.cli.rendering import progress, working
    from zeroshot.datasets import open_dataset
    from zeroshot.errors import OptionError
    from zeroshot.evaluate.prompt_tuning import embed_dataset, tune_descriptions, tune_templates
    from zeroshot.evaluate.run import Run
    from zeroshot.evaluate.vector_cache import VectorCache
    from zeroshot.labels import LabelSetStore, Mode, find_label_set
    from zeroshot.labels.exporting import check_yaml
    from zeroshot.output import check_new_files
    from zeroshot.prompts import load_templates
    from zeroshot.scoring import ScoringOptions

    settings = load_settings()
    if target not in ("templates", "descriptions"):
        raise OptionError(f"--target is {target!r}.", "Use templates or descriptions.", field="target")
    if output is not None:
        check_yaml(output)
        check_new_files([output])
    sets = [load_templates(name.strip()) for name in candidates.split(",") if name.strip()]
    texts = list(dict.fromkeys(template for one in sets for template in one.templates))
    opened = open_dataset(dataset, split=split, root=root, home=settings.home, columns=to_columns(columns))
    if not opened.classes and label_set is None:
        raise OptionError(f"{opened.name} has no labels.", "Give --label-set.", field="label_set")
    labels = None if label_set is None else find_label_set(label_set, LabelSetStore(settings.home))
    classifier = build_classifier(settings, model=model, device=device, precision=None)
    cache = VectorCache(settings.home)
    compared = None if baseline is None else load_templates(baseline)
    with working("embedding the labels"):
        run = Run(
            classifier, opened, cache, labels, compared, ScoringOptions(Mode.MULTICLASS), settings.batch_size, limit
        )
    with progress(run.count) as advance:
        embedded = embed_dataset(run, validation_fraction=validation_fraction, seed=seed, on_progress=advance)
    cache.close()
    if embedded.unusable:
        print(f"{embedded.unusable:,} images could not be used", file=sys.stderr)  # noqa: T201
    with working("choosing"):
        if target == "templates":
            tuned = tune_templates(run, embedded, texts, max_templates=max_templates)
        else:
            tuned = tune_descriptions(run, embedded)
    _show(tuned)
    if output is not None:
        tuned.write(output, opened.name)
        sys.stdout.write(f"{output}\n")


def _show(tuned: Tuned) -> None:
    out, gain = sys.stdout.write, tuned.gain
    if tuned.templates is not None:
        for template in tuned.templates.templates:
            out(f"  {template}\n")
    if tuned.label_set is not None:
        for label in tuned.label_set.labels:
            kept = "; ".join(label.descriptions) or f"templates ({tuned.baseline.name})"
            out(f"  {label.name}: {kept}\n")
    (before, after), (out_before, out_after) = gain.validation, gain.held_out
    out(f"chosen on  {gain.images[0]:,} images: {before:.4f} -> {after:.4f}\n")
    out(f"held out   {gain.images[1]:,} images: {out_before:.4f} -> {out_after:.4f}: ")
    out(
        f"{100 * (out_after - out_before):+.2f} points, 95 % between {100 * gain.low:+.2f} and {100 * gain.high:+.2f}\n"
    )
    out("a gain" if gain.is_beyond_chance else "no gain beyond chance")
    out(f" over {tuned.baseline.name}\n")
