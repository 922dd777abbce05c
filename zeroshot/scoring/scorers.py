"""The scorers last used: putting one together costs what a new label's embedding costs, using it again nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict

from zeroshot.encoders import Encoder, FloatArray, TextCache
from zeroshot.labels import ClassMatrices, LabelSet, Mode
from zeroshot.prompts import TemplateSet
from zeroshot.scoring.asking import Wishes, build_scorer, to_mode
from zeroshot.scoring.base import Scorer

_KEPT = 32


class Scorers:
    """Scorers by label set, templates and wishes; safe for several threads.

    Parameters
    ----------
    encoder : Encoder
        Embeds labels.
    cache : TextCache or None
        Keeps embedded labels between processes.
    """

    def __init__(self, encoder: Encoder, cache: TextCache | None) -> None:
        self._encoder = encoder
        self._matrices = ClassMatrices(encoder, cache)
        self._kept: OrderedDict[tuple[int, tuple[str, ...], Wishes], tuple[LabelSet, Scorer]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, label_set: LabelSet, templates: TemplateSet, wishes: Wishes) -> Scorer:
        """Give a scorer.

        Parameters
        ----------
        label_set : LabelSet
            The labels.
        templates : TemplateSet
            For labels without descriptions.
        wishes : Wishes
            Mode, threshold and temperature.

        Returns
        -------
        Scorer
            For any number of pictures, from any thread.

        Raises
        ------
        InputError
            If the labels or a wish cannot be used.
        """
        key = (id(label_set), templates.templates, wishes)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        matrix = self._matrices.get(label_set, templates)
        scorer = build_scorer(label_set, matrix, self._encoder, wishes, self._matrices.reference)
        scorer.warnings = self._matrices.warnings(label_set, templates)
        with self._lock:
            self._kept[key] = (label_set, scorer)  # with the set, so that its id stays its own
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return scorer

    def is_ready(self, label_set: LabelSet, templates: TemplateSet, wishes: Wishes) -> bool:
        """Whether ``get`` would embed nothing.

        Parameters
        ----------
        label_set : LabelSet
            The labels.
        templates : TemplateSet
            For labels without descriptions.
        wishes : Wishes
            Mode, threshold and temperature.

        Returns
        -------
        bool
            False where it may have to.
        """
        with self._lock:
            if (id(label_set), templates.templates, wishes) in self._kept:
                return True
        mode = to_mode(wishes.mode) or label_set.effective_mode
        compared = mode in (Mode.MULTILABEL, Mode.BINARY) and self._encoder.logit_bias is None
        known = self._matrices.has(label_set, templates)
        return known and (self._matrices.has_reference or not compared)

    def warnings(self, label_set: LabelSet, templates: TemplateSet) -> tuple[str, ...]:
        """Give what is to be known of labels: see ``zeroshot.labels.label_warnings``."""
        return self._matrices.warnings(label_set, templates)

    def matrix(self, label_set: LabelSet, templates: TemplateSet) -> FloatArray:
        """Give labels' class matrix.

        Parameters
        ----------
        label_set : LabelSet
            k labels.
        templates : TemplateSet
            For labels without descriptions.

        Returns
        -------
        ndarray of float32, shape (k, dim)
            Unit rows, in the order of the labels; read-only.
        """
        return self._matrices.get(label_set, templates)
