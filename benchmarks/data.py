"""Images that every machine has: scikit-learn's digits and parts of the shipped photos."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

PHOTOS = sorted((Path(__file__).parent.parent / "examples/photos").glob("*.jpg"))
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGIT_TEMPLATES = ('a photo of the number: "{c}".', "{c}")


def write_digit_shards(folder: Path, count: int, shards: int = 3) -> Path:
    """Write some of scikit-learn's digits as PNG files in shards of CLIP_benchmark's layout.

    Parameters
    ----------
    folder : Path
        Where to.
    count : int
        Images.
    shards : int
        Files that they are in.

    Returns
    -------
    Path
        The folder.
    """
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(DIGITS))
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(DIGIT_TEMPLATES))
    (folder / "test/nshards.txt").write_text(str(shards))
    found = load_digits()
    for shard, rows in enumerate(np.array_split(np.arange(count), shards)):
        with tarfile.open(folder / f"test/{shard}.tar", "w") as archive:
            for row in rows:
                levels = np.round(255 * found.images[row] / 16).astype(np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(levels).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "PNG")
                _add(archive, f"s{row:06}.png", buffer.getvalue())
                _add(archive, f"s{row:06}.cls", str(found.target[row]).encode())
    return folder


def write_crops(folder: Path, each: int, seed: int = 0) -> Path:
    """Write a folder for each of the shipped photos, with parts of it as PNG files.

    Parameters
    ----------
    folder : Path
        Where to.
    each : int
        Parts of a photo.
    seed : int
        Decides which parts.

    Returns
    -------
    Path
        The folder.
    """
    chance = np.random.default_rng(seed)
    for photo in PHOTOS:
        (folder / photo.stem).mkdir(parents=True)
        with Image.open(photo) as file:
            image = file.convert("RGB")
        for number in range(each):
            side = int(chance.integers(100, min(image.size)))
            left, top = (int(chance.integers(length - side + 1)) for length in image.size)
            image.crop((left, top, left + side, top + side)).save(folder / photo.stem / f"{number:02}.png")
    return folder


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
