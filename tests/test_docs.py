"""The documents say what the code does."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from benchmarks.report import render
from tests.images import PHOTOS, ROOT
from zeroshot import ZeroShotClassifier, errors
from zeroshot.cli import app
from zeroshot.labels import LabelSetFile, label_set_names
from zeroshot.prompts import template_set_names
from zeroshot.settings import Settings
from zeroshot.similarity import cosine_similarities

DOCS = {path.name: path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}


def blocks() -> list[Any]:
    """Every block of Python in the documents, under its document's name and its number there."""
    found = []
    for name, text in DOCS.items():
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
            if ">>>" not in code:  # those that have it are doctests
                found.append(pytest.param(code, id=f"{name}-{number}"))
    return found


@pytest.mark.parametrize("code", blocks())
def test_what_the_documents_show_in_python_runs(
    code: str,
    classifier: ZeroShotClassifier,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("car.jpg", "cat.jpg"):
        shutil.copy(PHOTOS / "cat.jpg", name)
    encoder, images = classifier.encoder, [Image.open("cat.jpg").convert("RGB")]
    for package in re.findall(r"^from (\w+) import", code, re.MULTILINE):
        pytest.importorskip(package)
    given = {
        "class_matrix": classifier.class_matrix,
        "cosine_similarities": cosine_similarities,
        "encode": encoder.encode_images,
        "images": images,
        "labels": ["cat", "dog"],
        "paths": ["cat.jpg"],
        "scorer": classifier.scorer(["cat", "dog"]),
        "vector": encoder.encode_images(images)[0],
    }
    code = code.replace("http://127.0.0.1:8000", server).replace('label_set="pets"', 'label_set="cifar10"')
    before = set(given)
    exec(compile(code, "document", "exec"), given)  # noqa: S102 (the project's own documents)
    assert set(given) > before
    assert bool(capsys.readouterr().out) == ("print(" in code)


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
