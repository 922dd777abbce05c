"""From what a user names to a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zeroshot.datasets.base import Dataset
from zeroshot.datasets.files import open_folder, open_table
from zeroshot.datasets.named import NAMED, open_digits, open_hugging_face, open_named
from zeroshot.datasets.shards import is_shards, open_shards
from zeroshot.errors import DatasetError, quote


def dataset_names() -> list[str]:
    """Names that ``open_dataset`` knows, beside folders and files.

    Returns
    -------
    list of str
        Sorted.
    """
    return sorted([*NAMED, "digits"])


def open_dataset(
    name: str,
    *,
    split: str | None = None,
    root: Path | None = None,
    home: Path | None = None,
    download: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Dataset:
    """Open a dataset.

    Parameters
    ----------
    name : str
        A folder (one per class, or WebDataset shards), a CSV, JSON Lines or Parquet file, one of ``dataset_names``, or
        "hf:org/name".
    split : str or None
        Which part of it; the dataset's own part for testing when None.
    root : Path or None
        Where the files of a named dataset are; ``home/datasets/NAME`` when None.
    home : Path or None
        ZEROSHOT_HOME; a named dataset needs it, or `root`.
    download : bool
        Whether a named dataset may be downloaded.
    columns : mapping of str to str, or None
        What a table, or a dataset of Hugging Face, calls its columns: {"label": "species"}.

    Returns
    -------
    Dataset
        Not read yet, but for names and counts.

    Raises
    ------
    DatasetError
        If there is no such dataset, or it is not as it has to be.
    """
    if name.startswith("hf:"):
        return open_hugging_face(name.removeprefix("hf:"), split, columns)
    if name == "digits":
        return open_digits()
    if name in NAMED and not Path(name).exists():
        if root is None and home is None:
            raise DatasetError(f"Where the files of {name} are is not known.", "Give root, or home.", field="root")
        return open_named(name, split, root or (home or Path()) / "datasets" / name, download=download)
    path = Path(name)
    if path.is_dir():
        if is_shards(path):
            return open_shards(path, split or "test")
        inside = path / split if split is not None else path
        if not inside.is_dir():
            raise DatasetError(
                f"There is no folder {inside}.", f"Give --split (split=) the name of a folder in {path}."
            )
        return open_folder(inside)
    if path.suffix.lower() in (".csv", ".jsonl", ".parquet"):
        if not path.exists():
            raise DatasetError(f"There is no file {path}.", "Give the path of a table that exists.")
        return open_table(path, columns)
    raise DatasetError(
        f"{quote(name)} is no folder, no .csv, .jsonl or .parquet file, and no dataset that is known by name.",
        f"Give a folder or file that exists, or a name: {', '.join(dataset_names())}, and hf:org/name.",
    )
