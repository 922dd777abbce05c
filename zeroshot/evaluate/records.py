"""What is kept of each image's answer: some forty bytes, so that memory hardly grows with their number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeroshot.scoring import Scores
from zeroshot.statistics import BoolArray, IntArray, brier_scores

TOP = 5


def rank(scores: Scores, chosen: BoolArray) -> IntArray:
    """Order the columns of each image: what was decided on first ("not x" may be the lower score), then by score."""
    return np.lexsort((-scores, ~chosen), axis=1)


@dataclass(frozen=True, eq=False)
class SingleRecords:
    """Answers to n images whose labels exclude each other."""

    keys: tuple[str, ...]
    truth: IntArray
    top: IntArray
    confidence: Scores
    likelihood: Scores
    brier: Scores
    answered: BoolArray
    groups: tuple[str | None, ...]

    @property
    def prediction(self) -> IntArray:
        """The likeliest labels, shape (n,)."""
        return self.top[:, 0]

    @property
    def hits(self) -> BoolArray:
        """Whether the likeliest label is the right one, shape (n,)."""
        return np.asarray(self.prediction == self.truth)


@dataclass(frozen=True, eq=False)
class MultiRecords:
    """Answers to n images that may have several labels; all k scores are kept, in single precision."""

    keys: tuple[str, ...]
    truth: BoolArray
    scores: npt.NDArray[np.float32]
    chosen: BoolArray
    groups: tuple[str | None, ...]


class SingleRecorder:
    """Collects answers, a batch at a time."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._groups: list[str | None] = []
        self._parts: list[tuple[IntArray, IntArray, Scores, Scores, Scores, BoolArray]] = []

    def add(
        self, keys: list[str], groups: list[str | None], truth: IntArray, scores: Scores, chosen: BoolArray
    ) -> None:
        """Add the scores (n, k) of n images, and which label is the answer (n, k), if any."""
        rows = np.arange(len(truth))
        top = rank(scores, chosen)[:, :TOP]
        best, right = scores[rows, top[:, 0]], scores[rows, truth]
        self._keys += keys
        self._groups += groups
        self._parts.append((truth, top, best, right, brier_scores(scores, truth), np.asarray(chosen.any(axis=1))))

    @property
    def is_empty(self) -> bool:
        """Whether nothing was added."""
        return not self._parts

    def done(self) -> SingleRecords:
        """Give all records."""
        truth, top, best, right, brier, answered = (np.concatenate(one) for one in zip(*self._parts, strict=True))
        return SingleRecords(tuple(self._keys), truth, top, best, right, brier, answered, tuple(self._groups))


class MultiRecorder:
    """Collects answers, a batch at a time."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._groups: list[str | None] = []
        self._parts: list[tuple[BoolArray, npt.NDArray[np.float32], BoolArray]] = []

    def add(
        self, keys: list[str], groups: list[str | None], truth: BoolArray, scores: Scores, chosen: BoolArray
    ) -> None:
        """Add the scores (n, k) of n images, and which labels are the answer (n, k)."""
        self._keys += keys
        self._groups += groups
        self._parts.append((truth, scores.astype(np.float32), chosen))

    def done(self) -> MultiRecords:
        """Give all records."""
        truth, scores, chosen = (np.concatenate(one) for one in zip(*self._parts, strict=True))
        return MultiRecords(tuple(self._keys), truth, scores, chosen, tuple(self._groups))
