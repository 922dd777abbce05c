"""An encoder whose texts take their turn in the text worker: for all that embeds texts for a request, in any thread."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from PIL import Image

from zeroshot.encoders import Encoder, FloatArray
from zeroshot.encoders.truncation import TextLimits
from zeroshot.service.context import current, timed
from zeroshot.service.inference.text_worker import TextWorker


class QueuedEncoder:
    """The service's encoder: of a request, texts are embedded by the text worker, for the thread that waits."""

    def __init__(self, encoder: Encoder, texts: TextWorker) -> None:
        self._encoder = encoder
        self._texts = texts
        self.spec = encoder.spec
        self.dim = encoder.dim
        self.logit_scale = encoder.logit_scale
        self.logit_bias = encoder.logit_bias
        self.preprocessing = encoder.preprocessing
        self.template_set = encoder.template_set
        self.fingerprint = encoder.fingerprint
        self.context_length = encoder.context_length if isinstance(encoder, TextLimits) else sys.maxsize

    def admit(self, characters: float) -> None:
        """Refuse texts of so many characters in all, if they cannot be embedded in the request's time."""
        if (context := current.get()).deadline < math.inf:
            self._texts.admit(characters, context)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed n texts to (n, dim) float32 unit rows; of a request, by the text worker."""
        context = current.get()
        if context.deadline == math.inf or not texts:  # an index is being built: no request waits for it
            return self._encoder.encode_texts(texts)
        with timed("text"):
            return self._texts.submit(texts, context).result()

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
