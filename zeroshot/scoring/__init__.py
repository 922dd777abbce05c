"""From similarities to answers: multiclass, binary, multilabel and hierarchical."""

from zeroshot.scoring.answers import Classification, Prediction
from zeroshot.scoring.asking import Wishes, build_scorer, to_mode
from zeroshot.scoring.base import Scorer, Scores
from zeroshot.scoring.multiclass import softmax
from zeroshot.scoring.scorers import Scorers

__all__ = [
    "Classification",
    "Prediction",
    "Scorer",
    "Scorers",
    "Scores",
    "Wishes",
    "build_scorer",
    "softmax",
    "to_mode",
]
