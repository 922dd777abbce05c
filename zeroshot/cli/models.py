"""``zeroshot models``: what ``--model`` takes, and which to take."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zeroshot.encoders.catalogue import ModelFacts


_TABLE_CELLS = 130  # a specification is never cut: it is there to be copied


def models(
    query: Annotated[
        str | None, typer.Argument(help="Search all of open_clip's models, for example: siglip, ViT-B-32, laion2b.")
    ] = None,
    need: Annotated[
        str | None, typer.Option(help="Recommend one: fast, balanced, best or multilingual. Prints its spec.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List every model of the installed open_clip.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object per model and line.")] = False,
) -> None:
    """List the models that --model takes, with published sizes and accuracies."""
    from zeroshot.encoders.catalogue import NEEDS, all_models, recommend

    if need is not None:
        chosen = recommend(need)
        sys.stdout.write((json.dumps(asdict(chosen)) if json_lines else chosen.spec) + "\n")
        return
    if query is None and not everything:
        found = list(dict.fromkeys(recommend(kind) for kind in NEEDS))
    else:
        words = (query or "").lower().split()
        found = [model for model in all_models() if all(word in model.spec.lower() for word in words)]
    if json_lines:
        for model in found:
            sys.stdout.write(json.dumps(asdict(model)) + "\n")
        return
    if query is None and not everything:
        _print_forms()
    _print_table(found)
    if not found:
        raise typer.Exit(1)


def _print_forms() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("tiny", "embedded: ImageNet's visual world and words near it; 34 MB, offline; no people, no text")
    table.add_row("onnx:DIRECTORY", "a model directory made by 'zeroshot export': no torch at run time")
    table.add_row("ARCH:TAG", "an open_clip model, downloaded once; 'zeroshot models QUERY' searches, --all lists")
    table.add_row("ARCH:/path/to/weights", "an open_clip architecture with your own weights")
    table.add_row("hf-hub:ORG/NAME", "an open_clip model on the Hugging Face hub")
    table.add_row("local-dir:/path", "a folder with open_clip_config.json and weights")
    console = Console(highlight=False)
    console.width = max(console.width, _TABLE_CELLS)
    console.print(table)
    console.print("\nRecommended (zeroshot models --need fast|balanced|best|multilingual):")


def _print_table(found: list[ModelFacts]) -> None:
    from rich.console import Console
    from rich.table import Table

    from zeroshot.encoders.catalogue import NEEDS, recommend

    recommended = {recommend(kind).spec: kind for kind in reversed(NEEDS)}
    table = Table(box=None, pad_edge=False)
    table.add_column("model", style="bold", no_wrap=True)
    for title in ("Mparams", "GFLOPs", "ImageNet", "38 datasets"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    table.add_column("", style="green")
    for model in found:
        numbers = [(model.mparams, ".0f"), (model.gflops, ".1f"), (model.imagenet, ".4f"), (model.average_38, ".4f")]
        shown = ["-" if number is None else format(number, style) for number, style in numbers]
        table.add_row(model.spec, *shown, model.licence, recommended.get(model.spec, ""))
    console = Console(highlight=False)
    console.width = max(console.width, _TABLE_CELLS)
    console.print(table if found else "No model matches; 'zeroshot models --all' lists every one.")
    if found:
        console.print(
            "Figures as open_clip published them, - where it did not. Check licences at their source.", style="dim"
        )
