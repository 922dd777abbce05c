"""images.load: every source, every mode, every limit."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.images import BAD, CATS, ODD, PHOTOS, cat, encode, png_header
from zeroshot.errors import ImageError, ImageNotFound, ImageSourceRefused, ImageTooLarge, ImageUnreadable
from zeroshot.images import ImageLimits, load

CAT = PHOTOS / "cat.jpg"


def difference(first: Image.Image, second: Image.Image) -> float:
    """Mean absolute difference of two images of one size, in grey levels."""
    assert first.size == second.size
    return float(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).mean())


def sources() -> dict[str, object]:
    content = CAT.read_bytes()
    return {
        "path": CAT,
        "string": str(CAT),
        "bytes": content,
        "bytearray": bytearray(content),
        "memoryview": memoryview(content),
        "file object": io.BytesIO(content),
        "data URI": "data:image/jpeg;base64," + base64.b64encode(content).decode(),
        "PIL image": cat(),
        "uint8 array": np.asarray(cat()),
        "float array": np.asarray(cat()) / 255,
        "uint16 array": np.asarray(cat()).astype(np.uint16) * 257,
    }


@pytest.mark.parametrize("name", sources())
def test_every_source_gives_the_same_image(name: str) -> None:
    loaded = load(sources()[name])
    assert loaded.mode == "RGB"
    assert difference(loaded, cat()) == 0


@pytest.mark.parametrize("name", CATS)
def test_every_mode_and_format_becomes_the_same_upright_rgb_image(name: str) -> None:
    loaded = load(CATS[name]())
    assert loaded.mode == "RGB"
    reference = cat().convert("L").convert("RGB") if name in ("16-bit PNG", "LA PNG") else cat()
    assert difference(loaded, reference) < 12


@pytest.mark.parametrize("name", ODD)
def test_odd_images_are_loaded(name: str) -> None:
    assert load(ODD[name]()).mode == "RGB"


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_their_own_error(name: str, tmp_path: Path) -> None:
    make, kind = BAD[name]
    path = tmp_path / "bad.jpg"
    path.write_bytes(make())
    with pytest.raises(ImageError) as from_path:
        load(path)
    with pytest.raises(ImageError) as from_bytes:
        load(make())
    assert from_path.value.type == from_bytes.value.type == kind
    assert str(path) in from_path.value.message
    assert from_path.value.remedy


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(orientation: int) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that makes such a file
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = cat() if orientation == 1 else cat().transpose(Image.Transpose(undo[orientation]))
    assert difference(load(encode(stored, "PNG", exif=exif)), cat()) == 0


def test_transparency_is_flattened_on_white() -> None:
    assert load(Image.new("RGBA", (4, 4), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    half = load(Image.new("RGBA", (4, 4), (255, 0, 0, 128))).getpixel((0, 0))
    assert half[0] == 255
    assert 126 <= half[1] == half[2] <= 128


def test_wide_grey_keeps_its_brightness() -> None:
    assert load(Image.fromarray(np.full((4, 4), 32896, dtype=np.uint16))).getpixel((0, 0)) == (128,) * 3
    assert load(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32))).getpixel((0, 0)) == (128,) * 3
    assert load(Image.fromarray(np.full((4, 4), 200, dtype=np.int32))).getpixel((0, 0)) == (200,) * 3


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 5), np.uint8),
        np.zeros((1, 2, 2, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.full((2, 2), -1.0),
        np.full((2, 2), np.nan),
        np.zeros((2, 2), np.int64),
        np.zeros((2, 2), complex),
    ],
    ids=lambda array: f"{array.shape} {array.dtype} {array.ravel()[:1]}",
)
def test_arrays_that_are_no_images_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageUnreadable):
        load(array)


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound, match="does not exist"):
        load(tmp_path / "none.jpg")
    with pytest.raises(ImageUnreadable, match="is a folder"):
        load(tmp_path)
    with pytest.raises(ImageNotFound):
        load("\0")
    with pytest.raises(ImageNotFound):
        load("x" * 5000)


@pytest.mark.parametrize("source", [None, 5, object(), io.StringIO("text"), ["cat.jpg"]], ids=repr)
def test_what_is_no_source_is_refused(source: object) -> None:
    with pytest.raises(ImageUnreadable):
        load(source)


def test_limits_hold_before_decoding() -> None:
    with pytest.raises(ImageTooLarge, match="bytes"):
        load(CAT, ImageLimits(max_bytes=1000))
    with pytest.raises(ImageTooLarge, match="bytes"):
        load(io.BytesIO(CAT.read_bytes()), ImageLimits(max_bytes=1000))
    with pytest.raises(ImageTooLarge, match="451 x 300"):
        load(CAT, ImageLimits(max_pixels=1000))
    with pytest.raises(ImageTooLarge, match="451 x 300"):
        load(cat(), ImageLimits(max_side=450))
    with pytest.raises(ImageTooLarge):
        load(np.zeros((2, 500, 3), np.uint8), ImageLimits(max_side=450))
    with pytest.raises(ImageTooLarge, match=r"144000000|144,000,000"):
        load(png_header(12_000, 12_000))


@pytest.mark.parametrize("uri", ["data:", "data:image/png", "data:image/png;base64,", "data:image/png;base64,*"])
def test_broken_data_uris_are_refused(uri: str) -> None:
    with pytest.raises(ImageUnreadable):
        load(uri)


def test_base64_may_be_url_safe_unpadded_and_folded() -> None:
    text = base64.urlsafe_b64encode(CAT.read_bytes()).decode().rstrip("=")
    folded = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    assert load(f"data:;base64,{folded}").size == cat().size


def test_jpegs_are_decoded_at_the_smallest_scale_that_is_enough() -> None:
    photo = encode(cat().resize((4000, 3000)), "JPEG", quality=90)
    assert load(photo).size == (4000, 3000)
    assert load(photo, enough=448).size == (1000, 750)
    assert load(photo, enough=300).size == (500, 375)
    assert load(photo, enough=3000).size == (4000, 3000)
    shrunk = cat().resize((500, 375))
    assert difference(load(photo, enough=300), shrunk) < 4


@given(st.binary(max_size=300))
def test_random_bytes_never_raise_anything_else(content: bytes) -> None:
    with pytest.raises(ImageError):
        load(content)


@given(st.integers(0, 30_000), st.integers(0, 255))
def test_a_flipped_byte_gives_an_image_or_an_image_error(position: int, value: int) -> None:
    content = bytearray(CAT.read_bytes())
    content[position % len(content)] = value
    try:
        loaded = load(bytes(content))
    except ImageError as error:
        assert error.remedy
    else:
        assert loaded.mode == "RGB"


class _Photos(BaseHTTPRequestHandler):
    """/cat is the photo, /big never ends, /ftp and /file redirect elsewhere."""

    def do_GET(self) -> None:
        if self.path in ("/ftp", "/file"):
            self.send_response(302)
            self.send_header("Location", {"/ftp": "ftp://127.0.0.1/cat.jpg", "/file": f"file://{CAT}"}[self.path])
            self.end_headers()
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CAT.read_bytes() * (100 if self.path == "/big" else 1))

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Photos) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_urls_are_fetched_only_when_allowed(site: str) -> None:
    with pytest.raises(ImageSourceRefused, match="ZEROSHOT_ALLOW_URLS"):
        load(f"{site}/cat")
    assert load(f"{site}/cat", ImageLimits(allow_urls=True)).size == cat().size


@pytest.mark.parametrize("path", ["/ftp", "/file", "/missing"])
def test_urls_that_lead_elsewhere_or_nowhere_are_refused(site: str, path: str) -> None:
    with pytest.raises(ImageNotFound):
        load(site + path, ImageLimits(allow_urls=True))


def test_a_download_stops_at_the_limit(site: str) -> None:
    with pytest.raises(ImageTooLarge):
        load(f"{site}/big", ImageLimits(allow_urls=True, max_bytes=100_000))
