"""What routes share: ``request.app.state.service``."""

from __future__ import annotations

from dataclasses import dataclass

from anyio import CapacityLimiter

from zeroshot.labels import LabelSetStore
from zeroshot.service.config import ServiceConfig
from zeroshot.service.gallery_pool import GalleryPool
from zeroshot.service.inference.pipeline import Pipeline
from zeroshot.service.metrics import Metrics


@dataclass(frozen=True, eq=False)
class ServiceState:
    """The parts of one running service, and how many threads galleries and label sets may take from the others."""

    config: ServiceConfig
    pipeline: Pipeline
    label_sets: LabelSetStore
    galleries: GalleryPool
    metrics: Metrics
    gallery_threads: CapacityLimiter
    whole_gallery_threads: CapacityLimiter
    label_set_threads: CapacityLimiter
    started: int
    """Unix time."""
