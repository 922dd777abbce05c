"""The FastAPI application: routes, and nothing that a route calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from PIL import Image

from zeroshot import __version__
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.cores import available_cores
from zeroshot.labels import LabelSetStore
from zeroshot.service import problems
from zeroshot.service.galleries import closing, gallery_routes
from zeroshot.service.gallery_schemas import NewGallery, NewItems, RelabelRequest, SearchRequest
from zeroshot.service.open_galleries import OpenGalleries
from zeroshot.service.requests import BodyLimit, read_classify_job
from zeroshot.service.schemas import MULTIPART_SCHEMA, ClassifyRequest, ClassifyResponse, Health

_PROBLEM: dict[str, Any] = {
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/ClassifyRequest"}},
            "multipart/form-data": {"schema": MULTIPART_SCHEMA},
        },
    }
}


def create_app(classifier: ZeroShotClassifier, home: Path) -> FastAPI:
    """Build the service around a loaded classifier.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Answers every request.
    home : Path
        ZEROSHOT_HOME, where galleries and label sets are.

    Returns
    -------
    FastAPI
        The ASGI application.
    """
    galleries = OpenGalleries(home, classifier)
    label_sets = LabelSetStore(home)
    app = FastAPIOffline(  # its /docs page needs no CDN
        title="zeroshot",
        version=__version__,
        summary="Zero-shot image classification: classes are text, so a new one needs no training.",
        lifespan=closing(galleries),
    )
    app.add_middleware(BodyLimit, max_image_bytes=classifier.limits.max_bytes)
    problems.install(app)
    model = classifier.encoder.spec
    slots = anyio.CapacityLimiter(available_cores())  # pictures decoded at once; bounds memory

    @app.post(
        "/v1/classify",
        response_model=ClassifyResponse,
        response_model_exclude_none=True,
        tags=["classify"],
        summary="Rank labels for one picture",
        openapi_extra=_BODY,
        responses={
            400: {"description": "Malformed body", **_PROBLEM},
            404: {"description": "Unknown label set or template set", **_PROBLEM},
            413: {"description": "The picture or the body is too large", **_PROBLEM},
            415: {"description": "Neither JSON nor multipart", **_PROBLEM},
            422: {"description": "The picture or the labels cannot be used", **_PROBLEM},
        },
    )
    async def classify(request: Request) -> ClassifyResponse:
        job = await read_classify_job(request, classifier.limits.max_bytes, label_sets)

        def run() -> ClassifyResponse:
            answer = classifier.classify(
                job.image,
                job.labels,
                templates=job.templates,
                top_k=job.top_k,
                mode=job.wishes.mode,
                threshold=job.wishes.threshold,
                temperature=job.wishes.temperature,
            )
            return ClassifyResponse.of(answer, job.labels, model)

        return await run_sync(run, limiter=slots)

    @app.get("/healthz", response_model=Health, tags=["health"], summary="The process is alive")
    async def healthz() -> Health:
        return Health(status="ok")

    @app.get(
        "/readyz",
        response_model=Health,
        tags=["health"],
        summary="A picture has just been encoded",
        responses={500: {"description": "The encoder fails", **_PROBLEM}},
    )
    async def readyz() -> Health:
        await run_sync(lambda: classifier.encoder.encode_images([Image.new("RGB", (8, 8))]), limiter=slots)
        return Health(status="ready")

    app.include_router(gallery_routes(galleries, label_sets, slots, classifier.limits.max_bytes))
    _document_bodies(app)
    return app


def _document_bodies(app: FastAPI) -> None:
    """Add to the OpenAPI document the schemas that only ``openapi_extra`` mentions."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for schema in (ClassifyRequest, NewGallery, NewItems, RelabelRequest, SearchRequest, problems.Problem):
            own = schema.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(own.pop("$defs", {}))
            schemas[schema.__name__] = own
        return document

    app.openapi = openapi  # type: ignore[method-assign]
