"""The galleries that are open: each is opened at its first use, and closed with the server."""

from __future__ import annotations

import threading
from pathlib import Path

from zeroshot.encoders import Encoder, TextCache
from zeroshot.errors import GalleryExists
from zeroshot.gallery import Gallery, delete_gallery
from zeroshot.gallery.catalog import gallery_folder
from zeroshot.gallery.database import DATABASE
from zeroshot.images import ImageLimits


class GalleryPool:
    """Galleries below a home folder, shared by every request."""

    def __init__(self, home: Path, encoder: Encoder, *, limits: ImageLimits, cache: TextCache | None) -> None:
        self.home = home
        self._encoder = encoder
        self._limits = limits
        self._cache = cache
        self._open: dict[str, tuple[tuple[int, int], Gallery]] = {}
        self._lock = threading.Lock()

    def get(self, name: str, *, create: bool = False) -> Gallery:
        """Give a gallery."""
        with self._lock:
            path = gallery_folder(self.home, name, create=create) / DATABASE
            if create and path.exists():
                raise GalleryExists(f"There is a gallery {name!r} already.", "Use it, or give another name.")
            known = self._open.get(name)
            if known is not None and (create or known[0] != _identity(path)):
                known[1].close()  # another process has deleted it and made another
                known = None
            if known is None:
                gallery = Gallery(self.home, name, self._encoder, create=create, limits=self._limits, cache=self._cache)
                gallery.build_in_background()  # its index may be missing or damaged
                known = self._open[name] = _identity(path), gallery
            return known[1]

    def delete(self, name: str) -> None:
        """Delete a gallery."""
        with self._lock:
            gallery_folder(self.home, name, create=False)
            known = self._open.pop(name, None)
            if known is not None:
                known[1].close()
            delete_gallery(self.home, name)

    def counts(self) -> dict[str, int]:
        """How many items each open gallery has; one that is being opened or deleted is waited for."""
        with self._lock:
            return {name: len(gallery) for name, (_, gallery) in self._open.items()}

    def close(self) -> None:
        """Close them all."""
        with self._lock:
            for _, gallery in self._open.values():
                gallery.close()
            self._open.clear()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
