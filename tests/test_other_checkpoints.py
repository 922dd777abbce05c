"""OpenAI's archives and Hugging Face's CLIP checkpoints give the numbers of their own libraries."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import packaging.version
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import clip_checkpoints as making
from tests.conftest import Run
from tests.hub_cache import environment_of, put
from tests.images import PHOTOS, ROOT, cat
from zeroshot import load_encoder
from zeroshot.encoders.export import export
from zeroshot.errors import ModelCorrupt, ModelError, ModelUnavailable, ModelWarning

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

IMAGES = [cat(), cat().rotate(90, expand=True), Image.open(PHOTOS / "rocket.jpg").convert("RGB").crop((0, 0, 301, 207))]
TEXTS = ["cat", "", "a photo of a cat.", "It's five o'clock", "caf\u00e9 \u6771\u4eac", "A  Dog", "word " * 200]


@pytest.fixture(scope="module")
def small_architectures(tmp_path_factory: pytest.TempPathFactory) -> None:
    """open_clip's configurations of the shapes that the tests' models have."""
    folder = tmp_path_factory.mktemp("configs")
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}
    vision = {"image_size": 64, "width": 64}
    for name, more in {
        "small-vit": {"layers": 2, "patch_size": 16},
        "small-resnet": {"layers": [1, 1, 1, 1], "patch_size": None},
    }.items():
        config = {"embed_dim": 64, "vision_cfg": {**vision, **more}, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@pytest.mark.parametrize("kind", ["small-vit", "small-resnet"])
def test_an_archive_of_openais_gives_the_numbers_of_openais_library(
    kind: str, small_architectures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pkg_resources", types.SimpleNamespace(packaging=packaging))
    import clip

    original = making.openai_model(resnet=kind == "small-resnet")
    path = making.save_archive(original, tmp_path / "openai.pt")
    theirs, transform = clip.load(str(path), device="cpu")
    with torch.no_grad():
        images = theirs.encode_image(torch.stack([transform(image) for image in IMAGES])).numpy()
        texts = theirs.encode_text(clip.tokenize(TEXTS, truncate=True)).numpy()
    with pytest.warns(ModelWarning, match="QuickGELU"):
        encoder = load_encoder(f"{kind}:{path}", device="cpu")
    np.testing.assert_allclose(
        np.stack([encoder.preprocessing(i) for i in IMAGES]), torch.stack([transform(i) for i in IMAGES]), atol=1e-6
    )
    np.testing.assert_allclose(encoder.encode_images(IMAGES), unit(images), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), unit(texts), atol=1e-5)
    assert encoder.logit_scale == pytest.approx(float(theirs.logit_scale.detach().exp()), rel=1e-5)


@pytest.mark.slow
def test_an_archive_is_read_without_running_any_of_it(small_architectures: None, tmp_path: Path) -> None:
    path = making.save_archive(making.openai_model(), tmp_path / "openai.pt")
    program = (
        "import sys, torch, open_clip, warnings; warnings.simplefilter('ignore')\n"
        "def refuse(*_, **__): raise SystemExit('it was run')\n"
        "torch.jit.load = torch.jit._serialization.load = torch._C.import_ir_module = refuse\n"
        "from zeroshot.encoders.openai_archive import read_archive\n"
        "from pathlib import Path\n"
        "print(len(read_archive(Path(sys.argv[1]))))"
    )
    finished = subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True)
    assert int(finished.stdout) > 20, finished.stderr


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize(
    "change",
    ["a pickle that runs code", "a cut storage", "a missing storage", "a compressed member", "noise", "no module"],
)
def test_an_archive_that_is_not_one_is_refused(change: str, small_architectures: None, tmp_path: Path) -> None:
    path, target = making.save_archive(making.openai_model(), tmp_path / "good.pt"), tmp_path / "bad.pt"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(target, "w") as bad:
        for info in good.infolist():
            content = good.read(info)
            if info.filename.endswith("/data.pkl"):
                if change == "a pickle that runs code":
                    content = pickle.dumps(Evil(tmp_path / "ran"))
                elif change == "noise":
                    content = bytes(range(256)) * 4
                elif change == "no module":
                    content = pickle.dumps({"a": 1})
            if info.filename.endswith("/data/3"):
                if change == "a missing storage":
                    continue
                content = content[: len(content) // 4 * 2] if change == "a cut storage" else content
            how = zipfile.ZIP_DEFLATED if change == "a compressed member" else zipfile.ZIP_STORED
            bad.writestr(info.filename, content, how)
    with pytest.raises(ModelCorrupt, match=r"bad\.pt"):
        load_encoder(f"small-vit:{target}", device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def hugging_face(tmp_path: Path) -> Path:
    """A whole checkpoint: model, image processor, tokenizer."""
    folder = tmp_path / "checkpoint"
    making.hugging_face_model().save_pretrained(folder)
    processor().save_pretrained(folder)
    making.save_vocabulary(folder)
    return folder


def processor(**options: Any) -> Any:
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}, **options)


def theirs_of(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input, image vectors and text vectors as ``transformers`` makes them."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(IMAGES, return_tensors="pt").pixel_values
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    tokens = tokenizer(TEXTS, return_tensors="pt", padding="max_length", truncation=True, max_length=77)
    with torch.no_grad():
        output = model(pixel_values=pixels, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
    return pixels.numpy(), output.image_embeds.numpy(), output.text_embeds.numpy()


@pytest.mark.parametrize(
    ("activation", "text"),
    [
        ("quick_gelu", {"eos_token_id": 49407}),
        ("quick_gelu", {"eos_token_id": 2, "bos_token_id": 0}),  # as the first checkpoints have it
        ("gelu", {"eos_token_id": 49407, "layer_norm_eps": 1e-4}),
        ("gelu_pytorch_tanh", {"eos_token_id": 49407, "max_position_embeddings": 77}),
    ],
)
def test_a_hugging_face_checkpoint_gives_the_numbers_of_transformers(
    activation: str, text: dict[str, Any], tmp_path: Path
) -> None:
    making.hugging_face_model(activation, **text).save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    making.save_vocabulary(tmp_path)
    pixels, images, texts = theirs_of(tmp_path)
    encoder = load_encoder(f"local-dir:{tmp_path}", device="cpu")
    np.testing.assert_allclose(np.stack([encoder.preprocessing(image) for image in IMAGES]), pixels, atol=1e-6)
    np.testing.assert_allclose(encoder.encode_images(IMAGES), images, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)
    assert np.triu(texts[[0, 2, 3]] @ texts[[0, 2, 3]].T, 1).max() < 0.9999  # or it would prove little


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"height": 64, "width": 64}, "do_center_crop": False},
        {"resample": 2},
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.4, 0.3]},
        {"size": {"shortest_edge": 80}},
        {"rescale_factor": 1 / 128},
        {"do_normalize": False},
    ],
    ids=str,
)
def test_every_usual_preprocessing_of_transformers_is_done_as_it_does_it(
    options: dict[str, Any], hugging_face: Path
) -> None:
    given = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}, **options}
    from transformers import CLIPImageProcessorPil

    CLIPImageProcessorPil(**given).save_pretrained(hugging_face)
    pixels = theirs_of(hugging_face)[0]
    encoder = load_encoder(f"local-dir:{hugging_face}", device="cpu")
    np.testing.assert_allclose(np.stack([encoder.preprocessing(image) for image in IMAGES]), pixels, atol=1e-5)


def test_the_older_names_of_its_configuration_win_as_they_do_in_transformers(hugging_face: Path) -> None:
    config = json.loads((hugging_face / "config.json").read_text())
    shape = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    older = {name: config["text_config"][name] for name in shape}
    config |= {"text_config_dict": older, "vision_config_dict": None}
    config["text_config"] |= {"hidden_act": "gelu", "num_attention_heads": 2}
    (hugging_face / "config.json").write_text(json.dumps(config))
    _, images, texts = theirs_of(hugging_face)
    encoder = load_encoder(f"local-dir:{hugging_face}", device="cpu")
    np.testing.assert_allclose(encoder.encode_images(IMAGES), images, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), texts, atol=1e-5)


@pytest.mark.slow
def test_transformers_is_not_needed_for_it(hugging_face: Path, tmp_path: Path) -> None:
    expected = load_encoder(f"local-dir:{hugging_face}", device="cpu").encode_texts(TEXTS)
    program = (
        "import sys, numpy\n"
        "sys.modules['transformers'] = None\n"
        "import zeroshot\n"
        "encoder = zeroshot.load_encoder(sys.argv[1], device='cpu')\n"
        f"numpy.save(sys.argv[2], encoder.encode_texts({TEXTS!r}))"
    )
    arguments = [sys.executable, "-c", program, f"local-dir:{hugging_face}", str(tmp_path / "texts.npy")]
    finished = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    np.testing.assert_allclose(np.load(tmp_path / "texts.npy"), expected, atol=1e-6)


def test_every_form_of_its_files_is_the_same_model(hugging_face: Path, tmp_path: Path) -> None:
    expected = load_encoder(f"local-dir:{hugging_face}", device="cpu")
    weights = load_file(hugging_face / "model.safetensors")
    parts = shutil.copytree(hugging_face, tmp_path / "parts")
    (parts / "model.safetensors").unlink()
    names = sorted(weights)
    index = {}
    for number, some in enumerate((names[:20], names[20:]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in some}, parts / file)
        index |= dict.fromkeys(some, file)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    old = shutil.copytree(hugging_face, tmp_path / "old")
    (old / "model.safetensors").unlink()
    torch.save(weights, old / "pytorch_model.bin")
    fast = shutil.copytree(hugging_face, tmp_path / "fast")
    from transformers import CLIPTokenizer

    CLIPTokenizer.from_pretrained(hugging_face).save_pretrained(fast)
    (fast / "merges.txt").unlink()
    for folder in (parts, old, fast):
        encoder = load_encoder(f"local-dir:{folder}", device="cpu")
        np.testing.assert_array_equal(encoder.encode_texts(TEXTS), expected.encode_texts(TEXTS))
        assert encoder.fingerprint == expected.fingerprint


def test_what_its_folder_does_not_say_is_clips_own_and_is_told(hugging_face: Path) -> None:
    expected = load_encoder(f"local-dir:{hugging_face}", device="cpu")
    cat = expected.encode_texts(["cat"])
    for path in hugging_face.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    with pytest.warns(ModelWarning, match=r"no preprocessor_config\.json and no tokenizer \(.*CLIP's own is taken"):
        encoder = load_encoder(f"local-dir:{hugging_face}", device="cpu")
    np.testing.assert_allclose(encoder.encode_images(IMAGES), expected.encode_images(IMAGES), atol=1e-6)
    np.testing.assert_allclose(encoder.encode_texts(["cat"]), cat, atol=1e-6)
    (hugging_face / "config.json").unlink()
    making.hugging_face_model(vocab_size=49500, eos_token_id=49499).save_pretrained(hugging_face)
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        load_encoder(f"local-dir:{hugging_face}", device="cpu")


@pytest.mark.parametrize("half", ["vocab.json", "merges.txt"])
def test_half_a_tokenizer_is_none_and_is_told(hugging_face: Path, half: str) -> None:
    expected = load_encoder(f"local-dir:{hugging_face}", device="cpu").encode_texts(["a cat"])
    (hugging_face / half).unlink()
    with pytest.warns(ModelWarning, match=r"no tokenizer \(tokenizer\.json, or vocab\.json and merges\.txt\)"):
        encoder = load_encoder(f"local-dir:{hugging_face}", device="cpu")
    np.testing.assert_allclose(encoder.encode_texts(["a cat"]), expected, atol=1e-6)  # CLIP's own, as it was


def test_its_file_of_weights_is_taken_beside_an_architecture_if_its_configuration_is_there(
    hugging_face: Path, tmp_path: Path
) -> None:
    shape = {"width": 64, "layers": 2}
    config = {
        "embed_dim": 32,
        "vision_cfg": {**shape, "image_size": 64, "patch_size": 16},
        "text_cfg": {**shape, "context_length": 77, "vocab_size": 49408, "heads": 4},
    }
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small-hf.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "configs")
    expected = load_encoder(f"local-dir:{hugging_face}", device="cpu")
    encoder = load_encoder(f"small-hf:{hugging_face / 'model.safetensors'}", device="cpu")
    assert encoder.fingerprint == expected.fingerprint
    with pytest.raises(ModelCorrupt, match=r"is not a ViT-B-32: .*local-dir:"):
        load_encoder(f"ViT-B-32:{hugging_face / 'model.safetensors'}", device="cpu")
    (hugging_face / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match=r"CLIPModel of transformers, and .*config\.json"):
        load_encoder(f"ViT-B-32:{hugging_face / 'model.safetensors'}", device="cpu")


def test_other_kinds_of_checkpoints_are_named(hugging_face: Path) -> None:
    config = json.loads((hugging_face / "config.json").read_text())
    (hugging_face / "config.json").write_text(json.dumps({**config, "model_type": "siglip"}))
    with pytest.raises(ModelError, match="type 'siglip'"):
        load_encoder(f"local-dir:{hugging_face}")
    for part, change in (("vision_config", {"hidden_act": "relu"}), ("text_config", {"num_hidden_layers": -1})):
        (hugging_face / "config.json").write_text(json.dumps({**config, part: {**config[part], **change}}))
        with pytest.raises(ModelError):
            load_encoder(f"local-dir:{hugging_face}")
    (hugging_face / "config.json").write_text(json.dumps(config))
    (hugging_face / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 64}}))
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        load_encoder(f"local-dir:{hugging_face}")


@pytest.mark.slow
def test_a_repository_of_the_hub_in_that_form_is_loaded_from_the_cache(
    run: Run, hugging_face: Path, tmp_path: Path
) -> None:
    for path in hugging_face.iterdir():
        put(tmp_path / "hub", "openai/clip-of-the-tests", path.name, path.read_bytes())
    cache = environment_of(tmp_path / "hub")
    arguments = ("classify", PHOTOS / "cat.jpg", "--labels", "cat,dog", "--json")
    local = run(*arguments, "--model", f"local-dir:{hugging_face}")
    hub = run(*arguments, "--model", "hf-hub:openai/clip-of-the-tests", **cache)
    assert hub.returncode == 0, hub.stderr
    assert json.loads(hub.stdout)["predictions"] == json.loads(local.stdout)["predictions"]
    assert hub.stderr == local.stderr == ""


@pytest.mark.slow
def test_both_are_exported_as_they_are(hugging_face: Path, small_architectures: None, tmp_path: Path) -> None:
    archive = making.save_archive(making.openai_model(), tmp_path / "openai.pt")
    with pytest.warns(ModelWarning):
        encoders = [load_encoder(f"local-dir:{hugging_face}"), load_encoder(f"small-vit:{archive}", device="cpu")]
    for number, encoder in enumerate(encoders):
        export(encoder, tmp_path / str(number), images=sorted(PHOTOS.glob("*.jpg"))[:2])
        served = load_encoder(f"onnx:{tmp_path / str(number)}")
        assert served.preprocessing == encoder.preprocessing
        np.testing.assert_allclose(served.encode_images(IMAGES), encoder.encode_images(IMAGES), atol=1e-4)
        np.testing.assert_allclose(served.encode_texts(TEXTS), encoder.encode_texts(TEXTS), atol=1e-4)
        assert str(tmp_path).encode() not in (tmp_path / str(number) / "config.json").read_bytes()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
