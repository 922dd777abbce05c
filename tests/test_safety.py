"""Loading a model runs none of its code and reads nothing outside it; nothing is sent or looked up."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.conftest import Run
from tests.hub_cache import environment_of, put
from tests.images import PHOTOS, ROOT, cat
from zeroshot import load_encoder
from zeroshot.encoders import openclip_api
from zeroshot.encoders.registry import TINY_DIRECTORY
from zeroshot.errors import ModelCorrupt, ModelError, ModelWarning

CLASSIFY = ("classify", PHOTOS / "cat.jpg", "--labels", "cat,dog")


def armed(folder: Path, mark: Path, **text: object) -> Path:
    """A SigLIP whose configuration asks for trust and whose tokenizer comes with code, which leaves a mark."""
    models.save_local_dir("siglip", folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"clean": "canonicalize", "trust_remote_code": True}
    config["model_cfg"]["text_cfg"] |= text
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "tok.py").write_text(
        f"open({str(mark)!r}, 'w').close()\n"
        "from transformers import PreTrainedTokenizerFast\n"
        "class Tok(PreTrainedTokenizerFast):\n    pass\n"
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Tok", "auto_map": {"AutoTokenizer": ["tok.Tok", "tok.Tok"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "the-code-ran"


def test_the_code_of_the_tests_would_run_if_the_user_said_so(run: Run, tmp_path: Path, mark: Path) -> None:
    """Or the tests below would prove nothing."""
    spec = f"local-dir:{armed(tmp_path / 'model', mark)}"
    finished = run(*CLASSIFY, "--model", spec, "--trust-remote-code", HF_HOME=str(tmp_path / "hf"))
    assert finished.returncode == 0, finished.stderr
    assert mark.exists()
    assert "warning" not in finished.stderr


SLOW_DOORS = ("variable", "env file", "export", "serve", "hub", "gallery")  # some five seconds each


@pytest.mark.parametrize("door", ["flag", *(pytest.param(door, marks=pytest.mark.slow) for door in SLOW_DOORS)])
def test_no_configuration_gets_its_code_run(door: str, run: Run, tmp_path: Path, mark: Path) -> None:
    folder = armed(tmp_path / "model", mark)
    spec, variables = f"local-dir:{folder}", {"HF_HOME": str(tmp_path / "hf")}
    if door == "hub":
        for path in folder.iterdir():
            put(tmp_path / "hub", "evil/model", path.name, path.read_bytes())
            put(tmp_path / "hub", "evil/tokenizer", path.name, path.read_bytes())
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "evil/tokenizer"
        put(tmp_path / "hub", "evil/model", "open_clip_config.json", json.dumps(config).encode())
        spec, variables = "hf-hub:evil/model", variables | environment_of(tmp_path / "hub")
    (tmp_path / "settings.env").write_text(f"ZEROSHOT_MODEL={spec}\n")
    finished = {
        "flag": lambda: run(*CLASSIFY, "--model", spec, **variables),
        "hub": lambda: run(*CLASSIFY, "--model", spec, **variables),
        "variable": lambda: run(*CLASSIFY, ZEROSHOT_MODEL=spec, **variables),
        "env file": lambda: run(*CLASSIFY, "--env-file", "settings.env", **variables),
        "export": lambda: run("export", spec, "out", **variables),
        "serve": lambda: run("serve", "--check", "--model", spec, "--port", "0", **variables),
        "gallery": lambda: run("index", PHOTOS / "cat.jpg", "--gallery", "g", "--model", spec, **variables),
    }[door]()
    assert not mark.exists()
    assert finished.returncode == 2
    assert "asks for trust_remote_code; its code was not run" in finished.stderr
    assert "needs Python code that comes with the model" in finished.stderr
    assert "--trust-remote-code" in finished.stderr
    assert "download" not in finished.stderr.lower()
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_a_tokenizer_that_loads_others_is_not_loaded(run: Run, tmp_path: Path, mark: Path) -> None:
    """transformers' RagTokenizer loads two more, and asks on its own whether to run their code."""
    folder = armed(tmp_path / "model", mark)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for part in ("question_encoder_tokenizer", "generator_tokenizer"):
        (folder / part).mkdir()
        (folder / part / "tokenizer_config.json").write_text(json.dumps(settings))
        shutil.copy(folder / "tokenizer.json", folder / part)
        shutil.copy(folder / "tok.py", folder / part)
    del settings["auto_map"]
    kinds = {"model_type": "rag", "question_encoder": {"model_type": "vit"}, "generator": {"model_type": "vit"}}
    for declared in ({"tokenizer_class": "RagTokenizer"}, {}, {"tokenizer_class": "PreTrainedTokenizerFast"}):
        own = {name: value for name, value in settings.items() if name != "tokenizer_class"}
        (folder / "tokenizer_config.json").write_text(json.dumps(own | declared))
        (folder / "config.json").write_text(json.dumps(kinds))
        finished = run(*CLASSIFY, "--model", f"local-dir:{folder}", stdin=b"y\ny\ny\n", HF_HOME=str(tmp_path / "hf"))
        assert finished.returncode == 2
        assert "which is not loaded" in finished.stderr
        assert not mark.exists()


