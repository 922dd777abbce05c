"""A label, and what makes a list of labels usable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from zeroshot.errors import LabelError, quote
from zeroshot.prompts import TemplateSet

MAX_LABELS = 10_000
MAX_LABEL_CHARS = 1_000
MAX_LABEL_TEXTS = 1_000
"""Most descriptions, and most aliases, of one label."""
MAX_LEVELS = 100
"""Most labels on the way from one without a parent to a leaf."""


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
    parent : str or None
        Name of the label that this one is a kind of.
    aliases : tuple of str
        Other names: their prompts are averaged with the name's, and data may use them.
    threshold : float or None
        Score, in [0, 1], that this label needs to be an answer; None leaves it to the label set.
    """

    name: str
    descriptions: tuple[str, ...] = ()
    wording: str = ""
    parent: str | None = None
    aliases: tuple[str, ...] = ()
    threshold: float | None = None

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
        if self.descriptions:
            return list(self.descriptions)
        return [prompt for text in (self.wording or self.name, *self.aliases) for prompt in templates.fill(text)]

    def count_prompts(self, templates: TemplateSet) -> int:
        """Count the texts that ``prompts`` gives, without making them.

        Parameters
        ----------
        templates : TemplateSet
            Used where the label has no descriptions.

        Returns
        -------
        int
            At least 1.
        """
        return len(self.descriptions) or (1 + len(self.aliases)) * len(templates.templates)


@dataclass(frozen=True)
class LabelFault:
    """What is wrong with one label of a list."""

    index: int
    field: str
    message: str
    remedy: str


def parse_labels(labels: Iterable[str | Label], *, at_least: int = 2) -> tuple[Label, ...]:
    """Validate a list of labels.

    Parameters
    ----------
    labels : iterable of str or Label
        Names, or labels with descriptions. Outer whitespace of names is dropped.
    at_least : int
        Fewest labels: 1 where a label is asked about on its own.

    Returns
    -------
    tuple of Label
        With distinct names and aliases, and parents that are among them, without a circle.

    Raises
    ------
    LabelError
        If there are too few or too many, or one cannot be used.

    Examples
    --------
    >>> [label.name for label in parse_labels(["cat", " dog "])]
    ['cat', 'dog']
    """
    if isinstance(labels, (str, bytes)):
        raise LabelError(f"The labels are one text, {quote(labels)}.", "Give a list of names.", field="labels")
    result: list[Label] = []
    for position, item in enumerate(labels, start=1):
        if position > MAX_LABELS:
            raise LabelError(f"There are more than {MAX_LABELS:,} labels.", "Split the list.", field="labels")
        result.append(stripped(item if isinstance(item, Label) else Label(item)))
    for fault in label_faults(result):
        raise LabelError(fault.message, fault.remedy, field="labels")
    require(result, at_least)
    return tuple(result)


def require(labels: Sequence[Label], at_least: int) -> None:
    """Refuse too few labels."""
    if not labels:
        raise LabelError("There are no labels.", "Give at least two, such as cat and dog.", field="labels")
    if len(labels) < at_least:
        raise LabelError(
            f"There is one label, {quote(labels[0].name)}, and its score would always be 1.",
            "Add what else it could be, such as 'something else', or ask with the mode binary or multilabel.",
            field="labels",
        )


def stripped(label: Label) -> Label:
    """Drop the outer whitespace of a label's name."""
    name = label.name
    return label if not isinstance(name, str) or name == name.strip() else replace(label, name=name.strip())


def label_faults(labels: Sequence[Label]) -> Iterator[LabelFault]:
    """Say what is wrong with a list of labels, first fault first."""
    owner: dict[str, int] = {}
    for index, label in enumerate(labels):
        if not isinstance(label.name, str) or not label.name.strip():
            yield LabelFault(
                index, "name", f"Label {index + 1} is blank: {quote(label.name)}.", "Give it a name, or remove it."
            )
            continue
        yield from _text_faults(index, label)
        if label.threshold is not None and not 0 <= label.threshold <= 1:
            yield LabelFault(
                index, "threshold", f"The threshold of {quote(label.name)} is {label.threshold}.", "Use 0 to 1."
            )
        for name in (label.name, *label.aliases):
            if name in owner:
                yield LabelFault(
                    index,
                    "name" if name == label.name else "aliases",
                    f"{quote(name)} is given twice, as labels {owner[name] + 1} and {index + 1}.",
                    "Remove one: equal labels would share their score.",
                )
            owner.setdefault(name, index)
    yield from _parent_faults(labels)


def _text_faults(index: int, label: Label) -> Iterator[LabelFault]:
    texts = [("name", label.name), ("wording", label.wording or label.name)]
    texts += [("descriptions", text) for text in label.descriptions] + [("aliases", text) for text in label.aliases]
    for field, several in (("descriptions", label.descriptions), ("aliases", label.aliases)):
        if len(several) > MAX_LABEL_TEXTS:
            yield LabelFault(
                index,
                field,
                f"{quote(label.name)} has {len(several):,} {field}; {MAX_LABEL_TEXTS:,} are allowed.",
                "Use fewer.",
            )
    for field, text in texts:
        if not isinstance(text, str) or not text.strip():
            what = "alias" if field == "aliases" else field.rstrip("s")
            yield LabelFault(index, field, f"Label {index + 1} has a blank {what}.", "Write it, or remove it.")
        elif len(text) > MAX_LABEL_CHARS:
            yield LabelFault(
                index,
                field,
                f"Label {index + 1}, {quote(text)}, has {len(text):,} characters; {MAX_LABEL_CHARS:,} are allowed.",
                "Shorten it: models read some 77 tokens at most.",
            )


def _parent_faults(labels: Sequence[Label]) -> Iterator[LabelFault]:
    parents = {label.name: label.parent for label in labels}
    depth: dict[str | None, int] = {None: 0}
    for index, label in enumerate(labels):
        way: dict[str, None] = {}  # from the label upwards
        name: str | None = label.name
        while name is not None and name not in depth and name in parents and name not in way and len(way) <= MAX_LEVELS:
            way[name] = None
            name = parents[name]
        if name in depth:
            for above, below in enumerate(reversed(way), start=depth[name] + 1):
                depth[below] = above
            if depth[label.name] > MAX_LEVELS:
                yield LabelFault(
                    index,
                    "parent",
                    f"{quote(label.name)} has {depth[label.name] - 1} labels above it; {MAX_LEVELS - 1} are allowed.",
                    "Leave levels out.",
                )
        elif len(way) > MAX_LEVELS:
            yield LabelFault(
                index,
                "parent",
                f"{quote(label.name)} has more than {MAX_LEVELS - 1} labels above it.",
                "Leave levels out, or break the circle.",
            )
        elif name in way and next(iter(way)) == name:  # told once for each label in the circle, not for those below it
            circle = " > ".join([*way, str(name)])
            yield LabelFault(
                index, "parent", f"The parents of {quote(label.name)} go round: {circle}.", "Break the circle."
            )
        elif label.parent is not None and label.parent not in parents:
            yield LabelFault(
                index,
                "parent",
                f"The parent of {quote(label.name)}, {quote(label.parent)}, is not among the labels.",
                "Add it, or correct the name.",
            )
