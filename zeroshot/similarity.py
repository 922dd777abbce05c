"""Cosine similarities of images and texts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_SINGLE_THREADED_BLAS = 9_216  # numbers in a matrix; from here on OpenBLAS takes several threads to a vector


def cosine_similarities(vectors: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Give the cosines of n images, (n, dim) unit rows, with k texts, (k, dim) unit rows: (n, k) float32.

    One image is multiplied on one thread: ONNX Runtime's threads wait actively for a while after an image, and
    OpenBLAS's threads would share the cores with them.
    """
    if len(vectors) != 1 or matrix.size <= _SINGLE_THREADED_BLAS:
        return vectors @ matrix.T
    return np.asarray(np.einsum("kd,d->k", matrix, vectors[0]))[None]
