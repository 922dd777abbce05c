"""WebDataset shards in CLIP_benchmark's layout.

::

    FOLDER/classnames.txt                            a name a line
    FOLDER/zeroshot_classification_templates.txt     a template a line, {c} for the name (optional)
    FOLDER/dataset_type.txt                          "retrieval" for captions (optional)
    FOLDER/test/nshards.txt, 0.tar, 1.tar...         KEY.jpg|png|webp and KEY.cls, KEY.npy (several labels) or KEY.txt

They are read as they come, one file at a time; a shard that is damaged ends early, is named, and the next one goes on.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from zeroshot.datasets.base import Dataset, Problem, Sample
from zeroshot.errors import DatasetError
from zeroshot.prompts import TemplateSet, check_templates

_IMAGES = ("webp", "png", "jpg", "jpeg")
_LARGEST = 2**30  # bytes of a file in a shard


def is_shards(folder: Path) -> bool:
    """Whether a folder has this layout."""
    return (folder / "classnames.txt").exists() or (folder / "dataset_type.txt").exists()


def open_shards(folder: Path, split: str) -> Dataset:
    """Open shards."""
    count_file = folder / split / "nshards.txt"
    try:
        shards = [folder / split / f"{number}.tar" for number in range(int(count_file.read_text()))]
    except (OSError, ValueError) as error:
        there = sorted(path.parent.name for path in folder.glob("*/nshards.txt"))
        raise DatasetError(
            f"{count_file} cannot be read: {error}.",
            f"Choose a split that there is: {', '.join(there)}." if there else "It holds the number of shards.",
        ) from error
    classes = _lines(folder / "classnames.txt")
    templates = [line.replace("{c}", "{}") for line in _lines(folder / "zeroshot_classification_templates.txt")]
    kind = " ".join(_lines(folder / "dataset_type.txt")).strip().lower() or "classification"
    if kind != "retrieval" and len(classes) < 2:
        raise DatasetError(f"{folder / 'classnames.txt'} has {len(classes)} names.", "It needs a name a line.")

    def samples() -> Iterator[Sample | Problem]:
        for shard in shards:
            yield from _samples_of(shard, classes)

    return Dataset(
        folder.name,
        samples,
        tuple(classes),
        templates=TemplateSet("published", check_templates(templates)) if templates else None,
        origin=f"{folder}, {split}",
        several=_has_several(shards),
        captioned=kind == "retrieval",
    )


def _has_several(shards: list[Path]) -> bool:
    """Whether the first image's labels are in an array."""
    try:
        with tarfile.open(shards[0], "r|*") as archive:
            return any(member.name.endswith(".npy") for member in islice(archive, 4))
    except (IndexError, OSError, tarfile.TarError, EOFError, zlib.error):
        return False


def _samples_of(shard: Path, classes: list[str]) -> Iterator[Sample | Problem]:
    key, parts, whole = "", dict[str, bytes](), ""
    try:
        with tarfile.open(shard, "r|*") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                base, _, extension = member.name.rpartition("/")[2].partition(".")
                prefix = f"{member.name.rpartition('/')[0]}/" if "/" in member.name else ""
                if prefix + base != key:
                    if parts:
                        yield _sample(shard, key, parts, classes)
                        whole = key
                    key, parts = prefix + base, {}
                content = archive.extractfile(member)
                if content is not None and member.size <= _LARGEST:
                    parts[extension.lower()] = content.read()
        if parts:
            yield _sample(shard, key, parts, classes)
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        lost = f"what comes after {whole}" if whole else "all of it"
        yield Problem(f"{shard.parent.name}/{shard.name}", f"The shard is damaged, {lost} is lost: {error}.")


def _sample(shard: Path, key: str, parts: dict[str, bytes], classes: list[str]) -> Sample | Problem:
    name = f"{shard.parent.name}/{shard.name}/{key}"
    image = next((parts[extension] for extension in _IMAGES if extension in parts), None)
    if image is None:
        return Problem(name, f"There is no image, only {', '.join(sorted(parts))}.")
    try:
        if "txt" in parts and "cls" not in parts:
            return Sample(name, image, captions=tuple(parts["txt"].decode().splitlines()))
        if "npy" in parts and "cls" not in parts:
            there = np.flatnonzero(np.load(io.BytesIO(parts["npy"]), allow_pickle=False))
            return Sample(name, image, tuple(classes[int(row)] for row in there))
        number = int(parts["cls"])
        if not 0 <= number < len(classes):
            return Problem(name, f"Its class is {number}, and there are {len(classes)} names.")
        return Sample(name, image, (classes[number],))
    except (KeyError, ValueError, IndexError, UnicodeDecodeError) as error:
        return Problem(name, f"Its label cannot be read: {type(error).__name__} {error}.")


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}.", "It is a text file in UTF-8.") from error
