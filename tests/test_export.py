"""Exported models: the same vectors and tokens, no torch, and all or nothing on disk."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import open_clip
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import models
from tests.conftest import Run, environment
from tests.images import PHOTOS, ROOT, cat
from zeroshot import Encoder, load_encoder
from zeroshot.encoders import export as exporting
from zeroshot.encoders import onnx as serving
from zeroshot.encoders.export import ExportReport, export
from zeroshot.errors import ModelError, OptionError

IMAGES = sorted(PHOTOS.glob("*.jpg"))
TEXTS = ["cat", "", "a photo of a cat.", "a photo of a dog.", "A &amp;amp; B", "東京🐈", "word " * 200, "x"]


Exported = Callable[..., tuple[Encoder, Encoder, ExportReport]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Original, exported and report of a family, made when first asked for."""
    root = tmp_path_factory.mktemp("export")

    @cache
    def make(family: str, precision: str = "fp32") -> tuple[Encoder, Encoder, ExportReport]:
        original = load_encoder(f"local-dir:{models.save_local_dir(family, root / 'src' / family)}", device="cpu")
        report = export(original, root / f"{family}-{precision}", images=IMAGES, precision=precision)
        return original, load_encoder(f"onnx:{report.directory}"), report

    return make


QUICK = ("clip", "siglip")  # the others take some ten seconds each


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in models.CONFIGS]
)
def test_an_exported_model_gives_the_originals_vectors(exported: Exported, family: str) -> None:
    original, served, report = exported(family)
    images = [cat().rotate(turn) for turn in range(0, 90, 10)]
    np.testing.assert_allclose(served.encode_images(images), original.encode_images(images), atol=1e-4)
    np.testing.assert_allclose(served.encode_texts(TEXTS), original.encode_texts(TEXTS), atol=1e-4)
    np.testing.assert_allclose(served.encode_texts(["one"]), original.encode_texts(["one"]), atol=1e-4)
    for name in ("dim", "logit_scale", "logit_bias", "preprocessing", "template_set"):
        assert getattr(served, name) == getattr(original, name)
    assert report.image_cosines.shape == (len(IMAGES),)
    assert min(report.image_cosines.min(), report.text_cosines.min()) > 0.9999


def test_int8_stays_close_and_no_image_changes_anothers_vector(
    exported: Exported,
) -> None:
    original, served, report = exported("clip", "int8")
    assert report.image_cosines.min() >= 0.99
    images = [cat().rotate(turn) for turn in range(0, 90, 10)]
    together = served.encode_images(images)
    apart = np.concatenate([served.encode_images([image]) for image in images])
    np.testing.assert_allclose(together, apart, atol=1e-6)
    assert np.abs(together - original.encode_images(images)).max() > 1e-6  # it really is quantised
    np.testing.assert_allclose(served.encode_texts(TEXTS), original.encode_texts(TEXTS), atol=1e-4)
    graph = onnx.load(Path(served.spec.removeprefix("onnx:")) / "image.onnx").graph
    codes = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert max(int(np.abs(code.astype(int)).max()) for code in codes if code.ndim > 1) <= 64  # saturates nowhere


def strings() -> list[str]:
    """Some 7,000 texts: most printable characters, entities, mojibake, case, and ImageNet's names in templates."""
    points = [chr(code) for code in [*range(0x20, 0x3000), *range(0x1F300, 0x1FA00)]]
    points = [point for point in points if unicodedata.category(point)[0] != "C"]
    random.Random(3).shuffle(points)  # noqa: S311
    mixed = ["".join(points[start : start + 3]) for start in range(0, len(points), 3)]
    templates = open_clip.OPENAI_IMAGENET_TEMPLATES[:2]
    words = [template(name) for name in open_clip.IMAGENET_CLASSNAMES for template in templates]
    special = [
        "&lt;b&gt; &amp;amp; &#39;",
        "schÃ¶n",
        "don't we'll I'VE it'S",
        "a\tb\n c\r",
        "...!?--",
        "١٢٣ ½ ²",
        "ﬁ Ⅷ",
    ]
    special += [
        "x" * 500,
        "word " * 300,
        "🐈" * 100,
        "e\u0301 é",
        "İstanbul ẞ",
        "<start_of_text> a",
        "a <end_of_text> b",
    ]
    return [*mixed, *words, *special, "", " ", *(word.upper() for word in words[:200])]


