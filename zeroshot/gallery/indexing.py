"""Bring a gallery in line with a folder: new and changed pictures are encoded, unchanged ones are not read again."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from PIL import Image

from zeroshot.encoders import FloatArray
from zeroshot.encoders.streaming import encode_stream
from zeroshot.errors import ImageError
from zeroshot.gallery.gallery import Gallery
from zeroshot.gallery.types import Item
from zeroshot.images import FORMATS, ImageLimits

_BATCH = 64  # pictures written at once: what an interruption can cost


@dataclass
class IndexReport:
    """What ``index_files`` did."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    missing: list[str] = field(default_factory=list)
    pruned: int = 0
    unreadable: list[tuple[str, ImageError]] = field(default_factory=list)


class _Reading:
    """A file that remembers what it held when the decoder read it."""

    def __init__(self, path: str) -> None:
        self.name = path
        self.sha256 = ""
        self.width: int | None = None
        self.height: int | None = None
        status = Path(path).stat()
        self.file_size, self.file_mtime_ns = status.st_size, status.st_mtime_ns

    def read(self, count: int) -> bytes:
        with Path(self.name).open("rb") as file:
            content = file.read(count)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.width, self.height = picture_size(content)
        return content

    def item(self) -> Item:
        return Item(
            id=self.name,
            uri=self.name,
            sha256=self.sha256,
            width=self.width,
            height=self.height,
            file_size=self.file_size,
            file_mtime_ns=self.file_mtime_ns,
        )


def picture_size(content: bytes) -> tuple[int | None, int | None]:
    """Read a picture's size without decoding it."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.size
    except Exception:  # what is wrong with it is the loader's to say
        return None, None


def index_files(
    gallery: Gallery,
    paths: Sequence[str],
    *,
    within: Sequence[str] = (),
    prune: bool = False,
    limits: ImageLimits | None = None,
    batch_size: int = 16,
    on_progress: Callable[[], object] = lambda: None,
) -> IndexReport:
    """Add files to a gallery, under their absolute paths as ids.

    What is done is safe on disk some dozens of pictures at a time, so that an interruption costs little and the next
    call goes on from there.
    """
    with gallery.writing():
        return _index(gallery, paths, within, prune, limits, batch_size, on_progress)


def _index(
    gallery: Gallery,
    paths: Sequence[str],
    within: Sequence[str],
    prune: bool,
    limits: ImageLimits | None,
    batch_size: int,
    on_progress: Callable[[], object],
) -> IndexReport:
    report = IndexReport()
    known = gallery.known_files()
    listed = set(paths)
    folders = tuple(folder.rstrip(os.sep) + os.sep for folder in within)
    report.missing = sorted(uri for uri in known if uri.startswith(folders) and uri not in listed) if folders else []

    def changed() -> Iterator[_Reading | ImageError]:
        for path in paths:
            try:
                reading = _Reading(path)
            except OSError as error:
                unreadable = ImageError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.")
                report.unreadable.append((path, unreadable))
                on_progress()
                continue
            if known.get(path) == (reading.file_size, reading.file_mtime_ns):
                report.unchanged += 1
                on_progress()
            else:
                yield reading

    encoded = encode_stream(gallery.encoder, changed(), limits=limits, batch_size=batch_size)
    while batch := list(islice(encoded, _BATCH)):
        rows: list[tuple[Item, FloatArray]] = []
        for reading, outcome in batch:
            on_progress()
            if isinstance(reading, ImageError):
                continue
            if isinstance(outcome, ImageError):
                report.unreadable.append((reading.name, outcome))
                continue
            rows.append((reading.item(), outcome))
            report.replaced += reading.name in known
            report.added += reading.name not in known
        gallery.add(rows, replace=True)
    if prune and report.missing:
        report.pruned = gallery.delete(report.missing)
    return report
