"""Vectors from images and text: the `Encoder` contract, its implementations, and `load_encoder`."""

from zeroshot.encoders.base import Encoder, FloatArray
from zeroshot.encoders.registry import load_encoder
from zeroshot.encoders.text_cache import TextCache

__all__ = ["Encoder", "FloatArray", "TextCache", "load_encoder"]
