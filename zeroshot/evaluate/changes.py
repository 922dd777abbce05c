"""What may happen to a picture on its way: noise, blur, compression, light, something before it, or written on it.

Severities 1 to 5 are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations", ICLR 2019, on a picture whose shorter side is 224 pixels; occlusion is ours. Writing a wrong label
on a picture is the typographic attack of Goh et al., "Multimodal Neurons in Artificial Neural Networks", Distill 2021.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from zeroshot.datasets import Sample
from zeroshot.labels import LabelSet

SEVERITIES = (1, 2, 3, 4, 5)
_SIDE = 224  # pixels of the shorter side that severities are meant for

_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)
_QUALITY = (25, 18, 15, 10, 7)
_BRIGHTER = (0.1, 0.2, 0.3, 0.4, 0.5)
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
_HIDDEN = (0.1, 0.2, 0.3, 0.4, 0.5)  # share of the picture behind a grey square

Chance = np.random.Generator
Levels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Corruption:
    """A corruption of one severity."""

    name: str
    severity: int

    def apply(self, image: Image.Image, sample: Sample) -> Image.Image:
        """Corrupt an RGB picture; the same one always in the same way."""
        return CORRUPTIONS[self.name](_scaled(image), self.severity - 1, _chance(sample))

    def describe(self, sample: Sample) -> str:
        """Say what is done to this one."""
        return f"{self.name} {self.severity} {sample.key}"


@dataclass(frozen=True)
class WrittenLabel:
    """A wrong label written on every picture."""

    labels: LabelSet

    def wrong(self, sample: Sample) -> str:
        """Choose a label that the picture has not, the same one always; "" where it has all."""
        own = {self.labels.find(label) for label in sample.labels}
        others = [name for row, name in enumerate(self.labels.names) if row not in own]
        return others[int(_chance(sample).integers(len(others)))] if others else ""

    def apply(self, image: Image.Image, sample: Sample) -> Image.Image:
        """Write on a card in the lower part of an RGB picture, as wide as the picture takes."""
        written = _scaled(image).copy()
        text = self.wrong(sample)
        if not text:
            return written
        size = max(12, round(min(written.height / 6, 1.6 * written.width / max(4, len(text)))))
        font = ImageFont.load_default(size)
        draw = ImageDraw.Draw(written)
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        x, y = (written.width - (right - left)) / 2 - left, 0.75 * written.height - (bottom - top) / 2 - top
        margin = size / 4
        card = (x + left - margin, y + top - margin, x + right + margin, y + bottom + margin)
        draw.rectangle(card, fill="white", outline="black")
        draw.text((x, y), text, fill="black", font=font)
        return written

    def describe(self, sample: Sample) -> str:
        """Say what is done to this one."""
        return f"written {self.wrong(sample)}"


def _noise(image: Image.Image, level: int, chance: Chance) -> Image.Image:
    levels = np.asarray(image) / 255
    return _to_image(levels + chance.normal(scale=_NOISE[level], size=levels.shape))


def _blur(image: Image.Image, level: int, chance: Chance) -> Image.Image:  # noqa: ARG001
    return image.filter(ImageFilter.GaussianBlur(_BLUR[level]))


def _jpeg(image: Image.Image, level: int, chance: Chance) -> Image.Image:  # noqa: ARG001
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY[level])
    return Image.open(buffer).convert("RGB")


def _brightness(image: Image.Image, level: int, chance: Chance) -> Image.Image:  # noqa: ARG001
    hue = np.asarray(image.convert("HSV")).astype(np.float64)
    hue[..., 2] = np.clip(hue[..., 2] + 255 * _BRIGHTER[level], 0, 255)
    return Image.frombytes("HSV", image.size, hue.round().astype(np.uint8).tobytes()).convert("RGB")


def _contrast(image: Image.Image, level: int, chance: Chance) -> Image.Image:  # noqa: ARG001
    levels = np.asarray(image) / 255
    means = levels.mean(axis=(0, 1), keepdims=True)
    return _to_image((levels - means) * _CONTRAST[level] + means)


def _occlusion(image: Image.Image, level: int, chance: Chance) -> Image.Image:
    hidden = image.copy()
    share = _HIDDEN[level] ** 0.5
    width, height = round(share * image.width), round(share * image.height)
    left = int(chance.integers(image.width - width + 1))
    top = int(chance.integers(image.height - height + 1))
    hidden.paste((127, 127, 127), (left, top, left + width, top + height))
    return hidden


CORRUPTIONS: dict[str, Callable[[Image.Image, int, Chance], Image.Image]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
    "occlusion": _occlusion,
}
"""Each takes an RGB picture, a severity from 0, and chance."""


def all_corruptions() -> Sequence[Corruption]:
    """Give every corruption in every severity."""
    return [Corruption(name, severity) for name in CORRUPTIONS for severity in SEVERITIES]


def _scaled(image: Image.Image) -> Image.Image:
    shorter = min(image.size)
    if shorter == _SIDE:
        return image
    width, height = (max(1, round(length * _SIDE / shorter)) for length in image.size)
    return image.resize((min(width, 20 * _SIDE), min(height, 20 * _SIDE)), Image.Resampling.BICUBIC)


def _chance(sample: Sample) -> Chance:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(sample.key.encode()).digest()[:8], "big"))


def _to_image(levels: Levels) -> Image.Image:
    return Image.fromarray((255 * np.clip(levels, 0, 1)).round().astype(np.uint8))
