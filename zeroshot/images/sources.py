"""Where a picture's bytes come from: paths, data URIs, URLs, bytes and files, bounded before they are read."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroshot.errors import ImageNotFound, ImageSourceRefused, ImageTooLarge, ImageUnreadable, quote
from zeroshot.images.fetching import fetch


class Readable(Protocol):
    """Anything with a binary file's ``read``."""

    def read(self, size: int, /) -> bytes:
        """Give up to `size` bytes."""
        ...


ImageSource = str | Path | bytes | bytearray | memoryview | Readable | Image.Image | npt.NDArray[np.generic]
"""What ``load`` accepts: a path, a data URI, a URL, bytes, an open binary file, a PIL image or a numpy array."""

_URL = re.compile(r"https?://", re.IGNORECASE)
_DATA_URI = re.compile(r"data:(?P<type>[^,;]*)(?P<parameters>(;[^,;]*)*),", re.IGNORECASE)


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may be, checked before it is decoded.

    Parameters
    ----------
    max_bytes : int
        Largest encoded picture, in bytes.
    max_pixels : int
        Most pixels, width times height. The default is where Pillow begins to warn; at twice that it refuses by itself.
    max_side : int
        Longest side, in pixels.
    allow_urls : bool
        Whether ``http://`` and ``https://`` sources are fetched.
    """

    max_bytes: int = 64 * 2**20
    max_pixels: int = 89_478_485
    max_side: int = 30_000
    allow_urls: bool = False


def describe(source: object) -> str:
    """Name a source in a message.

    Parameters
    ----------
    source : object
        Anything ``load`` accepts.

    Returns
    -------
    str
        The path or URL itself, or a few words for what has no name.

    Examples
    --------
    >>> describe("photos/cat.jpg"), describe(b"12345")
    ('photos/cat.jpg', '<5 bytes>')
    """
    if isinstance(source, (str, Path)):
        text = str(source)
        return f"<data URI of {len(text)} characters>" if text[:5].lower() == "data:" else text
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"<{len(source)} bytes>"
    if isinstance(source, np.ndarray):
        return f"<array of shape {source.shape}, {source.dtype}>"
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return str(name) if isinstance(name, (str, Path)) and str(name) else f"<{type(source).__name__}>"


def is_url(text: str) -> bool:
    """Whether a text is an ``http://`` or ``https://`` address."""
    return _URL.match(text) is not None


def decode_base64(text: str) -> bytes:
    """Decode base64 text, standard or URL-safe, padded or not, whitespace allowed.

    Parameters
    ----------
    text : str
        The encoded bytes.

    Returns
    -------
    bytes
        The decoded bytes.

    Raises
    ------
    ImageUnreadable
        If the text is empty or has a character base64 does not.
    """
    try:
        try:
            decoded = binascii.a2b_base64(text, strict_mode=True)  # as nearly everybody sends it
        except (binascii.Error, ValueError):
            compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
            decoded = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageUnreadable(
            f"The picture is not valid base64: {quote(text)}.",
            "Send the file's bytes in base64, alone or as 'data:image/jpeg;base64,...'.",
        ) from error
    if not decoded:
        raise ImageUnreadable("The picture is empty: 0 bytes of base64.", "Send the file's bytes in base64.")
    return decoded


def open_source(source: object, limits: ImageLimits) -> bytes | Path:
    """Open whatever is neither a PIL image nor an array."""
    name = describe(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _within(bytes(source), limits, name)
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _within(_from_data_uri(source, limits), limits, name)
    if isinstance(source, str) and is_url(source):
        if not limits.allow_urls:
            raise ImageSourceRefused(
                f"{name} is a URL, and fetching pictures is off.",
                "Download it first, or set ZEROSHOT_ALLOW_URLS=true (ImageLimits(allow_urls=True) in Python).",
            )
        return fetch(source, max_bytes=limits.max_bytes)
    if isinstance(source, (str, Path)):
        return _existing_file(source, limits, name)
    if hasattr(source, "read"):
        content = cast(Readable, source).read(limits.max_bytes + 1)
        if isinstance(content, bytes):
            return _within(content, limits, name)
        raise ImageUnreadable(f"{name} was opened as text.", "Open the file in binary mode ('rb').")
    raise ImageUnreadable(
        f"{quote(source)} ({type(source).__name__}) is not a picture.",
        "Give a path, bytes, a binary file, a PIL image, a numpy array or a data URI.",
    )


def _existing_file(source: str | Path, limits: ImageLimits, name: str) -> Path | bytes:
    path = Path(source)
    try:
        if path.is_dir():
            raise ImageUnreadable(f"{name} is a folder, not a picture.", "Give the files inside it.")
        with path.open("rb") as file:
            if not path.is_file():  # a pipe, such as a shell's <(...)
                return _within(file.read(limits.max_bytes + 1), limits, name)
            size = path.stat().st_size
    except FileNotFoundError as error:
        raise ImageNotFound(f"{name} does not exist.", "Check the path.") from error
    except (OSError, ValueError) as error:
        raise ImageNotFound(
            f"{quote(name, limit=200)} cannot be opened: {getattr(error, 'strerror', None) or error}.",
            "Check the path and its permissions.",
        ) from error
    _check_bytes(size, limits, name)
    return path


def _from_data_uri(uri: str, limits: ImageLimits) -> bytes:
    _check_bytes(len(uri) * 3 // 4 - 4096, limits, "The data URI")
    match = _DATA_URI.match(uri)
    if match is None:
        raise ImageUnreadable(f"{quote(uri)} is not a data URI.", "Its form is 'data:image/jpeg;base64,...'.")
    body = uri[match.end() :]
    if ";base64" in match["parameters"].lower():
        return decode_base64(unquote_to_bytes(body).decode("latin-1") if "%" in body else body)
    return unquote_to_bytes(body)


def _within(content: bytes, limits: ImageLimits, name: str) -> bytes:
    _check_bytes(len(content), limits, name)
    return content


def _check_bytes(size: int, limits: ImageLimits, name: str) -> None:
    if size == 0:
        raise ImageUnreadable(f"{name} is empty (0 bytes).", "Give a picture; the copy or upload may have failed.")
    if size > limits.max_bytes:
        raise ImageTooLarge(
            f"{name} has more than {limits.max_bytes:,} bytes.",
            "Send a smaller file, or raise ZEROSHOT_MAX_IMAGE_BYTES.",
        )
