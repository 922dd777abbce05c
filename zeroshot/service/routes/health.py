"""The routes for operators: liveness, readiness, metrics."""

from __future__ import annotations

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from zeroshot.service.openapi import problems
from zeroshot.service.schemas.classify import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process is alive")
async def healthz() -> Health:
    return Health(status="ok")


@router.get("/readyz", summary="An image has just been encoded", responses=problems(503))
async def readyz(request: Request) -> Health:
    await request.app.state.service.pipeline.probe()
    return Health(status="ready")


@router.get(
    "/metrics",
    summary="Metrics in Prometheus's text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
)
async def show_metrics(request: Request) -> Response:
    content = await run_sync(request.app.state.service.metrics.render)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")
