"""An encoder whose pictures take their turn in the batcher's queue, for code that runs in threads of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future

import numpy as np
from PIL import Image

from zeroshot.encoders import Encoder, FloatArray, TextLimits
from zeroshot.images import Preprocessing
from zeroshot.service.batching import Job
from zeroshot.service.pipeline import Pipeline

_BULK_TIMEOUT_S = 600.0  # such pictures can wait


class QueuedEncoder:
    """An encoder whose pictures go through the batcher, for code that runs in threads of its own: galleries."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._encoder: Encoder = pipeline.classifier.encoder
        self._batcher = pipeline.batcher
        self.spec = self._encoder.spec
        self.dim = self._encoder.dim
        self.logit_scale = self._encoder.logit_scale
        self.logit_bias = self._encoder.logit_bias
        self.preprocessing: Preprocessing = self._encoder.preprocessing
        self.template_set = self._encoder.template_set

    @property
    def fingerprint(self) -> str:
        """The encoder's."""
        return self._encoder.fingerprint

    def encode_pixels(self, pixels: FloatArray) -> FloatArray:
        """Embed preprocessed pictures: (n, 3, h, w) float32 to (n, dim) float32 unit rows; waits for its turn."""
        futures: list[Future[FloatArray]] = []
        for row in pixels:
            futures.append(Future())
            self._batcher.submit(Job(row, futures[-1], time.monotonic() + _BULK_TIMEOUT_S), patient=True)
        rows = [future.result() for future in futures]
        return np.stack(rows) if rows else np.empty((0, self.dim), dtype=np.float32)

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Embed n RGB pictures to (n, dim) float32 unit rows."""
        if not images:
            return np.empty((0, self.dim), dtype=np.float32)
        return self.encode_pixels(np.stack([self.preprocessing(image) for image in images]))

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed n texts to (n, dim) float32 unit rows."""
        return self._encoder.encode_texts(texts)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Count the tokens that n texts are read as, special ones included."""
        return self._encoder.count_tokens(texts)

    @property
    def context_length(self) -> int:
        """The encoder's; an encoder that does not say reads texts to their end."""
        return self._encoder.context_length if isinstance(self._encoder, TextLimits) else sys.maxsize

    def cuts(self, texts: Sequence[str]) -> list[bool]:
        """Whether each of n texts has an end that is not read."""
        return self._encoder.cuts(texts) if isinstance(self._encoder, TextLimits) else [False] * len(texts)
