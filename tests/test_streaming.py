"""encode_stream: in order, harmless failures, a fixed window, decoding alongside encoding."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.images import PHOTOS
from zeroshot import Encoder
from zeroshot.encoders.streaming import encode_one, encode_stream
from zeroshot.errors import ImageError, ImageNotFound
from zeroshot.images import Preprocessing

CAT, COFFEE = PHOTOS / "cat.jpg", PHOTOS / "coffee.jpg"


def test_order_is_kept_and_a_bad_image_harms_no_other(tiny: Encoder) -> None:
    sources = [CAT, Path("none.jpg"), COFFEE, ImageNotFound("known to be missing"), b"nonsense", CAT]
    outcomes = list(encode_stream(tiny, sources, batch_size=2))
    assert [source for source, _ in outcomes] == sources
    assert [isinstance(outcome, ImageError) for _, outcome in outcomes] == [False, True, False, True, True, False]
    np.testing.assert_allclose(outcomes[0][1], outcomes[5][1], atol=1e-6)
    np.testing.assert_allclose(outcomes[2][1], encode_one(tiny, COFFEE), atol=1e-6)


def test_an_empty_stream_is_empty(tiny: Encoder) -> None:
    assert list(encode_stream(tiny, [])) == []


class Slow:
    """An encoder that takes its time and notes when; a stand-in, so that the overlap is seen and not guessed."""

    spec, fingerprint, dim, logit_scale, logit_bias, template_set = "slow", "", 2, 1.0, None, "none"
    preprocessing = Preprocessing((4, 4), (0.5,) * 3, (0.5,) * 3)

    def __init__(self) -> None:
        self.busy: list[tuple[float, float]] = []

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        start = time.monotonic()
        time.sleep(0.15)
        self.busy.append((start, time.monotonic()))
        return np.ones((len(pixels), 2), np.float32)

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        raise NotImplementedError


def test_images_are_decoded_while_the_encoder_works() -> None:
    encoder = Slow()
    reads: list[float] = []

    class Noted:
        def read(self, size: int) -> bytes:
            reads.append(time.monotonic())
            time.sleep(0.02)
            return CAT.read_bytes()

    assert len(list(encode_stream(encoder, [Noted() for _ in range(40)], batch_size=8))) == 40
    during = sum(any(start < moment < end for start, end in encoder.busy) for moment in reads)
    assert during >= 20


def test_sources_are_taken_only_a_window_ahead(tiny: Encoder) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield CAT

    stream = encode_stream(tiny, endless(), batch_size=4)
    for _ in range(10):
        next(stream)
    assert taken <= 10 + 3 * 4
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zeroshot-decode")]
