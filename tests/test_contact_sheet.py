"""Contact sheets: one file, every image in it, nothing of a name taken for HTML."""

from __future__ import annotations

import base64
import io
import re

from PIL import Image

from tests.images import PHOTOS
from zeroshot.contact_sheet import Entry, contact_sheet


def test_every_image_is_inside_and_small() -> None:
    page = contact_sheet("Found", [("Cats", [Entry(str(PHOTOS / "cat.jpg"), "+0.9", "cat.jpg", "file:///cat.jpg")])])
    (thumbnail,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    image = Image.open(io.BytesIO(base64.b64decode(thumbnail)))
    assert max(image.size) == 240
    assert "http" not in page.replace("http-equiv", "")
    assert "<h2>Cats</h2>" in page
    assert 'href="file:///cat.jpg"' in page


def test_names_are_text_and_missing_images_say_why() -> None:
    hostile = '<script>alert("1")</script>'
    entries = [Entry(None, hostile, hostile), Entry(f"/nowhere/{hostile}.jpg", "0", "x", f'"{hostile}')]
    page = contact_sheet(hostile, [(hostile, entries)])
    assert "<script" not in page
    assert "no image" in page
    assert "does not exist" in page
