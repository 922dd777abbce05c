"""Labels, label sets and class matrices."""

from __future__ import annotations

import numpy as np
import pytest
from open_clip import IMAGENET_CLASSNAMES

from zeroshot import Encoder, Label, load_label_set, load_templates
from zeroshot.errors import LabelError
from zeroshot.labels import class_matrix, label_set_names, parse_labels

SIZES = {
    "cifar10": 10, "cifar100": 100, "eurosat": 10, "food101": 101, "imagenet": 1000, "oxford-pets": 37,
    "moderation": 10, "everyday": 48, "nouns": 445,
}  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no labels"),
        (["cat"], "one label, 'cat'"),
        (["cat", " "], "Label 2 is blank"),
        (["cat", ""], "Label 2 is blank"),
        (["cat", "dog", "cat"], "'cat' is given twice, as labels 1 and 3"),
        (["cat", " cat "], "given twice"),
        (["cat", "x" * 10_000], "10,000 characters"),
        ([str(i) for i in range(10_001)], "more than 10,000"),
        (["cat", 5], "blank: 5"),
        (["cat", None], "blank: None"),
        ("cat", "one text"),
        (["cat", Label("dog", ("",))], "blank description"),
        (["cat", Label("dog", ("x" * 1001,))], "1,001 characters"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_unusable_labels_are_refused_by_name_and_position(labels: list[str], message: str) -> None:
    with pytest.raises(LabelError, match=message) as error:
        parse_labels(labels)
    assert error.value.remedy
    assert len(str(error.value)) < 300


def test_ten_thousand_labels_and_any_script_are_fine() -> None:
    assert len(parse_labels([str(i) for i in range(10_000)])) == 10_000
    names = ["кошка", "猫", "قطة", "🐱", "gato à poil", "{}", "a, b"]
    assert [label.name for label in parse_labels(names)] == names


@pytest.mark.parametrize("name", label_set_names())
def test_every_shipped_label_set_is_whole(name: str) -> None:
    label_set = load_label_set(name)
    assert label_set.name == name
    assert len(label_set.labels) == SIZES[name]


def test_imagenet_is_open_clips_own_list() -> None:
    labels = load_label_set("imagenet").labels
    assert [label.wording or label.name for label in labels] == list(IMAGENET_CLASSNAMES)
    assert [label.name for label in labels if label.wording] == ["missile (2)", "sunglasses (2)"]


def test_a_class_is_the_normalised_mean_of_its_prompts(tiny: Encoder) -> None:
    templates = load_templates(["a photo of a {}.", "a drawing of a {}."])
    labels = parse_labels(["cat", Label("dog", ("a hound", "a puppy", "a barking animal"))])
    matrix = class_matrix(tiny, labels, templates)
    for row, prompts in zip(
        matrix, [["a photo of a cat.", "a drawing of a cat."], ["a hound", "a puppy", "a barking animal"]], strict=True
    ):
        mean = tiny.encode_texts(prompts).mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


def test_a_wording_goes_into_the_templates_and_the_name_into_the_answer() -> None:
    label = Label("AnnualCrop", wording="annual crop land")
    assert label.prompts(load_templates("a photo of {}.")) == ["a photo of annual crop land."]


def test_braces_in_a_name_stay_as_they_are() -> None:
    assert load_templates("a {} here").fill("{0} {x} {}") == ["a {0} {x} {} here"]
