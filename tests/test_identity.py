"""Two models share a cached vector or a gallery only if every vector is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests import models
from tests.conftest import Run
from tests.hub_cache import environment_of, put, weights_name
from tests.images import PHOTOS
from zeroshot import ZeroShotClassifier, load_encoder
from zeroshot.encoders import TextCache
from zeroshot.errors import GalleryMismatch
from zeroshot.gallery import Gallery


def saved(folder: Path, family: str, change: dict[str, Any] | None = None, **preprocessing: Any) -> Path:
    """A family's checkpoint, with a part of its configuration changed and the very same weights."""
    models.save_local_dir(family, folder)
    content = json.loads((folder / "open_clip_config.json").read_text())
    for path, value in (change or {}).items():
        *parts, last = path.split(".")
        target = content["model_cfg"]
        for part in parts:
            target = target[part]
        target[last] = value
    content["preprocess_cfg"] |= preprocessing
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def fingerprint(folder: Path) -> str:
    return load_encoder(f"local-dir:{folder}", device="cpu").fingerprint


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("clip", {"quick_gelu": True}),
        ("clip", {"vision_cfg.head_width": 16}),
        ("clip", {"text_cfg.heads": 4}),
        ("clip", {"vision_cfg.act_kwargs": {"approximate": "tanh"}}),
        ("clip", {"text_cfg.norm_kwargs": {"eps": 1e-3}}),
        ("eos-pooled", {"text_cfg.eos_id": 320}),
        ("eos-pooled", {"text_cfg.pool_type": "argmax"}),
        ("custom-text", {"text_cfg.no_causal_mask": True}),
        ("bidirectional", {"text_cfg.pool_type": "last"}),
        ("clip", {"text_cfg.tokenizer_kwargs": {"clean": "canonicalize"}}),
        ("siglip", {"text_cfg.tokenizer_kwargs": {"clean": "whitespace"}}),
        ("siglip", {"vision_cfg.attn_pooler_heads": 4}),
    ],
    ids=str,
)
def test_whatever_changes_a_vector_changes_the_fingerprint(family: str, change: dict[str, Any], tmp_path: Path) -> None:
    assert fingerprint(saved(tmp_path / "a", family)) != fingerprint(saved(tmp_path / "b", family, change))


@pytest.mark.parametrize(
    "preprocessing",
    [{"mean": [0.5] * 3}, {"std": [0.5] * 3}, {"interpolation": "bilinear"}, {"resize_mode": "squash"}],
    ids=str,
)
def test_so_does_preprocessing(preprocessing: dict[str, Any], tmp_path: Path) -> None:
    assert fingerprint(saved(tmp_path / "a", "clip")) != fingerprint(saved(tmp_path / "b", "clip", **preprocessing))


def test_so_does_a_tokenizer_with_other_rules_or_another_order(tmp_path: Path) -> None:
    prints = {fingerprint(saved(tmp_path / "plain", "siglip"))}
    for name in ("order", "rule", "score"):
        folder = saved(tmp_path / name, "siglip")
        content = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = content["model"]["vocab"]
        if name == "order":
            vocabulary[50], vocabulary[51] = vocabulary[51], vocabulary[50]
        elif name == "score":
            vocabulary[50][1] -= 1.0
        else:
            content["normalizer"] = {"type": "Replace", "pattern": {"String": "zebra"}, "content": "horse"}
        (folder / "tokenizer.json").write_text(json.dumps(content))
        prints.add(fingerprint(folder))
    assert len(prints) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"quick_gelu": False},
        {"vision_cfg.patch_dropout": 0.5},
        {"vision_cfg.ls_init_value": None},
        {"text_cfg.pool_type": "argmax"},
        {"text_cfg.tokenizer_kwargs": {}},
        {"init_logit_scale": 3.0},
    ],
    ids=str,
)
def test_what_changes_no_vector_does_not(change: dict[str, Any], tmp_path: Path) -> None:
    assert fingerprint(saved(tmp_path / "a", "clip")) == fingerprint(saved(tmp_path / "b", "clip", change))


def test_models_with_different_activations_share_neither_a_cached_vector_nor_a_gallery(tmp_path: Path) -> None:
    plain = load_encoder(f"local-dir:{saved(tmp_path / 'plain', 'clip')}", device="cpu")
    quick = load_encoder(f"local-dir:{saved(tmp_path / 'quick', 'clip', {'quick_gelu': True})}", device="cpu")
    alone = quick.encode_texts(["a photo of a cat."])
    assert np.abs(plain.encode_texts(["a photo of a cat."]) - alone).max() > 1e-4  # or sharing would do no harm
    cache = TextCache(tmp_path / "texts.sqlite3")
    options = {"templates": ["a photo of a {}."]}
    for encoder in (plain, quick):
        matrix = ZeroShotClassifier(encoder, cache=cache).class_matrix(["cat", "dog"], **options)
        np.testing.assert_allclose(matrix[0], encoder.encode_texts(["a photo of a cat."])[0], atol=1e-6)
    Gallery(tmp_path, "of-one", plain, create=True).close()
    with pytest.raises(GalleryMismatch):
        Gallery(tmp_path, "of-one", quick)


@pytest.fixture(scope="module")
def small_tag(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """ViT-S-32's weights in a hub cache, under two tags of one repository that a new open_clip could list."""
    cache = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    save_file(model.state_dict(), cache / "weights.safetensors")
    return "ViT-B-32:openai", put(cache, *weights_name("ViT-B-32", "openai"), cache / "weights.safetensors")


@pytest.mark.slow
def test_the_commands_share_what_is_one_model_and_nothing_else(
    run: Run, small_tag: tuple[str, Path], tmp_path: Path
) -> None:
    """``ViT-B-32:openai`` and its twin are one model; the same weights as a file, with GELU, are another."""
    _, weights = small_tag
    cache = environment_of(weights.parents[3])
    labels = ("--labels", "cat,dog,cup of coffee", "--json")
    scores = {}
    for spec in ("ViT-B-32:openai", "ViT-B-32-quickgelu:openai", f"ViT-B-32:openai@{weights}", f"ViT-B-32:{weights}"):
        finished = run("classify", PHOTOS / "cat.jpg", *labels, "--model", spec, **cache)
        assert finished.returncode == 0, finished.stderr
        scores[spec] = [one["similarity"] for one in json.loads(finished.stdout)["predictions"]]
        assert ("QuickGELU" in finished.stderr) == (spec != "ViT-B-32-quickgelu:openai")
    openai, twin, like, bare = scores.values()
    assert openai == twin == like
    assert openai != bare
    assert run("index", PHOTOS, "--gallery", "g", "--model", "ViT-B-32:openai", **cache).returncode == 0
    assert run("search", "cat", "--gallery", "g", "--model", "ViT-B-32-quickgelu:openai", **cache).returncode == 0
    refused = run("search", "cat", "--gallery", "g", "--model", f"ViT-B-32:{weights}", **cache)
    assert refused.returncode == 2
    assert "gallery" in refused.stderr


def test_the_embedded_models_fingerprint_is_pinned() -> None:
    """Galleries and calibrations of users are kept under it."""
    expected = "dd29204249cc492402bed742588c7a7e3e0a2877601608e41d2854d9aec39d5a"
    assert load_encoder("tiny").fingerprint == expected
