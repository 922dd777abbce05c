"""Preprocessing equals open_clip's own inference transform, in every mode."""

from __future__ import annotations

import json

import numpy as np
import pytest
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from tests.images import cat
from zeroshot.errors import ModelCorrupt
from zeroshot.images import Preprocessing

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.mark.parametrize("image_size", [(451, 300), (300, 451), (224, 224), (100, 60), (37, 1001), (640, 480)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("size", [(224, 224), (256, 128), (64, 96)])
def test_it_equals_open_clips_transform(
    size: tuple[int, int], resize_mode: str, interpolation: str, image_size: tuple[int, int]
) -> None:
    image = cat().resize(image_size)
    config = PreprocessCfg(
        size=size if size[0] != size[1] else size[0],
        mean=MEAN,
        std=STD,
        resize_mode=resize_mode,
        interpolation=interpolation,
        fill_color=7,
    )
    theirs = image_transform_v2(config, is_train=False)(image).numpy()
    ours = Preprocessing(size, MEAN, STD, interpolation, resize_mode, fill_color=7)(image)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    if resize_mode == "shortest" and image_size == (37, 1001):  # very long: resized through a box
        assert np.abs(ours - theirs).max() < 2.2 / (255 * min(STD))  # two grey levels
        assert np.abs(ours - theirs).mean() < 0.1 / (255 * min(STD))
    else:
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_thousand_times_longer_than_wide_needs_no_memory() -> None:
    pixels = Preprocessing((224, 224), MEAN, STD)(Image.new("RGB", (1, 30_000), "red"))
    assert pixels.shape == (3, 224, 224)
    assert np.ptp(pixels[0]) == 0


def test_it_survives_json() -> None:
    original = Preprocessing((224, 224), MEAN, STD, "bilinear", "longest", 3, None)
    assert Preprocessing.from_dict(json.loads(json.dumps(original.to_dict()))) == original


@pytest.mark.parametrize(
    "change",
    [
        {"size": [224]},
        {"size": [0, 224]},
        {"mean": [0.5]},
        {"std": [0.5, 0.5, 0]},
        {"interpolation": "nearest"},
        {"resize_mode": "stretch"},
        {"other": 1},
        {"size": "large"},
    ],
    ids=str,
)
def test_an_unusable_configuration_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelCorrupt, match="preprocessing"):
        Preprocessing.from_dict({**Preprocessing((224, 224), MEAN, STD).to_dict(), **change})
