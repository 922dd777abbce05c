"""Images found by their captions, and captions by their images.

Recall@k: the share of queries with a right answer among the first k (Radford et al., ICML 2021, section 3.1; an image
may have several captions, any of which is right).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field

from zeroshot.encoders import FloatArray
from zeroshot.statistics import IntArray

AT = (1, 5, 10)
_ROWS = 512  # queries compared at once


class RetrievalFigures(BaseModel):
    """Of images with captions."""

    images: int
    captions: int
    text_to_image: dict[str, float] = Field(description="recall@k of an image by each of its captions.")
    image_to_text: dict[str, float] = Field(description="recall@k of any of an image's captions.")


def measure_retrieval(images: FloatArray, texts: FloatArray, captioned: IntArray) -> RetrievalFigures:
    """Measure both ways; `captioned` has the row of each caption's image."""
    to_image = _ranks(texts, images, [[int(image)] for image in captioned])
    own: list[list[int]] = [[] for _ in range(len(images))]
    for caption, image in enumerate(captioned):
        own[int(image)].append(caption)
    to_text = _ranks(images, texts, own)
    return RetrievalFigures(
        images=len(images),
        captions=len(texts),
        text_to_image={f"recall@{k}": float((to_image < k).mean()) for k in AT},
        image_to_text={f"recall@{k}": float((to_text < k).mean()) for k in AT},
    )


def _ranks(queries: FloatArray, found: FloatArray, right: Sequence[Sequence[int]]) -> IntArray:
    """How many come before each query's best right answer."""
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), _ROWS):
        cosines = queries[start : start + _ROWS] @ found.T
        for row, line in enumerate(cosines):
            best = line[list(right[start + row])].max()
            ranks[start + row] = int((line >= best).sum()) - int((line[list(right[start + row])] >= best).sum())
    return ranks
