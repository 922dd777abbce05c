"""The open_clip path: the same numbers as open_clip's own functions, for every family of models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import models
from tests.conftest import Run, environment, running_server
from tests.images import PHOTOS, cat, encode
from zeroshot import load_encoder, load_templates
from zeroshot.encoders.openclip import OpenClipEncoder
from zeroshot.encoders.text_packing import pack
from zeroshot.errors import ModelCorrupt, ModelError, ModelUnavailable, OptionError, UnknownModel
from zeroshot.images import load
from zeroshot.labels import class_matrix, parse_labels

COFFEE = Image.open(PHOTOS / "coffee.jpg").convert("RGB")
IMAGES = [cat(), cat().rotate(90, expand=True), COFFEE, Image.new("RGB", (9, 70), "red")]
TEXTS = [
    "cat",
    "",
    "a photo of a cat.",
    "a photo of a dog.",
    "東京タワー 🐈",
    "It's <b>five</b> o'clock",
    "word " * 200,
]
NAMES = ["cat", "dog", "great white shark", "cup of coffee", "x-ray", "Ягода", "cat's cradle"]


@pytest.fixture(scope="module")
def local_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: models.save_local_dir(family, root / family) for family in models.CONFIGS}


@pytest.fixture(scope="module")
def encoders(local_dirs: dict[str, Path]) -> dict[str, OpenClipEncoder]:
    return {family: load_encoder(f"local-dir:{path}", device="cpu") for family, path in local_dirs.items()}


@pytest.fixture(params=models.CONFIGS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def original(path: Path) -> tuple[Any, Any, Any]:
    """Model, transform and tokenizer as open_clip gives them."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{path}")
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{path}")


def test_embeddings_equal_open_clips_own(
    family: str, encoders: dict[str, OpenClipEncoder], local_dirs: dict[str, Path]
) -> None:
    encoder = encoders[family]
    model, transform, tokenizer = original(local_dirs[family])
    with torch.no_grad():
        images = model.encode_image(torch.stack([transform(image) for image in IMAGES]), normalize=True)
        texts = model.encode_text(tokenizer(TEXTS), normalize=True)
    np.testing.assert_allclose(encoder.encode_images(IMAGES), images.numpy(), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts.numpy(), atol=1e-5)
    apart = encoder.encode_texts(["cat", "dog", "a photo of a cat.", "a photo of a dog."])
    assert np.triu(apart @ apart.T, 1).max() < 0.999  # or the comparison above would prove little
    assert encoder.dim == images.shape[1]
    assert encoder.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert encoder.logit_bias == (None if family != "siglip" else pytest.approx(-10))


def test_token_ids_may_be_given_instead_of_texts(
    family: str, encoders: dict[str, OpenClipEncoder], local_dirs: dict[str, Path]
) -> None:
    ids = original(local_dirs[family])[2](TEXTS).tolist()
    np.testing.assert_allclose(encoders[family].encode_tokens(ids), encoders[family].encode_texts(TEXTS), atol=1e-6)


def test_the_class_matrix_equals_open_clips_zero_shot_classifier(
    family: str, encoders: dict[str, OpenClipEncoder], local_dirs: dict[str, Path]
) -> None:
    model, _, tokenizer = original(local_dirs[family])
    theirs = open_clip.build_zero_shot_classifier(model, tokenizer, NAMES, open_clip.SIMPLE_IMAGENET_TEMPLATES)
    ours = class_matrix(encoders[family], parse_labels(NAMES), load_templates("simple"))
    np.testing.assert_allclose(ours, theirs.T.numpy(), atol=1e-5)


def test_texts_are_cut_only_where_nothing_after_the_end_is_seen(
    family: str, encoders: dict[str, OpenClipEncoder]
) -> None:
    encoder = encoders[family]
    assert encoder.causal_texts == (family in models.CAUSAL)
    lengths = [len(ids) for ids in encoder._tokenize(["cat", "a photo of a cat."])]
    assert lengths == [3, 8] if family in models.CAUSAL else len(set(lengths)) == 1


@given(st.lists(st.text(st.sampled_from("ab c.é東<>"), max_size=30), min_size=1, max_size=30))
@settings(max_examples=20, deadline=None)
def test_packing_changes_no_vector(encoders: dict[str, OpenClipEncoder], texts: list[str]) -> None:
    encoder = encoders["clip"]
    with torch.no_grad():
        full = encoder.model.encode_text(encoder.tokenizer(texts), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(texts), full, atol=1e-5)


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=12), min_size=1, max_size=40), st.integers(1, 40))
def test_a_pack_holds_every_text_once_and_shows_it_its_own_tokens_alone(texts: list[list[int]], size: int) -> None:
    seen = []
    for packed in pack(texts, size):
        assert len(packed.tokens) <= max(size, *(len(texts[i]) for i in packed.members))
        for member, leaf in zip(packed.members, packed.leaves, strict=True):
            visible = np.flatnonzero(packed.visible[leaf])
            order = np.argsort(packed.positions[visible])
            assert packed.tokens[visible][order].tolist() == texts[member]
            assert sorted(packed.positions[visible]) == list(range(len(texts[member])))
        seen += packed.members
    assert sorted(seen) == list(range(len(texts)))


