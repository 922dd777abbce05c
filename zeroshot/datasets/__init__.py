"""Labelled pictures from wherever they are: folders, tables, shards, torchvision, Hugging Face, scikit-learn."""

from zeroshot.datasets.base import Dataset, Problem, Sample
from zeroshot.datasets.files import IMAGE_SUFFIXES, image_files
from zeroshot.datasets.open import dataset_names, open_dataset

__all__ = ["IMAGE_SUFFIXES", "Dataset", "Problem", "Sample", "dataset_names", "image_files", "open_dataset"]
