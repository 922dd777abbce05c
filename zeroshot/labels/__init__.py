"""Labels, label sets, and the class matrix: one unit vector per label."""

from zeroshot.labels.class_matrix import class_matrix
from zeroshot.labels.files import LabelSetFile, label_set_names, load_label_set
from zeroshot.labels.finding import find_label_set
from zeroshot.labels.head import Head, Measured
from zeroshot.labels.hierarchy import Hierarchy
from zeroshot.labels.label import Label, parse_labels
from zeroshot.labels.label_set import Calibration, Labels, LabelSet, Mode, as_label_set
from zeroshot.labels.store import LabelSetStore
from zeroshot.labels.versions import Change, StoredLabelSet

__all__ = [
    "Calibration",
    "Change",
    "Head",
    "Hierarchy",
    "Label",
    "LabelSet",
    "LabelSetFile",
    "LabelSetStore",
    "Labels",
    "Measured",
    "Mode",
    "StoredLabelSet",
    "as_label_set",
    "class_matrix",
    "find_label_set",
    "label_set_names",
    "load_label_set",
    "parse_labels",
]
