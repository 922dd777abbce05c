"""Why an answer is what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.images import PHOTOS
from zeroshot import LabelSet, ZeroShotClassifier, explain
from zeroshot.labels import Head, Label, parse_labels

TEMPLATES = ["a photo of a {}.", "a {}", "a sketch of a {}"]
LABELS = ["cat", "dog", "cup of coffee", "rocket", "motorcycle"]


def test_the_prompts_of_the_answer_are_ranked_by_their_own_cosines(classifier: ZeroShotClassifier) -> None:
    why = explain(classifier, PHOTOS / "cat.jpg", LABELS, templates=TEMPLATES)
    (reasons,) = why.chosen
    assert (reasons.label, reasons.prompt_count) == ("cat", 3)
    cosines = [match.similarity for match in reasons.prompts]
    assert cosines == sorted(cosines, reverse=True)
    vector = classifier.encoder.encode_images([Image.open(PHOTOS / "cat.jpg").convert("RGB")])[0]
    for match in reasons.prompts:
        assert match.similarity == pytest.approx(
            float(classifier.encoder.encode_texts([match.prompt])[0] @ vector), abs=0.01
        )
    assert why.answer == classifier.classify(PHOTOS / "cat.jpg", LABELS, templates=TEMPLATES)
    assert why.runner_up.label == why.answer.predictions[1].label
    assert why.margin == pytest.approx(why.answer.predictions[0].score - why.answer.predictions[1].score)


def test_every_mode_has_its_own_runner_up(classifier: ZeroShotClassifier) -> None:
    several = explain(classifier, PHOTOS / "cat.jpg", ["cat", "animal", "rocket"], mode="multilabel")
    assert [reasons.label for reasons in several.chosen] == ["cat", "animal"]
    assert several.runner_up.label == "rocket"
    assert several.margin == pytest.approx(several.chosen[1].score - several.runner_up.score)
    assert several.chosen[0].needed == 0.5
    tree = LabelSet(
        "t", parse_labels(["animal", Label("cat", parent="animal"), Label("dog", parent="animal"), "rocket"])
    )
    below = explain(classifier, PHOTOS / "cat.jpg", tree)
    assert (below.chosen[0].label, below.runner_up.label) == ("cat", "dog")
    unknown = explain(classifier, PHOTOS / "cat.jpg", tree, threshold=1.0)
    assert unknown.answer.labels == ()
    assert unknown.chosen[0].label == "animal"
    alone = explain(classifier, PHOTOS / "rocket.jpg", ["cat"], mode="binary")
    assert alone.answer.labels == ("not cat",)
    assert (alone.chosen[0].label, alone.runner_up.label) == ("not cat", "cat")
    assert alone.margin == pytest.approx(2 * alone.chosen[0].score - 1)
    assert [one.prompt for one in alone.chosen[0].prompts] == ["cat"]


def test_the_heat_map_is_hot_where_the_thing_is(classifier: ZeroShotClassifier) -> None:
    motorcycle = Image.open(PHOTOS / "motorcycle.jpg").convert("RGB").resize((300, 300))
    board = Image.new("RGB", (600, 600), (120, 160, 120))
    board.paste(motorcycle, (300, 0))
    found = explain(classifier, board, LABELS, heat_map=True).heat_map
    assert found.label == "motorcycle"
    assert found.drops.shape == (14, 14)
    halves = found.drops[:7, 7:].mean(), found.drops[7:, :7].mean()
    assert halves[0] > 10 * abs(halves[1])
    drawn = np.asarray(found.overlay(), dtype=float)
    assert drawn.shape == (224, 224, 3)
    redness = drawn[..., 0] - drawn[..., 1:].mean(axis=2)
    assert redness[:112, 112:].mean() > redness[112:, :112].mean() + 3


def test_what_labelled_images_add_is_told_apart_from_the_text(classifier: ZeroShotClassifier) -> None:
    dim = classifier.encoder.dim
    head = Head(
        model="tiny", fingerprint=classifier.encoder.fingerprint, labels=("cat", "dog"),
        weights=np.outer([0.0, 0.01], np.ones(dim)).astype(np.float32), keys=np.empty((0, dim), np.float32),
        key_labels=np.empty(0, np.int64),
    )  # fmt: skip
    why = explain(classifier, PHOTOS / "cat.jpg", LabelSet("s", parse_labels(["cat", "dog"]), heads=(head,)))
    vector = classifier.encoder.encode_images([Image.open(PHOTOS / "cat.jpg").convert("RGB")])[0]
    assert why.chosen[0].learnt == 0
    assert why.runner_up.learnt == pytest.approx(0.01 * vector.sum(), abs=1e-3)
    assert explain(classifier, PHOTOS / "cat.jpg", LABELS).chosen[0].learnt is None


def test_the_command_says_why_in_words_json_and_an_image(run: Run, tmp_path: Path) -> None:
    said = run("classify", PHOTOS / "cat.jpg", "--labels", ",".join(LABELS), "--explain")
    assert "because: cat" in said.stdout
    assert "points behind: dog" in said.stdout
    drawn = run("classify", PHOTOS / "cat.jpg", "--labels", ",".join(LABELS), "--heat-map", "heat.png", "--json")
    record = json.loads(drawn.stdout)["explanation"]
    assert np.array(record["heat_map"]).shape == (14, 14)
    assert record["chosen"][0]["prompts"][0]["prompt"] == "cat"
    with Image.open(tmp_path / "heat.png") as heat:
        assert heat.size == (224, 224)
    again = run("classify", PHOTOS / "cat.jpg", "--labels", ",".join(LABELS), "--heat-map", "heat.png")
    assert (again.returncode, "heat.png exists" in again.stderr) == (2, True)
    many = run("classify", PHOTOS, "--labels", ",".join(LABELS), "--heat-map", "other.png")
    assert (many.returncode, "of one image; 6 were given" in many.stderr) == (2, True)
    bad = run("classify", "nowhere.jpg", PHOTOS / "cat.jpg", "--labels", ",".join(LABELS), "--explain")
    assert (bad.returncode, "because: cat" in bad.stdout) == (1, True)
    assert "nowhere.jpg does not exist" in bad.stdout
