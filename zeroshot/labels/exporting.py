"""Label sets back into files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zeroshot.errors import LabelSetError, LabelSetRefused, quote
from zeroshot.labels.clusters import VectorFile
from zeroshot.labels.files import LabelSetFile
from zeroshot.labels.label_set import LabelSet


def export_label_set(label_set: LabelSet, file: Path) -> list[Path]:
    """Write a label set that ``load_label_set`` reads.

    Parameters
    ----------
    label_set : LabelSet
        Any.
    file : Path
        A new .yaml file; it is written last, so that where it is the rest is whole.

    Returns
    -------
    list of Path
        What was written: one .npz per head, then the file.

    Raises
    ------
    LabelSetRefused
        If the file exists, or has another ending.
    LabelSetError
        If it cannot be written.
    """
    check_yaml(file)
    vectors = [
        VectorFile(file=f"{file.stem}.{head.fingerprint[:12]}.npz", sha256=head.digest) for head in label_set.heads
    ]
    files = {file.with_name(entry.file): head.to_bytes() for entry, head in zip(vectors, label_set.heads, strict=True)}
    files[file] = to_yaml(LabelSetFile.of(label_set, vectors).as_data()).encode()
    write_new_files(files)
    return list(files)


def write_new_files(files: Mapping[Path, bytes]) -> None:
    """Write files of which none exists: each whole, the last one last.

    Parameters
    ----------
    files : mapping of Path to bytes
        What goes where.

    Raises
    ------
    LabelSetRefused
        If one exists, or its folder does not; none is written then.
    LabelSetError
        If one cannot be written.
    """
    check_new_files(list(files))
    for path, content in files.items():
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise LabelSetError(f"{path} cannot be written: {error.strerror}.", "Check the folder.") from error


def check_new_files(paths: Sequence[Path]) -> None:
    """Refuse, before any work is done, files that exist and folders that do not.

    Parameters
    ----------
    paths : sequence of Path
        What is to be written.

    Raises
    ------
    LabelSetRefused
        If one exists, or its folder does not.
    """
    for path in paths:
        if path.exists():
            raise LabelSetRefused(f"{path} exists.", "Give a new file's name.")
        if not path.absolute().parent.is_dir():
            raise LabelSetRefused(f"There is no folder {path.parent}.", "Make it first.")


def check_yaml(file: Path) -> None:
    """Refuse a name that ``load_label_set`` would not read.

    Parameters
    ----------
    file : Path
        What is to be written.

    Raises
    ------
    LabelSetRefused
        If it does not end in .yaml or .yml.
    """
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise LabelSetRefused(f"{quote(str(file))} is not a YAML file.", "End its name in .yaml.")


def to_yaml(data: dict[str, Any]) -> str:
    """Write plain values as YAML, in their order.

    Parameters
    ----------
    data : dict
        Strings, numbers, lists and dicts.

    Returns
    -------
    str
        Text in any script as it is.
    """
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
