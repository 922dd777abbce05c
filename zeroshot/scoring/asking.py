"""From a label set, and what a call wants otherwise, to the scorer that answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from zeroshot.encoders import Encoder, FloatArray
from zeroshot.errors import LabelError, OptionError, quote
from zeroshot.labels import Calibration, Hierarchy, LabelSet, Mode, require
from zeroshot.scoring.base import Question, Scorer, Scores
from zeroshot.scoring.hierarchical import HierarchicalScorer
from zeroshot.scoring.multiclass import BinaryScorer, MulticlassScorer
from zeroshot.scoring.multilabel import MultilabelScorer, PresenceScorer

_USUALLY_NEEDED = {Mode.MULTICLASS: 0.0, Mode.BINARY: 0.0, Mode.MULTILABEL: 0.5, Mode.HIERARCHICAL: 0.5}


@dataclass(frozen=True)
class Wishes:
    """What a call wants otherwise than its label set says; None leaves it to the set.

    Parameters
    ----------
    mode : Mode, str or None
        How the labels are asked about.
    threshold : float or None
        Score, in [0, 1], that every label needs to be the answer.
    temperature : float or None
        Divides the logits: above 1 scores are less extreme.
    """

    mode: Mode | str | None = None
    threshold: float | None = None
    temperature: float | None = None


def build_scorer(
    label_set: LabelSet, matrix: FloatArray, encoder: Encoder, wishes: Wishes, reference: Callable[[], FloatArray]
) -> Scorer:
    """Put together what answers a question.

    Parameters
    ----------
    label_set : LabelSet
        The labels, and what was learnt about them.
    matrix : ndarray of float32, shape (k, dim)
        Their class matrix.
    encoder : Encoder
        Whose vectors these are.
    wishes : Wishes
        What the call wants otherwise.
    reference : callable
        Gives the reference vocabulary's class matrix; called where the mode needs it.

    Returns
    -------
    Scorer
        For any number of pictures, from any thread.

    Raises
    ------
    OptionError
        If a wish is out of range.
    LabelError
        If the labels do not suit the mode.
    """
    mode = to_mode(wishes.mode) or label_set.effective_mode
    _check_number("threshold", wishes.threshold, 0.0, 1.0)
    _check_number("temperature", wishes.temperature, 1e-6, 1e6)
    calibration = label_set.calibration_for(encoder.fingerprint)
    rows = np.arange(len(label_set.labels))
    hierarchy = label_set.hierarchy
    if mode in (Mode.MULTICLASS, Mode.BINARY) and not hierarchy.is_flat:  # the flat reading: leaves exclude each other
        rows = hierarchy.leaves
        hierarchy = Hierarchy(np.full(len(rows), -1, dtype=np.int64), np.zeros(len(rows), dtype=np.int64))
    present = mode is Mode.BINARY and len(rows) == 1
    _check_count(label_set, mode, len(rows))
    own_scale = mode is Mode.MULTILABEL or present
    question = Question(
        names=tuple(label_set.names[row] for row in rows),
        matrix=matrix if len(rows) == len(matrix) else matrix[rows],
        hierarchy=hierarchy,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        temperature=wishes.temperature or _temperature(calibration, own_scale=own_scale),
        needed=_needed(label_set, Mode.MULTILABEL if present else mode, wishes.threshold, calibration)[rows],
        head=None if own_scale else label_set.head_for(encoder.fingerprint),
        reference=reference() if own_scale and encoder.logit_bias is None else None,
    )
    if present:
        return PresenceScorer(question)
    if mode is Mode.MULTILABEL:
        return MultilabelScorer(question)
    if mode is Mode.HIERARCHICAL:
        return HierarchicalScorer(question)
    return MulticlassScorer(question) if mode is Mode.MULTICLASS else BinaryScorer(question)


def to_mode(mode: Mode | str | None) -> Mode | None:
    """Read a mode.

    Parameters
    ----------
    mode : Mode, str or None
        For example "multilabel".

    Returns
    -------
    Mode or None
        None for None.

    Raises
    ------
    OptionError
        If there is no such mode.
    """
    if mode is None or isinstance(mode, Mode):
        return mode
    try:
        return Mode(mode)
    except ValueError as error:
        raise OptionError(
            f"There is no mode {quote(mode)}.", f"Use one of: {', '.join(Mode)}.", field="mode"
        ) from error


def _temperature(calibration: Calibration | None, *, own_scale: bool) -> float:
    return 1.0 if calibration is None or own_scale else calibration.temperature


def _needed(label_set: LabelSet, mode: Mode, threshold: float | None, calibration: Calibration | None) -> Scores:
    """The call's wish; else the label's own; else what was fitted; else the set's; else the mode's."""
    if threshold is not None:
        return np.full(len(label_set.labels), threshold)
    fitted = calibration.thresholds if calibration is not None and mode is Mode.MULTILABEL else {}
    otherwise = _USUALLY_NEEDED[mode] if label_set.threshold is None else label_set.threshold
    return np.array(
        [
            fitted.get(label.name, otherwise) if label.threshold is None else label.threshold
            for label in label_set.labels
        ]
    )


def _check_count(label_set: LabelSet, mode: Mode, count: int) -> None:
    if mode is Mode.BINARY and count > 2:
        raise LabelError(
            f"The mode binary takes two labels, or one and its absence; {label_set.name} has {count}.",
            "Use the mode multiclass or multilabel.",
            field="labels",
        )
    require(label_set.labels, 2 if mode in (Mode.MULTICLASS, Mode.HIERARCHICAL) else 1)


def _check_number(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise OptionError(f"{name}={value} is not between {low:g} and {high:g}.", "Change it.", field=name)