@pytest.mark.parametrize("value", ["/dev/zero", "mine.yaml", "../simple", "a photo of a {}.", ""])
def test_a_model_directory_names_a_shipped_template_set(value: str, directory: Path) -> None:
    rewritten(directory, lambda manifest: manifest.update(template_set=value))
    with pytest.raises(ModelCorrupt, match="template_set"):
        load_encoder(f"onnx:{directory}")


def test_a_configuration_that_only_asks_is_served_without(tmp_path: Path, mark: Path) -> None:
    folder = armed(tmp_path / "model", mark)
    plain = models.save_local_dir("siglip", tmp_path / "plain")
    shutil.copy(plain / "tokenizer_config.json", folder)
    with pytest.warns(ModelWarning, match="asks for trust_remote_code"):
        encoder = load_encoder(f"local-dir:{folder}", device="cpu")
    expected = load_encoder(f"local-dir:{plain}", device="cpu").encode_texts(["cat"])
    np.testing.assert_array_equal(encoder.encode_texts(["cat"]), expected)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("text_cfg", {"hf_model_name": "./model"}),
        ("text_cfg", {"hf_model_name": "/etc/model"}),
        ("text_cfg", {"hf_model_name": "../model"}),
        ("text_cfg", {"hf_tokenizer_name": "https://example.org/x"}),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize", "tokenizer_file": "/etc/passwd"}}),
        ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize", "proxies": {"https": "http://example.org"}}}),
        ("text_cfg", {"tokenizer_kwargs": {"code_revision": "main"}}),
        ("text_cfg", {"hf_tokenizer_name": "", "tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}),
        ("text_cfg", {"tokenizer_mode": "other"}),
        ("text_cfg", {"context_length": 10**9}),
        ("text_cfg", {"unknown_field": 1}),
        ("vision_cfg", {"timm_model_name": "hf-hub:evil/model"}),
        ("vision_cfg", {"timm_model_name": "local-dir:/etc"}),
        ("vision_cfg", {"timm_model_name": 3}),
    ],
    ids=str,
)
def test_a_configuration_that_names_another_place_is_refused(
    part: str, change: dict[str, object], tmp_path: Path
) -> None:
    folder = models.save_local_dir("siglip", tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][part] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelCorrupt, match=r"configuration of|has|names"):
        load_encoder(f"local-dir:{folder}", device="cpu")


@pytest.mark.slow
def test_a_text_tower_with_code_of_its_own_is_refused_without_a_question(run: Run, tmp_path: Path, mark: Path) -> None:
    config = {
        "embed_dim": 32,
        "vision_cfg": models.CONFIGS["clip"]["vision_cfg"],
        "text_cfg": {"hf_model_name": "evil/tower", "hf_tokenizer_name": "evil/tower"},
    }
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    (folder / "open_clip_model.safetensors").write_bytes(b"\x00" * 100)
    tower = {"model_type": "odd", "auto_map": {"AutoConfig": "odd.Config", "AutoModel": "odd.Model"}}
    put(tmp_path / "hub", "evil/tower", "config.json", json.dumps(tower).encode())
    put(tmp_path / "hub", "evil/tower", "odd.py", f"open({str(mark)!r}, 'w').close()".encode())
    for trust in ([], ["--trust-remote-code"]):
        finished = run(
            *CLASSIFY, "--model", f"local-dir:{folder}", *trust, stdin=b"y\n", **environment_of(tmp_path / "hub")
        )
        assert finished.returncode == 2
        assert "needs Python code of its own" in finished.stderr
        assert not mark.exists()


