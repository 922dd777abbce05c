"""All that is used of open_clip, in one place: what it lists, how it builds a model, its tokenizers.

No other module imports it, so that another version of open_clip is met here alone. docs/models.md says which versions
were tested.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transformer import TextTransformer

__all__ = ["HFTokenizer", "SimpleTokenizer", "TextTransformer"]

VERSION: str = open_clip.__version__
CLIP_CONTEXT_LENGTH = 77
"""Tokens of a text, special ones included, where a configuration names no number."""

CLIP_VOCABULARY = 49_408
"""Tokens that open_clip's own tokenizer knows."""

Config = dict[str, Any]

_NOT_DECISIVE = frozenset(
    [
        "hf_model_name",  # decided by its own configuration, which is hashed beside this one
        "hf_model_pretrained",
        "hf_tokenizer_name",  # decided by the tokenizer, likewise
        "init_logit_bias",
        "init_logit_scale",
        "output_tokens",
        "patch_dropout",
        "timm_drop",
        "timm_drop_path",
        "timm_model_pretrained",
        "tokenizer_kwargs",
        "tokenizer_mode",
    ]
)
"""Fields that change training, or where something is found, and no vector."""


_MAY_FETCH = frozenset(["auto_map", "configuration_files", "kernel_config", "quantization_config", "use_kernels"])
"""Fields of a text tower's configuration that make ``transformers`` read or run something else."""


def architectures() -> list[str]:
    """Names of every architecture."""
    return list(open_clip.list_models())


def architecture(name: str) -> Config | None:
    """Configuration of an architecture (``embed_dim``, ``vision_cfg``, ``text_cfg``...); None where there is none."""
    return None if name not in open_clip.list_models() else open_clip.get_model_config(name)


def pretrained() -> list[tuple[str, str]]:
    """Every (architecture, tag) whose weights are published."""
    return list(open_clip.list_pretrained())


def tags(name: str) -> list[str]:
    """Tags of an architecture's published weights."""
    return list(open_clip.list_pretrained_tags_by_model(name))


def tag_name(tag: str) -> str:
    """A tag as it is listed: open_clip takes capitals and hyphens too."""
    return tag.lower().replace("-", "_")


def published(name: str, tag: str) -> Config:
    """What a tag's publisher says: ``url``, ``hf_hub``, preprocessing, ``quick_gelu``; empty where there is no tag."""
    return dict(open_clip.get_pretrained_cfg(name, tag))


def preprocess_config(*overrides: Mapping[str, Any]) -> Config:
    """open_clip's default preprocessing with every field that the overrides name, the later ones first."""
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    merged: Config = dataclasses.asdict(PreprocessCfg())
    for override in overrides:
        merged = merge_preprocess_dict(merged, dict(override))
    return merged


def decisive(model_config: Config) -> Config:
    """Reduce a model configuration to what decides its vectors.

    Fields at open_clip's own default are left out, so that a default spelled out is no other model, and neither is a
    field that a later open_clip adds.
    """
    defaults = {
        "vision_cfg": dataclasses.asdict(open_clip.CLIPVisionCfg()),
        "text_cfg": dataclasses.asdict(open_clip.CLIPTextCfg()),
    }
    defaults["multimodal_cfg"] = defaults["text_cfg"]
    result: Config = {}
    for name, value in model_config.items():
        if name in defaults and isinstance(value, dict):
            own = defaults[name]
            result[name] = {k: v for k, v in value.items() if k not in _NOT_DECISIVE and (k, v) not in own.items()}
        elif name not in _NOT_DECISIVE and not (name in ("quick_gelu", "custom_text") and not value):
            result[name] = value
    return result


def build(
    model_config: Config,
    preprocessing: Config,
    *,
    precision: str,
    device: torch.device,
    text_tower: Config | None = None,
) -> Any:
    """Build a model as open_clip does, with random weights."""
    with TemporaryDirectory(prefix="zeroshot-") as folder, _quiet():
        if text_tower is not None:
            (Path(folder) / "tower").mkdir()
            (Path(folder) / "tower" / "config.json").write_text(json.dumps(_inert(text_tower)), encoding="utf-8")
            named = {**model_config["text_cfg"], "hf_model_name": str(Path(folder) / "tower")}
            model_config = {**model_config, "text_cfg": named}
        content = json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocessing})
        (Path(folder) / "open_clip_config.json").write_text(content, encoding="utf-8")
        return open_clip.create_model(
            f"local-dir:{folder}", load_weights=False, pretrained_text=False, precision=precision, device=device
        )


def _inert(config: Any) -> Any:
    """A configuration, and those in it, without what makes ``transformers`` read or run something else."""
    if isinstance(config, list):
        return [_inert(one) for one in config]
    if not isinstance(config, dict):
        return config
    kept = (name for name in config if name not in _MAY_FETCH and "implementation" not in name)
    return {name: _inert(config[name]) for name in kept}


def load_weights(model: Any, path: Path) -> None:
    """Load a checkpoint in one of the forms that open_clip knows; every key must fit, and no pickle can run code."""
    with _quiet():
        open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)


def preprocessing_of(model: Any) -> Config:
    """The preprocessing that a built model carries."""
    return dict(open_clip.get_model_preprocess_cfg(model))


def download(entry: Config) -> str:
    """Path of published weights, from the cache or downloaded; progress is shown on stderr."""
    with _quiet():
        return str(open_clip.download_pretrained(entry))


def simple_tokenizer(context_length: int, options: Mapping[str, Any]) -> SimpleTokenizer:
    """open_clip's own byte-pair tokenizer, CLIP's."""
    return SimpleTokenizer(context_length=context_length, **options)


def hf_tokenizer(
    folder: Path, context_length: int, mode: str | None, options: Mapping[str, Any], *, trust_remote_code: bool
) -> HFTokenizer:
    """open_clip's wrapper of a ``transformers`` tokenizer, from the files in a folder."""
    return HFTokenizer(
        str(folder.absolute()),
        context_length=context_length,
        tokenizer_mode=mode,
        **options,
        trust_remote_code=trust_remote_code,
    )


def token_lists(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts as one of open_clip's tokenizers gives them, padded to its context length."""
    rows: list[list[int]] = tokenizer(list(texts)).tolist() if texts else []
    return rows


def untruncated(tokenizer: Any) -> Callable[[str], list[int]]:
    """A function that gives a text's token ids, special ones included, before anything is cut."""
    if isinstance(tokenizer, SimpleTokenizer):
        return lambda text: [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]
    return lambda text: list(tokenizer.tokenizer(tokenizer.clean_fn(text), verbose=False).input_ids)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip from logging through the root logger, and so from installing a handler there."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def nothing(_: logging.LogRecord) -> bool:
        return False

    root.addHandler(handler)
    root.addFilter(nothing)
    try:
        yield
    finally:
        root.removeFilter(nothing)
        root.removeHandler(handler)
