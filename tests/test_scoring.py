"""The modes: what the scores are, which labels are the answer, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax

from tests.images import cat, seven_photos
from zeroshot import Gallery, Label, LabelSet, ZeroShotClassifier
from zeroshot.encoders import FloatArray
from zeroshot.errors import LabelError, OptionError
from zeroshot.gallery import Item
from zeroshot.labels import Calibration, Head, Mode, parse_labels
from zeroshot.scoring import Scorer, ScoringOptions
from zeroshot.scoring.build import build_scorer

ANIMALS = LabelSet(
    "animals",
    parse_labels(
        [
            "animal",
            Label("cat", parent="animal"),
            Label("dog", parent="animal"),
            Label("tabby cat", parent="cat"),
            Label("siamese cat", parent="cat"),
            "vehicle",
            Label("motorcycle", parent="vehicle"),
            Label("rocket", parent="vehicle"),
        ]
    ),
)


class Corner:
    """An encoder of which only numbers are asked: cosines are chosen by the test."""

    fingerprint = "f" * 64
    logit_scale = 10.0
    logit_bias: float | None = None


def scorer(
    cosines: list[float], label_set: LabelSet, *, bias: float | None = None, **options: Any
) -> tuple[Scorer, FloatArray]:
    """A scorer and the vector that has these cosines with the labels."""
    encoder = Corner()
    encoder.logit_bias = bias
    matrix = np.eye(len(cosines), 12, dtype=np.float32)
    vector = np.zeros(12, np.float32)
    vector[: len(cosines)] = cosines
    reference = np.eye(12, dtype=np.float32)[-4:]
    return build_scorer(label_set, matrix, encoder, ScoringOptions(**options), lambda: reference), vector


def labels(*names: str, **options: object) -> LabelSet:
    return LabelSet("some", parse_labels(names, at_least=1), **options)


def test_ties_keep_the_order_of_the_labels_and_extremes_stay_finite() -> None:
    tied, vector = scorer([0.5, 0.5, 0.5], labels("a", "b", "c"))
    assert [p.label for p in tied.answer(vector).predictions] == ["a", "b", "c"]
    extreme, vector = scorer([1.0000001, -1.0], labels("a", "b"), temperature=1e-6)
    answer = extreme.answer(vector)
    assert [(p.score, p.similarity) for p in answer.predictions] == [(1.0, 1.0), (0.0, -1.0)]


def test_a_temperature_divides_the_logits() -> None:
    warm, vector = scorer([0.3, 0.1, 0.2], labels("a", "b", "c"), temperature=4.0)
    np.testing.assert_allclose(warm.scores(vector[None])[0], softmax(np.array([3, 1, 2]) / 4), rtol=1e-6)


def test_an_answer_that_is_not_sure_enough_is_unknown_with_its_ranking() -> None:
    unsure, vector = scorer([0.30, 0.29], labels("a", "b"), threshold=0.9)
    answer = unsure.answer(vector)
    assert (answer.labels, answer.label) == ((), None)
    assert [p.label for p in answer.predictions] == ["a", "b"]
    assert answer.score == answer.predictions[0].score
    sure, vector = scorer([1.0, 0.0], labels("a", "b"), threshold=0.9)
    assert sure.answer(vector).label == "a"


def test_whose_threshold_counts() -> None:
    fitted = Calibration(model="corner", fingerprint="f" * 64, thresholds={"a": 0.2, "b": 0.3})
    own = LabelSet("s", (Label("a", threshold=0.1), Label("b"), Label("c")), threshold=0.4, calibrations=(fitted,))
    needed = lambda **options: list(scorer([0.1, 0.1, 0.1], own, **options)[0].thresholds)  # noqa: E731
    assert needed(mode="multilabel") == [0.1, 0.3, 0.4]  # the label's own, what was fitted, the set's
    assert needed(mode="multiclass") == [0.1, 0.4, 0.4]  # what was fitted is for labels on their own
    assert needed(mode="multilabel", threshold=0.7) == [0.7, 0.7, 0.7]  # the call's wish goes before all
    assert list(scorer([0.1] * 2, labels("a", "b"), mode="multilabel")[0].thresholds) == [0.5, 0.5]


def test_labels_on_their_own_scale_are_compared_with_a_vocabulary() -> None:
    several, vector = scorer([0.9, 0.1, 0.2], labels("a", "b", "c"), mode="multilabel")
    vector[-4:] = [0.1, 0.2, 0.3, 0.2]
    z = (np.array([0.9, 0.1, 0.2]) - 0.2) / np.std([0.1, 0.2, 0.3, 0.2])
    np.testing.assert_allclose(several.scores(vector[None])[0], expit(1.5 * (z - 2.5)), rtol=1e-5)
    assert several.answer(vector).labels == ("a",)


def test_a_model_trained_with_a_sigmoid_uses_its_own() -> None:
    several, vector = scorer([0.9, 0.1], labels("a", "b"), bias=-5.0, mode="multilabel")
    np.testing.assert_allclose(several.scores(vector[None])[0], expit([4.0, -4.0]), rtol=1e-6)


def test_one_label_is_asked_about_with_its_absence() -> None:
    there, vector = scorer([0.9], labels("a"), bias=-5.0, mode="binary")
    answer = there.answer(vector)
    assert [(p.label, round(p.score, 3)) for p in answer.predictions] == [("a", 0.982), ("not a", 0.018)]
    vector[0] = 0.1
    assert there.answer(vector).label == "not a"
    two, vector = scorer([0.9, 0.1], labels("a", "b"), mode="binary")
    assert sum(p.score for p in two.answer(vector).predictions) == pytest.approx(1)
    assert two.answer(vector).mode is Mode.BINARY


def test_a_nodes_probability_is_its_subtrees_share_among_its_siblings() -> None:
    cosines = [0.1, 0.5, 0.2, 0.4, 0.3, 0.2, 0.6, 0.1]
    tree, vector = scorer(cosines, ANIMALS)
    mass = dict(zip(ANIMALS.names, np.exp(10 * np.array(cosines, np.float32)), strict=True))
    cats = mass["cat"] + mass["tabby cat"] + mass["siamese cat"]
    animals = mass["animal"] + cats + mass["dog"]
    vehicles = mass["vehicle"] + mass["motorcycle"] + mass["rocket"]
    animal = animals / (animals + vehicles)
    in_animals = animal * cats / (cats + mass["dog"])
    expected = {
        "animal": animal,
        "vehicle": 1 - animal,
        "cat": in_animals,
        "dog": animal - in_animals,
        "tabby cat": in_animals * mass["tabby cat"] / (mass["tabby cat"] + mass["siamese cat"]),
        "rocket": (1 - animal) * mass["rocket"] / (mass["rocket"] + mass["motorcycle"]),
    }
    scores = dict(zip(ANIMALS.names, tree.scores(vector[None])[0], strict=True))
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, rel=1e-5), name


def test_a_hierarchical_answer_stops_at_the_level_it_is_sure_of(classifier: ZeroShotClassifier) -> None:
    sure = classifier.classify(cat(), ANIMALS, threshold=0.1)
    assert [p.label for p in sure.levels] == ["animal", "cat", "tabby cat"]
    coarse = classifier.classify(cat(), ANIMALS, threshold=(sure.levels[-1].score + sure.levels[1].score) / 2)
    assert (coarse.label, coarse.mode) == ("cat", Mode.HIERARCHICAL)
    assert coarse.score == coarse.levels[-1].score == sure.levels[1].score
    unknown = classifier.classify(cat(), ANIMALS, threshold=1.0)
    assert (unknown.label, unknown.levels) == (None, ())
    leaves = [p.label for p in sure.predictions]
    assert set(leaves) == {"dog", "tabby cat", "siamese cat", "motorcycle", "rocket"}
    flat = classifier.classify(cat(), ANIMALS, mode="multiclass")
    assert {p.label for p in flat.predictions} == set(leaves)
    assert sum(p.score for p in flat.predictions) == pytest.approx(1)


def test_several_labels_of_a_real_photo_are_found_and_others_are_not(classifier: ZeroShotClassifier) -> None:
    answer = classifier.classify(
        cat(), ["animal", "cat", "pet", "rocket", "musical instrument", "coffee"], mode="multilabel"
    )
    assert set(answer.labels) == {"animal", "cat", "pet"}
    assert all(p.score < 0.1 for p in answer.predictions if p.label in ("rocket", "musical instrument", "coffee"))


def test_one_label_applies_to_the_photo_it_names_and_to_no_other(
    classifier: ZeroShotClassifier, tmp_path: Path
) -> None:
    for name, path in seven_photos(tmp_path).items():
        found = {
            asked: classifier.classify(path, [asked], mode="binary").label for asked in ("cat", "rocket", "flower")
        }
        for asked, label in found.items():
            assert label == (asked if asked == name else f"not {asked}"), path


def test_a_head_adds_to_its_labels_and_leaves_others() -> None:
    vectors: FloatArray = np.eye(3, dtype=np.float32)
    head = Head(
        "m", "f" * 64, ("b", "a"), np.array([[1, 0, 0], [0, 2, 0]], np.float32), vectors[2:], np.array([1]), 4.0, 1.0
    )
    expected = np.array([[4 * np.exp(-1), 1, 0], [2 + 4 * np.exp(-1), 0, 0], [4, 0, 0]])
    np.testing.assert_allclose(head.logits(vectors, ["a", "b", "new"]), expected, rtol=1e-6)
    assert Head.from_bytes(head.to_bytes()).digest == head.digest


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        (["a", "b", "c"], {"mode": "binary"}, LabelError, "binary takes two labels"),
        (["a"], {"mode": "multiclass"}, LabelError, "one label, 'a'"),
        (["a"], {}, LabelError, "one label, 'a'"),
        (["a", "b"], {"mode": "triclass"}, OptionError, "no mode 'triclass'"),
        (["a", "b"], {"threshold": 1.5}, OptionError, "threshold=1.5"),
        (["a", "b"], {"threshold": float("nan")}, OptionError, "threshold=nan"),
        (["a", "b"], {"temperature": 0.0}, OptionError, "temperature=0.0"),
        (["a", "b"], {"temperature": float("nan")}, OptionError, "temperature=nan"),
    ],
)
def test_what_does_not_suit_the_mode_is_refused(
    classifier: ZeroShotClassifier, names: list[str], options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        classifier.classify(cat(), names, **options)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("threshold", [None, 0.6])
def test_many_answers_at_once_are_the_answers_one_by_one(
    classifier: ZeroShotClassifier, mode: Mode, threshold: float | None
) -> None:
    asked = {Mode.BINARY: labels("cat", "rocket"), Mode.MULTICLASS: labels("cat", "rocket", "tree", "cup")}
    scorer = classifier.scorer(asked.get(mode, ANIMALS), options=ScoringOptions(mode, threshold))
    noise = np.random.default_rng(0).standard_normal((60, classifier.encoder.dim)).astype(np.float32)
    names = ["a cat", "a rocket", "a motorcycle", "a siamese", "a dog", "a car"] * 10
    vectors = classifier.encoder.encode_texts(names) + 0.04 * noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found: dict[int, list[tuple[str, float]]] = {row: [] for row in range(len(vectors))}
    for row, label, score in zip(*scorer.choose(vectors), strict=True):
        found[int(row)].append((scorer.names[label], float(score)))
    answers = [scorer.answer(vector) for vector in vectors]
    for row, answer in enumerate(answers):
        assert {label for label, _ in found[row]} == set(answer.labels)
        scores = {p.label: p.score for p in (*answer.predictions, *answer.levels)}
        for label, score in found[row]:
            assert score == pytest.approx(scores[label], abs=1e-5)
    assert len({answer.labels for answer in answers}) > 1


def test_a_gallery_is_asked_in_the_same_modes(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    photos = seven_photos(tmp_path)
    with Gallery(tmp_path, "g", classifier.encoder, create=True) as gallery:
        stored = gallery.add_images((Item(id=name), path) for name, path in photos.items())
        assert [error for _, error in stored] == [None] * len(photos)
        for asked, options in (
            (ANIMALS, ScoringOptions()),
            (ANIMALS, ScoringOptions("multiclass")),
            (ANIMALS, ScoringOptions("multilabel")),
        ):
            answers = [
                classifier.classify(path, asked, mode=options.mode, threshold=options.threshold)
                for path in photos.values()
            ]
            expected = Counter(label for answer in answers for label in answer.labels)
            assert {row.label: row.count for row in gallery.classify(asked, mode=options.mode) if row.count} == expected
