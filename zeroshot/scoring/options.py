"""What a call overrides of its label set."""

from __future__ import annotations

from dataclasses import dataclass

from zeroshot.errors import OptionError, quote
from zeroshot.labels import Mode


@dataclass(frozen=True)
class ScoringOptions:
    """Overrides of one call; None leaves the choice to the label set.

    Parameters
    ----------
    mode : Mode, str or None
        "multiclass", "binary", "multilabel" or "hierarchical".
    threshold : float or None
        Score, in [0, 1], that every label needs to be the answer.
    temperature : float or None
        Divides the logits: above 1 scores are less extreme.
    unknown : bool
        Whether the answer is "unknown" where an image shows none of the labels, however they compare. Labels on their
        own scale (multilabel, or one label and its absence) say so anyway.
    """

    mode: Mode | str | None = None
    threshold: float | None = None
    temperature: float | None = None
    unknown: bool = False


def to_mode(mode: Mode | str | None) -> Mode | None:
    """Read a mode."""
    if mode is None or isinstance(mode, Mode):
        return mode
    try:
        return Mode(mode)
    except ValueError as error:
        raise OptionError(
            f"There is no mode {quote(mode)}.", f"Use one of: {', '.join(Mode)}.", field="mode"
        ) from error
