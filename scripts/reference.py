"""Write the generated documents: ``make docs``.

docs/cli.md, docs/settings.md, docs/label-set.schema.json, docs/benchmarks.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import typer
from click.core import Command, Group
from click.testing import CliRunner
from pydantic_core import PydanticUndefined

from benchmarks.report import render
from zeroshot.cli import app
from zeroshot.labels import LabelSetFile
from zeroshot.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"


def cli_reference() -> str:
    """docs/cli.md: the help text of every command."""
    root = typer.main.get_command(app)
    parts = [
        "# Command line\n\nGenerated from the program's own help (`make docs`).\n\n"
        "Exit codes: 0 all went well; 1 some images could not be classified; 2 wrong usage, or nothing could be done."
    ]
    parts += [f"## {name}\n```text\n{_help(root, name.split()[1:])}\n```" for name in _names(root, "zeroshot")]
    return "\n\n".join(parts) + "\n"


def settings_reference() -> str:
    """docs/settings.md: every setting."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "the platform's user-data folder"
        if field.default is not PydanticUndefined:
            default = "none" if field.default in (None, ()) else f"`{str(field.default).lower()}`"
        rows.append(f"| `ZEROSHOT_{name.upper()}` | {default} | {field.description} |")
    return (
        "# Settings\n\nGenerated from `zeroshot/settings.py` (`make docs`). Settings are environment variables, or\n"
        "lines of the file that `--env-file` names; `zeroshot serve` takes `.env` in its working directory where none\n"
        "is named, and no other command reads a file for being there. The environment wins over the file, flags over\n"
        "both.\n\n"
        "| variable | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )


def label_set_schema() -> str:
    """docs/label-set.schema.json: the form of label-set files."""
    return json.dumps(LabelSetFile.model_json_schema(), indent=2) + "\n"


def _names(command: Command, path: str) -> list[str]:
    names = [path]
    for name, child in getattr(command, "commands", {}).items():
        names += _names(child, f"{path} {name}")
    return names


def _help(root: Group, words: list[str]) -> str:
    runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    return runner.invoke(root, [*words, "--help"], prog_name="zeroshot").output.strip()


if __name__ == "__main__":
    (DOCS / "cli.md").write_text(cli_reference())
    (DOCS / "settings.md").write_text(settings_reference())
    (DOCS / "label-set.schema.json").write_text(label_set_schema())
    (DOCS / "benchmarks.md").write_text(render())
