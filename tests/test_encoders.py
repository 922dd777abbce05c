"""The encoder contract, and what a model directory promises."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from tests.images import cat, encode
from zeroshot import Encoder, load_encoder
from zeroshot.encoders.registry import TINY_DIRECTORY
from zeroshot.errors import (
    ImageUnreadable,
    ModelCorrupt,
    ModelError,
    ModelUnavailable,
    OptionError,
    UnknownModel,
)
from zeroshot.images import load

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
    images = [cat().rotate(10 * turn) for turn in range(20)]
    together = tiny.encode_images(images)
    apart = np.concatenate([tiny.encode_images([image]) for image in images])
    np.testing.assert_allclose(together, apart, atol=1e-6)
    np.testing.assert_array_equal(tiny.encode_images(images[5:8]), together[5:8])


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
    images = [cat().rotate(turn) for turn in range(7)]
    np.testing.assert_allclose(single.encode_images(images), tiny.encode_images(images), atol=1e-5)
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


MODES = ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F", "La", "RGBa"]


def in_mode(mode: str) -> Image.Image:
    """The cat in a mode of Pillow's."""
    photo = cat()
    if mode in ("I", "I;16", "F"):
        grey = np.asarray(photo.convert("L")).astype({"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode])
        return Image.fromarray(grey * (257 if mode == "I;16" else 1))
    if mode in ("La", "RGBa"):
        return photo.convert({"La": "LA", "RGBa": "RGBA"}[mode]).convert(mode)
    if mode == "PA":
        return photo.convert("P").convert("PA")
    if mode == "LAB":
        return ImageCms.profileToProfile(
            photo, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    return photo.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_any_mode_gets_the_vector_that_load_gives_it(mode: str, tiny: Encoder) -> None:
    image = in_mode(mode)
    assert image.mode == mode
    (found,) = tiny.encode_images([image])
    np.testing.assert_array_equal(found, tiny.encode_images([load(image)])[0])
    np.testing.assert_array_equal(tiny.preprocessing(image), tiny.preprocessing(load(image)))
    assert found @ tiny.encode_images([cat()])[0] > 0.6  # it still is a cat


def test_transparency_is_seen_as_load_sees_it(tiny: Encoder) -> None:
    image = cat().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    palette = cat().quantize(32)
    palette.info["transparency"] = 0
    for one in (image, palette):
        np.testing.assert_array_equal(tiny.encode_images([one]), tiny.encode_images([load(one)]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_orientation_is_applied_once_however_often_an_image_is_loaded(
    orientation: int, mode: str, tiny: Encoder
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encode(cat().crop((0, 0, 200, 120)).convert(mode), "JPEG", exif=exif)
    once = load(content)
    twice = load(once)
    assert (np.asarray(once) == np.asarray(twice)).all()
    opened = Image.open(io.BytesIO(content))
    np.testing.assert_array_equal(tiny.encode_images([opened]), tiny.encode_images([once]))
    assert once.size == ((200, 120) if orientation < 5 else (120, 200))


def test_an_image_that_cannot_be_converted_is_refused_not_guessed(tiny: Encoder) -> None:
    cut = Image.open(io.BytesIO(encode(cat(), "PNG")[:5000]))
    with pytest.raises(ImageUnreadable):
        tiny.encode_images([cut])
