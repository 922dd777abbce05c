"""Evaluation: datasets, metrics, robustness, reports, and what two runs differ in.

It needs scikit-learn, SciPy and matplotlib: pip install 'zeroshot[evaluate]'.
"""

from zeroshot.datasets import Dataset, Problem, Sample, open_dataset
from zeroshot.evaluate.comparing import compare
from zeroshot.evaluate.evaluation import Evaluation
from zeroshot.evaluate.reports import write_report
from zeroshot.evaluate.retrieving import retrieve
from zeroshot.evaluate.robustness import measure_robustness
from zeroshot.evaluate.running import Run
from zeroshot.evaluate.tally import Result
from zeroshot.evaluate.vectors import VectorStore

__all__ = [
    "Dataset",
    "Evaluation",
    "Problem",
    "Result",
    "Run",
    "Sample",
    "VectorStore",
    "compare",
    "measure_robustness",
    "open_dataset",
    "retrieve",
    "write_report",
]
