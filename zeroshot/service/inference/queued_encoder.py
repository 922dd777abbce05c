"""An encoder for code that runs in threads of its own: galleries, whose texts take their turn in the text thread."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from PIL import Image

from zeroshot.encoders import Encoder, FloatArray
from zeroshot.encoders.truncation import TextLimits
from zeroshot.service.context import current
from zeroshot.service.inference.pipeline import Pipeline


class QueuedEncoder:
    """The pipeline's encoder; texts are embedded in the pipeline's text thread, as a stage of the current request."""

    def __init__(self, pipeline: Pipeline) -> None:
        encoder: Encoder = pipeline.classifier.encoder
        self._encoder = encoder
        self._pipeline = pipeline
        self.spec = encoder.spec
        self.dim = encoder.dim
        self.logit_scale = encoder.logit_scale
        self.logit_bias = encoder.logit_bias
        self.preprocessing = encoder.preprocessing
        self.template_set = encoder.template_set
        self.fingerprint = encoder.fingerprint
        self.context_length = encoder.context_length if isinstance(encoder, TextLimits) else sys.maxsize

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed n texts to (n, dim) float32 unit rows; of a request, in the text thread."""
        if current.get().deadline == math.inf:  # an index is being built: that takes long, and no request waits for it
            return self._encoder.encode_texts(texts)
        return self._pipeline.submit_text(self._encoder.encode_texts, texts).result()

    def encode_pixels(self, pixels: FloatArray) -> FloatArray:
        """Embed preprocessed images: (n, 3, h, w) float32 to (n, dim) float32 unit rows."""
        return self._encoder.encode_pixels(pixels)

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Embed n RGB images to (n, dim) float32 unit rows."""
        return self._encoder.encode_images(images)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Count the tokens that n texts are read as, special ones included."""
        return self._encoder.count_tokens(texts)

    def cuts(self, texts: Sequence[str]) -> list[bool]:
        """Whether each of n texts has an end that is not read."""
        return self._encoder.cuts(texts) if isinstance(self._encoder, TextLimits) else [False] * len(texts)
