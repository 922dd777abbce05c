"""``zeroshot prompts``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.evaluate.tuning import Tuned

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

    Only the first part has a say in what is chosen. No gain is claimed whose 95 % interval reaches zero.
    """
    from zeroshot.cli.inputs import PROGRESS_FROM, build_classifier, to_columns
    from zeroshot.cli.rendering import progress, working
    from zeroshot.datasets import open_dataset
    from zeroshot.errors import OptionError
    from zeroshot.evaluate.running import Run
    from zeroshot.evaluate.tuning import gather, tune_descriptions, tune_templates
    from zeroshot.evaluate.vectors import VectorStore
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
    store = VectorStore(settings.home)
    compared = None if baseline is None else load_templates(baseline)
    with working("embedding the labels"):
        run = Run(
            classifier, opened, store, labels, compared, ScoringOptions(Mode.MULTICLASS), settings.batch_size, limit
        )
    count = opened.count if limit is None or opened.count is None else min(limit, opened.count)
    with progress(count, shown=count is None or count >= PROGRESS_FROM) as advance:
        material = gather(run, share=share, seed=seed, on_progress=advance)
    store.close()
    with working("choosing"):
        tuned = (
            tune_templates(run, material, texts, most=most) if what == "templates" else tune_descriptions(run, material)
        )
    if material.unusable:
        print(f"{material.unusable:,} pictures could not be used", file=sys.stderr)  # noqa: T201
    _show(tuned)
    if output is not None:
        _write(tuned, output, opened.name)
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


def _write(tuned: Tuned, output: Path, dataset: str) -> None:
    from zeroshot.labels import export_label_set, to_yaml
    from zeroshot.output import write_new_files

    if tuned.label_set is not None:
        export_label_set(tuned.label_set, output)
        return
    if tuned.templates is not None:
        (before, after), gain = tuned.gain.held_out, tuned.gain
        said = (
            f"Chosen on {gain.pictures[0]} pictures of {dataset}; on {gain.pictures[1]} others accuracy went from "
            f"{before:.4f} to {after:.4f} (95 % of the gain: {gain.low:+.4f} to {gain.high:+.4f})."
        )
        content = {"name": output.stem, "description": said, "templates": list(tuned.templates.templates)}
        write_new_files({output: to_yaml(content).encode()})
