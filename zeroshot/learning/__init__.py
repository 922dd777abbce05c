"""What labelled and unlabelled images add to a label set: calibration, heads, pseudo-labels, clusters.

Each function takes images, a label set and a classifier, and returns a new label set and a report; nothing is stored.
All but ``calibrate`` need scikit-learn and SciPy: pip install 'zeroshot[learn]'.
"""

from zeroshot.learning.calibrate import CalibrationReport, Quality, ThresholdQuality, calibrate
from zeroshot.learning.cluster import ClusterReport, Clusters, cluster
from zeroshot.learning.diagram import reliability_diagram
from zeroshot.learning.fit import FitReport, fit

__all__ = [
    "CalibrationReport",
    "ClusterReport",
    "Clusters",
    "FitReport",
    "Quality",
    "ThresholdQuality",
    "calibrate",
    "cluster",
    "fit",
    "reliability_diagram",
]
