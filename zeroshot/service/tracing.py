"""OpenTelemetry spans of requests and their stages; OpenTelemetry is optional."""

from __future__ import annotations

import time
from typing import Any

from zeroshot.optional import require
from zeroshot.service.context import RequestContext


class Tracing:
    """Spans for what has happened, from the times that were measured anyway.

    The exporter is configured as OpenTelemetry's own variables say: ``OTEL_EXPORTER_OTLP_ENDPOINT``,
    ``OTEL_SERVICE_NAME``...
    """

    def __init__(self, provider: Any = None) -> None:
        self._trace = require("opentelemetry.trace", "tracing")
        self._propagate = require("opentelemetry.propagate", "tracing")
        self._provider = provider or _exporting_provider()
        self._tracer = self._provider.get_tracer("zeroshot")

    def record(self, context: RequestContext, headers: dict[str, str], facts: dict[str, Any], took_s: float) -> None:
        """Make a span of a request that is done, and one of each of its stages."""
        end = time.time_ns()
        start = end - int(took_s * 1e9)
        epoch = end - time.monotonic_ns()
        span = self._tracer.start_span(
            f"{facts['method']} {facts['route']}",
            context=self._propagate.extract(headers),
            kind=self._trace.SpanKind.SERVER,
            start_time=start,
            attributes={
                "http.request.method": facts["method"],
                "http.route": facts["route"],
                "http.response.status_code": facts["status"],
                "zeroshot.request_id": context.id,
                "zeroshot.caller": context.caller,
            },
        )
        if facts["status"] >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        inside = self._trace.set_span_in_context(span)
        for stage, (began, ended) in context.stages.items():
            child = self._tracer.start_span(stage, context=inside, start_time=epoch + int(began * 1e9))
            child.end(epoch + int(ended * 1e9))
        span.end(end)

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def _exporting_provider() -> Any:
    sdk, export = require("opentelemetry.sdk.trace", "tracing"), require("opentelemetry.sdk.trace.export", "tracing")
    resource = require("opentelemetry.sdk.resources", "tracing").Resource.create({"service.name": "zeroshot"})
    exporter = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", "tracing").OTLPSpanExporter()
    provider = sdk.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    return provider
