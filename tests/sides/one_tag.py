"""Load one tag as this program and as open_clip does it, and print how far apart the numbers are."""

from __future__ import annotations

import gc
import json
import logging
import sys
import warnings
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from tests.images import PHOTOS, cat
from zeroshot import load_encoder
from zeroshot.encoders.export import export
from zeroshot.errors import ModelWarning

TEXTS = ["cat", "", "a photo of a cat.", "a photo of a dog.", "It's <b>five</b> o'clock", "word " * 200]
IMAGES = [cat(), cat().rotate(90, expand=True), Image.open(PHOTOS / "rocket.jpg").convert("RGB")]


def theirs(name: str, tag: str) -> dict[str, Any]:
    entry = open_clip.get_pretrained_cfg(name, tag)
    model, _, transform = open_clip.create_model_and_transforms(
        name, tag, force_quick_gelu=bool(entry.get("quick_gelu"))
    )
    model.eval()
    pixels = torch.stack([transform(image) for image in IMAGES])
    with torch.no_grad():
        return {
            "input": pixels.numpy(),
            "image": model.encode_image(pixels, normalize=True).numpy(),
            "text": model.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True).numpy(),
        }


def main(spec: str, directory: str | None) -> dict[str, Any]:
    name, _, tag = spec.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs(name, tag)
    gc.collect()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        encoder = load_encoder(spec, device="cpu")
    notes = [str(one.message) for one in told if one.category is ModelWarning]
    quick = any(type(module).__name__ == "QuickGELU" for module in encoder.model.modules())
    found = {
        "input": np.stack([encoder.preprocessing(image) for image in IMAGES]),
        "image": encoder.encode_images(IMAGES),
        "text": encoder.encode_texts(TEXTS),
    }
    apart = found["text"][[0, 2, 3]] @ found["text"][[0, 2, 3]].T
    result: dict[str, Any] = {key: float(np.abs(found[key] - expected[key]).max()) for key in found}
    result |= {
        "apart": float(np.triu(apart, 1).max()),
        "quick_gelu": quick,
        "repeats_the_publisher": any("QuickGELU" in note for note in notes)
        == (quick and not (open_clip.get_model_config(name).get("quick_gelu") or False)),
    }
    if directory is not None:
        export(encoder, directory, images=sorted(PHOTOS.glob("*.jpg"))[:2])
        served = load_encoder(f"onnx:{directory}")
        result |= {
            "exported_preprocessing_is_equal": served.preprocessing == encoder.preprocessing,
            "exported_image": float(np.abs(served.encode_images(IMAGES) - expected["image"]).max()),
            "exported_text": float(np.abs(served.encode_texts(TEXTS) - expected["text"]).max()),
        }
    return result


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)) + "\n")
