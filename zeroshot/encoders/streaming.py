"""Encode a stream of images: decoding runs ahead in threads while the encoder works, within a fixed window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from zeroshot.encoders.base import Encoder, FloatArray
from zeroshot.errors import ImageError
from zeroshot.images import ImageLimits, ImageSource, load

SourceT = TypeVar("SourceT", bound=ImageSource | ImageError)


def encode_one(encoder: Encoder, source: ImageSource, *, limits: ImageLimits | None = None) -> FloatArray:
    """Load and embed one image in the calling thread."""
    preprocessing = encoder.preprocessing
    pixels = preprocessing(load(source, limits, enough=preprocessing.enough))
    row: FloatArray = encoder.encode_pixels(pixels[np.newaxis])[0]
    return row


def encode_stream(
    encoder: Encoder,
    sources: Iterable[SourceT],
    *,
    limits: ImageLimits | None = None,
    batch_size: int = 16,
    workers: int = 2,
) -> Iterator[tuple[SourceT, FloatArray | ImageError]]:
    """Load and embed images one batch at a time, in order.

    At most three batches are in memory however many sources there are.
    """
    preprocessing = encoder.preprocessing

    def prepare(source: SourceT) -> FloatArray | ImageError:
        if isinstance(source, ImageError):
            return source
        try:
            return preprocessing(load(source, limits, enough=preprocessing.enough))
        except ImageError as error:
            return error

    remaining = iter(sources)
    window: deque[tuple[SourceT, Future[FloatArray | ImageError]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="zeroshot-decode")
    try:
        while True:
            for source in islice(remaining, 2 * batch_size - len(window)):
                window.append((source, pool.submit(prepare, source)))
            if not window:
                return
            batch = [window.popleft() for _ in range(min(batch_size, len(window)))]
            for source in islice(remaining, batch_size):  # decoded while this batch is encoded
                window.append((source, pool.submit(prepare, source)))
            yield from _encode_batch(encoder, [(source, future.result()) for source, future in batch])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _encode_batch(
    encoder: Encoder, batch: list[tuple[SourceT, FloatArray | ImageError]]
) -> Iterator[tuple[SourceT, FloatArray | ImageError]]:
    pixels = [prepared for _, prepared in batch if not isinstance(prepared, ImageError)]
    vectors = iter(encoder.encode_pixels(np.stack(pixels)) if pixels else ())
    for source, prepared in batch:
        yield source, prepared if isinstance(prepared, ImageError) else next(vectors)
