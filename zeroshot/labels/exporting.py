"""Label sets back into files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from zeroshot.errors import LabelSetError, LabelSetRefused, quote
from zeroshot.labels.files import LabelSetFile, VectorFile
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
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise LabelSetRefused(f"{quote(str(file))} is not a YAML file.", "End its name in .yaml.")
    if file.exists():
        raise LabelSetRefused(f"{file} exists.", "Give a new file's name.")
    vectors = [
        VectorFile(file=f"{file.stem}.{head.fingerprint[:12]}.npz", sha256=head.digest) for head in label_set.heads
    ]
    contents = [head.to_bytes() for head in label_set.heads]
    contents.append(to_yaml(LabelSetFile.of(label_set, vectors).as_data()).encode())
    paths = [*(file.with_name(entry.file) for entry in vectors), file]
    try:
        for path, content in zip(paths, contents, strict=True):
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_bytes(content)
            partial.replace(path)
    except OSError as error:
        raise LabelSetError(f"{file} cannot be written: {error.strerror}.", "Check the folder.") from error
    return paths


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