def test_shared_beginnings_are_packed_once() -> None:
    (packed,) = pack([[1, 2, 3], [1, 2, 4], [1, 2, 3]], 100)
    assert len(packed.tokens) == 4


def test_drafting_a_large_jpeg_keeps_its_embedding(encoders: dict[str, OpenClipEncoder]) -> None:
    encoder = encoders["clip"]
    photo = encode(COFFEE.resize((3000, 2000)), "JPEG", quality=92)
    drafted = load(photo, enough=encoder.preprocessing.enough)
    assert drafted.width < 3000
    whole, small = encoder.encode_images([load(photo), drafted])
    assert whole @ small > 0.9999


def test_every_form_of_weights_gives_the_same_model(tmp_path: Path, local_dirs: dict[str, Path]) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small-clip-of-the-tests.json").write_text(json.dumps(models.CONFIGS["clip"]))
    open_clip.add_model_config(tmp_path / "configs")
    weights = load_file(local_dirs["clip"] / "open_clip_model.safetensors")
    save_file(weights, tmp_path / "w.safetensors")
    torch.save(weights, tmp_path / "w.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}, "epoch": 3}, tmp_path / "training.pt")
    expected = load_encoder(f"local-dir:{local_dirs['clip']}", device="cpu")
    for name in ("w.safetensors", "w.pt", "training.pt"):
        encoder = load_encoder(f"small-clip-of-the-tests:{tmp_path / name}", device="cpu")
        assert encoder.fingerprint == expected.fingerprint
        np.testing.assert_array_equal(encoder.encode_texts(["cat"]), expected.encode_texts(["cat"]))


def test_other_weights_or_precision_have_another_fingerprint(
    tmp_path: Path, local_dirs: dict[str, Path], encoders: dict[str, OpenClipEncoder]
) -> None:
    other = Path(shutil.copytree(local_dirs["clip"], tmp_path / "other"))
    weights = load_file(other / "open_clip_model.safetensors")
    weights["visual.proj"][0, 0] += 1e-3
    save_file(weights, other / "open_clip_model.safetensors")
    low = load_encoder(f"local-dir:{local_dirs['clip']}", device="cpu", precision="bf16")
    prints = {
        encoders["clip"].fingerprint,
        load_encoder(f"local-dir:{other}", device="cpu").fingerprint,
        low.fingerprint,
    }
    assert len(prints) == 3
    assert (low.encode_images(IMAGES) * encoders["clip"].encode_images(IMAGES)).sum(axis=1).min() > 0.95
    assert (low.encode_texts(TEXTS) * encoders["clip"].encode_texts(TEXTS)).sum(axis=1).min() > 0.9


def test_cli_and_http_take_any_spec(run: Run, local_dirs: dict[str, Path], tmp_path: Path) -> None:
    spec = f"local-dir:{local_dirs['clip']}"
    options = ("--labels", "cat,dog", "--json")
    by_flag = run("classify", PHOTOS / "cat.jpg", *options, "--model", spec)
    by_setting = run("classify", PHOTOS / "cat.jpg", *options, ZEROSHOT_MODEL=spec)
    assert by_flag.returncode == 0, by_flag.stderr
    assert json.loads(by_flag.stdout)["model"] == spec
    assert by_flag.stdout == by_setting.stdout
    assert by_flag.stderr == ""
    with running_server(tmp_path, "--model", spec) as url, (PHOTOS / "cat.jpg").open("rb") as file:
        answer = httpx.post(f"{url}/v1/classify", files={"image": file}, data={"labels": ["cat", "dog"]}).json()
    expected = json.loads(by_flag.stdout)
    assert answer["model"] == spec
    assert [p["score"] for p in answer["predictions"]] == pytest.approx(
        [p["score"] for p in expected["predictions"]], abs=1e-6
    )


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("ViT-B-33:openai", UnknownModel, "Did you mean ViT-B-32"),
        ("ViT-B-32:nothing", UnknownModel, "ViT-B-32:laion2b_s34b_b79k"),
        ("ViT-B-32", UnknownModel, "ViT-B-32:openai"),
        ("ViT-B-32:", UnknownModel, "ViT-B-32:openai"),
        ("ViT-B-32:/nowhere/weights.pt", ModelUnavailable, "does not exist"),
        ("local-dir:/nowhere", ModelUnavailable, "not a folder"),
        ("hf-hub:name", UnknownModel, "hf-hub:ORG/NAME"),
    ],
)
def test_specs_that_lead_nowhere_are_named(spec: str, error: type[ModelError], message: str) -> None:
    with pytest.raises(error) as caught:
        load_encoder(spec)
    assert message in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with"),
        (b"<!DOCTYPE html><html>" + b" " * 100, "begins with"),
        (b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 100, "Git LFS pointer"),
        (b"\x00" * 500, "cannot be loaded"),
        (os.urandom(5000), "cannot be loaded"),
    ],
    ids=["empty", "a web page", "an LFS pointer", "zeros", "noise"],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_files_that_are_not_weights_are_named(tmp_path: Path, suffix: str, content: bytes, message: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelCorrupt) as caught:
        load_encoder(f"RN50:{path}")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_truncated_and_mismatched_weights_are_named(tmp_path: Path, local_dirs: dict[str, Path]) -> None:
    whole = (local_dirs["clip"] / "open_clip_model.safetensors").read_bytes()
    folder = Path(shutil.copytree(local_dirs["clip"], tmp_path / "broken"))
    (folder / "open_clip_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelCorrupt, match="cannot be loaded"):
        load_encoder(f"local-dir:{folder}")
    shutil.copy(local_dirs["resnet"] / "open_clip_model.safetensors", folder)
    with pytest.raises(ModelCorrupt, match="Missing key"):
        load_encoder(f"local-dir:{folder}")
    (folder / "open_clip_config.json").write_text("{")
    with pytest.raises(ModelCorrupt):
        load_encoder(f"local-dir:{folder}")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="no weights"):
        load_encoder(f"local-dir:{folder}")
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"open_clip_config\.json"):
        load_encoder(f"local-dir:{folder}")


