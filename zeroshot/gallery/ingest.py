"""Add the files of folders to a gallery: new and changed ones are encoded, unchanged ones are not read again."""

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
from zeroshot.images import ImageLimits
from zeroshot.images.loading import FORMATS

_BATCH = 64  # images written at once: the most that an interruption loses


@dataclass
class IndexReport:
    """What ``index_files`` did."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    missing: list[str] = field(default_factory=list)
    pruned: int = 0
    unreadable: list[tuple[str, ImageError]] = field(default_factory=list)


class _ImageFile:
    """A file that notes its checksum and image size when the decoder reads it."""

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
        self.width, self.height = image_size(content)
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


def image_size(content: bytes) -> tuple[int | None, int | None]:
    """Read an image's size without decoding it."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return image.size
    except Exception:  # the loader raises the error
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
    """Add files to a gallery, under their absolute paths as ids; `prune` removes files gone from the folders `within`.

    They are stored some dozens at a time; after an interruption the next call goes on from there.
    """
    with gallery.writing():
        report = IndexReport()
        known = gallery.known_files()
        listed = set(paths)
        folders = tuple(folder.rstrip(os.sep) + os.sep for folder in within)
        report.missing = (
            sorted(uri for uri in known if uri.startswith(folders) and uri not in listed) if folders else []
        )

        def changed() -> Iterator[_ImageFile]:
            for path in paths:
                try:
                    file = _ImageFile(path)
                except OSError as error:
                    unreadable = ImageError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.")
                    report.unreadable.append((path, unreadable))
                    on_progress()
                    continue
                if known.get(path) == (file.file_size, file.file_mtime_ns):
                    report.unchanged += 1
                    on_progress()
                else:
                    yield file

        encoded = encode_stream(gallery.encoder, changed(), limits=limits, batch_size=batch_size)
        while batch := list(islice(encoded, _BATCH)):
            rows: list[tuple[Item, FloatArray]] = []
            for file, outcome in batch:
                on_progress()
                if isinstance(outcome, ImageError):
                    report.unreadable.append((file.name, outcome))
                    continue
                rows.append((file.item(), outcome))
                report.replaced += file.name in known
                report.added += file.name not in known
            gallery.add(rows, replace=True)
        if prune and report.missing:
            report.pruned = gallery.delete(report.missing)
        return report
