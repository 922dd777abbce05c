"""Real photos, and odd and hostile files made from them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage
from PIL import Image
from sklearn.datasets import load_sample_image

ROOT = Path(__file__).parent.parent
PHOTOS = ROOT / "examples" / "photos"
LABELS = (ROOT / "examples" / "labels.txt").read_text().splitlines()
_SKIMAGE = Path(skimage.__file__).parent / "data"

SEVEN = {
    "cat": _SKIMAGE / "chelsea.png",
    "a cup of coffee": _SKIMAGE / "coffee.png",
    "rocket": _SKIMAGE / "rocket.jpg",
    "camera": _SKIMAGE / "camera.png",
    "a motorcycle": _SKIMAGE / "motorcycle_left.png",
    "temple": "china.jpg",
    "flower": "flower.jpg",
}
"""Label and photo; the last two are scikit-learn's."""


def seven_photos(folder: Path) -> dict[str, Path]:
    """Label to file, the seven photos written below a folder where they are not files already."""
    result = {}
    for label, source in SEVEN.items():
        if isinstance(source, str):
            target = folder / source
            Image.fromarray(load_sample_image(source)).save(target, quality=95)
            result[label] = target
        else:
            result[label] = source
    return result


def cat() -> Image.Image:
    """A real photo of a cat, 451 x 300."""
    return Image.open(PHOTOS / "cat.jpg").convert("RGB")


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    """The bytes of an image in a format."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing: a decompression bomb's first bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _rotated() -> bytes:
    """The cat on its side, with the EXIF tag that sets it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(cat().transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def _palette_with_transparency() -> bytes:
    image = cat().quantize(64)
    return encode(image, "PNG", transparency=bytes([255] * 63 + [0]))


def _sixteen_bit() -> bytes:
    grey = np.asarray(cat().convert("L"), dtype=np.uint16) * 257
    return encode(Image.fromarray(grey), "PNG")


def _frames(format: str) -> bytes:
    other = Image.new("RGB", cat().size, "blue")
    return encode(cat(), format, save_all=True, append_images=[other], duration=100)


def _la() -> bytes:
    image = cat().convert("LA")
    image.putalpha(Image.new("L", image.size, 255))
    return encode(image, "PNG")


ODD: dict[str, Callable[[], bytes]] = {
    "1x1": lambda: encode(Image.new("RGB", (1, 1), "red"), "PNG"),
    "1x5000": lambda: encode(Image.new("RGB", (1, 5000), "red"), "PNG"),
    "5000x1": lambda: encode(Image.new("RGB", (5000, 1), "red"), "PNG"),
    "one bit": lambda: encode(cat().convert("1"), "PNG"),
    "malformed EXIF": lambda: encode(cat(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff"),
}
"""Valid, if unusual: classified, whatever the answer."""

CATS: dict[str, Callable[[], bytes]] = {
    "CMYK JPEG": lambda: encode(cat().convert("CMYK"), "JPEG", quality=95),
    "16-bit PNG": _sixteen_bit,
    "palette PNG with transparency": _palette_with_transparency,
    "LA PNG": _la,
    "RGBA PNG": lambda: encode(cat().convert("RGBA"), "PNG"),
    "animated GIF": lambda: _frames("GIF"),
    "animated WebP": lambda: _frames("WEBP"),
    "EXIF-rotated JPEG": _rotated,
    "TIFF": lambda: encode(cat(), "TIFF"),
    "BMP": lambda: encode(cat(), "BMP"),
    "AVIF": lambda: encode(cat(), "AVIF"),
    "PPM": lambda: encode(cat(), "PPM"),
    "JPEG 2000": lambda: encode(cat(), "JPEG2000"),
    "progressive JPEG": lambda: encode(cat(), "JPEG", progressive=True),
}
"""Each must be seen as the cat it is."""

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "text named .jpg": (lambda: b"this is not an image, it is a text", "image-unreadable"),
    "empty file": (lambda: b"", "image-unreadable"),
    "truncated JPEG": (lambda: encode(cat(), "JPEG")[:4000], "image-unreadable"),
    "truncated PNG": (lambda: encode(cat(), "PNG")[:20000], "image-unreadable"),
    "JPEG header alone": (lambda: b"\xff\xd8\xff\xe0", "image-unreadable"),
    "50,000 x 50,000 PNG": (lambda: png_header(50_000, 50_000), "image-too-large"),
    "20,000 x 8,000 PNG": (lambda: png_header(20_000, 8_000), "image-too-large"),
    "40,000 x 10 PNG": (lambda: png_header(40_000, 10), "image-too-large"),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "image-unreadable"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image-unreadable"),
}
"""Refused, with this error type."""
