"""Prometheus metrics that are counted and timed; those that are looked up are in ``state``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from zeroshot.service.context import STAGES

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
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
            "zeroshot_batch_images", "Images encoded together.", buckets=_IMAGES, registry=self.registry
        )
        self.images = Counter("zeroshot_images", "Images encoded.", registry=self.registry)
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

    def render(self) -> bytes:
        """Give everything in Prometheus's text format."""
        return generate_latest(self.registry)
