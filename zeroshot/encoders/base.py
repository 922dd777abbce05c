"""What an encoder is, and what every encoder does alike: batches, short texts first, unit rows, nothing non-finite.

It knows arrays and strings. It does not know ONNX, torch or where weights come from.
"""

from __future__ import annotations

import math
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroshot.encoders.text_packing import Packed, pack
from zeroshot.encoders.truncation import warn_of_truncation
from zeroshot.errors import ModelCorrupt, ModelError, OptionError, ZeroshotError, quote
from zeroshot.images import Preprocessing

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
InputT = TypeVar("InputT")

_SPECIAL_TOKENS = 4
"""More than any tokenizer puts around a text."""


@runtime_checkable
class Encoder(Protocol):
    """Two towers with one space.

    Attributes
    ----------
    spec : str
        The model spec it was loaded from.
    dim : int
        Length of a vector.
    logit_scale : float
        Multiplies cosines before the softmax, as trained (already exponentiated).
    logit_bias : float or None
        Added after `logit_scale` for models trained with a sigmoid loss (SigLIP).
    preprocessing : Preprocessing
        What ``encode_pixels`` expects.
    template_set : str
        Name of the template set it recommends.
    """

    spec: str
    dim: int
    logit_scale: float
    logit_bias: float | None
    preprocessing: Preprocessing
    template_set: str

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of weights, configuration and preprocessing: equal means the same vectors."""
        ...

    def encode_pixels(self, pixels: FloatArray) -> FloatArray:
        """Embed preprocessed images: (n, 3, h, w) float32 to (n, dim) float32 unit rows."""
        ...

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Embed n RGB images to (n, dim) float32 unit rows."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed n texts to (n, dim) float32 unit rows."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Count the tokens that n texts are read as, special ones included."""
        ...


