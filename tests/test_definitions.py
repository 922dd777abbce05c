"""Definition files: every mistake is answered with its file, line and column."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import open_clip
import pytest

from zeroshot import load_label_set, load_templates
from zeroshot.errors import DefinitionError, DefinitionNotFound, TemplateError
from zeroshot.prompts import template_set_names

BROKEN = {
    "labels: [a, b": (1, "not valid YAML"),
    "name: x\nlabels:\n  - a\n  -b: [": (4, "not valid YAML"),
    "name: x\nname: y\nlabels: [a, b]": (2, "'name' is given twice"),
    "labels: [a, b]": (1, "name: Field required"),
    "name: x\nlabels: [a, b]\ncolour: red": (3, "colour: Extra inputs are not permitted"),
    "name: x\nlabels:\n  - a\n  - name: b\n    description: c": (5, "labels.1.description: Extra inputs"),
    "name: x\nlabels:\n  - a\n  - descriptions: [c]": (4, "labels.1.name: Field required"),
    "name: x\nlabels:\n  - a\n  - 5": (4, "labels.1"),
    "name: x\nlabels:\n  - a\n  - a": (4, "'a' is given twice"),
    "name: x\nlabels:\n  - a\n  - {name: b, aliases: [a]}": (4, "labels.1.aliases: 'a' is given twice"),
    "name: x\nlabels:\n  - a\n  - name: b\n    parent: c": (5, "labels.1.parent: The parent of 'b', 'c', is not"),
    "name: x\nlabels:\n  - {name: a, parent: b}\n  - {name: b, parent: a}": (3, "go round: a > b > a"),
    "name: x\nlabels:\n  - {name: a, parent: a}\n  - b": (3, "go round: a > a"),
    "name: x\nlabels:\n  - name: a\n    children:\n      - b\n      - {name: a}": (6, "labels.0.children.1"),
    "name: x\nlabels:\n  - name: a\n    children: [{name: b, parent: c}, c]": (4, "'b' has a parent and is another"),
    "name: x\nmode: best\nlabels: [a, b]": (2, "mode: Input should be 'multiclass'"),
    "name: x\nlabels:\n  - a\n  - {name: b, threshold: 1.5}": (4, "labels.1.threshold"),
    "name: x\nlabels:\n  - a\n  - {name: b, threshold: .nan}": (4, "labels.1.threshold"),
    "name: x\nlabels: 5": (2, "labels"),
    "name: x\nlabels: [a]": (2, "one label"),
    "- a\n- b": (1, "a list, not a mapping"),
    "just text": (1, "not a mapping"),
    "": (1, "nothing, not a mapping"),
    "name: !!python/object/apply:os.system [true]\nlabels: [a, b]": (1, "not valid YAML"),
    '{"name": "x",\n "labels": ["a", 7]}': (2, "labels.1"),
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_mistake_is_shown_with_file_and_line(tmp_path: Path, text: str) -> None:
    line, message = BROKEN[text]
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DefinitionError) as error:
        load_label_set(path)
    assert f"{path}:{line}:" in str(error.value)
    assert message in str(error.value)


def test_several_mistakes_are_shown_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("colour: red\nlabels:\n  - {name: a, size: 3}\n  - b\n")
    with pytest.raises(DefinitionError) as error:
        load_label_set(path)
    assert len(error.value.message.splitlines()) == 3


def test_what_is_not_utf8_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x00")
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_label_set(path)


def test_a_users_file_has_the_form_of_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ntemplates: ['my {}']\nlabels: [a, {name: b, descriptions: [c, d]}]\n", encoding="utf-8"
    )
    label_set = load_label_set(str(path))
    assert label_set.templates is not None
    assert label_set.templates.templates == ("my {}",)
    assert label_set.labels[1].descriptions == ("c", "d")


def test_names_close_to_a_shipped_one_are_offered() -> None:
    with pytest.raises(DefinitionNotFound, match="Did you mean cifar10"):
        load_label_set("cifar-10")
    with pytest.raises(DefinitionNotFound, match="Use one of cifar10"):
        load_label_set("zzzz")
    with pytest.raises(DefinitionNotFound, match="does not exist"):
        load_label_set("none.yaml")


def test_services_take_no_paths(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nlabels: [a, b]\n")
    with pytest.raises(DefinitionNotFound):
        load_label_set(str(path), files=False)
    with pytest.raises(DefinitionNotFound):
        load_templates(str(path), files=False)


@pytest.mark.parametrize("name", template_set_names())
def test_every_shipped_template_set_is_whole(name: str) -> None:
    assert load_templates(name).name == name


def test_imagenet_templates_are_open_clips_own() -> None:
    for name, theirs in (
        ("imagenet", open_clip.OPENAI_IMAGENET_TEMPLATES),
        ("simple", open_clip.SIMPLE_IMAGENET_TEMPLATES),
    ):
        assert load_templates(name).fill("cat") == [template("cat") for template in theirs]


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("a photo of a cat", "no '{}'"),
        (["{} and {}"], "2 '{}'"),
        ([], "no templates"),
        (["{}" + "x" * 1000], "1,002 characters"),
        (["{}"] * 1001, "1,001 templates"),
        ([5], "no '{}'"),
        ("", "no '{}'"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_unusable_templates_are_named(templates: object, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        load_templates(templates)


def test_an_unknown_reference_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: x\nlabels: {from: 'os:environ'}\n")
    with pytest.raises(DefinitionError, match="not a known reference"):
        load_label_set(path)


def test_open_clips_lists_are_read_without_importing_torch() -> None:
    program = "import sys, zeroshot; zeroshot.load_label_set('imagenet'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
