"""Find a label set: stored, shipped, or a file."""

from __future__ import annotations

from pathlib import Path

from zeroshot.errors import DefinitionNotFound
from zeroshot.labels.files import load_label_set
from zeroshot.labels.label_set import LabelSet
from zeroshot.labels.store import LabelSetStore


def find_label_set(name_or_file: str | Path, store: LabelSetStore, *, files: bool = True) -> LabelSet:
    """Find a stored or shipped label set, or read one from a file.

    Parameters
    ----------
    name_or_file : str or Path
        A stored set's name ("pets", "pets@3"), a shipped one's ("cifar10"), or the path of a YAML or JSON file.
    store : LabelSetStore
        The stored ones.
    files : bool
        Whether paths are taken; a service takes names alone.

    Returns
    -------
    LabelSet
        Validated.

    Raises
    ------
    LabelSetNotFound
        If there is a stored set of that name, but not that version.
    DefinitionError
        If there is no set of that name, or the file is not of the documented form.
    """
    text = str(name_or_file)
    if text.partition("@")[0] in store:
        return store.get(text)
    try:
        return load_label_set(name_or_file, files=files)
    except DefinitionNotFound as error:
        stored = [found.name for found in store.summaries()]
        names = ", ".join(stored[:10])
        raise DefinitionNotFound(
            error.message, f"{error.remedy} Stored: {names}." if stored else error.remedy, field=error.field
        ) from error
