"""Every one of open_clip's tags is what its publisher says it is, through the spec that people type: ``ARCH:TAG``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import open_clip
import pytest

from tests.hub_cache import environment_of, put, put_tokenizer, weights_name
from tests.images import ROOT
from zeroshot.encoders.checkpoints import define
from zeroshot.errors import UnknownModel

TAGS = open_clip.list_pretrained()
_ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1}
_NLLB = {"model_type": "m2m_100", "vocab_size": 256206, "max_position_embeddings": 1024}
HF_TEXT_TOWERS = {  # what their config.json says, as far as it decides the tower
    "roberta-base": {**_ROBERTA, "model_type": "roberta", "vocab_size": 50265},
    "xlm-roberta-base": {**_ROBERTA, "model_type": "xlm-roberta", "vocab_size": 250002},
    "xlm-roberta-large": {
        **_ROBERTA, "model_type": "xlm-roberta", "vocab_size": 250002, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096,
    },
    "facebook/nllb-200-distilled-600M": _NLLB,
    "facebook/nllb-200-distilled-1.3B": {**_NLLB, "encoder_layers": 24, "encoder_ffn_dim": 8192},
}  # fmt: skip


def run_side(name: str, cache: Path, *arguments: str) -> dict[str, object]:
    """What ``tests/sides/NAME.py`` finds in a process of its own, whose hub cache is the test's."""
    finished = subprocess.run(
        [sys.executable, "-m", f"tests.sides.{name}", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment_of(cache)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return json.loads(finished.stdout.splitlines()[-1])


def test_there_are_as_many_tags_as_when_this_was_written() -> None:
    assert len(TAGS) >= 196


@pytest.mark.parametrize("tag", [f"{name}:{tag}" for name, tag in TAGS])
def test_a_tags_definition_is_its_publishers(tag: str) -> None:
    name, _, own = tag.partition(":")
    entry, config = open_clip.get_pretrained_cfg(name, own), open_clip.get_model_config(name)
    found = define(tag, name, own)
    for field in ("mean", "std", "interpolation", "resize_mode"):
        assert found.preprocessing[field] == entry[field]
    assert found.model_config.get("quick_gelu", False) == (entry.get("quick_gelu") or config.get("quick_gelu", False))
    assert {k: v for k, v in found.model_config.items() if k != "quick_gelu"} == {
        k: v for k, v in config.items() if k != "quick_gelu"
    }
    assert bool(found.notes) == (bool(entry.get("quick_gelu")) and not config.get("quick_gelu"))


def test_tags_are_found_as_open_clip_finds_them() -> None:
    assert define("", "ViT-B-32", "laion2b-s34b-B79K") == define("", "ViT-B/32", "laion2b_s34b_b79k")
    with pytest.raises(UnknownModel, match="laion2b_s34b_b79k"):
        define("ViT-B-32:laion", "ViT-B-32", "laion")


def test_an_activation_that_the_name_does_not_say_is_said() -> None:
    (note,) = define("", "ViT-B-32", "openai").notes
    assert note == "ViT-B-32:openai was trained with QuickGELU and is built with it."
    assert define("", "ViT-B-32-quickgelu", "openai").notes == ()


def test_a_file_of_weights_is_said_not_to_tell_what_its_architectures_tags_differ_in() -> None:
    (note,) = define("", "ViT-L-14", None).notes
    assert "openai" in note
    assert "QuickGELU" in note
    assert "laion2b_s32b_b82k (mean 0.5/0.5/0.5, std 0.5/0.5/0.5)" in note
    assert "ViT-L-14:" in note
    assert "@/path" in note
    assert define("", "ViT-B-32-256", None).notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["ViT-B-16-SigLIP:webli", "roberta-ViT-B-32:laion2b_s12b_b32k"])
def test_a_package_that_is_not_installed_is_named_with_the_line_to_type(spec: str, tmp_path: Path) -> None:
    name, _, tag = spec.partition(":")
    put(tmp_path, *weights_name(name, tag), b"\x00" * 100)
    put_tokenizer(tmp_path, open_clip.get_model_config(name)["text_cfg"]["hf_tokenizer_name"])
    program = (
        "import sys; sys.modules['transformers'] = None\n"
        "from zeroshot.encoders.checkpoints import resolve\n"
        "from zeroshot.encoders.tokenization import load_tokenizer\n"
        "from zeroshot.errors import MissingDependency\n"
        "try:\n"
        "    found = resolve(sys.argv[1])\n"
        "    load_tokenizer(found.spec, found.tokenizer, found.tokenizer_folder, trust_remote_code=False)\n"
        "except MissingDependency as error: print(error)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, spec],
        cwd=ROOT,
        env={**os.environ, **environment_of(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert "needs transformers, which is not installed. Run: pip install transformers" in finished.stdout


@pytest.mark.slow
def test_every_tag_is_built_as_open_clip_builds_it(tmp_path: Path) -> None:
    """Modules, activation, pooling, context, preprocessing and tokens; on torch's meta device, without weights."""
    tokenizers = set()
    for name, tag in TAGS:
        put(tmp_path, *weights_name(name, tag), b"\x00" * 100)
        text = open_clip.get_model_config(name)["text_cfg"]
        tokenizers |= {text["hf_tokenizer_name"]} if text.get("hf_tokenizer_name") else set()
    for repository in tokenizers:
        put_tokenizer(tmp_path, repository)
    for repository, config in HF_TEXT_TOWERS.items():
        put(tmp_path, repository, "config.json", json.dumps(config).encode())
    found = run_side("every_tag", tmp_path)
    assert found["compared"] == len(TAGS)
    assert found["different"] == {}


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    FAMILIES = {  # one tag of each family, and whether it is exported too
        "openai": ("ViT-B-32:openai", True),
        "laion2b": ("ViT-B-32:laion2b_s34b_b79k", False),
        "SigLIP": ("ViT-B-16-SigLIP:webli", True),
        "SigLIP 2": ("ViT-B-32-SigLIP2-256:webli", False),
        "MobileCLIP": ("MobileCLIP-S1:datacompdr", True),
        "MobileCLIP 2": ("MobileCLIP2-S0:dfndr2b", False),
        "PE-Core": ("PE-Core-T-16-384:meta", True),
        "DFN": ("ViT-B-16:dfn2b", False),
        "DFN 5B": ("ViT-H-14:dfn5b", False),
        "MetaCLIP": ("ViT-B-32:metaclip_400m", False),
        "CoCa": ("coca_ViT-B-32:laion2b_s13b_b90k", True),
        "ResNet": ("RN50:openai", True),
        "RoBERTa": ("roberta-ViT-B-32:laion2b_s12b_b32k", False),
    }


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_checkpoint_gives_open_clips_numbers(family: str, tmp_path: Path) -> None:
    spec, exported = FAMILIES[family]
    name, _, tag = spec.partition(":")
    text = open_clip.get_model_config(name)["text_cfg"]
    if text.get("hf_tokenizer_name"):
        put_tokenizer(tmp_path, text["hf_tokenizer_name"])
    if text.get("hf_model_name"):
        put(tmp_path, text["hf_model_name"], "config.json", json.dumps(HF_TEXT_TOWERS[text["hf_model_name"]]).encode())
    run_side("random_weights", tmp_path, name, str(tmp_path / "weights.safetensors"))
    put(tmp_path, *weights_name(name, tag), tmp_path / "weights.safetensors")
    found = run_side("one_tag", tmp_path, spec, *([str(tmp_path / "export")] if exported else []))
    entry = open_clip.get_pretrained_cfg(name, tag)
    assert found["input"] <= 1e-6
    assert found["image"] <= 1e-5
    assert found["text"] <= 1e-5
    assert found["apart"] < 0.9999  # or the comparison would prove little
    assert found["quick_gelu"] == (entry.get("quick_gelu") or open_clip.get_model_config(name).get("quick_gelu", False))
    assert found["repeats_the_publisher"]
    if exported:
        assert found["exported_preprocessing_is_equal"]
        assert found["exported_image"] <= 1e-4
        assert found["exported_text"] <= 1e-4
