"""One question has one answer: in every mode, for every kind of label set, through every door."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from tests.images import PHOTOS
from zeroshot import Gallery, Label, LabelSet, ZeroShotClassifier, explain
from zeroshot.encoders import Encoder, TextCache
from zeroshot.errors import LabelError
from zeroshot.gallery import Item
from zeroshot.labels import Calibration, Head, Mode, as_label_set, class_matrix, parse_labels
from zeroshot.labels.exporting import to_yaml
from zeroshot.prompts import load_templates
from zeroshot.scoring import Classification, ScoringOptions

TREE = [
    "animal",
    Label("cat", parent="animal"),
    Label("dog", parent="animal"),
    "vehicle",
    Label("rocket", parent="vehicle"),
]
DEEP = [*TREE, Label("tabby cat", parent="cat"), Label("siamese cat", parent="cat")]
SURE = 0.999999


def dog_head(encoder: Encoder) -> Head:
    """What labelled images might have taught about dogs."""
    weights, keys = np.zeros((2, encoder.dim), np.float32), np.empty((0, encoder.dim), np.float32)
    weights[0] = 9
    return Head("tiny", encoder.fingerprint, ("dog", "cat"), weights, keys, np.empty(0, np.int64))


def named(*labels: str | Label, **options: Any) -> LabelSet:
    return LabelSet("some", parse_labels(labels, at_least=1), **options)


KINDS = {
    "one label": named("rocket", mode=Mode.BINARY),
    "one label, sure": named("rocket", mode=Mode.BINARY, threshold=SURE),
    "one label, lenient": named("rocket", mode=Mode.BINARY, threshold=1e-6),
    "one label of its own": named(Label("rocket", threshold=0.9), mode=Mode.BINARY),
    "two labels": named("cat", "rocket", mode=Mode.BINARY),
    "two labels, sure": named("cat", "rocket", mode=Mode.BINARY, threshold=SURE),
    "many": named("cat", "dog", "rocket", "a cup of coffee"),
    "many, sure": named("cat", "dog", "rocket", threshold=SURE),
    "many, one sure": named("cat", Label("dog", threshold=SURE), "rocket"),
    "several": named("cat", "animal", "rocket", mode=Mode.MULTILABEL),
    "several, sure": named("cat", "submarine", mode=Mode.MULTILABEL, threshold=SURE),
    "several, lenient": named("cat", "submarine", mode=Mode.MULTILABEL, threshold=1e-6),
    "one of several": named("cat", mode=Mode.MULTILABEL),
    "tree": named(*TREE),
    "tree, sure": named(*TREE, threshold=SURE),
    "tree, lenient": named(*DEEP, threshold=1e-6),
    "deep tree": named(*DEEP, threshold=0.7),
    "flat tree": named(*TREE, mode=Mode.MULTICLASS),
    "several of a tree": named(*TREE, mode=Mode.MULTILABEL),
    "one leaf": named("animal", Label("cat", parent="animal"), mode=Mode.BINARY),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> LabelSet:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Small copies of four photos."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("cat", "rocket", "coffee", "motorcycle"):
        with Image.open(PHOTOS / f"{name}.jpg") as photo:
            photo.resize((224, 224)).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextCache]:
    """Or every classifier would embed the reference vocabulary."""
    kept = TextCache(tmp_path_factory.mktemp("cache") / "texts.sqlite3")
    yield kept
    kept.close()


def test_predict_is_classify(kind: LabelSet, tiny: Encoder, cache: TextCache, photos: list[Path]) -> None:
    classifier = ZeroShotClassifier(tiny, kind, cache=cache)
    answers = classifier.classify(photos)
    predicted = classifier.predict(photos)
    assert predicted.shape == (len(photos),)
    for answer, one in zip(answers, predicted.tolist(), strict=True):
        assert one == (answer.labels if answer.mode is Mode.MULTILABEL else answer.label)


def test_probabilities_are_the_scores_of_classify_and_sum_to_one(
    kind: LabelSet, tiny: Encoder, cache: TextCache, photos: list[Path]
) -> None:
    classifier = ZeroShotClassifier(tiny, kind, cache=cache)
    classes, rows = classifier.classes_.tolist(), classifier.predict_proba(photos)
    assert rows.shape == (len(photos), len(classes))
    for answer, row in zip(classifier.classify(photos), rows, strict=True):
        assert {p.label: p.score for p in answer.predictions} == pytest.approx(
            dict(zip(classes, row.tolist(), strict=True)), abs=1e-5
        )
        if answer.mode is not Mode.MULTILABEL:
            assert row.sum() == pytest.approx(1)


def test_a_batch_is_one_by_one_and_a_gallery(
    kind: LabelSet, tiny: Encoder, cache: TextCache, photos: list[Path], tmp_path: Path
) -> None:
    classifier = ZeroShotClassifier(tiny, kind, cache=cache)
    answers = classifier.classify(photos)
    assert [one.labels for one in answers] == [classifier.classify(path).labels for path in photos]
    with Gallery(tmp_path, "g", tiny, create=True, cache=cache) as gallery:
        assert all(error is None for _, error in gallery.add_images((Item(id=p.name), p) for p in photos))
        counts = {row.label: row.count for row in gallery.classify(kind) if row.count}
    assert counts == Counter(label for answer in answers for label in answer.labels)


def test_an_explanation_is_of_the_answer(kind: LabelSet, tiny: Encoder, cache: TextCache, photos: list[Path]) -> None:
    classifier = ZeroShotClassifier(tiny, kind, cache=cache)
    for path in photos[:3]:
        why = explain(classifier, path)
        assert why.answer.labels == classifier.classify(path).labels
        scores = {p.label: p.score for p in (*why.answer.predictions, *why.answer.levels)}
        if why.answer.labels:
            assert tuple(one.label for one in why.chosen) == why.answer.labels
            for one in why.chosen:
                assert one.score == pytest.approx(scores[one.label], abs=1e-6)
                assert one.prompts


def written(label_set: LabelSet) -> dict[str, Any]:
    """A label set in the fields of a request, and of a file."""
    fields = ("name", "parent", "threshold")
    labels = [{name: value for name in fields if (value := getattr(one, name)) is not None} for one in label_set.labels]
    whole = {"labels": labels, "mode": label_set.mode and label_set.mode.value, "threshold": label_set.threshold}
    return {name: value for name, value in whole.items() if value is not None}


def same(answer: dict[str, Any], expected: Classification) -> None:
    assert (answer["labels"], answer["mode"]) == (list(expected.labels), expected.mode)
    for part, other in (("predictions", expected.predictions), ("levels", expected.levels)):
        found = [(one["label"], one["score"]) for one in answer.get(part) or ()]
        assert [label for label, _ in found] == [one.label for one in other]
        assert [score for _, score in found] == pytest.approx([one.score for one in other], abs=1e-5)


def test_http_answers_as_python_does(kind: LabelSet, tiny: Encoder, cache: TextCache, client: httpx.Client) -> None:
    expected = ZeroShotClassifier(tiny, kind, cache=cache).classify(PHOTOS / "cat.jpg")
    image = base64.b64encode((PHOTOS / "cat.jpg").read_bytes()).decode()
    if kind.threshold is not None and any(label.threshold is not None for label in kind.labels):
        pytest.skip("a call's threshold goes before a label's own")
    for _ in range(2):  # with new labels, and with known ones
        answer = client.post("/v1/classify", json={"image": image, **written(kind)})
        assert answer.status_code == 200, answer.text
        same(answer.json(), expected)


def test_the_command_line_answers_as_python_does(tiny: Encoder, cache: TextCache, run: Run, tmp_path: Path) -> None:
    for number, name in enumerate(("one label, sure", "several", "deep tree", "many, one sure")):
        kind = KINDS[name]
        (tmp_path / f"{number}.yaml").write_text(to_yaml({"name": "some", **written(kind)}))
        finished = run("classify", PHOTOS / "cat.jpg", "--label-set", f"{number}.yaml", "--top", "99", "--json")
        assert finished.returncode == 0, finished.stderr
        same(json.loads(finished.stdout), ZeroShotClassifier(tiny, kind, cache=cache).classify(PHOTOS / "cat.jpg"))


def test_what_is_fitted_decides_through_every_door(tiny: Encoder, cache: TextCache, photos: list[Path]) -> None:
    head = dog_head(tiny)
    warm = Calibration(model="tiny", fingerprint=tiny.fingerprint, temperature=20.0)
    for kind in (named("cat", "dog", heads=(head,)), named("cat", "dog", threshold=0.9, calibrations=(warm,))):
        classifier = ZeroShotClassifier(tiny, kind, cache=cache)
        plain = ZeroShotClassifier(tiny, ["cat", "dog"], cache=cache)
        assert classifier.predict(photos).tolist() == [one.label for one in classifier.classify(photos)]
        assert not np.allclose(classifier.predict_proba(photos), plain.predict_proba(photos), atol=1e-3)


def test_a_set_that_differs_in_one_thing_alone_is_another(tiny: Encoder, photos: list[Path]) -> None:
    """The scorers are kept by what decides the answers: each difference must be seen through one classifier."""
    head = dog_head(tiny)
    warm = Calibration(model="tiny", fingerprint=tiny.fingerprint, temperature=20.0)
    dogs = [{"aliases": ("hound",)}, {"wording": "hound"}, {"descriptions": ("hound",)}, {"threshold": 0.5}]
    dogs += [{"descriptions": ("hound", "b")}, {"descriptions": ("hound\x1eb",)}, {"aliases": ("hound", "b")}]
    whole = [{}, {"threshold": 0.5}, {"mode": Mode.BINARY}, {"mode": Mode.MULTILABEL}]
    whole += [{"heads": (head,)}, {"calibrations": (warm,)}]
    sets = [named("cat", "dog", **options) for options in whole] + [named("dog", "cat")]
    sets += [named("cat", Label("dog", **options)) for options in dogs]
    sets += [named("cat", Label("dog", parent="cat"), "x"), named("cat", "dog", "x")]
    classifier = ZeroShotClassifier(tiny)
    scorers = [classifier.scorer(one) for one in sets]
    assert len({id(one) for one in scorers}) == len(sets)
    assert [classifier.scorer(one) for one in sets] == scorers
    for one, scorer in zip(sets, scorers, strict=True):
        alone = ZeroShotClassifier(tiny).scorer(one)
        assert (scorer.mode, scorer.names, scorer.temperature) == (alone.mode, alone.names, alone.temperature)
        np.testing.assert_array_equal(scorer.thresholds, alone.thresholds)
        np.testing.assert_array_equal(scorer.inputs.matrix, alone.inputs.matrix)


@pytest.mark.parametrize(
    "labels",
    [
        lambda: ["cat", "dog", "rocket"],
        lambda: ("cat", "dog", "rocket"),
        lambda: ["cat", Label("dog", aliases=("hound",))],
        lambda: named("cat", "dog"),
    ],
    ids=["list", "tuple", "labels", "set"],
)
def test_equal_labels_are_one_scorer(tiny: Encoder, labels: Any) -> None:
    classifier = ZeroShotClassifier(tiny)
    assert classifier.find_scorer(labels()) is None
    assert len({id(classifier.scorer(labels())) for _ in range(10)}) == 1
    assert classifier.find_scorer(labels()) is classifier.scorer(labels())
    assert classifier.find_scorer(labels(), options=ScoringOptions(threshold=0.3)) is not None


def test_texts_with_control_characters_are_kept_apart(tiny: Encoder, cache: TextCache) -> None:
    """Also between processes: the text cache is keyed by a label's prompts."""
    for texts in (("one", "two"), ("one\x1etwo",), ("one\x1dtwo",), ("one", "two", ""), ('["one", "two"]',)):
        label = Label("x", descriptions=tuple(text for text in texts if text))
        expected = class_matrix(tiny, [label], load_templates("none"))
        found = class_matrix(tiny, [label], load_templates("none"), cache)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        again = class_matrix(tiny, [label], load_templates("none"), cache)
        np.testing.assert_allclose(again, expected, atol=1e-6)