class TwoTowerEncoder(ABC):
    """The common half of every encoder; a subclass adds its two towers and its tokenizer."""

    tokens_per_batch: ClassVar[int] = 2048
    """Texts share a batch up to this many tokens, so that many short texts fill the machine as few long ones do."""

    nodes_per_pack: ClassVar[int] = 256
    """Size of a pack of causal texts: from here on larger ones cost more attention than they save overhead."""

    causal_texts: bool = False
    """Whether a token sees only those before it, and a text's vector is read at its last one: such texts are packed."""

    def __init__(
        self,
        *,
        spec: str,
        dim: int,
        logit_scale: float,
        logit_bias: float | None,
        preprocessing: Preprocessing,
        template_set: str,
        context_length: int,
        batch_size: int = 16,
    ) -> None:
        if batch_size < 1:
            raise OptionError(f"batch_size={batch_size} is below 1.", "Use 1 or more.", field="batch_size")
        numbers = (logit_scale, 0.0 if logit_bias is None else logit_bias)
        if not all(math.isfinite(number) for number in numbers) or logit_scale <= 0:
            raise ModelCorrupt(
                f"{spec} has logit_scale={logit_scale} and logit_bias={logit_bias}.",
                "Its weights or its configuration are damaged; download or export it again.",
            )
        self.spec = spec
        self.dim = dim
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias
        self.preprocessing = preprocessing
        self.template_set = template_set
        self.context_length = context_length
        self.batch_size = batch_size

    def encode_pixels(self, pixels: FloatArray) -> FloatArray:
        """Embed preprocessed images."""
        starts = range(0, len(pixels), self.batch_size)
        rows = [self._run("image", self._image_tower, pixels[i : i + self.batch_size]) for i in starts]
        return self._unit(rows)

    def encode_images(self, images: Sequence[Image.Image]) -> FloatArray:
        """Embed images."""
        rows = []
        for start in range(0, len(images), self.batch_size):
            batch = [self.preprocessing(image) for image in images[start : start + self.batch_size]]
            rows.append(self._run("image", self._image_tower, np.stack(batch)))
        return self._unit(rows)

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts without computing anything twice or for nothing.

        Causal towers get texts packed, their common beginnings computed once (see ``text_packing``); other towers get
        batches of similar length.
        """
        warn_of_truncation(self, texts)
        return self._encode_token_ids(self._tokenize(texts))

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Count the tokens that texts are read as."""
        return sum(len(ids) for ids in self._tokenize(texts))

    def cuts(self, texts: Sequence[str]) -> list[bool]:
        """Tell which texts are longer than the context, or end early, so that what follows changes nothing."""
        short = self.context_length - _SPECIAL_TOKENS
        return [not _is_plain(text, short) and self._cuts(text) for text in texts]

    def _encode_token_ids(self, token_ids: list[list[int]]) -> FloatArray:
        result = np.empty((len(token_ids), self.dim), dtype=np.float32)
        if self.causal_texts:
            for packed in pack(token_ids, self.nodes_per_pack):
                result[packed.members] = self._unit([self._run("text", self._packed_text_tower, packed)])
            return result
        lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
        order = np.argsort(lengths, kind="stable")
        start = 0
        while start < len(order):
            stop = self._batch_end(lengths[order], start)
            members = order[start:stop]
            result[members] = self._unit([self._run("text", self._text_tower, [token_ids[i] for i in members])])
            start = stop
        return result

    def _batch_end(self, lengths: IntArray, start: int) -> int:
        """End of the longest run from `start` whose count times longest member stays within ``tokens_per_batch``."""
        counts = np.arange(1, len(lengths) - start + 1)
        fits = np.count_nonzero(counts * lengths[start:] <= self.tokens_per_batch)
        return start + max(1, int(fits))

    def _run(self, kind: str, tower: Callable[[InputT], FloatArray], given: InputT) -> FloatArray:
        """What a tower answers; one that cannot be run, or answers in another form, is named."""
        try:
            rows = tower(given)
        except ZeroshotError:
            raise
        except Exception as error:  # torch and ONNX Runtime raise many kinds
            raise ModelError(
                f"The {kind} tower of {self.spec} fails: {quote(str(error) or type(error).__name__, limit=200)}.",
                "Its configuration and weights do not fit together, or memory or this precision is not enough for it.",
            ) from error
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise ModelCorrupt(
                f"The {kind} tower of {self.spec} answers with shape {rows.shape}, not (n, {self.dim}).",
                "Its configuration is not that of a CLIP model; download or export it again.",
            )
        return rows

    def _unit(self, rows: Sequence[FloatArray]) -> FloatArray:
        matrix = np.concatenate(rows) if rows else np.empty((0, self.dim), dtype=np.float32)
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        if not (np.isfinite(norms).all() and (norms > 0).all()):
            raise ModelCorrupt(
                f"{self.spec} answered with NaN, infinity or a zero vector.",
                "Its weights are damaged or its precision too low; load it again with precision fp32.",
            )
        unit: FloatArray = (matrix / norms).astype(np.float32, copy=False)
        return unit

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """See `Encoder`."""

    @abstractmethod
    def _image_tower(self, pixels: FloatArray) -> FloatArray:
        """(n, 3, h, w) float32 to (n, dim) float32, any norm."""

    @abstractmethod
    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, padding not."""

    @abstractmethod
    def _cuts(self, text: str) -> bool:
        """Whether a text has an end that is not read."""

    @abstractmethod
    def _text_tower(self, token_ids: Sequence[list[int]]) -> FloatArray:
        """One batch of token ids to (n, dim) float32, any norm; for towers that are not causal."""

    @abstractmethod
    def _packed_text_tower(self, packed: Packed) -> FloatArray:
        """One pack of token ids to (members, dim) float32, any norm; for causal towers."""


def _is_plain(text: str, most: int) -> bool:
    """Whether a text surely has at most so many tokens, as a token is at least a byte in whatever form it is read.

    Entities may grow when they are unescaped, and a special token may be spelled out.
    """
    if len(text) > most or "&" in text or "<" in text:
        return False
    if text.isascii():
        return True
    compatible = unicodedata.normalize("NFKC", text)
    return max(len(form.encode("utf-8", "surrogatepass")) for form in (text, compatible, compatible.lower())) <= most
