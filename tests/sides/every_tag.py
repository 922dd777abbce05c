"""Build every tag twice, as this program and as open_clip does it, and print what differs."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from tests.images import PHOTOS
from zeroshot.encoders import openclip_api
from zeroshot.encoders.checkpoints import resolve
from zeroshot.encoders.openclip import preprocessing_of
from zeroshot.encoders.tokenization import load_tokenizer

TEXTS = ["", "cat", "A photo of a CAT.", "don't <b>", "caf\u00e9 \u6771\u4eac", "word " * 200]
META = torch.device("meta")
PHOTO = Image.open(PHOTOS / "rocket.jpg").convert("RGB")


def described(model: Any) -> list[str]:
    """Every module with its plain attributes: activation, pooling, heads, context..."""
    lines = []
    for name, module in model.named_modules():
        plain = {
            key: value
            for key, value in vars(module).items()
            if not key.startswith(("_", "image_mean", "image_std", "name_or_path"))  # compared elsewhere, or no matter
            and isinstance(value, (int, float, str, bool, tuple, type(None)))
        }
        lines.append(f"{name} {module.__class__.__name__} {module.extra_repr()} {sorted(plain.items())}")
    return lines + [f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()]


def compare(name: str, tag: str) -> list[str]:
    spec, entry = f"{name}:{tag}", open_clip.get_pretrained_cfg(name, tag)
    checkpoint = resolve(spec)
    with META:
        ours = openclip_api.build(
            checkpoint.model_config, checkpoint.preprocessing, precision="fp32", device=META,
            text_tower=checkpoint.text_tower,
        )  # fmt: skip
        theirs, _, transform = open_clip.create_model_and_transforms(
            name, tag, load_weights=False, pretrained_text=False, device=META,
            force_quick_gelu=bool(entry.get("quick_gelu")),
        )  # fmt: skip
    differences = []
    if described(ours) != described(theirs):
        differences.append("modules")
    pixels = preprocessing_of(ours, checkpoint)(PHOTO)
    if np.abs(pixels - transform(PHOTO).numpy()).max() > 1e-6:
        differences.append("preprocessing")
    tokenizer = open_clip.get_tokenizer(name)
    mine = load_tokenizer(spec, checkpoint.tokenizer, checkpoint.tokenizer_folder, trust_remote_code=False)
    if not torch.equal(mine(TEXTS), tokenizer(TEXTS)) or mine.ids(TEXTS) != tokenizer(TEXTS).tolist():
        differences.append("tokens")
    if checkpoint.tokenizer.context_length != tokenizer.context_length:
        differences.append("context")
    return differences


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    found = {f"{name}:{tag}": compare(name, tag) for name, tag in open_clip.list_pretrained()}
    different = {spec: differences for spec, differences in found.items() if differences}
    sys.stdout.write(json.dumps({"compared": len(found), "different": different}) + "\n")
