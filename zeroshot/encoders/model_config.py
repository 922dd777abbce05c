"""What a model's configuration may ask for. It is data from strangers: none of it runs code or names another place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zeroshot.encoders.hub import is_repository
from zeroshot.errors import ModelCorrupt, quote

_MAX_CONFIG_BYTES = 8 * 2**20  # a tokenizer_config.json that lists thousands of added tokens has more than 1 MB
_CLIP_TOKENIZER_OPTIONS = frozenset(["additional_special_tokens", "clean"])
_HF_TOKENIZER_OPTIONS = frozenset(
    [
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "clean",
        "do_lower_case",
        "extra_ids",
        "language",
        "legacy",
        "padding_side",
        "strip_accents",
        "strip_sep_token",
        "truncation_side",
        "use_fast",
    ]
)
_CLEANINGS = ("canonicalize", "lower", "whitespace")


@dataclass(frozen=True)
class TokenizerConfig:
    """How a model's texts become tokens."""

    context_length: int
    name: str | None = None
    mode: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelCorrupt(
            f"{path} is not a configuration: {error}.", "Download or export it again.", field="model"
        ) from error
    return content


def path_exists(path: Path, *, folder: bool | None = False) -> bool:
    """Whether there is such a file, or folder, or (None) anything; False for what cannot be a path."""
    try:
        return path.exists() if folder is None else path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):
        return False


def check_model_config(config: dict[str, Any], where: str) -> None:
    """Refuse a configuration that names another place than a model's own files."""
    for part in ("vision_cfg", "text_cfg"):
        if not isinstance(config.get(part), dict):
            raise ModelCorrupt(f"{where} has no {part}.", "Download or export the model again.", field="model")
    if not isinstance(config.get("embed_dim"), int):
        raise ModelCorrupt(f"{where} has no embed_dim.", "Download or export the model again.", field="model")
    timm_name = config["vision_cfg"].get("timm_model_name")
    if timm_name is not None and (not isinstance(timm_name, str) or "/" in timm_name or ":" in timm_name):
        raise ModelCorrupt(
            f"{where} names the image tower {quote(timm_name)}, which is a place and not an architecture of timm.",
            "Use a model whose configuration names the architecture.",
            field="model",
        )
    for name in ("hf_model_name", "hf_tokenizer_name"):
        value = config["text_cfg"].get(name)
        if value and not is_repository(value):
            raise ModelCorrupt(
                f"{where} has {name}={quote(value)}, which is not of the form ORG/NAME.",
                "Use a model whose configuration names a repository.",
                field="model",
            )


def tokenizer_config(
    text_config: dict[str, Any], where: str, default_length: int, *, trust_remote_code: bool
) -> tuple[TokenizerConfig, list[str]]:
    """Read how texts become tokens; a wish to run code is not granted by a configuration."""
    options = text_config.get("tokenizer_kwargs") or {}
    if not isinstance(options, dict):
        raise ModelCorrupt(
            f"{where} has tokenizer_kwargs={quote(options)}.", "Download or export the model again.", field="model"
        )
    options = dict(options)
    name, mode = text_config.get("hf_tokenizer_name") or None, text_config.get("tokenizer_mode")
    notes = []
    if options.pop("trust_remote_code", False) and not trust_remote_code:
        notes.append(
            f"{where} asks for trust_remote_code; its code was not run. If you trust it, say --trust-remote-code "
            f"(Python: trust_remote_code=True)."
        )
    allowed = _HF_TOKENIZER_OPTIONS if name else _CLIP_TOKENIZER_OPTIONS
    unknown = sorted(set(options) - allowed)
    length = text_config.get("context_length", default_length)
    special = options.get("additional_special_tokens") or []
    if not isinstance(special, list) or not all(isinstance(token, str) and token for token in special):
        unknown.append("additional_special_tokens")
    if unknown or options.get("clean", "lower") not in _CLEANINGS or mode not in (None, "", "clips"):
        raise ModelCorrupt(
            f"{where} has tokenizer options that are not accepted: {quote(unknown or options.get('clean') or mode)}.",
            f"Accepted are {', '.join(sorted(allowed))}.",
            field="model",
        )
    if not isinstance(length, int) or not 1 <= length <= 100_000:
        raise ModelCorrupt(
            f"{where} has context_length={quote(length)}.", "Download or export the model again.", field="model"
        )
    return TokenizerConfig(length, name, mode or None, options), notes


def contained(folder: Path, path: Path) -> Path:
    """A file of a model's folder, out of which no link may lead; in the hub's cache links to its blobs may."""
    home, target = folder.resolve(), path.resolve()
    homes = [home]
    if home.parent.name == "snapshots":  # <repository>/snapshots/<revision>, with links to <repository>/blobs
        homes.append(home.parent.parent / "blobs")
    if not any(target.is_relative_to(one) for one in homes):
        raise ModelCorrupt(
            f"{path} is a link to {target}, outside its folder.",
            "Put the file itself there, or give the path of the real folder.",
            field="model",
        )
    return path
