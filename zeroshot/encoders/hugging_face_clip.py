"""Hugging Face's CLIP checkpoints (``CLIPModel``: config.json, weights, preprocessor) in open_clip's terms.

``transformers`` is not needed. The result is the same model: activation, pooling, preprocessing and tokens are those of
``transformers``' ``CLIPModel``, ``CLIPImageProcessor`` and ``CLIPTokenizer``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from zeroshot.encoders.model_config import read_json
from zeroshot.errors import ModelCorrupt, ModelError, quote

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
PREPROCESSOR = "preprocessor_config.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")
"""What a checkpoint's tokenizer may consist of: the first, or the next two; the last adds tokens."""

_OLD_EOS_ID = 2
"""What the first configurations say of the end token; the tower then reads where the highest token is, the real one."""

_MEAN, _STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_RESAMPLING = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
_DEFAULTS: dict[str, dict[str, Any]] = {
    "vision_config": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
    },
    "text_config": {
        "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
        "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
        "eos_token_id": 49407,
    },
}  # fmt: skip
"""What ``transformers`` takes for a field that is not written."""


def model_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Put config.json into open_clip's terms."""
    if config.get("model_type") != "clip":
        raise ModelError(
            f"{where} is of a model of type {quote(config.get('model_type'))}; of Hugging Face's own checkpoints, "
            "those of type 'clip' are read.",
            "Use the same model in open_clip's form: 'zeroshot models' lists them.",
            field="model",
        )
    vision, text = ({**_DEFAULTS[part], **_part(config, part)} for part in ("vision_config", "text_config"))
    numbers = [
        v for one in (vision, text) for k, v in one.items() if k.endswith(("size", "layers", "heads", "embeddings"))
    ]
    if not all(type(number) is int and 0 < number < 1_000_000 for number in (*numbers, text["eos_token_id"])):
        raise ModelCorrupt(f"{where} has a size or a token that is none.", "Download it again.", field="model")
    activation = vision["hidden_act"]
    kinds: dict[str, dict[str, Any]] = {
        "quick_gelu": {"quick_gelu": True}, "gelu": {}, "gelu_new": {"approximate": "tanh"},
        "gelu_pytorch_tanh": {"approximate": "tanh"},
    }  # fmt: skip
    if activation != text["hidden_act"] or activation not in kinds:
        raise ModelError(
            f"{where} has the activations {quote(activation)} and {quote(text['hidden_act'])}.",
            f"Both have to be the same, one of {', '.join(kinds)}.",
            field="model",
        )
    kind = kinds[activation]
    own = {"act_kwargs": {"approximate": "tanh"}} if "approximate" in kind else {}
    pooling = {} if text["eos_token_id"] == _OLD_EOS_ID else {"pool_type": "eos", "eos_id": text["eos_token_id"]}
    return {
        "embed_dim": config.get("projection_dim") or 512,
        **({"quick_gelu": True} if kind.get("quick_gelu") else {}),
        "vision_cfg": {
            "image_size": vision["image_size"],
            "layers": vision["num_hidden_layers"],
            "width": vision["hidden_size"],
            "head_width": _head_width(vision, where),
            "patch_size": vision["patch_size"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
            **_norm(vision),
            **own,
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
            **_norm(text),
            **own,
            **pooling,
        },
    }


def preprocessing(path: Path | None, image_size: int) -> dict[str, Any]:
    """Put preprocessor_config.json into the fields of ``Preprocessing``."""
    config = {} if path is None else read_json(path)
    try:
        found = _preprocessing(config, image_size)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        found = None
    if found is None:
        raise ModelError(
            f"{path} resizes or crops in a way that is not supported for an input of {image_size} x {image_size}.",
            "Supported: the shorter side or both sides resized, bicubic or bilinear, and a crop of the middle.",
            field="model",
        )
    return found


def _preprocessing(config: dict[str, Any], image_size: int) -> dict[str, Any] | None:
    """The fields of ``Preprocessing``; None where there are none that do the same."""
    wanted = (image_size, image_size)
    size, crop = _size(config.get("size", image_size)), _size(config.get("crop_size", image_size))
    squashed = not isinstance(size, int)
    cropped = bool(config.get("do_center_crop", True))
    fits = (crop in (image_size, wanted) and (not isinstance(size, int) or size >= image_size)) if cropped else squashed
    if (
        not fits
        or (squashed and size != wanted)
        or not config.get("do_resize", True)
        or config.get("resample", 3) not in _RESAMPLING
    ):
        return None
    factor = 255 * float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 255.0
    mean, std = _MEAN, _STD
    if not config.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    elif config.get("image_mean") or config.get("image_std"):
        mean, std = config["image_mean"], config["image_std"]
    return {
        "size": list(wanted),
        "mean": [float(value) / factor for value in mean],
        "std": [float(value) / factor for value in std],
        "interpolation": _RESAMPLING[config.get("resample", 3)],
        "resize_mode": "squash" if squashed else "shortest",
        "resize_to": None if squashed or size == image_size else size,
        "crop_offset": "floor",
    }


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has a whole tokenizer: tokenizer.json, or vocab.json and merges.txt."""
    whole, vocabulary, merges, _ = ((folder / name).is_file() for name in TOKENIZER_FILES)
    return whole or (vocabulary and merges)


def is_checkpoint(path: Path) -> bool:
    """Whether a file of weights has the names of a ``CLIPModel``'s tensors; only its list of names is read."""
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                names = list(file.keys())
        elif path.with_name(CONFIG).is_file():
            names = list(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
        else:
            return False
    except Exception:  # not weights, or damaged: whoever loads them says so
        return False
    return any(str(name).startswith(("vision_model.", "text_model.")) for name in names)


def part_names(index: Path) -> list[str]:
    """Names of the files that an index of a checkpoint in parts lists, each beside it."""
    listed = read_json(index).get("weight_map")
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise ModelCorrupt(f"{index} lists {quote(names)}.", "Download it again.", field="model")
    return names


def read_weights(paths: Iterable[Path]) -> dict[str, torch.Tensor]:
    """Read a checkpoint's files, of which no pickle can run code."""
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors.update(load_file(path))
        else:
            tensors.update(torch.load(path, map_location="cpu", weights_only=True))
    return tensors


def to_open_clip(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a ``CLIPModel``'s tensors to open_clip's."""
    result: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        tower, _, rest = name.partition(".")
        prefix = {"vision_model": "visual.", "text_model": ""}.get(tower)
        if name.endswith("position_ids"):
            continue
        if tower in _PROJECTIONS:
            result[_PROJECTIONS[tower]] = tensor.T.contiguous()
        elif prefix is None:
            result[name] = tensor
        elif rest.startswith("encoder.layers."):
            number, _, part = rest.removeprefix("encoder.layers.").partition(".")
            module, _, kind = part.rpartition(".")
            block = f"{prefix}transformer.resblocks.{number}."
            if module == "self_attn.q_proj":
                three = [tensors[name.replace(".q_proj.", f".{one}_proj.")] for one in ("q", "k", "v")]
                result[f"{block}attn.in_proj_{kind}"] = torch.cat(three)
            elif module not in ("self_attn.k_proj", "self_attn.v_proj"):
                result[f"{block}{_INSIDE.get(module, module)}.{kind}"] = tensor
        else:
            result[prefix + _OUTSIDE.get(rest, rest)] = tensor
    return result


_PROJECTIONS = {"visual_projection": "visual.proj", "text_projection": "text_projection"}
_OUTSIDE = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_INSIDE = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip


def _part(config: dict[str, Any], name: str) -> dict[str, Any]:
    """What a part of config.json says; the name with "_dict" is an older one, and ``transformers`` lets it win."""
    older, part = config.get(f"{name}_dict"), config.get(name)
    found = part if older is None else older
    return {key: value for key, value in found.items() if value is not None} if isinstance(found, dict) else {}


def _head_width(vision: dict[str, Any], where: str) -> int:
    if vision["hidden_size"] % vision["num_attention_heads"]:
        raise ModelCorrupt(f"{where}: its width is no multiple of its heads.", "Download it again.", field="model")
    return int(vision["hidden_size"] // vision["num_attention_heads"])


def _norm(part: dict[str, Any]) -> dict[str, Any]:
    return {} if part["layer_norm_eps"] == 1e-5 else {"norm_kwargs": {"eps": part["layer_norm_eps"]}}


def _size(value: Any) -> int | tuple[int, int]:
    """The shorter side's length, or (height, width)."""
    if isinstance(value, dict):
        return int(value["shortest_edge"]) if "shortest_edge" in value else (int(value["height"]), int(value["width"]))
    return int(value)
