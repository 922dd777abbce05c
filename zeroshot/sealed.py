"""Vectors as bytes with a checksum, as a flipped bit in a database page is not SQLite's to notice."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

CHECK_BYTES = 4


def seal(vector: npt.NDArray[np.float32]) -> bytes:
    """Put a vector into bytes."""
    content = vector.astype("<f4").tobytes()
    return content + _check(content)


def unseal(sealed: bytes) -> npt.NDArray[np.float32] | None:
    """Take a vector out of bytes.

    Parameters
    ----------
    sealed : bytes
        What ``seal`` gave.

    Returns
    -------
    ndarray of float32, shape (dim,), or None
        None if a bit is not as it was.

    Examples
    --------
    >>> unseal(seal(np.array([0.5, -1.0], dtype=np.float32))).tolist()
    [0.5, -1.0]
    >>> unseal(b"\\1" * 16) is None
    True
    """
    if not is_sound(sealed):
        return None
    vector: npt.NDArray[np.float32] = np.frombuffer(sealed[:-CHECK_BYTES], dtype="<f4").astype(np.float32, copy=False)
    return vector


def is_sound(sealed: bytes) -> bool:
    """Say whether a sealed vector is as it was."""
    return sealed[-CHECK_BYTES:] == _check(memoryview(sealed)[:-CHECK_BYTES])


def _check(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(CHECK_BYTES, "little")
