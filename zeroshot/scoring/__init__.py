"""From similarities to answers: multiclass, binary, multilabel and hierarchical."""

from zeroshot.scoring.base import Scorer, Scores, softmax
from zeroshot.scoring.options import ScoringOptions
from zeroshot.scoring.results import Classification, Prediction

__all__ = [
    "Classification",
    "Prediction",
    "Scorer",
    "Scores",
    "ScoringOptions",
    "softmax",
]
