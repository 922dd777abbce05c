"""Labelled images from wherever they are: folders, tables, shards, torchvision, Hugging Face, scikit-learn."""

from zeroshot.datasets.base import Dataset, Problem, Sample
from zeroshot.datasets.open import dataset_names, open_dataset

__all__ = ["Dataset", "Problem", "Sample", "dataset_names", "open_dataset"]
