"""What a dataset is: images with their labels, one after the other, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from zeroshot.images import ImageSource
from zeroshot.prompts import TemplateSet


@dataclass(frozen=True, slots=True)
class Sample:
    """One image.

    Parameters
    ----------
    key : str
        What reports call it, and what two runs are compared by: a path, or a number in its dataset.
    source : ImageSource
        Read when it is its turn.
    labels : tuple of str
        Its labels' names; one where labels exclude each other.
    group : str or None
        What part of the dataset it belongs to, where results are wanted for each part.
    captions : tuple of str
        Sentences that describe it, for retrieval.
    """

    key: str
    source: ImageSource
    labels: tuple[str, ...] = ()
    group: str | None = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be used; the rest goes on.

    Parameters
    ----------
    key : str
        An image, a shard, a class.
    reason : str
        What is wrong with it.
    """

    key: str
    reason: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Parameters
    ----------
    name : str
        What reports call it.
    samples : callable
        Gives an iterator over all samples, in a fixed order, with problems in between; may be called again.
    classes : tuple of str
        Names of the labels, in the order of the dataset's own numbers.
    count : int or None
        How many samples there are, where that is known beforehand.
    templates : TemplateSet or None
        The prompts published with it.
    origin : str
        Where it is, and which split.
    empty_classes : tuple of str
        Classes of which there is no image.
    several : bool
        Whether an image may have several labels.
    captioned : bool
        Whether images have captions; if so, there may be no classes.
    wordings : mapping of str to str
        What is put into templates for a class, where that is not its name: folders are "traffic_light".
    """

    name: str
    samples: Callable[[], Iterator[Sample | Problem]]
    classes: tuple[str, ...]
    count: int | None = None
    templates: TemplateSet | None = None
    origin: str = ""
    empty_classes: tuple[str, ...] = ()
    several: bool = False
    captioned: bool = False
    wordings: Mapping[str, str] = field(default_factory=dict)
