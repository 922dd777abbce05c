"""The documents say what the code does."""

from __future__ import annotations

import json
import re

import pytest
import typer

from benchmarks.report import render
from tests.pictures import ROOT
from zeroshot import errors
from zeroshot.cli import app
from zeroshot.labels import LabelSetFile, label_set_names
from zeroshot.prompts import template_set_names
from zeroshot.settings import Settings

DOCS = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        row = f"| `ZEROSHOT_{name.upper()}` |"
        assert row in DOCS["settings.md"], row
        assert field.description in DOCS["settings.md"]


def test_every_error_type_is_documented() -> None:
    kinds = {kind.type for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "type")}
    for kind in kinds - {"error"}:
        assert f"`{kind}`" in DOCS["errors.md"], kind


def test_every_shipped_definition_is_documented() -> None:
    for name in [*template_set_names(), *label_set_names()]:
        assert f"`{name}`" in DOCS["prompts.md"], name


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_to_files_that_exist(name: str) -> None:
    folder = ROOT if name == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", DOCS[name]):
        assert (folder / target).exists(), target


def test_the_readmes_tree_is_the_checkout() -> None:
    tree = re.search(r"```text\n(zeroshot/.*?)```", DOCS["README.md"], re.DOTALL)
    assert tree
    for line in tree[1].splitlines():
        path = line.split()[0]
        assert (ROOT / path).exists(), path
    packages = {path.parent.name for path in (ROOT / "zeroshot").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"zeroshot/(\w+)/", tree[1]))


def test_every_command_and_option_is_documented() -> None:
    text = " ".join(DOCS["cli.md"].split())
    for name, command in typer.main.get_command(app).commands.items():
        assert f"## zeroshot {name} " in text, "run: make docs"
        for parameter in command.params:
            assert all(option in text for option in parameter.opts)
            assert " ".join(str(parameter.help).split()) in text, f"{name} {parameter.name}: run: make docs"


def test_the_published_schema_is_the_codes() -> None:
    assert json.loads((ROOT / "docs" / "label-set.schema.json").read_text()) == LabelSetFile.model_json_schema()


def test_the_benchmarks_document_is_what_was_measured() -> None:
    assert DOCS["benchmarks.md"] == render(), "run: make docs"
