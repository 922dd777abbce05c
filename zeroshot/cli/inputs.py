"""From command-line words to pictures and labels."""

from __future__ import annotations

import csv
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.cli.options import build_encoder
from zeroshot.cli.rendering import progress
from zeroshot.encoders import FloatArray, TextCache
from zeroshot.encoders.streaming import encode_stream
from zeroshot.errors import ImageError, ImageNotFound, LabelError, OptionError, quote
from zeroshot.images import ImageLimits, ImageSource
from zeroshot.labels import LabelSet, LabelSetStore, find_label_set, parse_labels
from zeroshot.settings import Settings

PICTURE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".j2k",
    ]
)
"""What is taken from a folder; a file named outright may have any name."""


PROGRESS_FROM = 32  # pictures; fewer are done before a bar is worth drawing


@dataclass(frozen=True)
class Picture:
    """A picture as the user named it.

    Parameters
    ----------
    path : str
        What answers call it; ``-`` is standard input.
    source : ImageSource or ImageError
        Where it is read from, or why there is nothing to read.
    """

    path: str
    source: ImageSource | ImageError


def limits_from(settings: Settings) -> ImageLimits:
    """Take the limits on pictures out of the settings.

    Parameters
    ----------
    settings : Settings
        The program's settings.

    Returns
    -------
    ImageLimits
        Limits for ``zeroshot.images.load``.
    """
    return ImageLimits(
        max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        max_side=settings.max_image_side,
        allow_urls=settings.allow_urls,
    )


def build_classifier(
    settings: Settings, *, model: str | None, device: str | None, precision: str | None, threads: int | None = None
) -> ZeroShotClassifier:
    """Put the classifier together from the settings and the flags that override them.

    Parameters
    ----------
    settings : Settings
        The program's settings.
    model : str or None
        Flag; None leaves the setting.
    device : str or None
        Flag; None leaves the setting.
    precision : str or None
        Flag; None leaves the setting.
    threads : int or None
        Flag; None leaves the setting.

    Returns
    -------
    ZeroShotClassifier
        Ready to classify.
    """
    encoder = build_encoder(settings, model=model, device=device, precision=precision, threads=threads)
    return ZeroShotClassifier(encoder, limits=limits_from(settings), cache=build_cache(settings))


def build_cache(settings: Settings) -> TextCache | None:
    """Open the text cache in the home folder, unless the settings want none.

    Parameters
    ----------
    settings : Settings
        The program's settings.

    Returns
    -------
    TextCache or None
        Opened when first used.
    """
    if settings.text_cache_bytes == 0:
        return None
    return TextCache(settings.home / "text-embeddings.sqlite3", max_bytes=settings.text_cache_bytes)


def find_pictures(words: Sequence[str], limits: ImageLimits) -> list[Picture]:
    """Expand files, folders (recursively), globs, URLs and ``-``.

    Parameters
    ----------
    words : sequence of str
        As typed.
    limits : ImageLimits
        How much of standard input is read.

    Returns
    -------
    list of Picture
        In the order typed, a folder's in the order of their names; what cannot be found is there with its error.
    """
    return [picture for word in words for picture in _expand(word, limits)]


def _expand(word: str, limits: ImageLimits) -> Iterator[Picture]:
    if word == "-":
        yield Picture("-", sys.stdin.buffer.read(limits.max_bytes + 1))
    elif word.lower().startswith(("data:", "http://", "https://")):
        yield Picture(word, word)
    elif os.path.isdir(word):  # noqa: PTH112 (False, not an error, for names no file system takes)
        yield from _in_folder(Path(word))
    elif glob.has_magic(word) and not os.path.lexists(word):
        matches = [path for path in sorted(glob.glob(word, recursive=True)) if Path(path).is_file()]  # noqa: PTH207
        if not matches:
            yield Picture(word, ImageNotFound(f"{word} matches no file.", "Check the pattern."))
        yield from (Picture(path, path) for path in matches)
    else:
        yield Picture(word, word)


def _in_folder(folder: Path) -> Iterator[Picture]:
    found = False
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                found = True
                path = str(Path(parent) / name)
                yield Picture(path, path)
    if not found:
        yield Picture(
            str(folder),
            ImageNotFound(f"The folder {folder} holds no pictures.", "Names such as .jpg, .png and .webp are taken."),
        )


def embed_pictures(words: Sequence[str], classifier: ZeroShotClassifier) -> tuple[list[str], FloatArray | None]:
    """Find and embed pictures; those that cannot be used are named on standard error.

    Parameters
    ----------
    words : sequence of str
        As typed: see ``find_pictures``.
    classifier : ZeroShotClassifier
        Its encoder and limits.

    Returns
    -------
    (list of str, ndarray of float32, shape (n, dim), or None)
        Paths and unit rows of the rest; None where there is none.
    """
    pictures = find_pictures(words, classifier.limits)
    paths, vectors = [], []
    encoded = encode_stream(classifier.encoder, (picture.source for picture in pictures), limits=classifier.limits)
    with progress(len(pictures), shown=len(pictures) >= PROGRESS_FROM) as advance:
        for picture, (_, outcome) in zip(pictures, encoded, strict=True):
            advance()
            if isinstance(outcome, ImageError):
                print(f"{picture.path}: {outcome}", file=sys.stderr)  # noqa: T201
            else:
                paths.append(picture.path)
                vectors.append(outcome)
    return paths, np.stack(vectors) if vectors else None


def choose_labels(
    labels: str | None, labels_file: Path | None, label_set: str | None, home: Path, *, at_least: int = 1
) -> LabelSet:
    """Take the labels from whichever of the three options was given.

    Parameters
    ----------
    labels : str or None
        Comma-separated names; a name with a comma stands in double quotes.
    labels_file : Path or None
        One name per line.
    label_set : str or None
        A stored or shipped set's name, or a YAML or JSON file.
    home : Path
        ZEROSHOT_HOME, where stored sets are.
    at_least : int
        Fewest labels.

    Returns
    -------
    LabelSet
        Validated labels.

    Raises
    ------
    LabelError
        If not exactly one option was given, or the labels cannot be used.
    """
    given = [option for option in (labels, labels_file, label_set) if option is not None]
    if len(given) != 1:
        raise LabelError(
            f"Labels come from one of --labels, --labels-file and --label-set; {len(given) or 'none'} were given.",
            "For example: --labels 'cat,dog,cup of coffee'.",
        )
    if label_set is not None:
        return find_label_set(label_set, LabelSetStore(home))
    if labels_file is not None:
        return LabelSet("custom", parse_labels(_lines(labels_file), at_least=at_least))
    names = next(csv.reader([labels or ""], skipinitialspace=True), [])
    return LabelSet("custom", parse_labels(names, at_least=at_least))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(
            f"{path} cannot be read: {error}.", "Give a UTF-8 text file with one label per line."
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def to_columns(words: str | None) -> dict[str, str]:
    """Read "label=species,group=site".

    Parameters
    ----------
    words : str or None
        As typed.

    Returns
    -------
    dict of str to str
        What is called what.

    Raises
    ------
    OptionError
        If it is not of that form.
    """
    from zeroshot.datasets.files import COLUMNS

    pairs = [part.partition("=") for part in (words or "").split(",") if part.strip()]
    found = {name.strip(): column.strip() for name, _, column in pairs}
    for name, column in found.items():
        if name not in COLUMNS or not column:
            forms = ", ".join(f"{known}=..." for known in COLUMNS)
            raise OptionError(f"--columns has {quote(name)}.", f"Use {forms}.", field="columns")
    return found
