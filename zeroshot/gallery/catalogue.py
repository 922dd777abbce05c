"""Which galleries there are below a home folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from zeroshot.errors import GalleryError, GalleryNotFound, quote
from zeroshot.gallery.database import DATABASE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


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
    """Give the folder of a gallery.

    Parameters
    ----------
    home : Path
        ZEROSHOT_HOME.
    name : str
        Letters, digits, dots, dashes and underscores.
    create : bool
        Whether to make it when there is none.

    Returns
    -------
    Path
        It exists.

    Raises
    ------
    GalleryNotFound
        If there is none of that name and `create` is False.
    GalleryError
        If the name cannot be a folder's.
    """
    if not _NAME.fullmatch(name):
        raise GalleryError(
            f"{quote(name)} cannot be a gallery's name.",
            "Use letters, digits, dots, dashes and underscores, up to 100.",
        )
    folder = home / "galleries" / name
    if not (folder / DATABASE).is_file():
        if not create:
            names = ", ".join(gallery_names(home)) or "none yet"
            raise GalleryNotFound(f"There is no gallery {quote(name)}.", f"There are: {names}.")
        folder.mkdir(parents=True, exist_ok=True)
    return folder
