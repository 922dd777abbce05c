"""``zeroshot prompts``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.evaluate.prompt_tuning import Tuned

prompts_app = typer.Typer(no_args_is_help=True, help="Choose prompts by what they do on pictures.")

_CANDIDATES = "none,photo,simple,imagenet"


@prompts_app.callback()
def _root() -> None:
    """Choose prompts by what they do on pictures."""


@prompts_app.command()
def tune(
    dataset: Annotated[str, typer.Argument(help="As for zeroshot evaluate.")],
    output: Annotated[
        Path | None, typer.Option(help="A new .yaml file for what was chosen: a template set, or a label set.")
    ] = None,
    what: Annotated[str, typer.Option(help="templates, or descriptions: which of the label set's own help.")] = (
        "templates"
    ),
    candidates: Annotated[
        str, typer.Option(help="Template sets to choose from, by name or file, with commas.")
    ] = _CANDIDATES,
    baseline: Annotated[
        str | None, typer.Option(help="The template set to compare with. [default: what evaluate would use]")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="What a table calls its columns: label=species,group=site,file=path.")
    ] = None,
    label_set: Annotated[
        str | None, typer.Option(help="A label set's name or file. [default: the dataset's classes]")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Most templates that are chosen.")] = 8,
    share: Annotated[float, typer.Option(help="Of the pictures, to choose on; the gain is measured on the others.")] = (
        0.5
    ),
    seed: Annotated[int, typer.Option(min=0, help="Decides which pictures those are.")] = 0,
    split: Annotated[
        str | None, typer.Option(help="Part of the dataset: its training or validation part, if it has one.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Where a named dataset's files are.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most pictures.")] = None,
    model: Annotated[str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny]")] = None,
    device: Annotated[str | None, typer.Option(help="For open_clip models: auto, cpu, cuda, mps.")] = None,
) -> None:
    """Choose templates or descriptions on one part of a dataset, and measure the gain on the other.

    The second part is held out from the choice. No gain is claimed whose 95 % interval reaches zero.
    """
    from zeroshot.cli.inputs import PROGRESS_FROM, build_classifier, to_columns
    from zeroshot.cli.rendering import progress, working
    from zeroshot.datasets import open_dataset
    from zeroshot.errors import OptionError
    from zeroshot.evaluate import Run, VectorCache
    from zeroshot.evaluate.prompt_tuning import embed_dataset, tune_descriptions, tune_templates
    from zeroshot.labels import LabelSetStore, Mode, check_yaml, find_label_set
    from zeroshot.output import check_new_files
    from zeroshot.prompts import load_templates
    from zeroshot.scoring import ScoringOptions

    settings = load_settings()
    if what not in ("templates", "descriptions"):
        raise OptionError(f"--what is {what!r}.", "Use templates or descriptions.", field="what")
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
    options = ScoringOptions(Mode.MULTICLASS)
    with working("embedding the labels"):
        run = Run(classifier, opened, cache, labels, compared, options, settings.batch_size, limit)
    with progress(run.count, shown=run.count is None or run.count >= PROGRESS_FROM) as advance:
        embedded = embed_dataset(run, validation_fraction=share, seed=seed, on_progress=advance)
    cache.close()
    if embedded.unusable:
        print(f"{embedded.unusable:,} pictures could not be used", file=sys.stderr)  # noqa: T201
    with working("choosing"):
        if what == "templates":
            tuned = tune_templates(run, embedded, texts, max_templates=most)
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
    out(f"chosen on  {gain.pictures[0]:,} pictures: {before:.4f} -> {after:.4f}\n")
    out(f"held out   {gain.pictures[1]:,} pictures: {out_before:.4f} -> {out_after:.4f}: ")
    out(
        f"{100 * (out_after - out_before):+.2f} points, 95 % between {100 * gain.low:+.2f} and {100 * gain.high:+.2f}\n"
    )
    out("a gain" if gain.is_beyond_chance else "no gain beyond chance")
    out(f" over {tuned.baseline.name}\n")
