"""``zeroshot models``: what ``--model`` takes."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table


def models() -> None:
    """List the models that --model takes."""
    table = Table(box=None, pad_edge=False)
    table.add_column("spec", style="bold", no_wrap=True)
    table.add_column("what it is")
    table.add_row(
        "tiny", "Embedded: ImageNet's visual world and words near it, 34 MB, offline. No people, text or scenes."
    )
    table.add_row("onnx:DIRECTORY", "A model directory: config.json, image.onnx, text.onnx, tokenizer.json.")
    Console(highlight=False).print(table)
