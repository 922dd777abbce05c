"""``zeroshot models``: what ``--model`` takes, and which to take."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import options

if TYPE_CHECKING:
    from zeroshot.encoders.catalog import ModelFacts


_TABLE_CELLS = 160  # a specification is never cut: it is there to be copied
_SHORT_SOURCES = {
    "docs/openclip_results.csv": "results",
    "docs/model_profile.csv": "profile",
    "README.md": "README",
}


def models(
    query: Annotated[
        str | None, typer.Argument(help="Search all of open_clip's models, for example: siglip, ViT-B-32, laion2b.")
    ] = None,
    need: Annotated[
        str | None, typer.Option(help="Recommend one: fast, balanced, best or multilingual. Prints its spec.")
    ] = None,
    any_licence: Annotated[
        bool, typer.Option("--any-licence", help="Recommend models, too, whose licence forbids commercial use.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="List every model of the installed open_clip.")] = False,
    json_lines: options.JsonOption = False,
) -> None:
    """List the models that --model takes, with published sizes, accuracies and licences."""
    from zeroshot.encoders.catalog import NEEDS, all_models, recommend

    if need is not None:
        chosen = recommend(need, any_licence=any_licence)
        sys.stdout.write((json.dumps(asdict(chosen)) if json_lines else chosen.spec) + "\n")
        _print_licence_note(chosen, recommend(need, any_licence=True))
        return
    recommended = {kind: recommend(kind, any_licence=any_licence) for kind in NEEDS}
    if query is None and not everything:
        found = list(dict.fromkeys(recommended.values()))
    else:
        words = (query or "").lower().split()
        found = [model for model in all_models() if all(word in model.spec.lower() for word in words)]
    if json_lines:
        for model in found:
            sys.stdout.write(json.dumps(asdict(model)) + "\n")
        return
    if query is None and not everything:
        _print_forms(any_licence)
    _print_table(found, recommended)
    if not found:
        raise typer.Exit(1)


def _print_licence_note(chosen: ModelFacts, best: ModelFacts) -> None:
    """Say on stderr what the licence of the chosen forbids, or what the best under any licence would give."""
    if not chosen.commercial_use:
        print(f"{chosen.spec} has a restricted licence: {chosen.terms}.", file=sys.stderr)  # noqa: T201
    elif best != chosen:
        print(  # noqa: T201
            f"{best.spec} has a higher figure, {best.imagenet:.4f} on ImageNet instead of {chosen.imagenet:.4f}, but a "
            f"restricted licence: {best.terms}. --any-licence recommends such models too.",
            file=sys.stderr,
        )


def _print_forms(any_licence: bool) -> None:
    """What --model takes, and the rules of the recommendations that follow."""
    from rich.console import Console
    from rich.table import Table

    from zeroshot.encoders.catalog import NEEDS

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("tiny", "embedded: ImageNet's visual world and words near it; 34 MB, offline; no people, no text")
    table.add_row("onnx:DIRECTORY", "a model directory made by 'zeroshot export': no torch at run time")
    table.add_row("ARCH:TAG", "an open_clip model, downloaded once; 'zeroshot models QUERY' searches, --all lists")
    table.add_row("ARCH:TAG@/path/to/weights", "your own weights, trained as the published ones of that tag")
    table.add_row("ARCH:/path/to/weights", "an open_clip architecture with your own weights, or OpenAI's .pt file")
    table.add_row("hf-hub:ORG/NAME", "an open_clip model on the Hugging Face hub, or transformers' CLIPModel")
    table.add_row("local-dir:/path", "a folder with open_clip_config.json, or transformers' CLIPModel, and weights")
    console = Console(highlight=False)
    console.width = max(console.width, _TABLE_CELLS)
    console.print(table)
    console.print("\nRecommended (zeroshot models --need fast|balanced|best|multilingual):")
    if any_licence:
        console.print("by the same rules, but under any licence", style="dim")
        return
    rules = Table(box=None, pad_edge=False, show_header=False, style="dim")
    for kind, rule in NEEDS.items():
        rules.add_row(kind, rule)
    console.print(rules)


def _print_table(found: list[ModelFacts], recommended: dict[str, ModelFacts]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model", style="bold", no_wrap=True)
    for title in ("Mparams", "GFLOPs", "ImageNet", "38 datasets"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("source", no_wrap=True)
    table.add_column("licence", no_wrap=True)
    table.add_column("", style="green")
    for model in found:
        numbers = [(model.mparams, ".0f"), (model.gflops, ".1f"), (model.imagenet, ".4f"), (model.average_38, ".4f")]
        shown = ["-" if number is None else format(number, style) for number, style in numbers]
        sources = [_SHORT_SOURCES[source] for source in model.source.split(", ") if source]
        needs = ", ".join(kind for kind, best in recommended.items() if best.spec == model.spec)
        licence = model.terms if model.commercial_use else f"[yellow]{model.terms}[/]"
        table.add_row(model.spec, *shown, ", ".join(sources) or "-", licence, needs)
    console = Console(highlight=False)
    console.width = max(console.width, _TABLE_CELLS)
    console.print(table if found else "No model matches; 'zeroshot models --all' lists every one.")
    if found:
        console.print(
            "Figures as open_clip published them in docs/openclip_results.csv (results), docs/model_profile.csv "
            "(profile) and README.md,\n- where it did not. Check licences at their source.",
            style="dim",
        )