@pytest.mark.parametrize("name", ["org/tower", pytest.param("tower", marks=pytest.mark.slow)])
def test_a_folder_named_like_a_repository_does_not_shadow_it(name: str, run: Run, tmp_path: Path, mark: Path) -> None:
    plain = models.save_local_dir("siglip", tmp_path / "plain")
    config = json.loads((plain / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = name
    for path in plain.iterdir():
        if path.name.startswith("tokenizer"):
            put(tmp_path / "hub", name, path.name, path.read_bytes())
        else:
            put(tmp_path / "hub", "org/model", path.name, path.read_bytes())
    put(tmp_path / "hub", "org/model", "open_clip_config.json", json.dumps(config).encode())
    cache = environment_of(tmp_path / "hub")
    before = run(*CLASSIFY, "--json", "--model", "hf-hub:org/model", **cache)
    assert before.returncode == 0, before.stderr
    shadow = armed(tmp_path / name, mark)
    (shadow / "tokenizer.json").write_text("{}")
    after = run(*CLASSIFY, "--json", "--model", "hf-hub:org/model", ZEROSHOT_TEXT_CACHE_BYTES="0", **cache)
    assert after.stdout == before.stdout
    assert not mark.exists()


def test_an_env_file_is_read_where_it_is_named_and_by_serve(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZEROSHOT_MODEL=nothing-of-the-kind\n")
    assert run(*CLASSIFY).returncode == 0
    assert run("models").returncode == 0
    named = run(*CLASSIFY, "--env-file", ".env")
    assert named.returncode == 2
    assert "nothing-of-the-kind" in named.stderr
    assert run("--env-file", ".env", *CLASSIFY).stderr == named.stderr
    assert run(*CLASSIFY, "--env-file", ".env", ZEROSHOT_MODEL="tiny").returncode == 0  # the environment wins
    assert run(*CLASSIFY, "--env-file", ".env", "--model", "tiny").returncode == 0  # so does a flag
    served = run("serve", "--check", "--port", "0")
    assert served.returncode == 2
    assert "nothing-of-the-kind" in served.stderr
    (tmp_path / "other.env").write_text("ZEROSHOT_MODEL=tiny\n")
    assert run("serve", "--check", "--port", "0", "--env-file", "other.env").returncode == 0
    missing = run(*CLASSIFY, "--env-file", "missing.env")
    assert missing.returncode == 2
    assert "missing.env is not a file" in missing.stderr
    (tmp_path / "binary.env").write_bytes(b"\xff\xfe\x00")
    assert run(*CLASSIFY, "--env-file", "binary.env").returncode == 2


@pytest.mark.slow
def test_nothing_but_the_flag_trusts_a_models_code(run: Run, tmp_path: Path, mark: Path) -> None:
    folder = armed(tmp_path / "model", mark)
    (tmp_path / "a.env").write_text(f"ZEROSHOT_MODEL=local-dir:{folder}\nZEROSHOT_TRUST_REMOTE_CODE=true\n")
    finished = run(*CLASSIFY, "--env-file", "a.env", ZEROSHOT_TRUST_REMOTE_CODE="1", TRUST_REMOTE_CODE="1")
    assert finished.returncode == 2
    assert not mark.exists()


@pytest.mark.slow
def test_another_versions_configuration_is_not_taken(run: Run, tmp_path: Path, mark: Path) -> None:
    """transformers reads config.4.0.0.json where config.json lists it; ours it does not get to see."""
    folder = armed(tmp_path / "model", mark)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for part in ("question_encoder_tokenizer", "generator_tokenizer"):
        (folder / part).mkdir()
        (folder / part / "tokenizer_config.json").write_text(json.dumps(settings))
        shutil.copy(folder / "tokenizer.json", folder / part)
        shutil.copy(folder / "tok.py", folder / part)
    own = {name: value for name, value in settings.items() if name not in ("tokenizer_class", "auto_map")}
    (folder / "tokenizer_config.json").write_text(json.dumps(own | {"gguf_file": "../secret.gguf"}))
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "configuration_files": ["config.4.0.0.json"]})
    )
    rag = {"model_type": "rag", "question_encoder": {"model_type": "vit"}, "generator": {"model_type": "vit"}}
    (folder / "config.4.0.0.json").write_text(json.dumps(rag))
    finished = run(*CLASSIFY, "--model", f"local-dir:{folder}", stdin=b"y\ny\n", HF_HOME=str(tmp_path / "hf"))
    assert not mark.exists()
    assert "Do you wish" not in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("hf-hub:a--b/c", "hf-hub:ORG/NAME"),
        ("hf-hub:a/b.git", "hf-hub:ORG/NAME"),
        ("hf-hub:a/b\u00fc", "hf-hub:ORG/NAME"),
        ("local-dir:~nosuchuser/x", "is not a folder"),
        ("local-dir:" + "a" * 5000, "is not a folder"),
        ("ViT-B-32:" + "a" * 5000 + ".pt", "does not exist"),
        ("ViT-B-32:~nosuchuser/w.pt", "does not exist"),
        ("ViT-B-32:/etc", "is not a file"),
        ("ViT-B-32:openai@", "no path after '@'"),
        ("ViT-B-32:nothing@/x.pt", "not a tag"),
        ("onnx:" + "a" * 5000, "not a model directory"),
        ("local-dir:a\0b", "is not a folder"),
    ],
    ids=lambda value: value[:24],
)
def test_odd_specs_are_answered_in_one_sentence(spec: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load_encoder(spec)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 5}, {"dim": "x"}, {"dim": -1}, {"context_length": -1}, {"context_length": 0}, {"context_length": 2.5},
        {"context_length": None}, {"pad_id": "x"}, {"one_image_at_a_time": "no"}, {"logit_scale": "abc"},
        {"logit_scale": float("nan")}, {"logit_scale": float("inf")}, {"logit_scale": -28.0},
        {"logit_bias": float("nan")},
        {"files": []}, {"files": None}, {"files": {"a\0b": "x"}}, {"files": {"a" * 5000: "x"}},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_of_other_values_is_refused(change: dict[str, object], directory: Path) -> None:
    rewritten(directory, lambda manifest: manifest.update(change))
    with pytest.raises(ModelError):
        load_encoder(f"onnx:{directory}").encode_images([cat()])


