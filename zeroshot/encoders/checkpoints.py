"""From a model spec to weights that are on this machine, downloading them when that is possible.

Whatever is missing is said within seconds: an unreachable hub is noticed before a client's long retries begin.
"""

from __future__ import annotations

import difflib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import open_clip
from huggingface_hub import constants as hub

from zeroshot.errors import ModelCorrupt, ModelUnavailable, UnknownModel, quote

_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")
_PROBE_TIMEOUT_S = 3.0
_WAYS_OUT = (
    "Three ways out: set HF_HOME to a cache that has it, or HF_ENDPOINT to a mirror; put open_clip_config.json and the "
    "weights in a folder and use 'local-dir:/path'; or use 'tiny', which needs no download."
)


@dataclass(frozen=True)
class Checkpoint:
    """What open_clip is asked for.

    Parameters
    ----------
    spec : str
        As the user wrote it.
    model_name : str
        open_clip's ``model_name``: an architecture, or ``local-dir:``/``hf-hub:`` and the rest.
    pretrained : str or None
        Path of the weights; None where `model_name` says it all.
    where : str
        The weights, for messages.
    tokenizer_name : str
        What ``open_clip.get_tokenizer`` takes.
    """

    spec: str
    model_name: str
    pretrained: str | None
    where: str
    tokenizer_name: str


def resolve(spec: str) -> Checkpoint:
    """Find the weights that a spec names.

    Parameters
    ----------
    spec : str
        ``ARCH:TAG``, ``ARCH:/path/to/weights``, ``hf-hub:ORG/NAME`` or ``local-dir:/path``.

    Returns
    -------
    Checkpoint
        Its weights are on this machine.

    Raises
    ------
    UnknownModel
        If the architecture or the tag is not open_clip's.
    ModelUnavailable
        If the weights are not on this machine and cannot be downloaded.
    ModelCorrupt
        If a file is there but is not weights.
    """
    scheme, _, rest = spec.partition(":")
    if scheme == "local-dir":
        return _local_directory(spec, rest)
    if scheme == "hf-hub":
        return _hub_repository(spec, rest)
    architecture = scheme.replace("/", "-")
    if architecture not in open_clip.list_models():
        close = difflib.get_close_matches(architecture, open_clip.list_models(), n=3, cutoff=0.5)
        raise UnknownModel(
            f"{quote(architecture)} is not an architecture of open_clip {open_clip.__version__}.",
            f"Did you mean {' or '.join(close)}?" if close else "'zeroshot models' lists them.",
            field="model",
        )
    if "/" in rest or "\\" in rest or rest.endswith(_WEIGHT_SUFFIXES):
        return Checkpoint(spec, architecture, str(_weights_file(Path(rest).expanduser(), spec)), rest, architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if rest.lower() not in tags:
        listed = ", ".join(f"{architecture}:{tag}" for tag in tags) or "none are published; give a path to weights"
        raise UnknownModel(
            f"{quote(spec)} names no weights: {quote(rest) if rest else 'nothing'} is not a tag of {architecture}.",
            f"There are: {listed}.",
            field="model",
        )
    return Checkpoint(spec, architecture, _download(spec, architecture, rest.lower()), rest, architecture)


def _local_directory(spec: str, rest: str) -> Checkpoint:
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        raise ModelUnavailable(
            f"{quote(str(folder))} is not a folder.", "Check the path after 'local-dir:'.", field="model"
        )
    if not (folder / "open_clip_config.json").is_file():
        raise ModelUnavailable(
            f"{folder} has no open_clip_config.json.",
            "A local-dir holds open_clip_config.json, open_clip_model.safetensors and, for some, tokenizer files.",
            field="model",
        )
    weights = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pth")]
    if not weights:
        raise ModelUnavailable(
            f"{folder} has no weights.", "Add open_clip_model.safetensors (or .bin, .pth).", field="model"
        )
    for path in weights:
        _weights_file(path, spec)
    name = f"local-dir:{folder}"
    return Checkpoint(spec, name, None, str(folder), name)


def _hub_repository(spec: str, rest: str) -> Checkpoint:
    if rest.count("/") != 1 or not all(rest.split("/")):
        raise UnknownModel(f"{quote(spec)} is not of the form hf-hub:ORG/NAME.", "Check the name.", field="model")
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(rest, "open_clip_config.json"), str):
        _require_hub(spec, f"open_clip_config.json and weights of {rest}")
    try:
        from open_clip.pretrained import download_pretrained_from_hf

        download_pretrained_from_hf(rest, filename="open_clip_config.json")
        download_pretrained_from_hf(rest)
    except Exception as error:  # hub clients raise many kinds
        raise _unavailable(spec, f"open_clip_config.json and weights of {rest}", str(error)) from error
    name = f"hf-hub:{rest}"
    return Checkpoint(spec, name, None, rest, name)


def _download(spec: str, architecture: str, tag: str) -> str:
    """Path of a published checkpoint's weights; open_clip and the hub's client show their progress on stderr."""
    config = open_clip.get_pretrained_cfg(architecture, tag)
    repository = (config.get("hf_hub") or "").rstrip("/")
    looked_for = f"the weights of {spec} ({repository or config.get('url')})"
    if repository and not _in_hub_cache(config["hf_hub"]):
        _require_hub(spec, looked_for)
    elif not repository:
        _require_host(spec, looked_for, config.get("url", ""))
    try:
        from open_clip.pretrained import download_pretrained

        path = download_pretrained(config)
    except Exception as error:  # hub clients raise many kinds
        raise _unavailable(spec, looked_for, str(error)) from error
    return str(path)


def _in_hub_cache(entry: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    repository, filename = os.path.split(entry)
    names = [filename] if filename else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    if filename.endswith(".bin"):
        names.append(f"{filename.removesuffix('.bin')}.safetensors")
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)


def _require_hub(spec: str, looked_for: str) -> None:
    if hub.is_offline_mode():
        raise _unavailable(spec, looked_for, "HF_HUB_OFFLINE is set")
    _require_host(spec, looked_for, hub.ENDPOINT)


def _require_host(spec: str, looked_for: str, url: str) -> None:
    """Fail at once where the host does not answer; a proxy is left to answer for itself."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    address = urlparse(url)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PROBE_TIMEOUT_S).close()
    except OSError as error:
        raise _unavailable(spec, looked_for, f"{address.hostname} cannot be reached: {error}") from error


def _unavailable(spec: str, looked_for: str, reason: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{spec} is not on this machine: looked for {looked_for} in {hub.HF_HUB_CACHE}, and it cannot be downloaded "
        f"({quote(reason, limit=160)}).",
        _WAYS_OUT,
        field="model",
    )


def _weights_file(path: Path, spec: str) -> Path:
    """The path, if it can be a checkpoint; what a failed download leaves behind is named."""
    if not path.is_file():
        raise ModelUnavailable(f"{path} does not exist.", f"Check the path in {quote(spec)}.", field="model")
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise ModelCorrupt(f"{path} is a Git LFS pointer, not weights.", "Run 'git lfs pull'.", field="model")
    if len(head) < 64 or head.lstrip()[:1] == b"<":
        raise ModelCorrupt(f"{path} is not weights: it begins with {head[:16]!r}.", "Download it again.", field="model")
    return path
