"""Label sets in YAML and JSON: one form for files, for the store and for the HTTP API."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from zeroshot.definitions import Fault, Reference, find_definition, read_definition, shipped
from zeroshot.errors import DefinitionError, LabelError, quote
from zeroshot.labels.clusters import ClusterFile, VectorFile
from zeroshot.labels.head import Head
from zeroshot.labels.label import MAX_LABEL_CHARS, Label, LabelFault, label_faults, parse_labels, require, stripped
from zeroshot.labels.label_set import Calibration, LabelSet, Mode
from zeroshot.prompts import TemplateSet, load_templates

_MAX_VECTOR_BYTES = 2**30

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


_SOME_TEXT: JsonDict = {"minLength": 1, "maxLength": MAX_LABEL_CHARS, "pattern": r"\S"}  # checked with its place


class LabelEntry(BaseModel):
    """A label, where it is more than a name."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "cat", "aliases": ["kitten"], "parent": "animal"}]}
    )

    name: str = Field(description="What answers call it.", examples=["cat"], json_schema_extra=_SOME_TEXT)
    descriptions: list[str] = Field(
        default_factory=list,
        description="Sentences embedded in place of the filled templates; their mean is the class.",
    )
    wording: str = Field("", description="What is put into the templates, where that is not the name itself.")
    parent: str | None = Field(None, description="Name of the label that this one is a kind of.")
    aliases: list[str] = Field(
        default_factory=list, description="Other names: their prompts are averaged with the name's; data may use them."
    )
    threshold: Share | None = Field(None, description="Score that this label needs to be an answer.")
    children: list[str | LabelEntry] = Field(
        default_factory=list, description="Labels whose parent this one is: another way to write `parent`."
    )

    def to_labels(self) -> list[Label]:
        """Give the label itself and, after it, all below it."""
        return [label for _, label in _flatten([self], (), None)]