def test_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"weights": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ModelCorrupt):
        load_encoder(f"RN50:{tmp_path / 'evil.pt'}")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("variables", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
@pytest.mark.parametrize("spec", ["ViT-B-32:laion2b_s34b_b79k", "hf-hub:org/name", "ViT-B-16-SigLIP:webli"])
def test_without_network_one_message_within_seconds_names_the_ways_out(
    tmp_path: Path, spec: str, variables: dict[str, str]
) -> None:
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"), **variables}
    start = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-m", "zeroshot", "classify", PHOTOS / "cat.jpg", "--labels", "cat,dog", "--model", spec],
        env=environment(tmp_path, **variables),
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 2
    assert time.monotonic() - start < 30  # most of it importing torch
    assert len(finished.stderr.splitlines()) == 1
    for part in (spec, str(tmp_path / "hf"), "HF_HOME", "mirror", "local-dir:", "tiny"):
        assert part in finished.stderr


def test_a_tokenizer_that_lives_on_a_hub_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = models.save_local_dir("siglip", tmp_path / "siglip")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    encoder = load_encoder(f"local-dir:{folder}", device="cpu")
    assert encoder.encode_images(IMAGES).shape == (len(IMAGES), 64)  # images need no tokenizer
    with pytest.raises(ModelUnavailable, match="tokenizer"):
        encoder.encode_texts(["cat"])


def test_device_and_precision_are_checked(local_dirs: dict[str, Path]) -> None:
    spec = f"local-dir:{local_dirs['clip']}"
    with pytest.raises(OptionError, match="device='gpu9'"):
        load_encoder(spec, device="gpu9")
    with pytest.raises(OptionError, match="precision='int4'"):
        load_encoder(spec, precision="int4")
    with pytest.raises(OptionError, match="runs on the CPU"):
        load_encoder("tiny", device="cuda")


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture", ["ViT-B-32", "ViT-B-16-SigLIP", "MobileCLIP-S1", "RN50", "convnext_base", "coca_ViT-B-32"]
)
def test_full_size_architectures_give_open_clips_numbers(architecture: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = open_clip.create_model(architecture)
    path = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in saved.state_dict().items()}, path)
    del saved
    encoder = load_encoder(f"{architecture}:{path}", device="cpu")
    model, _, transform = open_clip.create_model_and_transforms(architecture, pretrained=str(path))
    model.eval()
    length, vocabulary = model.context_length, getattr(model, "text", model).vocab_size
    generator = torch.Generator().manual_seed(1)
    ids = torch.zeros(5, length, dtype=torch.long)
    for row in range(5):
        ids[row, : 3 * row + 2] = torch.randint(1, vocabulary - 1, (3 * row + 2,), generator=generator)
        ids[row, 3 * row + 2] = vocabulary - 1
    with torch.no_grad():
        images = model.encode_image(torch.stack([transform(image) for image in IMAGES]), normalize=True)
        texts = model.encode_text(ids, normalize=True)
    np.testing.assert_allclose(encoder.encode_images(IMAGES), images.numpy(), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_tokens(ids.tolist()), texts.numpy(), atol=1e-5)
    assert encoder.causal_texts == (architecture in ("ViT-B-32", "RN50", "convnext_base"))
    if architecture != "ViT-B-16-SigLIP":  # whose tokenizer lives on a hub
        tokenizer = open_clip.get_tokenizer(architecture)
        theirs = open_clip.build_zero_shot_classifier(model, tokenizer, NAMES, open_clip.SIMPLE_IMAGENET_TEMPLATES)
        ours = class_matrix(encoder, parse_labels(NAMES), load_templates("simple"))
        np.testing.assert_allclose(ours, theirs.T.numpy(), atol=1e-5)