def test_the_exported_tokenizer_tokenises_exactly_as_open_clips(
    exported: Exported,
) -> None:
    original, served, _ = exported("clip")
    texts = strings()
    assert len(texts) > 5000
    theirs = [tuple(ids) for ids in original._tokenize(texts)]
    ours = [tuple(ids) for ids in served._tokenize(texts)]
    assert [t for t, a, b in zip(texts, theirs, ours, strict=True) if a != b] == []
    assert max(map(len, ours)) == 77


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_tokenised_alike(exported: Exported, text: str) -> None:
    for family in ("clip", "siglip"):
        original, served, _ = exported(family)
        assert served._tokenize([text]) == original._tokenize([text])


def test_serving_it_needs_no_torch(exported: Exported, tmp_path: Path) -> None:
    program = (
        "import sys, zeroshot\n"
        "for name in ('torch', 'open_clip', 'transformers', 'onnx'): sys.modules[name] = None\n"
        "classifier = zeroshot.ZeroShotClassifier(sys.argv[1])\n"
        "print(len(classifier.classify(sys.argv[2], ['cat', 'dog'], templates='photo').predictions))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, exported("clip")[1].spec, IMAGES[0]],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert finished.stdout == "2\n", finished.stderr


def test_nothing_of_this_machine_is_in_the_files(
    exported: Exported,
) -> None:
    for path in exported("clip")[2].directory.iterdir():
        assert str(ROOT).encode() not in path.read_bytes()
        assert b"site-packages" not in path.read_bytes()


@pytest.mark.slow
def test_weights_beyond_protobufs_limit_go_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_PROTOBUF_LIMIT", 0)  # the real limit would need a model of 2 GB
    original = load_encoder(f"local-dir:{models.save_local_dir('clip', tmp_path / 'src')}", device="cpu")
    export(original, tmp_path / "out", images=IMAGES)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["files"].keys() >= {
        "image.onnx.data",
        "text.onnx.data",
    }
    served = load_encoder(f"onnx:{tmp_path / 'out'}")
    np.testing.assert_allclose(served.encode_texts(TEXTS), original.encode_texts(TEXTS), atol=1e-4)

    graph = tmp_path / "out" / "image.onnx"
    images, loaded, session = [cat(), cat().rotate(90)], list[str](), onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, *more, **named: loaded.append(path) or session(path, *more, **named),
    )
    for beside, times in ((0, 1), (graph.with_suffix(".onnx.data").stat().st_size, 2)):
        monkeypatch.setattr(serving, "_SMALL_TOWER_BYTES", graph.stat().st_size + beside)
        loaded.clear()
        rows = load_encoder(f"onnx:{tmp_path / 'out'}").encode_images(images)
        np.testing.assert_allclose(rows, original.encode_images(images), atol=1e-4)
        assert loaded.count(str(graph)) == times  # a small tower a second time, for images side by side


@pytest.mark.slow
def test_an_export_below_the_floor_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = load_encoder(f"local-dir:{models.save_local_dir('clip', tmp_path / 'src')}", device="cpu")
    monkeypatch.setitem(exporting.FLOOR, "int8", 1.1)  # no cosine reaches it
    with pytest.raises(ModelError, match="differs from the original: an image's cosine is"):
        export(original, tmp_path / "out", images=IMAGES, precision="int8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_arguments_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    original = load_encoder(f"local-dir:{models.save_local_dir('clip', tmp_path / 'src')}", device="cpu")
    with pytest.raises(OptionError, match="precision='fp8'"):
        export(original, tmp_path / "out", images=IMAGES, precision="fp8")
    with pytest.raises(OptionError, match="no images"):
        export(original, tmp_path / "out", images=[])
    with pytest.raises(OptionError, match="not empty"):
        export(original, tmp_path / "src", images=IMAGES)
    low = load_encoder(f"local-dir:{tmp_path / 'src'}", device="cpu", precision="bf16")
    with pytest.raises(OptionError, match="bf16"):
        export(low, tmp_path / "out", images=IMAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


@pytest.mark.slow
def test_the_command_exports_reports_and_the_result_is_served(run: Run, tmp_path: Path) -> None:
    spec = f"local-dir:{models.save_local_dir('clip', tmp_path / 'src')}"
    finished = run("export", spec, "out", "--precision", "int8")
    assert finished.returncode == 0, finished.stderr
    assert "lowest of 6 images: 0.99" in finished.stdout or "lowest of 6 images: 1.0" in finished.stdout
    assert "--model onnx:out" in finished.stdout
    served = run("classify", PHOTOS / "cat.jpg", "--labels", "cat,dog", "--model", "onnx:out", "--json")
    assert json.loads(served.stdout)["model"] == "onnx:out"
    again = run("export", spec, "out")
    assert again.returncode == 2
    assert "not empty" in again.stderr
    assert run("export", "tiny", "other").returncode == 2
    assert run("export", "ViT-B-32:nothing", "other").returncode == 2
    assert not (tmp_path / "other").exists()
