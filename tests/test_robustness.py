"""Changed images: the changes themselves, attacks, and what accuracy is under them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.images import PHOTOS
from tests.models import save_local_dir
from zeroshot import Encoder, Label, LabelSet, ZeroShotClassifier, load_encoder, load_label_set
from zeroshot.datasets import Sample, open_dataset
from zeroshot.errors import OptionError
from zeroshot.evaluate import evaluate_dataset, measure_robustness
from zeroshot.evaluate.robustness import CORRUPTIONS, LEVELS, SEVERITIES, Corruption, WrittenLabel, attack
from zeroshot.evaluate.run import Run
from zeroshot.evaluate.vector_cache import VectorCache
from zeroshot.images import load

CAT = Sample("cat.jpg", PHOTOS / "cat.jpg", ("cat",))
NAMES = ("astronaut", "camera", "cat", "coffee", "motorcycle", "rocket")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_is_worse_than_the_one_before_and_the_same_each_time(name: str) -> None:
    image = load(CAT.source)
    scaled = np.asarray(image.resize((round(image.width * 224 / image.height), 224), Image.Resampling.BICUBIC), float)
    changes = []
    for severity in SEVERITIES:
        once, twice = (Corruption(name, severity).apply(image, CAT) for _ in range(2))
        assert once.tobytes() == twice.tobytes()
        assert once.mode == "RGB"
        changes.append(np.abs(np.asarray(once, float) - scaled).mean())
    assert changes == sorted(changes)
    assert changes[0] > 1
    assert len({Corruption(name, severity).describe(CAT) for severity in SEVERITIES}) == 5


def test_a_wrong_label_is_written_where_it_can_be_read() -> None:
    labels = LabelSet("two", (Label("animal", aliases=("cat",)), Label("iguana")))
    change = WrittenLabel(labels)
    assert change.wrong(CAT) == "iguana"
    nothing = WrittenLabel(LabelSet("one", labels.labels[:1]))
    assert nothing.wrong(CAT) == ""
    assert nothing.apply(load(CAT.source), CAT).height == 224
    before = load(CAT.source)
    after = np.asarray(change.apply(before, CAT))
    lower = after[int(0.6 * len(after)) : int(0.9 * len(after))]
    assert (lower == 255).all(axis=2).mean() > 0.1  # the card
    assert (lower < 40).all(axis=2).mean() > 0.01  # what is written on it


@pytest.mark.parametrize("size", [(20, 400), (400, 20), (3, 3), (1, 5000)])
def test_odd_images_survive_every_change(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "teal")
    for change in [
        *(Corruption(name, 5) for name in CORRUPTIONS),
        WrittenLabel(LabelSet("two", (Label("cat"), Label("a rather long label indeed")))),
    ]:
        changed = change.apply(image, CAT)
        assert changed.mode == "RGB"
        assert max(changed.size) <= 20 * 224


def test_accuracy_under_changes_is_measured_and_told(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    rows = [f"{PHOTOS / name}.jpg,{name}" for name in NAMES]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *rows]))
    cache = VectorCache(tmp_path)
    run = Run(classifier, open_dataset(str(tmp_path / "t.csv"), home=tmp_path), cache)
    clean = run.evaluate().evaluation
    found = measure_robustness(run, ["blur", "typographic"], clean)
    assert [(row.change, row.level) for row in found] == [
        *(("blur", level) for level in SEVERITIES),
        ("typographic", 1),
    ]
    assert all(row.images == 6 for row in found)
    assert clean.single is not None
    assert found[0].relative == found[0].accuracy / clean.single.top_1.value
    assert found[0].accuracy >= found[4].accuracy
    assert "are taken for what is written on them" in found[-1].note
    before = cache.encoded
    assert measure_robustness(run, ["blur", "typographic"], clean) == found
    assert cache.encoded == before  # changed images' vectors are kept too
    cache.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """A model so small that torch's threads would only wait for each other."""
    folder = save_local_dir("clip", tmp_path_factory.mktemp("model") / "clip")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_encoder(f"local-dir:{folder}", device="cpu", precision="fp32")
    torch.set_num_threads(threads)


def test_an_attack_stays_within_its_bounds_and_moves_the_answer(small: Encoder) -> None:
    pixels = np.stack([small.preprocessing(load(PHOTOS / f"{name}.jpg")) for name in NAMES])
    texts = small.encode_texts([f"a photo of a {name}" for name in NAMES])
    clean = small.encode_pixels(pixels)
    right = (clean @ texts.T).argmax(axis=1)  # what the model says is what it is attacked for saying
    drops = []
    for levels in LEVELS:
        rows = attack(small, pixels, texts, right, levels)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        drops.append(float(((clean - rows) @ texts.T)[np.arange(len(right)), right].mean()))
    assert drops == sorted(drops)
    assert drops[0] > 0
    still = attack(small, pixels, texts, right, 0.0)
    np.testing.assert_allclose(still, clean, atol=1e-5)


def test_attacks_are_measured_on_open_clips_path(small: Encoder, tmp_path: Path) -> None:
    rows = [f"{PHOTOS / name}.jpg,{name}" for name in NAMES]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *rows]))
    cache = VectorCache(tmp_path)
    run = Run(ZeroShotClassifier(small), open_dataset(str(tmp_path / "t.csv"), home=tmp_path), cache)
    clean = run.evaluate().evaluation
    found = measure_robustness(run, ["adversarial"], clean)
    cache.close()
    assert [row.level for row in found] == list(LEVELS)
    assert clean.single is not None
    assert found[-1].accuracy <= clean.single.top_1.value


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("mode: binary\nlabels: [cat]", "mode binary of one label"),
        ("mode: multilabel\nlabels: [cat]", "mode multilabel of one label"),
        ("mode: binary\nlabels: [animal, {name: cat, parent: animal}]", "mode binary of one label"),
        ("labels: [animal, {name: cat, parent: animal}, {name: dog, parent: animal}]", "mode hierarchical of a tree"),
    ],
)
def test_labels_that_leave_no_wrong_answer_are_refused(
    classifier: ZeroShotClassifier, tmp_path: Path, labels: str, said: str
) -> None:
    (tmp_path / "t.csv").write_text(f"file,label\n{PHOTOS / 'cat.jpg'},cat\n{PHOTOS / 'rocket.jpg'},rocket\n")
    (tmp_path / "labels.yaml").write_text(f"name: few\n{labels}\n")
    dataset = open_dataset(str(tmp_path / "t.csv"), home=tmp_path)
    run = Run(classifier, dataset, VectorCache(tmp_path), load_label_set(tmp_path / "labels.yaml"))
    with pytest.raises(OptionError, match=said):
        evaluate_dataset(run, changes=["all"])
