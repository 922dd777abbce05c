"""From similarities to answers: multiclass, binary, multilabel and hierarchical."""

from zeroshot.scoring.base import Scorer, Scores, softmax
from zeroshot.scoring.build import Scorers, build_scorer
from zeroshot.scoring.multilabel import PresenceScorer
from zeroshot.scoring.options import ScoringOptions, to_mode
from zeroshot.scoring.results import Classification, Prediction

__all__ = [
    "Classification",
    "Prediction",
    "PresenceScorer",
    "Scorer",
    "Scorers",
    "Scores",
    "ScoringOptions",
    "build_scorer",
    "softmax",
    "to_mode",
]
