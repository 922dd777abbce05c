"""What comes out of scoring: ranked labels, and which of them are the answer."""

from __future__ import annotations

from dataclasses import dataclass

from zeroshot.labels import Mode


@dataclass(frozen=True)
class Prediction:
    """One label's rank for one image.

    Parameters
    ----------
    label : str
        The label's name.
    score : float
        Probability in [0, 1]; in the modes multiclass and binary all labels' scores sum to 1.
    similarity : float
        Cosine between the image and the label's text, in [-1, 1].
    """

    label: str
    score: float
    similarity: float


@dataclass(frozen=True)
class Classification:
    """One image's answer.

    Parameters
    ----------
    predictions : tuple of Prediction
        Best first; all labels, or the best `top_k`. In the mode hierarchical these are the leaves.
    labels : tuple of str
        The answer: in the mode multilabel every label that is sure enough, elsewhere one label; empty for "unknown",
        where none is.
    mode : Mode
        What was asked.
    levels : tuple of Prediction
        In the mode hierarchical: from the top down to the answer, each with its probability.
    """

    predictions: tuple[Prediction, ...]
    labels: tuple[str, ...]
    mode: Mode = Mode.MULTICLASS
    levels: tuple[Prediction, ...] = ()

    @property
    def label(self) -> str | None:
        """The answer's first label; None for "unknown"."""
        return self.labels[0] if self.labels else None

    @property
    def score(self) -> float:
        """The score of ``label``; of the best guess where there is none."""
        return (self.levels[-1] if self.levels else self.predictions[0]).score
