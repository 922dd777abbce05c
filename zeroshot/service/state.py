"""What routes share: ``request.app.state.service``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from anyio import CapacityLimiter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

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


class StateCollector:
    """Prometheus metrics that are looked up when they are asked for."""

    def __init__(self, state: ServiceState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Give their values now."""
        pipeline = self._state.pipeline
        batcher, cache = pipeline.batcher, pipeline.classifier.cache
        yield GaugeMetricFamily("zeroshot_in_flight", "Images being worked on.", pipeline.in_flight)
        yield GaugeMetricFamily("zeroshot_queue_depth", "Images waiting for the encoder.", batcher.waiting)
        yield GaugeMetricFamily("zeroshot_encoder_up", "1 while the encoder is healthy.", float(batcher.health == "ok"))
        yield CounterMetricFamily("zeroshot_encoder_restarts", "Encoder threads replaced.", batcher.restarts)
        if cache is not None:
            yield CounterMetricFamily("zeroshot_text_cache_hits", "Labels found embedded.", cache.hits)
            yield CounterMetricFamily("zeroshot_text_cache_misses", "Labels that had to be embedded.", cache.misses)
        sizes = GaugeMetricFamily("zeroshot_gallery_items", "Items of each open gallery.", labels=("gallery",))
        for name, count in self._state.galleries.counts().items():
            sizes.add_metric((name,), count)
        yield sizes

    def describe(self) -> Iterator[Metric]:
        """Give none: Prometheus's client asks at registration, before there is anything."""
        return iter(())
