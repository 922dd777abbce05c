"""Galleries: stored vectors that answer "which images look like this one", "... like this sentence"."""

from zeroshot.gallery.catalog import GallerySummary, delete_gallery, gallery_names, summarise
from zeroshot.gallery.filters import Filter
from zeroshot.gallery.gallery import Gallery
from zeroshot.gallery.types import Hit, Item, LabelCount, Query, Statistics, Verification

__all__ = [
    "Filter",
    "Gallery",
    "GallerySummary",
    "Hit",
    "Item",
    "LabelCount",
    "Query",
    "Statistics",
    "Verification",
    "delete_gallery",
    "gallery_names",
    "summarise",
]
