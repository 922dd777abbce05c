"""Draw docs/terminal.png, the README's image: the real output of `make demo`, through rich and headless Chromium."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from zeroshot import ZeroShotClassifier
from zeroshot.cli.rendering import Renderer

ROOT = Path(__file__).parent.parent
IMAGES = ("cat", "coffee", "rocket", "camera", "motorcycle", "astronaut")
WIDTH, HEIGHT = 760, 500


def main() -> None:
    """Classify, record, draw."""
    console = Console(record=True, width=80, force_terminal=True, color_system="truecolor", highlight=False)
    console.print("[bold]$ zeroshot classify examples/photos --labels-file examples/labels.txt --top 3[/]")
    labels = (ROOT / "examples/labels.txt").read_text().splitlines()
    classifier, renderer = ZeroShotClassifier("tiny", labels), Renderer(console)
    for name in IMAGES:
        renderer.show(f"examples/photos/{name}.jpg", classifier.classify(ROOT / f"examples/photos/{name}.jpg", top_k=3))
    page = console.export_html(theme=MONOKAI, inline_styles=True)
    page = page.replace("<body", '<body style="margin:18px;font-size:15px;line-height:1.25"', 1)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(page)
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder}/profile",
        ]
        options += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        options += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={ROOT}/docs/terminal.png"]
        subprocess.run(["chromium", *options, f"file://{folder}/page.html"], check=True, capture_output=True)


if __name__ == "__main__":
    main()