class LabelSetFile(BaseModel):
    """A label set: the form of the files in ``prompts/labels``, of users' own, and of the HTTP API."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "pets", "mode": "multilabel", "labels": ["cat", {"name": "dog", "threshold": 0.6}]}]
        },
    )

    name: str = Field(min_length=1, description="The set's name.", examples=["pets"])
    description: str = Field("", description="For people.")
    source: str = Field("", description="Where the labels come from.")
    templates: str | list[str] | None = Field(None, description="A template set's name, or templates with one {} each.")
    mode: Mode | None = Field(
        None, description="How the labels are asked about; hierarchical where one has a parent, else multiclass."
    )
    threshold: Share | None = Field(None, description="Score that an answer needs. Default: the mode's own.")
    labels: list[str | LabelEntry] | Reference = Field(description="At least two; one will do for binary, multilabel.")
    calibration: list[Calibration] = Field(default_factory=list, description="Written by 'zeroshot calibrate'.")
    vectors: list[VectorFile] = Field(default_factory=list, description="Written by 'zeroshot labels export'.")

    def faults(self) -> Iterator[Fault]:
        """Say what is wrong with the labels, with the place."""
        if isinstance(self.labels, Reference):
            return
        placed = list(_flatten(self.labels, ("labels",), None))
        labels = [stripped(label) for _, label in placed]
        for fault in label_faults(labels):
            yield Fault(_place(self.labels, placed[fault.index][0], fault), f"{fault.message} {fault.remedy}")
        for place, entry in _entries(self.labels, ("labels",)):
            if entry.parent is not None and len(place) > 2:
                yield Fault((*place, "parent"), f"{quote(entry.name)} has a parent and is another label's child.")
        try:
            require(labels, 1 if self.mode in (Mode.BINARY, Mode.MULTILABEL) else 2)
        except LabelError as error:
            yield Fault(("labels",), str(error))

    def to_labels(self) -> tuple[Label, ...]:
        """Give the labels, those below others after them."""
        if isinstance(self.labels, Reference):
            return parse_labels(_distinct(self.labels.resolve()))
        return parse_labels([label for _, label in _flatten(self.labels, (), None)], at_least=1)

    def to_label_set(self, heads: Sequence[Head] = (), *, files: bool = True) -> LabelSet:
        """Give the label set itself."""
        return LabelSet(
            self.name,
            self.to_labels(),
            None if self.templates is None else load_templates(self.templates, files=files),
            mode=self.mode,
            threshold=self.threshold,
            description=self.description,
            source=self.source,
            calibrations=tuple(self.calibration),
            heads=tuple(heads),
        )

    @classmethod
    def of(cls, label_set: LabelSet, vectors: Sequence[VectorFile] = ()) -> LabelSetFile:
        """Put a label set into this form; heads are not in it."""
        return cls(
            name=label_set.name,
            description=label_set.description,
            source=label_set.source,
            templates=dump_templates(label_set.templates),
            mode=label_set.mode,
            threshold=label_set.threshold,
            labels=[dump_label(label) for label in label_set.labels],
            calibration=list(label_set.calibrations),
            vectors=list(vectors),
        )

    def as_data(self) -> dict[str, Any]:
        """Give plain values, without what is at its default."""
        return self.model_dump(mode="json", exclude_defaults=True)


def dump_label(label: Label) -> str | LabelEntry:
    """Put a label into its form."""
    if label == Label(label.name):
        return label.name
    return LabelEntry(
        name=label.name,
        descriptions=list(label.descriptions),
        wording=label.wording,
        parent=label.parent,
        aliases=list(label.aliases),
        threshold=label.threshold,
    )


def dump_templates(templates: TemplateSet | None) -> str | list[str] | None:
    """Put templates into their form."""
    if templates is None or (templates.name in shipped("templates") and load_templates(templates.name) == templates):
        return None if templates is None else templates.name
    return list(templates.templates)


def load_label_set(name_or_file: str | Path, *, files: bool = True) -> LabelSet:
    """Load a shipped label set, or a user's own file: one of labels, or one of clusters that have been named.

    Parameters
    ----------
    name_or_file : str or Path
        A shipped name ("cifar10"), or the path of a YAML or JSON file.
    files : bool
        Whether paths are taken; a service takes names alone.

    Returns
    -------
    LabelSet
        Validated labels and templates.

    Raises
    ------
    DefinitionError
        If there is none of that name, or the file is not of the documented form.

    Examples
    --------
    >>> [label.name for label in load_label_set("cifar10").labels][:2]
    ['airplane', 'automobile']
    """
    path = find_definition("labels", name_or_file, files=files)
    file: LabelSetFile | ClusterFile = read_definition(path, LabelSetFile, instead={"clusters": ClusterFile})
    return file.to_label_set([_read_vectors(path, entry) for entry in file.vectors])


def label_set_names() -> list[str]:
    """Names of the shipped label sets.

    Returns
    -------
    list of str
        Sorted names.
    """
    return shipped("labels")


def _read_vectors(path: Path, entry: VectorFile) -> Head:
    beside = path.parent / entry.file
    try:
        if beside.stat().st_size > _MAX_VECTOR_BYTES:
            raise DefinitionError(f"{beside} has more than {_MAX_VECTOR_BYTES:,} bytes.", "Check the file.")
        content = beside.read_bytes()
    except OSError as error:
        raise DefinitionError(
            f"{beside} cannot be read: {error.strerror}.", f"Put it back beside {path.name}."
        ) from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise DefinitionError(f"{beside} is not the file that {path.name} was written with.", "Export both again.")
    return Head.from_bytes(content)


def _flatten(
    entries: Sequence[str | LabelEntry], place: tuple[str | int, ...], parent: str | None
) -> Iterator[tuple[tuple[str | int, ...], Label]]:
    """Each label after its parent, with its place in the file."""
    for index, entry in enumerate(entries):
        here = (*place, index)
        if isinstance(entry, str):
            yield here, Label(entry, parent=parent)
            continue
        yield (
            here,
            Label(
                entry.name,
                tuple(entry.descriptions),
                entry.wording,
                parent=parent if parent is not None else entry.parent,
                aliases=tuple(entry.aliases),
                threshold=entry.threshold,
            ),
        )
        yield from _flatten(entry.children, (*here, "children"), entry.name.strip())


def _entries(
    entries: Sequence[str | LabelEntry], place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], LabelEntry]]:
    for index, entry in enumerate(entries):
        if isinstance(entry, LabelEntry):
            yield (*place, index), entry
            yield from _entries(entry.children, (*place, index, "children"))


def _place(
    entries: Sequence[str | LabelEntry], place: tuple[str | int, ...], fault: LabelFault
) -> tuple[str | int, ...]:
    """The field at fault, or the whole label where that is a name alone."""
    entry: str | LabelEntry = ""
    for step in place[1:]:
        if isinstance(step, int):
            entry = entries[step]
            entries = [] if isinstance(entry, str) else entry.children
    return place if isinstance(entry, str) else (*place, fault.field)


def _distinct(names: Sequence[str]) -> list[Label]:
    """Number a repeated name but keep its wording: ImageNet has two classes called "missile"."""
    counts: Counter[str] = Counter()
    labels = []
    for name in names:
        counts[name] += 1
        labels.append(Label(name) if counts[name] == 1 else Label(f"{name} ({counts[name]})", wording=name))
    return labels


LabelSetFile.model_rebuild()
