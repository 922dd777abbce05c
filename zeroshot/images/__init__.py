"""Images: from any source to an upright RGB image, and from there to a model's input array."""

from zeroshot.images.loading import ImageLimits, ImageSource, load
from zeroshot.images.preprocessing import Preprocessing

__all__ = [
    "ImageLimits",
    "ImageSource",
    "Preprocessing",
    "load",
]
