"""The encoder contract, and what a model directory promises."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pictures import cat
from zeroshot import Encoder, load_encoder
from zeroshot.encoders.registry import TINY_DIRECTORY
from zeroshot.errors import ModelCorrupt, ModelError, ModelUnavailable, OptionError, UnknownModel

TEXTS = ["cat", "a cup of coffee", "", "東京タワー", "🐱", "a " * 400, "the quick brown fox jumps over the lazy dog"]
# first components of tiny's vectors, pinned: they change only when the model is rebuilt on purpose
CAT_TEXT = [0.0337, 0.0510, 0.0001]
CAT_IMAGE = [-0.0061, 0.0451, -0.0223]


def test_rows_are_unit_float32_in_the_order_given(tiny: Encoder) -> None:
    texts = tiny.encode_texts(TEXTS)
    images = tiny.encode_images([cat(), cat().rotate(180), cat().resize((30, 400))])
    for rows, count in ((texts, len(TEXTS)), (images, 3)):
        assert rows.shape == (count, tiny.dim)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(tiny.encode_texts(TEXTS[::-1]), texts[::-1], atol=1e-6)


@given(st.lists(st.text(max_size=80), max_size=12))
@settings(max_examples=25, deadline=None)
def test_a_texts_vector_does_not_depend_on_its_neighbours(tiny: Encoder, texts: list[str]) -> None:
    together = tiny.encode_texts(texts)
    assert together.shape == (len(texts), tiny.dim)
    for row, text in zip(together, texts, strict=True):
        np.testing.assert_allclose(tiny.encode_texts([text])[0], row, atol=2e-6)


def test_an_images_vector_does_not_depend_on_its_neighbours(tiny: Encoder) -> None:
    pictures = [cat().rotate(10 * turn) for turn in range(20)]
    together = tiny.encode_images(pictures)
    apart = np.concatenate([tiny.encode_images([picture]) for picture in pictures])
    np.testing.assert_allclose(together, apart, atol=1e-6)
    np.testing.assert_array_equal(tiny.encode_images(pictures[5:8]), together[5:8])


def test_pixels_and_images_agree(tiny: Encoder) -> None:
    pixels = np.stack([tiny.preprocessing(cat())])
    np.testing.assert_allclose(tiny.encode_pixels(pixels), tiny.encode_images([cat()]), atol=1e-6)


def test_nothing_in_gives_nothing_out(tiny: Encoder) -> None:
    assert tiny.encode_images([]).shape == (0, tiny.dim)
    assert tiny.encode_texts([]).shape == (0, tiny.dim)


def test_it_is_an_encoder_with_the_documented_facts(tiny: Encoder) -> None:
    assert isinstance(tiny, Encoder)
    assert (tiny.spec, tiny.dim, tiny.template_set, tiny.logit_bias) == ("tiny", 640, "none", None)
    assert len(tiny.fingerprint) == 64


def test_meaning_is_nearer_than_spelling(tiny: Encoder) -> None:
    kitten, cat_row, cab = tiny.encode_texts(["kitten", "cat", "cab"])
    assert kitten @ cat_row > cab @ cat_row + 0.2


def test_thread_count_does_not_change_the_vectors(tiny: Encoder) -> None:
    single = load_encoder("tiny", threads=1, batch_size=3)
    pictures = [cat().rotate(turn) for turn in range(7)]
    np.testing.assert_allclose(single.encode_images(pictures), tiny.encode_images(pictures), atol=1e-5)
    assert single.fingerprint == tiny.fingerprint


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY_DIRECTORY, tmp_path / "model"))


def test_a_copied_model_directory_is_the_same_encoder(copy: Path, tiny: Encoder) -> None:
    encoder = load_encoder(f"onnx:{copy}")
    assert encoder.spec == f"onnx:{copy}"
    assert encoder.fingerprint == tiny.fingerprint
    np.testing.assert_array_equal(encoder.encode_texts(["cat"]), tiny.encode_texts(["cat"]))


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "tokenizer.json"])
def test_one_flipped_byte_is_noticed(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ModelCorrupt, match=name):
        load_encoder(f"onnx:{copy}")


@pytest.mark.parametrize("name", ["image.onnx", "text.onnx", "tokenizer.json"])
def test_a_missing_or_truncated_file_is_noticed(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:1000])
    with pytest.raises(ModelCorrupt, match=name):
        load_encoder(f"onnx:{copy}")
    (copy / name).unlink()
    with pytest.raises(ModelCorrupt, match="missing"):
        load_encoder(f"onnx:{copy}")


def test_without_a_manifest_there_is_no_model(copy: Path) -> None:
    (copy / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"config\.json"):
        load_encoder(f"onnx:{copy}")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "dim": 640}', "null"])
def test_a_damaged_manifest_is_noticed(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(ModelCorrupt):
        load_encoder(f"onnx:{copy}")


def test_a_manifest_that_lists_other_weights_has_another_fingerprint(copy: Path, tiny: Encoder) -> None:
    manifest = json.loads((copy / "config.json").read_text())
    manifest["preprocessing"]["mean"] = [0.5, 0.5, 0.5]
    (copy / "config.json").write_text(json.dumps(manifest))
    assert load_encoder(f"onnx:{copy}").fingerprint != tiny.fingerprint


@pytest.mark.parametrize("spec", ["", "tinny", "onnx", "/tmp", "hub:x", "a" * 5000])
def test_unknown_specs_are_named(spec: str) -> None:
    with pytest.raises(UnknownModel, match=r"not a known model|not an architecture"):
        load_encoder(spec)


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(OptionError, match="threads=-1"):
        load_encoder("tiny", threads=-1)
    with pytest.raises(OptionError, match="batch_size=0"):
        load_encoder("tiny", batch_size=0)


def test_non_finite_vectors_never_leave_an_encoder(tiny: Encoder) -> None:
    pixels = np.full((1, 3, 224, 224), np.nan, dtype=np.float32)
    with pytest.raises(ModelError, match="NaN"):
        tiny.encode_pixels(pixels)


def test_tinys_vectors_are_pinned(tiny: Encoder) -> None:
    np.testing.assert_allclose(tiny.encode_texts(["cat"])[0, :3], CAT_TEXT, atol=1e-3)
    np.testing.assert_allclose(tiny.encode_images([cat()])[0, :3], CAT_IMAGE, atol=2e-3)
