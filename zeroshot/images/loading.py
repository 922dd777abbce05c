"""One way in for every image: ``load`` turns any source into an upright RGB ``PIL.Image``.

Sources are paths, data URIs, URLs, bytes, files, PIL images and arrays. Bytes are bounded before they are read, pixels
before they are decoded. It knows formats, modes and orientation, and nothing of models but the size that is enough.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from zeroshot.errors import ImageError, ImageNotFound, ImageSourceRefused, ImageTooLarge, ImageUnreadable, quote
from zeroshot.images.download import Downloader

_PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "MPO": "MpoImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "AVIF": "AvifImagePlugin",
    "PPM": "PpmImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
}
for _plugin in _PLUGINS.values():
    importlib.import_module(f"PIL.{_plugin}")  # registers its format; Image.init() would import some 40 more

FORMATS = tuple(name for name in _PLUGINS if name in Image.OPEN)
"""Pillow's names of the accepted formats, less those this Pillow was built without; nothing else is tried, however a
file is named."""

_READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, PPM and JPEG 2000 are accepted."
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_ORIENTED_BY = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Blocks of metadata that may hold an orientation."""

_URL_TIMEOUT_S = 20.0


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
    """What an image may be, checked before it is decoded.

    Parameters
    ----------
    max_bytes : int
        Largest encoded image, in bytes.
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


def load(source: ImageSource, limits: ImageLimits | None = None, *, enough: int | None = None) -> Image.Image:
    """Read one image from any source.

    EXIF orientation is applied, transparency is flattened on white, every mode becomes RGB, and an animation gives
    its first frame.

    Parameters
    ----------
    source : ImageSource
        A path, data URI, URL (when the limits allow it), bytes, binary file object, PIL image, or numpy array of
        shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4): uint8, uint16, bool, or floats in [0, 1].
    limits : ImageLimits or None
        Limits to hold it to; the defaults when None.
    enough : int or None
        The shorter side, in pixels, that is enough for the caller. A JPEG is then decoded at the smallest of its DCT
        scales (1, 1/2, 1/4, 1/8) whose shorter side is no less; the image is never enlarged.

    Returns
    -------
    PIL.Image.Image
        Mode RGB, upright, fully decoded.

    Raises
    ------
    ImageNotFound
        If a path names no file.
    ImageTooLarge
        If a limit is exceeded.
    ImageUnreadable
        If the bytes are not a whole image in one of `FORMATS`, or the array has no image's shape.
    ImageSourceRefused
        If it is a URL and the limits do not allow fetching.
    """
    limits = limits or ImageLimits()
    if isinstance(source, Image.Image):
        _check_size(source.size, limits, describe(source))
        return to_rgb(source)
    if isinstance(source, np.ndarray):
        _check_size((*source.shape, 1, 1)[1::-1], limits, describe(source))
        return to_rgb(_from_array(source), describe(source))
    opened = open_source(source, limits)
    if isinstance(opened, Path):
        with opened.open("rb") as file:
            return _decode(file, limits, enough, describe(source))
    return _decode(io.BytesIO(opened), limits, enough, describe(source))


def _check_size(size: tuple[int, ...], limits: ImageLimits, name: str) -> None:
    width, height = size[0], size[1]
    if min(width, height) < 1:
        raise ImageUnreadable(f"{name} is {width} x {height} pixels: nothing to see.", "Give an image with pixels.")
    if max(width, height) > limits.max_side:
        raise ImageTooLarge(
            f"{name} is {width} x {height} pixels; a side may have {limits.max_side:,} at most.",
            "Scale it down, or raise ZEROSHOT_MAX_IMAGE_SIDE.",
        )
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"{name} is {width} x {height}: {width * height:,} pixels; {limits.max_pixels:,} are allowed.",
            "Scale it down, or raise ZEROSHOT_MAX_IMAGE_PIXELS.",
        )


def _decode(file: BinaryIO, limits: ImageLimits, enough: int | None, name: str) -> Image.Image:
    try:
        with Image.open(file, formats=FORMATS) as image:
            _check_size(image.size, limits, name)
            if enough is not None and image.format in ("JPEG", "MPO"):
                _draft(image, enough)
            image.load()
            return to_rgb(image, name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        file.seek(0)
        raise ImageUnreadable(
            f"{name} is not an image we can read; it begins with {file.read(12)!r}.", _READABLE
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"{name} is far over the {limits.max_pixels:,} pixels allowed: {error}", "Scale it down."
        ) from error
    except Exception as error:  # hostile bytes make Pillow's decoders raise almost anything
        raise ImageUnreadable(
            f"{name} is damaged or cut short: {error or type(error).__name__}.", "Export or download it again."
        ) from error


def _draft(image: Image.Image, enough: int) -> None:
    """Ask a JPEG's decoder for the smallest DCT scale whose shorter side is at least `enough` pixels."""
    width, height = image.size
    for scale in (8, 4, 2):
        if min(width, height) // scale >= enough:
            image.draft(None, (width // scale, height // scale))
            return


def _from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    name = describe(array)
    pixels: npt.NDArray[np.generic] = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ImageUnreadable(
            f"{name} is not an image.",
            "Shapes (h, w), (h, w, 1), (h, w, 3) and (h, w, 4) are; give a list for several.",
        )
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype == np.uint16:
        pixels = np.round(pixels.astype(np.float32) / 257).astype(np.uint8)
    elif np.issubdtype(pixels.dtype, np.floating):
        if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 1:
            raise ImageUnreadable(
                f"{name} has values outside [0, 1].", "Scale floats to [0, 1], or give uint8 in [0, 255]."
            )
        pixels = np.round(pixels.astype(np.float32) * 255).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise ImageUnreadable(f"{name} has dtype {pixels.dtype}.", "Give uint8, uint16, bool, or floats in [0, 1].")
    return Image.fromarray(np.ascontiguousarray(pixels))


def to_rgb(image: Image.Image, name: str | None = None) -> Image.Image:
    """Convert a decoded image of any mode to upright RGB: the one way in which this program does it."""
    if min(image.size) < 1:
        raise ImageUnreadable(f"{name or describe(image)} has no pixels.", "Give an image with pixels.")
    try:
        image.load()  # a file that was only opened is read here, where it may fail
        upright = _upright(image)
        if upright.mode == "La":
            upright = upright.convert("LA")  # the one way out of it that Pillow has
        if upright.mode.startswith("I") or upright.mode == "F":
            return _narrow(upright).convert("RGB")
        if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
            rgba = upright.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return upright.convert("RGB") if upright.mode != "RGB" else upright
    except Exception as error:  # a PIL image handed in may be half-read; see _decode
        raise ImageUnreadable(
            f"{name or describe(image)} cannot be converted from mode {image.mode} to RGB: {error}.",
            "Export it as RGB.",
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    """Apply EXIF orientation; unlike ``ImageOps.exif_transpose`` a malformed EXIF block is no obstacle."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # metadata is not the image: hostile EXIF raises almost anything
        orientation = None
    turn = _ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    if turn is None:
        return image
    upright = image.transpose(turn)
    for block in _ORIENTED_BY:
        upright.info.pop(block, None)
    return upright


def _narrow(image: Image.Image) -> Image.Image:
    """8-bit grey from wider grey: as 16-bit when a value is over 255, and floats that stay within 1 as [0, 1]."""
    values: npt.NDArray[np.floating] = np.nan_to_num(np.asarray(image, dtype=np.float32))
    top = float(values.max(initial=0))
    if image.mode.startswith("I;16") or top > 255:
        values = values / 257
    elif image.mode == "F" and top <= 1:
        values = values * 255
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


def describe(source: object) -> str:
    """Name a source in a message.

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
    """Decode base64 text, standard or URL-safe, padded or not, whitespace allowed."""
    try:
        try:
            decoded = binascii.a2b_base64(text, strict_mode=True)  # as nearly everybody sends it
        except (binascii.Error, ValueError):
            compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
            decoded = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageUnreadable(
            f"The image is not valid base64: {quote(text)}.",
            "Send the file's bytes in base64, alone or as 'data:image/jpeg;base64,...'.",
        ) from error
    if not decoded:
        raise ImageUnreadable("The image is empty: 0 bytes of base64.", "Send the file's bytes in base64.")
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
                f"{name} is a URL, and fetching images is off.",
                "Send the file itself, or allow it: ZEROSHOT_ALLOW_URLS=true on the command line, "
                "ImageLimits(allow_urls=True) in Python, ZEROSHOT_URL_HOSTS in a server.",
            )
        return Downloader(limits.max_bytes, _URL_TIMEOUT_S).fetch(source)
    if isinstance(source, (str, Path)):
        return _existing_file(source, limits, name)
    if hasattr(source, "read"):
        content = cast(Readable, source).read(limits.max_bytes + 1)
        if isinstance(content, bytes):
            return _within(content, limits, name)
        raise ImageUnreadable(f"{name} was opened as text.", "Open the file in binary mode ('rb').")
    raise ImageUnreadable(
        f"{quote(source)} ({type(source).__name__}) is not an image.",
        "Give a path, bytes, a binary file, a PIL image, a numpy array or a data URI.",
    )


def _existing_file(source: str | Path, limits: ImageLimits, name: str) -> Path | bytes:
    path = Path(source)
    try:
        if path.is_dir():
            raise ImageUnreadable(f"{name} is a folder, not an image.", "Give the files inside it.")
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
        raise ImageUnreadable(f"{name} is empty (0 bytes).", "Give an image; the copy or upload may have failed.")
    if size > limits.max_bytes:
        raise ImageTooLarge(
            f"{name} has more than {limits.max_bytes:,} bytes.",
            "Send a smaller file, or raise ZEROSHOT_MAX_IMAGE_BYTES.",
        )
