"""Small open_clip models of every family, with random weights, saved as a user's checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

_VIT = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}

CONFIGS: dict[str, dict[str, Any]] = {
    "clip": {"embed_dim": 32, "vision_cfg": _VIT, "text_cfg": _TEXT},
    "quickgelu": {"embed_dim": 32, "quick_gelu": True, "vision_cfg": _VIT, "text_cfg": _TEXT},
    "custom-text": {"embed_dim": 32, "custom_text": True, "vision_cfg": _VIT, "text_cfg": {**_TEXT, "proj_bias": True}},
    "eos-pooled": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": _VIT,
        "text_cfg": {**_TEXT, "pool_type": "eos", "eos_id": 49407},
    },
    "bidirectional": {  # as MobileCLIP's text tower is
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": _VIT,
        "text_cfg": {**_TEXT, "no_causal_mask": True},
    },
    "siglip": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {**_VIT, "attentional_pool": True, "attn_pooler_heads": 2},
        "text_cfg": {
            **_TEXT,
            "context_length": 64,
            "hf_tokenizer_name": "in-this-folder",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    },
    "coca": {
        "embed_dim": 32,
        "vision_cfg": {**_VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**_TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": 76, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
        "custom_text": True,
    },
    "resnet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": _TEXT,
    },
    "convnext": {
        "embed_dim": 32,
        "vision_cfg": {"timm_model_name": "convnext_atto", "timm_pool": "", "timm_proj": "linear", "image_size": 64},
        "text_cfg": _TEXT,
    },
}
CAUSAL = {"clip", "quickgelu", "custom-text", "eos-pooled", "resnet", "convnext"}
PREPROCESSING = {
    "siglip": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
    "custom-text": {"resize_mode": "longest", "fill_color": 9},
    "resnet": {"interpolation": "bilinear"},
}


def build(family: str) -> Any:
    """A model of a family, its random weights large enough for different inputs to give different vectors."""
    torch.manual_seed(7)
    config = CONFIGS[family]
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CLIP
    if kind is open_clip.CLIP and config.get("custom_text"):
        kind = open_clip.CustomTextCLIP
    model = kind(**{k: v for k, v in config.items() if k != "custom_text"})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("token_embedding.weight", "positional_embedding", "cls_emb", "class_embedding")):
                parameter.mul_(30)
            elif parameter.ndim > 1:
                parameter.mul_(2)
    return model.eval()


def save_local_dir(family: str, folder: Path) -> Path:
    """Write a family as open_clip's ``local-dir``: configuration, weights and, for SigLIP, a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    model = build(family)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    config = {"model_cfg": CONFIGS[family], "preprocess_cfg": PREPROCESSING.get(family, {})}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    if family == "siglip":
        _save_tokenizer(folder)
    return folder


def _save_tokenizer(folder: Path) -> None:
    """A small sentencepiece-like tokenizer of SigLIP's class: T5's, lower-cased Unigram with </s> at the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    words = Path(open_clip.__file__).with_name("zero_shot_metadata.py").read_text().lower()
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=2000, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(words.splitlines(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$0 </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="</s>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )
    fast.save_pretrained(folder)
