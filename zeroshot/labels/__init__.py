"""Labels, label sets, and the class matrix: one unit vector per label."""

from zeroshot.labels.class_matrix import ClassMatrices, choose_templates, class_matrix, embed_reference
from zeroshot.labels.clusters import ClusterEntry, ClusterFile, VectorFile, name_clusters
from zeroshot.labels.distinct import emit_warnings, label_warnings, name_warnings, text_warnings
from zeroshot.labels.exporting import check_yaml, export_label_set, to_yaml
from zeroshot.labels.files import LabelEntry, LabelSetFile, label_set_names, load_label_set
from zeroshot.labels.finding import find_label_set
from zeroshot.labels.head import Head, Measured
from zeroshot.labels.hierarchy import Hierarchy
from zeroshot.labels.label import Label, parse_labels, require
from zeroshot.labels.label_set import Calibration, Labels, LabelSet, Mode, as_label_set
from zeroshot.labels.store import LabelSetStore
from zeroshot.labels.versions import Change, StoredLabelSet

__all__ = [
    "Calibration",
    "Change",
    "ClassMatrices",
    "ClusterEntry",
    "ClusterFile",
    "Head",
    "Hierarchy",
    "Label",
    "LabelEntry",
    "LabelSet",
    "LabelSetFile",
    "LabelSetStore",
    "Labels",
    "Measured",
    "Mode",
    "StoredLabelSet",
    "VectorFile",
    "as_label_set",
    "check_yaml",
    "choose_templates",
    "class_matrix",
    "embed_reference",
    "export_label_set",
    "find_label_set",
    "label_warnings",
    "name_clusters",
    "name_warnings",
    "label_set_names",
    "load_label_set",
    "parse_labels",
    "require",
    "emit_warnings",
    "text_warnings",
    "to_yaml",
]
