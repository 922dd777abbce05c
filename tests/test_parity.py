"""The same model, data and prompts give what CLIP_benchmark's own evaluation gives."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.data import write_crops, write_digit_shards
from benchmarks.rivals import python_of
from tests.images import ROOT
from zeroshot import Encoder, ZeroShotClassifier, load_encoder
from zeroshot.datasets import open_dataset
from zeroshot.evaluate.run import Run
from zeroshot.evaluate.vector_cache import VectorCache
from zeroshot.labels import class_matrix
from zeroshot.prompts import load_templates

pytestmark = pytest.mark.slow

PLAIN = ("a photo of a {}.", "{}")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 of scikit-learn's digits as PNG files in three shards of CLIP_benchmark's layout."""
    return write_digit_shards(tmp_path_factory.mktemp("digits"), 300)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of the shipped photos with 40 parts of it."""
    return write_crops(tmp_path_factory.mktemp("crops"), 40)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT-B-32 with random weights, which are enough for code to be compared by."""
    file = tmp_path_factory.mktemp("checkpoint") / "ViT-B-32.safetensors"
    torch.manual_seed(0)
    save_file(open_clip.create_model("ViT-B-32").state_dict(), file)
    return file


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_of("clip-benchmark", tmp_path_factory.mktemp("rivals"))


def theirs(rival: Path, model: str, data: Path, output: Path, *templates: str) -> tuple[dict[str, float], np.ndarray]:
    subprocess.run(
        [str(rival), str(ROOT / "benchmarks/rivals/clip_benchmark_side.py"), model, str(data), str(output)]
        + (["--templates", *templates] if templates else []),
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return json.loads(output.with_suffix(".json").read_text()), np.load(output.with_suffix(".npy"))


@pytest.mark.parametrize("data", ["shards", "crops"])
@pytest.mark.parametrize("model", ["tiny", "ViT-B-32"])
def test_counts_and_class_weights_are_those_of_clip_benchmark(
    model: str, data: str, tiny: Encoder, rival: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(data)
    spec = "tiny" if model == "tiny" else f"ViT-B-32:{request.getfixturevalue('checkpoint')}"
    encoder = tiny if model == "tiny" else load_encoder(spec, device="cpu", precision="fp32")
    dataset = open_dataset(str(folder), home=tmp_path)
    templates = dataset.templates or load_templates(PLAIN)
    cache = VectorCache(tmp_path)
    found = Run(ZeroShotClassifier(encoder), dataset, cache, templates=templates).evaluate().evaluation.single
    cache.close()
    expected, weights = theirs(rival, spec, folder, tmp_path / "theirs", *(PLAIN if data == "crops" else ()))
    assert found is not None
    assert found.top_5_hits is not None
    assert found.images == {"shards": 300, "crops": 240}[data]
    assert found.hits / found.images == pytest.approx(expected["acc1"], abs=1e-9)
    assert found.top_5_hits / found.images == pytest.approx(expected["acc5"], abs=1e-9)
    assert found.mean_per_class_recall.value == pytest.approx(expected["mean_per_class_recall"], abs=1e-9)
    matrix = class_matrix(encoder, Run(ZeroShotClassifier(encoder), dataset, cache).label_set.labels, templates)
    np.testing.assert_allclose(matrix, weights.T, atol=1e-5)
