"""What labelled and unlabelled pictures add: calibration, heads, propagated labels, clusters.

These modules need scikit-learn and SciPy (calibration alone does not): pip install 'zeroshot[learn]'.
"""
