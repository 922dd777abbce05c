"""Vectors as bytes with a checksum: SQLite does not notice a flipped bit in a page."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

CHECK_BYTES = 4


def encode_vector(vector: npt.NDArray[np.float32]) -> bytes:
    """Turn a vector into bytes."""
    content = vector.astype("<f4").tobytes()
    return content + _check(content)


def decode_vector(stored: bytes) -> npt.NDArray[np.float32] | None:
    """Turn the bytes of ``encode_vector`` into a vector, or None if a bit has changed.

    >>> decode_vector(encode_vector(np.array([0.5, -1.0], dtype=np.float32))).tolist()
    [0.5, -1.0]
    >>> decode_vector(b"\\1" * 16) is None
    True
    """
    if not verify(stored):
        return None
    vector: npt.NDArray[np.float32] = np.frombuffer(stored[:-CHECK_BYTES], dtype="<f4").astype(np.float32, copy=False)
    return vector


def verify(stored: bytes) -> bool:
    """Say whether the bytes of a vector are unchanged."""
    return stored[-CHECK_BYTES:] == _check(memoryview(stored)[:-CHECK_BYTES])


def _check(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(CHECK_BYTES, "little")
