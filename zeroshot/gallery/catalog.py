"""Which galleries there are below a home folder."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from zeroshot.errors import GalleryCorrupt, GalleryNotFound, GalleryRefused, quote
from zeroshot.gallery.database import DATABASE
from zeroshot.names import NAME_RULE, is_name


@dataclass(frozen=True)
class GallerySummary:
    """What can be said of a gallery without its encoder.

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
    """Say what a gallery is, without opening it for use.

    Parameters
    ----------
    home : Path
        ZEROSHOT_HOME.
    name : str
        Which.

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
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            (model,) = connection.execute("SELECT value FROM facts WHERE key = 'spec'").fetchone()
            (count,) = connection.execute("SELECT count(*) FROM items").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise GalleryCorrupt(f"{path} cannot be read: {error}.", "Restore a copy of the folder.") from error
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
        Which.

    Raises
    ------
    GalleryNotFound
        If there is none of that name.
    """
    shutil.rmtree(gallery_folder(home, name, create=False))


def gallery_folder(home: Path, name: str, *, create: bool) -> Path:
    """Give the folder of a gallery."""
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
