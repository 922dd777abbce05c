"""Vectors from pictures and text: the `Encoder` contract, its implementations, and `load_encoder`."""

from zeroshot.encoders.base import Encoder, FloatArray
from zeroshot.encoders.registry import load_encoder

__all__ = ["Encoder", "FloatArray", "load_encoder"]
