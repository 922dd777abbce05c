"""The vectors of a dataset's images, kept on disk by what the images hold: a second run encodes nothing.

An interrupted run goes on where it was, since every batch is kept when it is done. Memory does not grow with the number
of images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from zeroshot.datasets import Problem, Sample
from zeroshot.encoders import Encoder, FloatArray, TextCache
from zeroshot.encoders.streaming import encode_stream
from zeroshot.errors import ImageError, ImageNotFound
from zeroshot.images import ImageLimits, ImageSource, load

_CHUNK = 128  # images that are looked up, encoded and kept together
FILE = "image-embeddings.sqlite3"


class Change(Protocol):
    """Something that is done to an image before it is encoded."""

    def apply(self, image: Image.Image, sample: Sample) -> Image.Image:
        """Change an RGB image."""
        ...

    def describe(self, sample: Sample) -> str:
        """Say what is done to this one: equal means the same."""
        ...


class VectorCache:
    """Vectors by encoder and content, in the home folder.

    Parameters
    ----------
    home : Path
        ZEROSHOT_HOME.
    max_bytes : int
        Bound on the vectors kept; the least recently used go first.
    """

    def __init__(self, home: Path, *, max_bytes: int = 16 * 2**30) -> None:
        self._cache = TextCache(home / FILE, max_bytes=max_bytes, max_memory_bytes=0)
        self.found = 0
        self.encoded = 0

    def stream(
        self,
        samples: Iterable[Sample | Problem],
        encoder: Encoder,
        *,
        limits: ImageLimits,
        batch_size: int = 16,
        change: Change | None = None,
    ) -> Iterator[tuple[Sample, FloatArray] | Problem]:
        """Embed samples, or give what was embedded before.

        Parameters
        ----------
        samples : iterable of Sample or Problem
            Read lazily.
        encoder : Encoder
            Embeds images; its fingerprint covers weights and preprocessing.
        limits : ImageLimits
            Limits on each image.
        batch_size : int
            Images encoded at once.
        change : Change or None
            What is done to each image before it is encoded.

        Yields
        ------
        (Sample, ndarray of float32, shape (dim,)) or Problem
            In order; an image that cannot be read becomes a problem.
        """
        remaining = iter(samples)
        with ThreadPoolExecutor(2, thread_name_prefix="zeroshot-hash") as pool:
            while chunk := list(islice(remaining, _CHUNK)):
                good = [one for one in chunk if isinstance(one, Sample)]
                keys = list(pool.map(lambda one: _digest(one, change), good))
                vectors = self._vectors(good, keys, encoder, limits, batch_size, change)
                for one in chunk:
                    if isinstance(one, Problem):
                        yield one
                        continue
                    outcome = next(vectors)
                    yield Problem(one.key, str(outcome)) if isinstance(outcome, ImageError) else (one, outcome)

    def _vectors(
        self,
        samples: list[Sample],
        keys: list[str | ImageError],
        encoder: Encoder,
        limits: ImageLimits,
        batch_size: int,
        change: Change | None,
    ) -> Iterator[FloatArray | ImageError]:
        known = self._cache.get_many(encoder.fingerprint, [key for key in keys if isinstance(key, str)])
        self.found += len(known)
        first: dict[str, Sample] = {}  # one of each content
        for key, sample in zip(keys, samples, strict=True):
            if isinstance(key, str) and key not in known:
                first.setdefault(key, sample)
        outcomes: dict[str, FloatArray | ImageError] = dict(known)
        sources = (_changed(sample, change, limits) for sample in first.values())
        encoded = encode_stream(encoder, sources, limits=limits, batch_size=batch_size)
        for key, (_, outcome) in zip(first, encoded, strict=True):
            outcomes[key] = outcome
        fresh = {key: outcomes[key] for key in first}
        good = {key: row for key, row in fresh.items() if isinstance(row, np.ndarray)}
        self.encoded += len(good)
        self._cache.put_many(encoder.fingerprint, good)
        return (key if isinstance(key, ImageError) else outcomes[key] for key in keys)

    def close(self) -> None:
        """Close the file."""
        self._cache.close()


def _changed(sample: Sample, change: Change | None, limits: ImageLimits) -> ImageSource | ImageError:
    if change is None:
        return sample.source
    try:
        return change.apply(load(sample.source, limits), sample)
    except ImageError as error:
        return error


def _digest(sample: Sample, change: Change | None) -> str | ImageError:
    """sha256 of what an image holds, and of what is done to it."""
    digest = hashlib.sha256(b"" if change is None else change.describe(sample).encode())
    source = sample.source
    if isinstance(source, (str, Path)):
        try:
            with Path(source).open("rb") as file:
                while part := file.read(2**20):
                    digest.update(part)
        except OSError as error:
            return ImageNotFound(f"{source} cannot be read: {error.strerror}.", "Check the path.")
    elif isinstance(source, bytes):
        digest.update(source)
    else:
        image = source if isinstance(source, Image.Image) else Image.fromarray(np.asarray(source))
        digest.update(f"{image.mode}{image.size}".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()
