"""Files that a command writes: never over one that exists, and never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from zeroshot.errors import OptionError, OutputExists


def check_new_files(paths: Iterable[Path]) -> None:
    """Refuse, before any work is done, files that exist and folders that do not."""
    for path in paths:
        if path.exists():
            raise OutputExists(f"{path} exists.", "Give the name of a new file, or remove this one.")
        if not path.absolute().parent.is_dir():
            raise OptionError(f"{path} is in a folder that does not exist.", "Make the folder first.")


def write_new_files(files: Mapping[Path, bytes]) -> None:
    """Write files of which none exists: each whole, the last one last."""
    check_new_files(files)
    for path, content in files.items():
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise OptionError(
                f"{path} cannot be written: {error.strerror}.", "Give a file in a folder that can be written to."
            ) from error