def test_a_name_in_a_manifest_is_not_printed_as_a_command(directory: Path) -> None:
    rewritten(directory, lambda manifest: manifest.update(format=1, name="x; rm -rf ~\n\x1b[31mall fine"))
    with pytest.raises(ModelCorrupt) as caught:
        load_encoder(f"onnx:{directory}")
    assert "zeroshot export SPEC NEW_DIRECTORY" in str(caught.value)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("text_cfg", {"pool_type": "none"}),
        ("text_cfg", {"pool_type": "eos", "eos_id": None}),
        ("vision_cfg", {"pool_type": "none"}),
        ("vision_cfg", {"output_tokens": True}),
        ("text_cfg", {"tokenizer_kwargs": {"reduction_mask": "random"}}),
        ("text_cfg", {"tokenizer_kwargs": {"additional_special_tokens": [1]}}),
        ("text_cfg", {"tokenizer_kwargs": {"additional_special_tokens": ["cat"]}}),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_run_is_named(part: str, change: dict[str, object], tmp_path: Path) -> None:
    folder = models.save_local_dir("clip", tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][part] = {**config["model_cfg"][part], **change}
    (folder / "open_clip_config.json").write_text(json.dumps(config))

    def use() -> None:
        encoder = load_encoder(f"local-dir:{folder}", device="cpu")
        encoder.encode_images([cat()])
        encoder.encode_texts(["a cat"])

    with pytest.raises(ModelError):
        use()


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_config.json", "tokenizer.json"])
def test_links_out_of_a_models_folder_are_refused(name: str, tmp_path: Path) -> None:
    folder = models.save_local_dir("siglip", tmp_path / "model")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ModelCorrupt, match=f"{name} is a link to .* outside its folder"):
        load_encoder(f"local-dir:{folder}", device="cpu")
    (folder / name).unlink()
    (tmp_path / name).rename(folder / f"real-{name}")
    (folder / name).symlink_to(f"real-{name}")
    if name != "open_clip_model.safetensors":
        load_encoder(f"local-dir:{folder}", device="cpu")


