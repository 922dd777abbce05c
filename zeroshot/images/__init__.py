"""Pictures: from any source to an upright RGB picture, and from there to a model's input array."""

from zeroshot.images.loading import (
    FORMATS,
    ImageLimits,
    ImageSource,
    decode_base64,
    describe,
    is_url,
    load,
    to_rgb,
)
from zeroshot.images.preprocessing import Preprocessing

__all__ = [
    "FORMATS",
    "ImageLimits",
    "ImageSource",
    "Preprocessing",
    "decode_base64",
    "describe",
    "is_url",
    "load",
    "to_rgb",
]
