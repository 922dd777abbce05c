"""The routes that say how the server is."""

from __future__ import annotations

from anyio.to_thread import run_sync
from fastapi import APIRouter, Response

from zeroshot.service.documents import problems
from zeroshot.service.metrics import Metrics
from zeroshot.service.pipeline import Pipeline
from zeroshot.service.schemas import Health


def health_routes(pipeline: Pipeline, metrics: Metrics) -> APIRouter:
    """Build the routes."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="The process is alive")
    async def healthz() -> Health:
        return Health(status="ok")

    @router.get("/readyz", summary="A picture has just been encoded", responses=problems(503))
    async def readyz() -> Health:
        await pipeline.probe()
        return Health(status="ready")

    @router.get(
        "/metrics",
        summary="Metrics in Prometheus's text format",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
    )
    async def show_metrics() -> Response:
        return Response(await run_sync(metrics.render), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
