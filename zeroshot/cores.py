"""How many cores there are to use, and how many one picture is worth."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

_BLAS_STAYS_ALONE = 9_216  # numbers in a matrix; from here on OpenBLAS takes several threads to a vector


def available_cores() -> int:
    """Count the cores this process may run on.

    Returns
    -------
    int
        At least 1; all of the machine's where the system does not say which are allowed (macOS).
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def products(vectors: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Multiply pictures with many texts: one picture on one thread, since more would wait for the encoder's.

    ONNX Runtime's threads spin for a while after a picture, and OpenBLAS's would share the cores with them.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dim)
        Pictures.
    matrix : ndarray of float32, shape (k, dim)
        Texts, or other pictures.

    Returns
    -------
    ndarray of float32, shape (n, k)
        vectors @ matrix.T
    """
    if len(vectors) != 1 or matrix.size <= _BLAS_STAYS_ALONE:
        return vectors @ matrix.T
    return np.asarray(np.einsum("kd,d->k", matrix, vectors[0]))[None]
