"""Whether an image shows any of the labels: what "unknown" can mean where scores sum to 1.

A softmax shares all of its mass out among the labels that are asked about, so an image of none of them is as sure of
one as an image of it. What can tell is how far the best label's cosine stands above the same image's cosines with a
vocabulary of a thousand everyday names:

    z = (s - mean_v s_v) / std_v s_v

Of k labels that have nothing to do with the image the best one's z grows with k. It has to be one that only a share of
0.0124 such sets of labels would reach if cosines were normally distributed: 2.5 for two labels, 3.0 for ten, 3.7 for a
hundred. docs/labels.md has the error rates on images.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.similarity import cosine_similarities
from zeroshot.statistics import BoolArray, Float64Array

CHANCE = 0.0124


def standardise(similarities: FloatArray, vectors: FloatArray, reference: FloatArray) -> Float64Array:
    """Give cosines (n, k) of images (n, dim) in standard deviations above those with a vocabulary (v, dim): (n, k)."""
    usual = cosine_similarities(vectors, reference).astype(np.float64)
    spread = np.maximum(usual.std(axis=1, keepdims=True), 1e-6)
    return np.asarray((similarities - usual.mean(axis=1, keepdims=True)) / spread)


def shows_any(similarities: FloatArray, vectors: FloatArray, reference: FloatArray) -> BoolArray:
    """Say for n images whether the best of k labels stands out from a vocabulary: (n, k) cosines to (n,) bool."""
    least = NormalDist().inv_cdf(1 - CHANCE / similarities.shape[1])
    return np.asarray(standardise(similarities, vectors, reference).max(axis=1) >= least)
