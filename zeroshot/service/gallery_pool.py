"""The galleries that are open: each is opened at its first use, and closed with the server."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from zeroshot.encoders import Encoder, TextCache
from zeroshot.errors import GalleryExists
from zeroshot.gallery import Gallery, delete_gallery
from zeroshot.gallery.catalog import DATABASE, gallery_folder
from zeroshot.images import ImageLimits


class _Opened(NamedTuple):
    path: Path
    identity: tuple[int, int] | None
    gallery: Gallery


class GalleryPool:
    """Galleries below a home folder, shared by every request."""

    def __init__(self, home: Path, encoder: Encoder, *, limits: ImageLimits, cache: TextCache | None) -> None:
        self.home = home
        self._encoder = encoder
        self._limits = limits
        self._cache = cache
        self._open: dict[str, _Opened] = {}
        self._lock = threading.Lock()

    def get(self, name: str, *, create: bool = False) -> Gallery:
        """Give a gallery."""
        with self._lock:
            known = self._open.get(name)
            if known is not None and not create and _identity(known.path) == known.identity:
                return known.gallery
            path = gallery_folder(self.home, name, create=create) / DATABASE
            if create and path.exists():
                raise GalleryExists(f"There is a gallery {name!r} already.", "Use it, or give another name.")
            if known is not None:
                known.gallery.close()  # another process has deleted it, and perhaps made another
                del self._open[name]
            gallery = Gallery(self.home, name, self._encoder, create=create, limits=self._limits, cache=self._cache)
            gallery.build_in_background()  # its index may be missing or damaged
            self._open[name] = _Opened(path, _identity(path), gallery)
            return gallery

    def delete(self, name: str) -> None:
        """Delete a gallery."""
        with self._lock:
            gallery_folder(self.home, name, create=False)
            known = self._open.pop(name, None)
            if known is not None:
                known.gallery.close()
            delete_gallery(self.home, name)

    def counts(self) -> dict[str, int]:
        """How many items each open gallery has; one that is being opened or deleted is waited for."""
        with self._lock:
            return {name: len(known.gallery) for name, known in self._open.items()}

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            for known in self._open.values():
                known.gallery.close()
            self._open.clear()


def _identity(path: Path) -> tuple[int, int] | None:
    """Tell a file from another that took its place; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
