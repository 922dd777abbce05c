"""The model directory: ``config.json``, ``image.onnx``, ``text.onnx``, ``tokenizer.json``.

An encoder in a folder that needs no torch. ``config.json`` is its manifest: written last, so that its existence means
the rest is whole, and holding the sha256 of every other file, so that damage is noticed before it can answer wrongly.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zeroshot.encoders.cleaning import cleaner
from zeroshot.encoders.model_config import contained, path_exists
from zeroshot.errors import ModelCorrupt, ModelUnavailable
from zeroshot.images import Preprocessing

FORMAT = 2
"""2: preprocessing and activation are those of the published tag; before, they could be the architecture's defaults."""

MANIFEST = "config.json"
_NEEDED = ("image.onnx", "text.onnx", "tokenizer.json")
_FINGERPRINT = 1  # what is hashed, and how: a model directory's vectors did not change with its format


@dataclass(frozen=True)
class ModelConfig:
    """What ``config.json`` holds."""

    name: str
    dim: int
    logit_scale: float
    logit_bias: float | None
    template_set: str
    preprocessing: Preprocessing
    context_length: int
    pad_id: int
    pad_to_context: bool = False
    end_id: int | None = None
    text_cleaning: str = "none"
    one_image_at_a_time: bool = False
    precision: str = "fp32"
    made_with: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of everything that decides the vectors."""
        decisive = {k: v for k, v in _to_json(self).items() if k not in ("name", "template_set", "made_with")}
        decisive["format"] = _FINGERPRINT
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def write_config(directory: Path, config: ModelConfig) -> ModelConfig:
    """Hash the files of a finished model directory and write its manifest, atomically."""
    names = sorted(p.name for p in directory.iterdir() if p.is_file() and p.name != MANIFEST and p.suffix != ".md")
    complete = ModelConfig(**{**vars(config), "files": {name: _sha256(directory / name) for name in names}})
    temporary = directory / f".{MANIFEST}.{os.getpid()}"
    temporary.write_text(json.dumps(_to_json(complete), indent=2) + "\n", encoding="utf-8")
    temporary.replace(directory / MANIFEST)
    return complete


def read_config(directory: Path) -> ModelConfig:
    """Read a model directory's manifest and check every file against it."""
    manifest = directory / MANIFEST
    if not path_exists(manifest):
        raise ModelUnavailable(
            f"{directory} is not a model directory: it has no {MANIFEST}.",
            "Make one with 'zeroshot export SPEC DIR', or check the path.",
        )
    try:
        raw: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        if (version := raw.pop("format")) != FORMAT:
            why = " It was made when the preprocessing could be another model's." if version == 1 else ""
            raise ModelCorrupt(
                f"{manifest} has format {version}; this version reads {FORMAT}.{why}",
                f"Export it again: zeroshot export {_shown(raw.get('name'))} NEW_DIRECTORY",
                field="model",
            )
        config = ModelConfig(**{**raw, "preprocessing": Preprocessing.from_dict(raw["preprocessing"])})
        _check(config)
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", config.template_set):  # a shipped one's name, and no file
            raise ValueError(f"template_set is {config.template_set!r}")
        cleaner(config.text_cleaning)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, OSError) as error:
        raise ModelCorrupt(
            f"{manifest} is damaged: {type(error).__name__}: {error}.", "Export the model again."
        ) from error
    missing = [name for name in _NEEDED if name not in config.files]
    if missing:
        raise ModelCorrupt(f"{manifest} has no sha256 of {', '.join(missing)}.", "Export the model again.")
    for name, expected in config.files.items():
        path = contained(directory, directory / name)
        if not path.is_file():
            raise ModelCorrupt(f"{path} is missing.", "Export or copy the model directory again.")
        if _sha256(path) != expected:
            raise ModelCorrupt(f"{path} differs from its sha256 in {MANIFEST}.", "Export or copy the directory again.")
    return config


def _check(config: ModelConfig) -> None:
    """Refuse a manifest whose values are of another kind."""
    wholes = {"dim": config.dim, "context_length": config.context_length, "pad_id": config.pad_id + 1}
    for name, value in wholes.items():
        if type(value) is not int or not 1 <= value <= 10_000_000:
            raise ValueError(f"{name} is out of range")
    if config.end_id is not None and type(config.end_id) is not int:
        raise ValueError("end_id is no number")
    if not all(type(flag) is bool for flag in (config.pad_to_context, config.one_image_at_a_time)):
        raise ValueError("a flag is neither true nor false")
    for number in (config.logit_scale, config.logit_bias):
        if number is not None and (type(number) not in (int, float) or not math.isfinite(number)):
            raise ValueError("logit_scale or logit_bias is no number")
    if not isinstance(config.files, dict) or any("\0" in name or len(name) > 255 for name in config.files):
        raise ValueError("files is not a list of names with hashes")


def _shown(name: object) -> str:
    """A spec to be typed, if it is one."""
    return name if isinstance(name, str) and re.fullmatch(r"[\w.:/@-]{1,200}", name) else "SPEC"


def _to_json(config: ModelConfig) -> dict[str, Any]:
    return {"format": FORMAT, **asdict(config), "preprocessing": config.preprocessing.to_dict()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
