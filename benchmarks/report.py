"""docs/benchmarks.md, made of document.md and of what benchmarks kept: python -m benchmarks report."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, measured

BENCHMARKS = {
    "accuracy": ("accuracy:main", "evaluation beside clip_benchmark's own"),
    "encoders": ("clip:encoders", "ViT-B-32 beside open_clip, Hugging Face's pipeline, sentence-transformers"),
    "preprocessing": ("clip:preprocess", "JPEG to tensor beside open_clip's transform"),
    "prompts": ("clip:prompts", "names and templates to class vectors beside open_clip"),
    "serving": ("serving:main", "HTTP overhead, infinity-emb, overload, soak"),
    "gallery": ("gallery:main", "rate|names|size FOLDER: galleries beside the bare FAISS index"),
    "labels": ("labels:main", "FOLDER: multilabel, hierarchical, calibration, a thousand labels"),
    "unknown": ("unknown:main", "DATASET ...: images that show none of the labels"),
    "learning": ("learning:main", "FOLDER: few labelled images, clusters"),
    "tiny": ("tiny_accuracy:main", "FOLDER: the embedded model's accuracy"),
    "first-command": ("first_command:main", "what a newcomer waits for"),
    "report": ("report:main", "docs/benchmarks.md from what was kept"),
}
"""Entry and what it is about, by name."""

_DOCS = Path(__file__).parent.parent / "docs/benchmarks.md"
_TEMPLATE = Path(__file__).parent / "document.md"


def render() -> str:
    """Give docs/benchmarks.md.

    Returns
    -------
    str
        Markdown.
    """
    return re.sub(r"<!-- ([\w-]+) -->", lambda found: _table(found[1]), _TEMPLATE.read_text())


def _table(name: str) -> str:
    path = FOLDER / f"{name}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    if not rows:
        return "Not run."
    runs = list(dict.fromkeys((row["made"], row["machine"]) for row in rows))
    marks = [f" ({'abcdefgh'[number]})" if len(runs) > 1 else "" for number in range(len(runs))]
    lines = ["| what | measured | |", "| --- | --- | --- |"]
    lines += [_line(row, marks[runs.index((row["made"], row["machine"]))]) for row in rows]
    footnotes = [
        f"<sub>{mark.strip()} {made}: {machine}</sub>" for mark, (made, machine) in zip(marks, runs, strict=True)
    ]
    return "\n".join(lines) + "\n\n" + "\n\n".join(footnotes)


def _line(row: dict[str, Any], mark: str) -> str:
    cells: Sequence[str] = (row["what"] + mark, measured(row), row["note"])
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write the document."""
    _DOCS.write_text(render())
    print(_DOCS)


if __name__ == "__main__":
    main()
