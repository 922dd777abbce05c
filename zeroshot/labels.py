"""Labels, label sets, and the class matrix: one unit vector per label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from zeroshot.definitions import Reference, find_definition, read_definition, shipped
from zeroshot.encoders import Encoder, FloatArray, TextCache
from zeroshot.errors import LabelError, ModelError, quote
from zeroshot.prompts import TemplateSet, load_templates

MAX_LABELS = 10_000
MAX_LABEL_CHARS = 1_000
_PROMPT_SEPARATOR = "\x1e"  # ASCII record separator: a label is kept under its prompts, so joined


@dataclass(frozen=True)
class Label:
    """A class.

    Parameters
    ----------
    name : str
        What answers call it.
    descriptions : tuple of str
        Sentences that describe it; where given, they stand in for the filled templates (Menon and Vondrick, "Visual
        Classification via Description from Large Language Models", ICLR 2023).
    wording : str
        What is put into the templates, where that is not the name itself: a dataset's "AnnualCrop" reads better as
        "annual crop land".
    """

    name: str
    descriptions: tuple[str, ...] = ()
    wording: str = ""

    def prompts(self, templates: TemplateSet) -> list[str]:
        """Give the texts that are embedded for this label.

        Parameters
        ----------
        templates : TemplateSet
            Used where the label has no descriptions.

        Returns
        -------
        list of str
            At least one text.
        """
        return list(self.descriptions) or templates.fill(self.wording or self.name)


@dataclass(frozen=True)
class LabelSet:
    """Named, ordered labels with the templates that suit them.

    Parameters
    ----------
    name : str
        The set's name.
    labels : tuple of Label
        In the order of the class matrix.
    templates : TemplateSet or None
        None leaves the choice to the encoder.
    """

    name: str
    labels: tuple[Label, ...]
    templates: TemplateSet | None = None


class LabelEntry(BaseModel):
    """One label of a label-set file, where it is more than a name."""

    model_config = ConfigDict(extra="forbid")

    name: str
    descriptions: list[str] = Field(default_factory=list)
    wording: str = ""


class LabelSetFile(BaseModel):
    """The form of a file in ``prompts/labels``; a user's own has the same."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    source: str = Field("", description="Where the labels come from.")
    templates: str | list[str] | None = Field(None, description="A template set's name, or templates.")
    labels: list[str | LabelEntry] | Reference

    @field_validator("labels")
    @classmethod
    def _usable(cls, value: list[str | LabelEntry] | Reference) -> list[str | LabelEntry] | Reference:
        if isinstance(value, list):
            try:
                parse_labels([_to_label(entry) for entry in value])
            except LabelError as error:
                raise ValueError(str(error)) from error
        return value


def parse_labels(labels: Iterable[str | Label]) -> tuple[Label, ...]:
    """Validate a list of labels.

    Parameters
    ----------
    labels : iterable of str or Label
        Names, or labels with descriptions. Outer whitespace of names is dropped.

    Returns
    -------
    tuple of Label
        At least two, with distinct names.

    Raises
    ------
    LabelError
        If there are fewer than two or too many, or one is blank, too long or given twice.

    Examples
    --------
    >>> parse_labels(["cat", " dog "])
    (Label(name='cat', descriptions=(), wording=''), Label(name='dog', descriptions=(), wording=''))
    """
    if isinstance(labels, (str, bytes)):
        raise LabelError(f"The labels are one text, {quote(labels)}.", "Give a list of names.", field="labels")
    result: list[Label] = []
    seen: dict[str, int] = {}
    for position, item in enumerate(labels, start=1):
        if position > MAX_LABELS:
            raise LabelError(f"There are more than {MAX_LABELS:,} labels.", "Split the list.", field="labels")
        label = item if isinstance(item, Label) else Label(item)
        if not isinstance(label.name, str) or not label.name.strip():
            raise LabelError(
                f"Label {position} is blank: {quote(label.name)}.", "Give it a name, or remove it.", field="labels"
            )
        label = replace(label, name=label.name.strip())
        for text in (label.name, label.wording or label.name, *label.descriptions):
            _check_text(text, position)
        if label.name in seen:
            raise LabelError(
                f"{quote(label.name)} is given twice, as labels {seen[label.name]} and {position}.",
                "Remove one: equal labels would share their score.",
                field="labels",
            )
        seen[label.name] = position
        result.append(label)
    if not result:
        raise LabelError("There are no labels.", "Give at least two, such as cat and dog.", field="labels")
    if len(result) == 1:
        raise LabelError(
            f"There is one label, {quote(result[0].name)}, and its score would always be 1.",
            "Add what else it could be, such as 'something else'.",
            field="labels",
        )
    return tuple(result)


def load_label_set(name_or_file: str | Path, *, files: bool = True) -> LabelSet:
    """Load a shipped label set, or a user's own file.

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
    file = read_definition(find_definition("labels", name_or_file, files=files), LabelSetFile)
    if isinstance(file.labels, Reference):
        labels = _distinct(file.labels.resolve())
    else:
        labels = [_to_label(entry) for entry in file.labels]
    templates = None if file.templates is None else load_templates(file.templates)
    return LabelSet(file.name, parse_labels(labels), templates)


def label_set_names() -> list[str]:
    """Names of the shipped label sets.

    Returns
    -------
    list of str
        Sorted names.
    """
    return shipped("labels")


def choose_templates(encoder: Encoder, label_set: LabelSet) -> TemplateSet:
    """Choose the templates where a caller names none.

    Parameters
    ----------
    encoder : Encoder
        Recommends a template set.
    label_set : LabelSet
        May have its own.

    Returns
    -------
    TemplateSet
        Bare names where the encoder recommends them, else the label set's own, else the set recommended.
    """
    recommended = load_templates(encoder.template_set)
    return recommended if recommended.is_bare else label_set.templates or recommended


def class_matrix(
    encoder: Encoder, labels: Sequence[Label], templates: TemplateSet, cache: TextCache | None = None
) -> FloatArray:
    """Embed labels: the mean of each label's prompt embeddings, back on the unit sphere.

    The same as ``open_clip.build_zero_shot_classifier``, transposed.

    Parameters
    ----------
    encoder : Encoder
        Whose text tower embeds the prompts.
    labels : sequence of Label
        k labels.
    templates : TemplateSet
        For labels without descriptions.
    cache : TextCache or None
        Labels found there are not embedded again; the others are kept there.

    Returns
    -------
    ndarray of float32, shape (k, encoder.dim)
        Unit rows, in the order of `labels`.

    Raises
    ------
    ModelError
        If a label's prompts cancel out, or the encoder fails.
    """
    prompts = [label.prompts(templates) for label in labels]
    if cache is None:
        return _ensembles(encoder, labels, prompts)
    keys = [_PROMPT_SEPARATOR.join(texts) for texts in prompts]
    known = cache.get_many(encoder.fingerprint, keys)
    new = [i for i, key in enumerate(keys) if key not in known]
    if new:
        rows = _ensembles(encoder, [labels[i] for i in new], [prompts[i] for i in new])
        fresh = {keys[i]: row for i, row in zip(new, rows, strict=True)}
        cache.put_many(encoder.fingerprint, fresh)
        known.update(fresh)
    return np.stack([known[key] for key in keys])


def _ensembles(encoder: Encoder, labels: Sequence[Label], prompts: Sequence[Sequence[str]]) -> FloatArray:
    """One unit row per label: the normalised mean of its prompts' embeddings."""
    distinct = list(dict.fromkeys(text for texts in prompts for text in texts))
    row_of = {text: row for row, text in enumerate(distinct)}
    rows = encoder.encode_texts(distinct)
    means = np.stack([rows[[row_of[text] for text in texts]].mean(axis=0) for texts in prompts])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if not (norms > 1e-6).all():
        worst = labels[int(norms.argmin())]
        raise ModelError(f"The prompts of {quote(worst.name)} cancel out.", "Use fewer or other templates.")
    matrix: FloatArray = (means / norms).astype(np.float32, copy=False)
    return matrix


def _to_label(entry: str | LabelEntry) -> Label:
    return Label(entry) if isinstance(entry, str) else Label(entry.name, tuple(entry.descriptions), entry.wording)


def _distinct(names: Sequence[str]) -> list[Label]:
    """Number a repeated name but keep its wording: ImageNet has two classes called "missile"."""
    counts: Counter[str] = Counter()
    labels = []
    for name in names:
        counts[name] += 1
        labels.append(Label(name) if counts[name] == 1 else Label(f"{name} ({counts[name]})", wording=name))
    return labels


def _check_text(text: str, position: int) -> None:
    if not text.strip():
        raise LabelError(f"Label {position} has a blank description.", "Write it, or remove it.", field="labels")
    if len(text) > MAX_LABEL_CHARS:
        raise LabelError(
            f"Label {position}, {quote(text)}, has {len(text):,} characters; {MAX_LABEL_CHARS:,} are allowed.",
            "Shorten it: models read some 77 tokens at most.",
            field="labels",
        )
