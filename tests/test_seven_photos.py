"""The main job, end to end: seven real photos, thirteen labels, three ways in."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.conftest import Run
from tests.images import LABELS
from zeroshot import ZeroShotClassifier


def test_every_photo_gets_its_label_and_all_three_ways_give_the_same_numbers(
    photos: dict[str, Path], classifier: ZeroShotClassifier, run: Run, client: httpx.Client
) -> None:
    printed = run("classify", *photos.values(), "--labels", ",".join(LABELS), "--top", len(LABELS), "--json")
    assert printed.returncode == 0, printed.stderr
    from_cli = [json.loads(line) for line in printed.stdout.splitlines()]
    from_python = classifier.classify(list(photos.values()), LABELS)
    for (label, path), cli, python in zip(photos.items(), from_cli, from_python, strict=True):
        with path.open("rb") as file:
            answer = client.post("/v1/classify", files={"image": file}, data={"labels": LABELS}).json()
        alone = classifier.classify(path, LABELS)
        assert cli["path"] == str(path)
        assert cli["model"] == answer["model"] == "tiny"
        assert len(answer["predictions"]) == len(LABELS)
        rows = zip(cli["predictions"], answer["predictions"], python.predictions, alone.predictions, strict=True)
        for by_cli, by_http, by_python, by_itself in rows:
            assert by_cli["label"] == by_http["label"] == by_python.label == by_itself.label
            expected = {"score": by_python.score, "similarity": by_python.similarity, "label": by_python.label}
            assert by_cli == pytest.approx(expected, abs=1e-6)
            assert by_http == pytest.approx(expected, abs=1e-6)
            assert by_itself.score == pytest.approx(by_python.score, abs=1e-6)
        assert python.label == label
        assert python.score > 0.75
        assert sum(p.score for p in python.predictions) == pytest.approx(1)


def test_a_new_label_needs_only_text(photos: dict[str, Path], classifier: ZeroShotClassifier) -> None:
    before = classifier.classify(photos["cat"], ["dog", "rocket"])
    after = classifier.classify(photos["cat"], ["dog", "rocket", "a cat"])
    assert before.label == "dog"
    assert after.label == "a cat"


def test_the_shipped_photos_are_what_their_names_say(classifier: ZeroShotClassifier) -> None:
    names = {"cat": "cat", "coffee": "a cup of coffee", "rocket": "rocket", "camera": "camera"}
    folder = Path(__file__).parent.parent / "examples" / "photos"
    for stem, label in {**names, "motorcycle": "a motorcycle"}.items():
        assert classifier.classify(folder / f"{stem}.jpg", LABELS).label == label
    assert classifier.classify(folder / "astronaut.jpg", LABELS).score < 0.5  # tiny knows no people, and is not sure