def test_the_hubs_own_links_are_followed(tmp_path: Path) -> None:
    folder = models.save_local_dir("clip", tmp_path / "model")
    for path in folder.iterdir():
        link = put(tmp_path / "hub", "org/model", path.name, path.read_bytes())
    expected = load_encoder(f"local-dir:{folder}", device="cpu").fingerprint
    assert load_encoder(f"local-dir:{link.parent}", device="cpu").fingerprint == expected


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory of one's own: tiny's."""
    return Path(shutil.copytree(TINY_DIRECTORY, tmp_path / "directory"))


@pytest.mark.parametrize("name", ["image.onnx", "tokenizer.json"])
def test_links_out_of_a_model_directory_are_refused(name: str, directory: Path, tmp_path: Path) -> None:
    (directory / name).rename(tmp_path / name)
    (directory / name).symlink_to(tmp_path / name)
    with pytest.raises(ModelCorrupt, match="outside its folder"):
        load_encoder(f"onnx:{directory}")


def rewritten(directory: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = json.loads((directory / "config.json").read_text())
    change(manifest)
    (directory / "config.json").write_text(json.dumps(manifest))


def test_a_manifest_names_files_of_its_own_directory_and_all_that_are_needed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    rewritten(directory, lambda manifest: manifest["files"].update({"../secret": "0" * 64}))
    with pytest.raises(ModelCorrupt, match="outside its folder"):
        load_encoder(f"onnx:{directory}")
    rewritten(directory, lambda manifest: (manifest["files"].pop("../secret"), manifest["files"].pop("text.onnx")))
    with pytest.raises(ModelCorrupt, match=r"no sha256 of text\.onnx"):
        load_encoder(f"onnx:{directory}")


@pytest.mark.parametrize("location", ["../secret.bin", "{}/secret.bin", "link.bin"])
@pytest.mark.parametrize("place", ["initializer", "constant"])
def test_weights_beside_a_graph_are_read_in_its_own_directory_alone(
    location: str, place: str, directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.bin").write_bytes(np.arange(640, dtype=np.float32).tobytes())
    (directory / "link.bin").symlink_to(tmp_path / "secret.bin")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 640], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location.format(tmp_path)), ("offset", "0"), ("length", "2560")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    nodes = [helper.make_node("Constant", [], ["w"], value=tensor)] if place == "constant" else []
    graph = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["w"], ["embeddings"])],
        "graph",
        [helper.make_tensor_value_info("pixels", 1, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("embeddings", 1, [1, 640])],
        [] if nodes else [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, directory / "image.onnx")
    manifest = json.loads((directory / "config.json").read_text())
    manifest["files"]["image.onnx"] = hashlib.sha256((directory / "image.onnx").read_bytes()).hexdigest()
    (directory / "config.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelCorrupt, match="External data path"):
        load_encoder(f"onnx:{directory}").encode_images([cat()])


def test_a_directory_exported_before_is_to_be_exported_again(directory: Path) -> None:
    rewritten(directory, lambda manifest: manifest.update(format=1, name="ViT-B-16-SigLIP:webli"))
    with pytest.raises(ModelCorrupt, match=r"format 1.*zeroshot export ViT-B-16-SigLIP:webli"):
        load_encoder(f"onnx:{directory}")


@pytest.mark.slow
def test_an_npz_checkpoint_with_pickles_is_refused(tmp_path: Path, mark: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (mark,)

    evil = {"params/b": np.zeros(1), "params/img/embedding/kernel": np.array([Evil()], dtype=object)}
    np.savez(tmp_path / "w.npz", **evil)
    with pytest.raises(ModelCorrupt, match="allow_pickle"):
        load_encoder(f"ViT-B-16-SigLIP:{tmp_path / 'w.npz'}", device="cpu")
    assert not mark.exists()


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
static void note(const char *what, const char *which) {
  FILE *log = fopen(getenv("NETWORK_LOG"), "a");
  if (log) { fprintf(log, "%s %s\n", what, which ? which : ""); fclose(log); }
}
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
    dlsym(RTLD_NEXT, "getaddrinfo");
  note("name", node);
  return next(node, service, hints, found);
}
struct hostent *gethostbyname(const char *name) {
  struct hostent *(*next)(const char *) = dlsym(RTLD_NEXT, "gethostbyname");
  note("name", name);
  return next(name);
}
int connect(int fd, const struct sockaddr *to, socklen_t size) {
  int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
  if (to->sa_family == AF_INET || to->sa_family == AF_INET6) note("connection", "");
  return next(fd, to, size);
}
"""
LIBRARY = (
    "import sys, time, zeroshot\n"
    "classifier = zeroshot.ZeroShotClassifier(sys.argv[1])\n"
    "print(classifier.classify(sys.argv[2], ['cat', 'dog']).label)\n"
    "time.sleep(float(sys.argv[3]))"
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that notes every name looked up and every connection made, whatever makes them."""
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c", "-ldl"], check=True)
    return folder / "shim.so"


def traces(shim: Path, folder: Path, *command: object, **variables: str) -> tuple[list[str], list[str]]:
    """The files that a command leaves in a new HOME, and what it looked up; ZEROSHOT_HOME is elsewhere."""
    home, log = folder / "new-home", folder / "network.log"
    home.mkdir(parents=True)
    own = {k: v for k, v in os.environ.items() if not k.startswith(("CI", "ORT_", "HF_", "XDG_", "ZEROSHOT_"))}
    finished = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        env=own
        | {"HOME": str(home), "TMPDIR": str(home), "ZEROSHOT_HOME": str(folder / "zeroshot-home")}
        | {"LD_PRELOAD": str(shim), "NETWORK_LOG": str(log)}
        | variables,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    files = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    lines = log.read_text().splitlines() if log.exists() else []
    return files, [line for line in lines if not _is_address(line.partition(" ")[2])]


def _is_address(name: str) -> bool:
    """Whether there is nothing to look up: the server binds 127.0.0.1."""
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-m", "zeroshot", *CLASSIFY),
        (sys.executable, "-m", "zeroshot", "serve", "--check", "--port", "0"),
        (sys.executable, "-c", LIBRARY, "tiny", PHOTOS / "cat.jpg", "0"),
    ],
    ids=["command line", "server", "library"],
)
def test_classifying_writes_nothing_elsewhere_and_looks_nothing_up(
    command: tuple[object, ...], shim: Path, tmp_path: Path
) -> None:
    assert traces(shim, tmp_path, *command) == ([], [])


@pytest.mark.slow
def test_neither_does_an_open_clip_model_or_a_process_that_stays(shim: Path, tmp_path: Path) -> None:
    folder = models.save_local_dir("clip", tmp_path / "model")
    library = (sys.executable, "-c", LIBRARY)
    assert traces(shim, tmp_path / "a", *library, f"local-dir:{folder}", PHOTOS / "cat.jpg", "1") == ([], [])
    assert traces(shim, tmp_path / "b", *library, "tiny", PHOTOS / "cat.jpg", "12") == ([], [])


def test_the_tests_above_see_what_they_look_for(shim: Path, tmp_path: Path) -> None:
    program = (
        "import pathlib, socket\n"
        "(pathlib.Path.home() / 'left').write_text('x')\n"
        "try: socket.getaddrinfo('name.invalid', 80)\n"
        "except OSError: pass"
    )
    assert traces(shim, tmp_path, sys.executable, "-c", program) == (["left"], ["name name.invalid"])


@pytest.mark.slow
def test_who_wants_onnx_runtimes_telemetry_gets_it(shim: Path, tmp_path: Path) -> None:
    """Its device id, at least; whether it looks its host up within seconds is its own affair."""
    command = (sys.executable, "-c", LIBRARY, "tiny", PHOTOS / "cat.jpg", "3")
    files, _ = traces(shim, tmp_path, *command, ORT_DISABLE_TELEMETRY="0")
    assert any("onnxruntime" in name for name in files)


def test_variables_that_are_set_are_left_alone() -> None:
    program = "import zeroshot, os; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    for own, expected in (({}, "1 1"), ({"ORT_DISABLE_TELEMETRY": "0", "HF_HUB_DISABLE_TELEMETRY": "0"}, "0 0")):
        variables = {k: v for k, v in os.environ.items() if not k.endswith("TELEMETRY")}
        finished = subprocess.run(
            [sys.executable, "-c", program], env=variables | own, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert finished.stdout.strip() == expected


def test_a_text_towers_configuration_loses_what_fetches_or_runs_something_and_keeps_the_rest() -> None:
    kept = {
        "model_type": "xlnet",
        "attn_type": "bi",
        "attn_pdrop": 0.1,
        "scale_attn_weights": True,
        "conv_kernel_size": 9,
    }
    lost = {
        "auto_map": {"AutoModel": "x.Model"},
        "configuration_files": ["config.4.0.0.json"],
        "quantization_config": {"quant_method": "x"},
        "use_kernels": True,
        "kernel_config": {"x": "y"},
        "_attn_implementation": "org/kernel",
        "attn_implementation": "org/kernel",
        "_experts_implementation_internal": "org/kernel",
    }
    nested = {**kept, "text_config": {**kept, **lost}, "parts": [{**kept, **lost}], **lost}
    assert openclip_api._inert(nested) == {**kept, "text_config": kept, "parts": [kept]}
