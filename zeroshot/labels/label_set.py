"""Label sets: named, ordered labels, how they are to be asked about, and what was learnt about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property, lru_cache
from itertools import islice

from pydantic import BaseModel, ConfigDict, Field

from zeroshot.labels.head import Head
from zeroshot.labels.hierarchy import Hierarchy
from zeroshot.labels.label import MAX_LABELS, Label, parse_labels
from zeroshot.prompts import TemplateSet


class Mode(StrEnum):
    """What kind of answer is asked for."""

    MULTICLASS = "multiclass"
    BINARY = "binary"
    MULTILABEL = "multilabel"
    HIERARCHICAL = "hierarchical"


class Calibration(BaseModel):
    """What was fitted on labelled images, for one encoder.

    Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: str = Field(description="The encoder's spec.")
    fingerprint: str = Field(description="The encoder's; another encoder is not calibrated by this.")
    temperature: float = Field(1.0, gt=0, description="Divides the logits before the softmax.")
    thresholds: dict[str, float] = Field(
        default_factory=dict, description="Scores that labels need in the mode multilabel, in [0, 1]."
    )
    images: int = Field(0, ge=0, description="How many images it was fitted on.")
    fitted_on: str = Field("", description="Where they came from.")


@dataclass(frozen=True)
class LabelSet:
    """Named, ordered labels with what suits them.

    Parameters
    ----------
    name : str
        The set's name.
    labels : tuple of Label
        In the order of the class matrix.
    templates : TemplateSet or None
        None leaves the choice to the encoder.
    mode : Mode or None
        None is hierarchical where a label has a parent, else multiclass.
    threshold : float or None
        Score, in [0, 1], that an answer needs; None is the mode's own.
    description : str
        For people.
    source : str
        Where the labels come from.
    calibrations : tuple of Calibration
        At most one per encoder.
    heads : tuple of Head
        At most one per encoder.
    version : int or None
        Of a stored set.
    """

    name: str
    labels: tuple[Label, ...]
    templates: TemplateSet | None = None
    mode: Mode | None = None
    threshold: float | None = None
    description: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
    calibrations: tuple[Calibration, ...] = field(default=(), compare=False)
    heads: tuple[Head, ...] = field(default=(), compare=False)
    version: int | None = field(default=None, compare=False)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels' names."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """Who is whose parent."""
        return Hierarchy.of(self.labels)

    @property
    def effective_mode(self) -> Mode:
        """The mode where a call names none."""
        if self.mode is not None:
            return self.mode
        return Mode.MULTICLASS if self.hierarchy.is_flat else Mode.HIERARCHICAL

    @cached_property
    def digest(self) -> str:
        """sha256, in hex, of the labels: equal means the same class matrix under the same templates."""
        content = [(label.name, label.wording, label.aliases, label.descriptions) for label in self.labels]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @cached_property
    def scoring_digest(self) -> str:
        """sha256, in hex, of all that decides answers: equal means the same ones under the same templates."""
        decisive = [
            self.digest,
            self.mode,
            self.threshold,
            [(label.parent, label.threshold) for label in self.labels],
            [one.model_dump(include={"fingerprint", "temperature", "thresholds"}) for one in self.calibrations],
            [head.digest for head in self.heads],
        ]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()

    def calibration_for(self, fingerprint: str) -> Calibration | None:
        """Find what was fitted for an encoder.

        Parameters
        ----------
        fingerprint : str
            The encoder's.

        Returns
        -------
        Calibration or None
            None if nothing was.
        """
        return next((found for found in self.calibrations if found.fingerprint == fingerprint), None)

    def head_for(self, fingerprint: str) -> Head | None:
        """Find the head for an encoder.

        Parameters
        ----------
        fingerprint : str
            The encoder's.

        Returns
        -------
        Head or None
            None if there is none.
        """
        return next((found for found in self.heads if found.fingerprint == fingerprint), None)

    def with_fitted(self, fingerprint: str, calibration: Calibration | None, head: Head | None) -> LabelSet:
        """Put what was fitted for an encoder in the place of what was there.

        Parameters
        ----------
        fingerprint : str
            The encoder's.
        calibration : Calibration or None
            None for none.
        head : Head or None
            None for none.

        Returns
        -------
        LabelSet
            Otherwise the same.
        """
        return replace(
            self,
            calibrations=tuple(
                found
                for found in (*self.calibrations, calibration)
                if found is not None and (found is calibration or found.fingerprint != fingerprint)
            ),
            heads=tuple(
                found
                for found in (*self.heads, head)
                if found is not None and (found is head or found.fingerprint != fingerprint)
            ),
        )

    def find(self, name: str) -> int | None:
        """Find a label by its name or one of its aliases.

        Parameters
        ----------
        name : str
            Which.

        Returns
        -------
        int or None
            Its row; None if there is none.
        """
        return self._rows.get(name)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, label in enumerate(self.labels) for name in (label.name, *label.aliases)}


_MAX_KEPT_CHARACTERS = 2**20
"""Of one plain list; of longer ones the label set is made again at each call. 32 are kept."""

Labels = Iterable[str | Label] | LabelSet
"""The forms in which labels are taken."""


def as_label_set(labels: Labels) -> LabelSet:
    """Take labels in whichever form they come; the same plain list is the same label set.

    Parameters
    ----------
    labels : iterable of str or Label, or LabelSet
        Names, labels with descriptions, or a label set, which is given back.

    Returns
    -------
    LabelSet
        Validated; called "custom" where the labels have no name.

    Raises
    ------
    LabelError
        If the labels cannot be used.
    """
    if isinstance(labels, LabelSet):
        return labels
    if isinstance(labels, (str, bytes)):
        return LabelSet("custom", parse_labels(labels))  # which says what is wrong
    listed = tuple(islice(labels, MAX_LABELS + 1))
    try:
        return _kept(listed) if sum(map(_characters, listed)) <= _MAX_KEPT_CHARACTERS else _custom(listed)
    except TypeError:  # a label with a list in it cannot be looked up; what is no label is named by its error
        return _custom(listed)


def _characters(label: str | Label) -> int:
    if isinstance(label, str):
        return len(label)
    return sum(map(len, (label.name, label.wording, *label.aliases, *label.descriptions)))


def _custom(labels: tuple[str | Label, ...]) -> LabelSet:
    return LabelSet("custom", parse_labels(labels, at_least=1))


_kept = lru_cache(maxsize=32)(_custom)
