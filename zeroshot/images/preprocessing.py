"""From an RGB image to a model's input array, as the model's own configuration says.

The arithmetic is open_clip's inference transform (``open_clip.transform.image_transform``), step for step, in Pillow
and numpy.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroshot.errors import ModelCorrupt
from zeroshot.images.loading import to_rgb

CropOffset = Literal["round", "floor"]
ResizeMode = Literal["shortest", "longest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]

_LONGEST = 8
"""An image that would be this many times longer than the input is resized through a box, so that a 1 x 5000 one does
not become 224 x 1,120,000 on the way; rounding then differs by a grey level or two here and there."""

_LARGEST = 4_096  # pixels of a side; no model is near it

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocessing:
    """What a model expects of an image.

    Parameters
    ----------
    size : tuple of int
        Height and width of the input, in pixels.
    mean, std : tuple of float
        Per channel (red, green, blue), for values in [0, 1].
    interpolation : {"bicubic", "bilinear"}
        Resampling filter.
    resize_mode : {"shortest", "longest", "squash"}
        Scale the shorter side to fit and crop the middle; scale the longer side to fit and pad; or ignore the aspect.
    fill_color : int
        Grey level of the padding in "longest" mode.
    resize_to : int or None
        For "shortest": the shorter side before the crop, where it is not the input's own size.
    crop_offset : {"round", "floor"}
        For "shortest": how half a pixel of the crop's place is rounded, to even (torchvision) or down (transformers).
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill_color: int = 0
    resize_to: int | None = None
    crop_offset: CropOffset = "round"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Read the form that ``to_dict`` writes.

        Parameters
        ----------
        values : dict
            Field names and values; lists stand for tuples.

        Returns
        -------
        Preprocessing
            The validated configuration.

        Raises
        ------
        ModelCorrupt
            If a field is missing, unknown or out of range.
        """
        try:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            result = cls(**fields)
            whole = (*result.size, 1 if result.resize_to is None else result.resize_to, result.fill_color)
            positive = (*whole[:-1], *result.std)
            known = (
                result.resize_mode in ("shortest", "longest", "squash")
                and result.interpolation in _RESAMPLING
                and result.crop_offset in ("round", "floor")
            )
            numbers = all(type(one) is int and one <= _LARGEST for one in whole) and 0 <= result.fill_color <= 255
            finite = all(math.isfinite(one) for one in (*result.mean, *result.std))
            lengths = len(result.mean) == len(result.std) == 3 and len(result.size) == 2
            if not (known and numbers and finite and lengths and min(positive) > 0):
                raise ValueError(values)
        except (TypeError, ValueError, OverflowError) as error:
            raise ModelCorrupt(
                f"The preprocessing configuration is not usable: {error}.", "Export it again."
            ) from error
        return result

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON-ready values.

        Returns
        -------
        dict
            Field names and values; `crop_offset` where it is not the usual one.
        """
        values = asdict(self)
        if self.crop_offset == "round":
            del values["crop_offset"]
        return values

    @cached_property
    def enough(self) -> int:
        """The shorter side, in pixels, below which a JPEG is not decoded: twice the input's longer side."""
        return 2 * max(*self.size, self.resize_to or 0)

    def __call__(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """Resize, crop or pad, and normalise one image."""
        image = to_rgb(image)
        if self.resize_mode == "squash":
            fitted = self._resize(image, self.size)
        elif self.resize_mode == "longest":
            fitted = self._pad_longest(image)
        else:
            fitted = self._crop_shortest(image)
        levels = np.asarray(fitted)
        pixels = np.empty((3, *self.size), dtype=np.float32)
        for channel, (scale, offset) in enumerate(self._affine):
            np.multiply(levels[..., channel], scale, out=pixels[channel])
            pixels[channel] += offset
        return pixels

    @cached_property
    def _affine(self) -> list[tuple[np.float32, np.float32]]:
        """(x / 255 - mean) / std as x * scale + offset, per channel."""
        return [
            (np.float32(1 / (255 * std)), np.float32(-mean / std))
            for mean, std in zip(self.mean, self.std, strict=True)
        ]

    def _resize(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        height, width = size
        if image.size == (width, height):
            return image
        return image.resize((width, height), _RESAMPLING[self.interpolation])

    def _crop_shortest(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        target_height, target_width = self.size
        if target_height == target_width:  # torchvision.transforms.Resize(int)
            short = self.resize_to or target_height
            tall = width <= height
            new_width = short if tall else int(short * width / height)
            new_height = int(short * height / width) if tall else short
            resampling = _RESAMPLING[self.interpolation]
        else:  # open_clip.transform.ResizeKeepRatio, which is always bicubic here
            ratio = min(height / target_height, width / target_width)
            new_width, new_height = round(width / ratio), round(height / ratio)
            resampling = Image.Resampling.BICUBIC
        place = round if self.crop_offset == "round" else int
        left, top = place((new_width - target_width) / 2), place((new_height - target_height) / 2)
        crop = (left, top, left + target_width, top + target_height)
        if (new_width, new_height) == image.size:
            return image.crop(crop)
        if max(new_width, new_height) <= _LONGEST * max(self.size):
            return image.resize((new_width, new_height), resampling).crop(crop)
        across, down = width / new_width, height / new_height
        box = (left * across, top * down, min(width, crop[2] * across), min(height, crop[3] * down))
        return image.resize((target_width, target_height), resampling, box=box)

    def _pad_longest(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        target_height, target_width = self.size
        ratio = max(height / target_height, width / target_width)
        resized = self._resize(image, (max(1, round(height / ratio)), max(1, round(width / ratio))))
        left, top = (target_width - resized.width) // 2, (target_height - resized.height) // 2
        canvas = Image.new("RGB", (target_width, target_height), (self.fill_color,) * 3)
        canvas.paste(resized, (left, top))
        return canvas
