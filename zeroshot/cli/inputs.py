"""From command-line words to images, labels, datasets and galleries."""

from __future__ import annotations

import csv
import glob
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.cli.options import build_encoder, load_settings
from zeroshot.datasets import Dataset, open_dataset
from zeroshot.datasets.files import image_files
from zeroshot.encoders import TextCache
from zeroshot.errors import ImageError, ImageNotFound, LabelError, OptionError, quote
from zeroshot.images import ImageLimits, ImageSource
from zeroshot.labels import LabelSet, LabelSetStore, find_label_set, parse_labels
from zeroshot.settings import Settings

if TYPE_CHECKING:
    from zeroshot.gallery import Gallery


@dataclass(frozen=True)
class ImageInput:
    """An image as the user named it (``-`` is standard input), and its source, or why there is nothing to read."""

    path: str
    source: ImageSource | ImageError


def limits_from(settings: Settings) -> ImageLimits:
    """Take the limits on images out of the settings."""
    return ImageLimits(
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        max_side=settings.max_image_side,
        allow_urls=settings.allow_urls,
    )


def build_classifier(
    settings: Settings,
    *,
    model: str | None,
    device: str | None,
    precision: str | None = None,
    threads: int | None = None,
) -> ZeroShotClassifier:
    """Put the classifier together from the settings and the flags that override them."""
    encoder = build_encoder(settings, model=model, device=device, precision=precision, threads=threads)
    return ZeroShotClassifier(encoder, limits=limits_from(settings), cache=build_cache(settings))


def build_cache(settings: Settings) -> TextCache | None:
    """Open the text cache in the home folder, unless the settings want none."""
    if settings.text_cache_bytes == 0:
        return None
    return TextCache(settings.home / "text-embeddings.sqlite3", max_bytes=settings.text_cache_bytes)


def open_gallery(name: str, model: str | None, *, create: bool = False) -> Gallery:
    """Open a gallery, to be closed, with the encoder it was made with; it refuses another model's."""
    from zeroshot.gallery import Gallery, gallery_names, summarise

    settings = load_settings()
    if model is None and (not create or name in gallery_names(settings.home)):
        model = summarise(settings.home, name).model
    encoder = build_encoder(settings, model=model)
    return Gallery(
        settings.home, name, encoder, create=create, limits=limits_from(settings), cache=build_cache(settings)
    )


def open_data(
    name: str, settings: Settings, *, split: str | None, root: Path | None, download: bool, columns: str | None
) -> Dataset:
    """Open a dataset as ``evaluate`` names them."""
    return open_dataset(
        name, split=split, root=root, home=settings.home, download=download, columns=to_columns(columns)
    )


def find_images(words: Sequence[str], limits: ImageLimits) -> list[ImageInput]:
    """Expand files, folders (recursively), globs, URLs and ``-``, in the order typed.

    What cannot be found is there with its error.
    """
    return [image for word in words for image in _expand(word, limits)]


def _expand(word: str, limits: ImageLimits) -> Iterator[ImageInput]:
    if word == "-":
        yield ImageInput("-", sys.stdin.buffer.read(limits.max_bytes + 1))
    elif word.lower().startswith(("data:", "http://", "https://")):
        yield ImageInput(word, word)
    elif os.path.isdir(word):  # noqa: PTH112 (False, not an error, for names no file system takes)
        files = [ImageInput(str(path), str(path)) for path in image_files(Path(word))]
        nothing = ImageNotFound(f"The folder {word} holds no images.", "Names such as .jpg, .png and .webp are taken.")
        yield from files or [ImageInput(word, nothing)]
    elif glob.has_magic(word) and not os.path.lexists(word):
        matches = [path for path in sorted(glob.glob(word, recursive=True)) if Path(path).is_file()]  # noqa: PTH207
        if not matches:
            yield ImageInput(
                word, ImageNotFound(f"{word} matches no file.", "Give a pattern that matches image files.")
            )
        yield from (ImageInput(path, path) for path in matches)
    else:
        yield ImageInput(word, word)


def choose_labels(labels: str | None, labels_file: Path | None, label_set: str | None, home: Path) -> LabelSet:
    """Take the labels from whichever of the three options was given."""
    given = [option for option in (labels, labels_file, label_set) if option is not None]
    if len(given) != 1:
        raise LabelError(
            f"Labels come from one of --labels, --labels-file and --label-set; {len(given) or 'none'} were given.",
            "For example: --labels 'cat,dog,cup of coffee'.",
        )
    if label_set is not None:
        return find_label_set(label_set, LabelSetStore(home))
    if labels_file is not None:
        return LabelSet("custom", parse_labels(_lines(labels_file), at_least=1))
    names = next(csv.reader([labels or ""], skipinitialspace=True), [])
    return LabelSet("custom", parse_labels(names, at_least=1))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{path} cannot be read: {error}.", "Give a UTF-8 text file with one label per line."
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def to_columns(words: str | None) -> dict[str, str]:
    """Read "label=species,group=site"."""
    from zeroshot.datasets.files import COLUMNS

    pairs = [part.partition("=") for part in (words or "").split(",") if part.strip()]
    found = {name.strip(): column.strip() for name, _, column in pairs}
    for name, column in found.items():
        if name not in COLUMNS or not column:
            forms = ", ".join(f"{known}=..." for known in COLUMNS)
            raise OptionError(f"--columns has {quote(name)}.", f"Use {forms}.", field="columns")
    return found


def read_filter(text: str | None) -> Any:
    """Read ``--where``: JSON, or None without."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise OptionError(
            f"--where {quote(text)} is not JSON: {error}.", 'For example: {"colour": "red"}.', field="where"
        ) from error
