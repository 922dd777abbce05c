"""Evaluation: datasets, metrics, robustness, reports, and what two runs differ in.

It needs scikit-learn, SciPy and matplotlib: pip install 'zeroshot[evaluate]'.
"""
