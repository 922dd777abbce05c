"""Small perturbations that are made against the model: projected gradient descent on the open_clip path.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018: steps along the sign of the
gradient of the right label's loss, held to a ball of the maximum norm around the picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zeroshot.encoders import Encoder, FloatArray
from zeroshot.errors import OptionError
from zeroshot.evaluate.records import IntArray

if TYPE_CHECKING:
    from zeroshot.encoders.openclip import OpenClipEncoder

LEVELS = (0.5, 1.0, 2.0)  # most change of a channel, in grey levels of 255
_STEPS = 10


def attack(encoder: Encoder, pixels: FloatArray, matrix: FloatArray, right: IntArray, levels: float) -> FloatArray:
    """Perturb pictures so that the right label loses, and embed them."""
    open_clip = _open_clip(encoder)
    import torch

    std = torch.tensor(encoder.preprocessing.std).view(1, 3, 1, 1)
    mean = torch.tensor(encoder.preprocessing.mean).view(1, 3, 1, 1)
    device = next(open_clip.model.parameters()).device
    clean = torch.from_numpy(pixels).to(device)
    radius = (levels / 255 / std).to(device)
    lowest, highest = ((0 - mean) / std).to(device), ((1 - mean) / std).to(device)
    texts = torch.from_numpy(np.array(matrix)).to(device).T
    target = torch.from_numpy(right).to(device)
    moved = clean.clone()
    for _ in range(_STEPS):
        moved.requires_grad_(True)
        logits = encoder.logit_scale * _embed(open_clip, moved) @ texts
        loss = torch.nn.functional.cross_entropy(logits, target, reduction="sum")
        (slope,) = torch.autograd.grad(loss, moved)
        with torch.no_grad():
            moved = moved + 2.5 * radius / _STEPS * slope.sign()
            moved = torch.minimum(torch.maximum(moved, clean - radius), clean + radius)
            moved = torch.minimum(torch.maximum(moved, lowest), highest)
    with torch.no_grad():
        rows: FloatArray = _embed(open_clip, moved).float().cpu().numpy()
    return rows


def has_gradients(encoder: Encoder) -> bool:
    """Whether an encoder can be attacked: open_clip's on torch, in single precision."""
    return hasattr(encoder, "model") and getattr(encoder, "precision", "") == "fp32"


def _embed(encoder: OpenClipEncoder, pixels: Any) -> Any:
    import torch

    return torch.nn.functional.normalize(encoder.model.encode_image(pixels), dim=-1)


def _open_clip(encoder: Encoder) -> OpenClipEncoder:
    if not has_gradients(encoder):
        raise OptionError(
            f"{encoder.spec} has no gradients here, which an attack follows.",
            "Use an open_clip model on torch in precision fp32, such as ARCH:TAG.",
        )
    return encoder  # type: ignore[return-value]  # has_gradients has seen its model
