"""Vectors as bytes with a checksum, as a flipped bit in a database page is not SQLite's to notice."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_CHECK_BYTES = 8


def seal(vector: npt.NDArray[np.float32]) -> bytes:
    """Put a vector into bytes.

    Parameters
    ----------
    vector : ndarray of float32, shape (dim,)
        Any vector.

    Returns
    -------
    bytes
        Little-endian floats and a checksum.
    """
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
    >>> unseal(b"\\0" * 16) is None
    True
    """
    content, check = sealed[:-_CHECK_BYTES], sealed[-_CHECK_BYTES:]
    if _check(content) != check:
        return None
    vector: npt.NDArray[np.float32] = np.frombuffer(content, dtype="<f4").astype(np.float32, copy=False)
    return vector


def _check(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_CHECK_BYTES).digest()