def test_a_scorer_that_is_asked_for_is_kept(tiny: Encoder) -> None:
    """A service asks with find_scorer alone, which has to count as a use."""
    classifier = ZeroShotClassifier(tiny)
    first = classifier.scorer(["cat", "dog"])
    for number in range(40):
        classifier.scorer(["cat", f"thing {number}"])
        assert classifier.find_scorer(["cat", "dog"]) is first
    assert classifier.find_scorer(["cat", "thing 0"]) is None


@pytest.mark.parametrize("size", [1, 2**20 // 900 + 1], ids=["short", "too long to keep"])
def test_lists_of_labels_are_the_same_set_while_they_are_short(size: int) -> None:
    def labels() -> list[Label]:
        return [Label(f"label {row}", descriptions=("x" * 900,)) for row in range(size)]

    assert (as_label_set(labels()) is as_label_set(labels())) == (size == 1)
    assert as_label_set(labels()) == as_label_set(labels())


def test_a_label_that_cannot_be_looked_up_is_taken_all_the_same(tiny: Encoder) -> None:
    label = Label("cat", descriptions=["a cat"])  # type: ignore[arg-type]
    assert as_label_set([label, "dog"]).names == ("cat", "dog")


def test_a_tree_with_one_leaf_is_refused_where_its_score_would_always_be_one(tiny: Encoder) -> None:
    chain = named("animal", Label("cat", parent="animal"))
    for mode in (Mode.MULTICLASS, Mode.HIERARCHICAL):
        with pytest.raises(LabelError, match="one label, 'cat'"):
            ZeroShotClassifier(tiny).scorer(chain, options=ScoringOptions(mode))
