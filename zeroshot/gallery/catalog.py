"""The galleries below a home folder: their names, their folders, and what can be said without an encoder."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from zeroshot.errors import GalleryCorrupt, GalleryNotFound, GalleryRefused, quote
from zeroshot.names import NAME_RULE, is_name
from zeroshot.sqlite import SqliteFile

DATABASE = "gallery.sqlite3"


@dataclass(frozen=True)
class GallerySummary:
    """A gallery, as far as it can be described without its encoder.

    Parameters
    ----------
    name : str
        Its name.
    count : int
        Items.
    model : str
        Spec of the encoder it was made with.
    """

    name: str
    count: int
    model: str


def summarise(home: Path, name: str) -> GallerySummary:
    """Describe a gallery without its encoder.

    Parameters
    ----------
    home : Path
        ZEROSHOT_HOME.
    name : str
        Its name.

    Returns
    -------
    GallerySummary
        As of now.

    Raises
    ------
    GalleryNotFound
        If there is none of that name.
    GalleryCorrupt
        If its database cannot be read.
    """
    path = gallery_folder(home, name, create=False) / DATABASE
    file = SqliteFile(path, unusable=GalleryCorrupt, damaged=GalleryCorrupt, read_only=True)
    try:
        with closing(file), file.reading() as connection:
            (model,) = connection.execute("SELECT value FROM facts WHERE key = 'spec'").fetchone()
            (count,) = connection.execute("SELECT count(*) FROM items").fetchone()
    except TypeError as error:  # a row that is missing
        raise GalleryCorrupt(f"{path} names no model.", "Restore the folder from a backup.") from error
    return GallerySummary(name, count, model)


def gallery_names(home: Path) -> list[str]:
    """Names of the galleries below a home folder.

    Parameters
    ----------
    home : Path
        ZEROSHOT_HOME.

    Returns
    -------
    list of str
        Sorted.
    """
    return sorted(path.parent.name for path in (home / "galleries").glob(f"*/{DATABASE}"))


def delete_gallery(home: Path, name: str) -> None:
    """Remove a gallery and everything in it.

    Parameters
    ----------
    home : Path
        ZEROSHOT_HOME.
    name : str
        Its name.

    Raises
    ------
    GalleryNotFound
        If there is none of that name.
    """
    shutil.rmtree(gallery_folder(home, name, create=False))


def gallery_folder(home: Path, name: str, *, create: bool) -> Path:
    """Give the folder of a gallery, made if there is none and `create` is True."""
    if not is_name(name):
        raise GalleryRefused(
            f"{quote(name)} cannot be a gallery's name.",
            NAME_RULE,
        )
    folder = home / "galleries" / name
    if not (folder / DATABASE).is_file():
        if not create:
            names = ", ".join(gallery_names(home)) or "none yet"
            raise GalleryNotFound(f"There is no gallery {quote(name)}.", f"There are: {names}.")
        folder.mkdir(parents=True, exist_ok=True)
    return folder
