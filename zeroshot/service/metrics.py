"""Prometheus metrics: each is named and described here alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from zeroshot.service.context import STAGES

if TYPE_CHECKING:
    from zeroshot.service.inference.pipeline import Pipeline

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PICTURES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
disable_created_metrics()  # type: ignore[no-untyped-call]  # a gauge for each counter that nobody needs
_REASONS = ("key", "rate", "host", "origin", "overload", "memory", "size")


class Metrics:
    """Counters and histograms of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "zeroshot_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "zeroshot_request_seconds",
            "Time from request to answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "zeroshot_stage_seconds",
            f"Time of each part of a request: {', '.join(STAGES)}.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "zeroshot_batch_pictures", "Pictures encoded together.", buckets=_PICTURES, registry=self.registry
        )
        self.pictures = Counter("zeroshot_pictures", "Pictures encoded.", registry=self.registry)
        self.refusals = Counter(
            "zeroshot_refusals",
            f"Requests refused before they were worked on: {', '.join(_REASONS)}.",
            ("reason",),
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.stage = {name: self.stages.labels(name) for name in STAGES}
        self._refused = {reason: self.refusals.labels(reason) for reason in _REASONS}

    def refused(self, reason: str) -> None:
        """Count a refusal."""
        self._refused[reason].inc()

    def watch(self, pipeline: Pipeline, galleries: Callable[[], dict[str, int]]) -> None:
        """Read the pipeline's and the galleries' state whenever the metrics are asked for."""
        self.registry.register(_State(pipeline, galleries))

    def render(self) -> bytes:
        """Give everything in Prometheus's text format."""
        return generate_latest(self.registry)


class _State:
    """Gauges that are looked up rather than counted."""

    def __init__(self, pipeline: Pipeline, galleries: Callable[[], dict[str, int]]) -> None:
        self._pipeline = pipeline
        self._galleries = galleries

    def collect(self) -> Iterator[Metric]:
        batcher, cache = self._pipeline.batcher, self._pipeline.classifier.cache
        yield GaugeMetricFamily("zeroshot_in_flight", "Pictures being worked on.", self._pipeline.in_flight)
        yield GaugeMetricFamily("zeroshot_queue_depth", "Pictures waiting for the encoder.", batcher.waiting)
        yield GaugeMetricFamily("zeroshot_encoder_up", "1 while the encoder is healthy.", float(batcher.health == "ok"))
        yield CounterMetricFamily("zeroshot_encoder_restarts", "Encoder threads replaced.", batcher.restarts)
        if cache is not None:
            yield CounterMetricFamily("zeroshot_text_cache_hits", "Labels found embedded.", cache.hits)
            yield CounterMetricFamily("zeroshot_text_cache_misses", "Labels that had to be embedded.", cache.misses)
        sizes = GaugeMetricFamily("zeroshot_gallery_items", "Items of each open gallery.", labels=("gallery",))
        for name, count in self._galleries().items():
            sizes.add_metric((name,), count)
        yield sizes

    def describe(self) -> Iterator[Metric]:
        return iter(())
