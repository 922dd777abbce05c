"""From a label set and a call's options to the scorer that answers; those last used are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from zeroshot.encoders import Encoder, FloatArray, TextCache
from zeroshot.errors import LabelError, OptionError
from zeroshot.labels import Calibration, Hierarchy, LabelSet, Mode
from zeroshot.labels.class_matrix import ClassMatrices
from zeroshot.labels.label import require
from zeroshot.prompts import TemplateSet
from zeroshot.scoring.base import BinaryScorer, MulticlassScorer, Scorer, Scores, ScoringInputs
from zeroshot.scoring.hierarchical import HierarchicalScorer
from zeroshot.scoring.multilabel import MultilabelScorer, PresenceScorer
from zeroshot.scoring.options import ScoringOptions, to_mode

_KEPT = 32

DEFAULT_THRESHOLDS = {Mode.MULTICLASS: 0.0, Mode.BINARY: 0.0, Mode.MULTILABEL: 0.5, Mode.HIERARCHICAL: 0.5}


class Scorers:
    """The scorers last used, by what decides their answers; safe for several threads.

    Building one costs what new labels' embedding costs; the same labels, templates and options, as the same object or
    not, are the same scorer.
    """

    def __init__(self, encoder: Encoder, cache: TextCache | None) -> None:
        self._encoder = encoder
        self.matrices = ClassMatrices(encoder, cache)
        self._kept: OrderedDict[tuple[str, tuple[str, ...], ScoringOptions], Scorer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, label_set: LabelSet, templates: TemplateSet, options: ScoringOptions) -> Scorer:
        """Give a scorer."""
        if (known := self._look_up(label_set, templates, options)) is not None:
            return known
        matrix = self.matrices.get(label_set, templates)
        scorer = build_scorer(label_set, matrix, self._encoder, options, self.matrices.reference)
        scorer.warnings = self.matrices.warnings(label_set, templates)
        with self._lock:
            self._kept[label_set.scoring_digest, templates.templates, options] = scorer
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return scorer

    def find(self, label_set: LabelSet, templates: TemplateSet, options: ScoringOptions) -> Scorer | None:
        """Give what ``get`` does if nothing has to be embedded for it; else None."""
        if (known := self._look_up(label_set, templates, options)) is not None:
            return known
        mode = to_mode(options.mode) or label_set.effective_mode
        own_scale = mode in (Mode.MULTILABEL, Mode.BINARY) and self._encoder.logit_bias is None
        needs_reference = own_scale or options.unknown
        has_all = self.matrices.has(label_set, templates) and (self.matrices.has_reference or not needs_reference)
        return self.get(label_set, templates, options) if has_all else None

    def _look_up(self, label_set: LabelSet, templates: TemplateSet, options: ScoringOptions) -> Scorer | None:
        key = (label_set.scoring_digest, templates.templates, options)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)


def build_scorer(
    label_set: LabelSet,
    matrix: FloatArray,
    encoder: Encoder,
    options: ScoringOptions,
    reference: Callable[[], FloatArray],
) -> Scorer:
    """Build the scorer for labels and options."""
    mode = to_mode(options.mode) or label_set.effective_mode
    _check_number("threshold", options.threshold, 0.0, 1.0)
    _check_number("temperature", options.temperature, 1e-6, 1e6)
    calibration = label_set.calibration_for(encoder.fingerprint)
    rows = np.arange(len(label_set.labels))
    hierarchy = label_set.hierarchy
    if mode in (Mode.MULTICLASS, Mode.BINARY) and not hierarchy.is_flat:  # the flat reading: leaves exclude each other
        rows = hierarchy.leaves
        hierarchy = Hierarchy(np.full(len(rows), -1, dtype=np.int64), np.zeros(len(rows), dtype=np.int64))
    present = mode is Mode.BINARY and len(rows) == 1
    _check_count(label_set, mode)
    own_scale = mode is Mode.MULTILABEL or present
    head = None if own_scale else label_set.head_for(encoder.fingerprint)
    unknown = options.unknown and not own_scale
    if unknown and head is not None:
        raise OptionError(
            f"Whether an image shows none of the labels is told by their texts, and those of {label_set.name} have a "
            "head that was fitted to images.",
            "Leave unknown out and use a threshold, or use a version of the set without the head.",
            field="unknown",
        )
    needs_reference = unknown or (own_scale and encoder.logit_bias is None)
    inputs = ScoringInputs(
        names=tuple(label_set.names[row] for row in rows),
        matrix=matrix if len(rows) == len(matrix) else matrix[rows],
        hierarchy=hierarchy,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        temperature=options.temperature or _temperature(calibration, own_scale=own_scale),
        thresholds=_thresholds(label_set, Mode.MULTILABEL if present else mode, options.threshold, calibration)[rows],
        head=head,
        reference=reference() if needs_reference else None,
        unknown=unknown,
    )
    if present:
        return PresenceScorer(inputs)
    if mode is Mode.MULTILABEL:
        return MultilabelScorer(inputs)
    if mode is Mode.HIERARCHICAL:
        return HierarchicalScorer(inputs)
    return MulticlassScorer(inputs) if mode is Mode.MULTICLASS else BinaryScorer(inputs)


def _temperature(calibration: Calibration | None, *, own_scale: bool) -> float:
    return 1.0 if calibration is None or own_scale else calibration.temperature


def _thresholds(label_set: LabelSet, mode: Mode, threshold: float | None, calibration: Calibration | None) -> Scores:
    """The call's; else the label's own; else what was fitted; else the set's; else the mode's."""
    if threshold is not None:
        return np.full(len(label_set.labels), threshold)
    fitted = calibration.thresholds if calibration is not None and mode is Mode.MULTILABEL else {}
    otherwise = DEFAULT_THRESHOLDS[mode] if label_set.threshold is None else label_set.threshold
    return np.array(
        [
            fitted.get(label.name, otherwise) if label.threshold is None else label.threshold
            for label in label_set.labels
        ]
    )


def _check_count(label_set: LabelSet, mode: Mode) -> None:
    classes = [label_set.labels[row] for row in label_set.hierarchy.leaves]
    if mode is Mode.BINARY and len(classes) > 2:
        raise LabelError(
            f"The mode binary takes two labels, or one and its absence; {label_set.name} has {len(classes)}.",
            "Use the mode multiclass or multilabel.",
            field="labels",
        )
    require(classes, 2 if mode in (Mode.MULTICLASS, Mode.HIERARCHICAL) else 1)


def _check_number(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise OptionError(
            f"{name}={value} is not between {low:g} and {high:g}.", f"Use {low:g} to {high:g}.", field=name
        )
