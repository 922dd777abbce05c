"""What "unknown" means where scores sum to 1: through every door, in every mode, against SciPy."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
from scipy.stats import norm

from tests.conftest import Run
from tests.images import PHOTOS, seven_photos
from tests.test_agreement import KINDS, dog_head, named
from zeroshot import Gallery, LabelSet, ZeroShotClassifier, explain
from zeroshot.errors import OptionError
from zeroshot.gallery import Item
from zeroshot.labels import Mode
from zeroshot.scoring import ScoringOptions
from zeroshot.scoring.presence import CHANCE, shows_any, standardise

CAT = PHOTOS / "cat.jpg"
STRANGERS = ["rocket", "a cup of coffee"]


@pytest.mark.parametrize("labels", [1, 2, 10, 100, 1000])
def test_the_least_z_is_the_normal_distributions(labels: int) -> None:
    reference = np.array([[1.0, 0], [-1, 0]], np.float32)  # cosines 0.1 and -0.1: mean 0, deviation 0.1
    vector = np.array([[0.1, np.sqrt(0.99)]], np.float32)
    least = norm.isf(CHANCE / labels)
    for z, expected in ((least * 1.001, True), (least * 0.999, False)):
        similarities = np.full((1, labels), -0.9, np.float32)
        similarities[0, labels // 2] = 0.1 * z
        assert standardise(similarities, vector, reference)[0, labels // 2] == pytest.approx(z, rel=1e-5)
        assert shows_any(similarities, vector, reference).tolist() == [expected]


def test_labels_that_an_image_does_not_show_are_unknown_and_those_it_shows_are_not(
    classifier: ZeroShotClassifier, tmp_path: Path
) -> None:
    photos = seven_photos(tmp_path)
    for label, path in photos.items():
        others = [name for name in photos if name != label]
        assert classifier.classify(path, [label, others[0]], unknown=True).label == label
        assert classifier.classify(path, others).label is not None
    wrong = [
        classifier.classify(path, [n for n in photos if n != label], unknown=True) for label, path in photos.items()
    ]
    assert sum(one.label is not None for one in wrong) <= 1
    for one, (label, path) in zip(wrong, photos.items(), strict=True):  # the ranking is as it was
        assert one.predictions == classifier.classify(path, [n for n in photos if n != label]).predictions


@pytest.mark.parametrize("kind", KINDS)
def test_every_door_agrees(kind: str, classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    label_set, photos = KINDS[kind], list(seven_photos(tmp_path).values())
    answers = classifier.classify(photos, label_set, unknown=True)
    assert [classifier.classify(path, label_set, unknown=True).labels for path in photos] == [a.labels for a in answers]
    assert explain(classifier, photos[0], label_set, unknown=True).answer.labels == answers[0].labels
    plain = classifier.classify(photos, label_set)
    own_scale = plain[0].mode is Mode.MULTILABEL or len(label_set.hierarchy.leaves) == 1
    for answer, before in zip(answers, plain, strict=True):
        assert answer.predictions == before.predictions
        assert answer.labels in ((before.labels,) if own_scale else (before.labels, ()))
    with Gallery(tmp_path, "g", classifier.encoder, create=True) as gallery:
        assert all(error is None for _, error in gallery.add_images((Item(id=str(p)), p) for p in photos))
        counts = {row.label: row.count for row in gallery.classify(label_set, unknown=True) if row.count}
    assert counts == Counter(label for answer in answers for label in answer.labels)


def test_the_command_line_and_http_say_unknown(run_here: Run, client: httpx.Client) -> None:
    said = run_here("classify", CAT, "--labels", ",".join(STRANGERS), "--unknown", "--json")
    assert json.loads(said.stdout)["labels"] == []
    assert "unknown" in run_here("classify", CAT, "--labels", ",".join(STRANGERS), "--unknown").stdout
    content = CAT.read_bytes()
    asked = {"image": base64.b64encode(content).decode(), "labels": STRANGERS}
    for unknown in (True, False):
        expected = [] if unknown else ["rocket"]
        answers = [
            client.post("/v1/classify", json={**asked, "unknown": unknown}),
            client.post(
                "/v1/classify", files={"image": content}, data={"labels": STRANGERS, "unknown": str(unknown).lower()}
            ),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json().get("labels")) == (200, expected), answer.text
    refused = client.post("/v1/classify", files={"image": content}, data={"labels": STRANGERS, "unknown": "maybe"})
    assert refused.status_code == 422
    assert "unknown" in refused.text


def test_what_was_learnt_from_images_is_not_judged_by_text(classifier: ZeroShotClassifier) -> None:
    fitted = named("cat", "dog", heads=(dog_head(classifier.encoder),))
    with pytest.raises(OptionError, match="have a head"):
        classifier.classify(CAT, fitted, unknown=True)
    several = LabelSet("s", fitted.labels, mode=Mode.MULTILABEL, heads=fitted.heads)  # uses no head
    assert classifier.classify(CAT, several, unknown=True).labels


def test_asking_for_unknown_is_another_scorer(classifier: ZeroShotClassifier) -> None:
    first, second = (classifier.scorer(STRANGERS, options=ScoringOptions(unknown=one)) for one in (True, False))
    assert first is not second
    assert classifier.find_scorer(STRANGERS, options=ScoringOptions(unknown=True)) is first
