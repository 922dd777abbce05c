"""Evaluation: metrics, robustness, reports, prompt tuning, and what two runs differ in.

It needs scikit-learn, SciPy and matplotlib: pip install 'zeroshot[evaluate]'.
"""

from zeroshot.evaluate.compare import compare
from zeroshot.evaluate.evaluation import evaluate_dataset
from zeroshot.evaluate.reports import write_report
from zeroshot.evaluate.result import Evaluation, Result
from zeroshot.evaluate.robustness import measure_robustness
from zeroshot.evaluate.run import Run
from zeroshot.evaluate.vector_cache import VectorCache

__all__ = [
    "Evaluation",
    "Result",
    "Run",
    "VectorCache",
    "compare",
    "evaluate_dataset",
    "measure_robustness",
    "write_report",
]
