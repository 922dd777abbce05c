"""The application: its parts put together.

request -> RequestLog -> (CORS) -> Auth -> Limits -> route -> Pipeline -> encoder
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from zeroshot import __version__
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.cpu import available_cpus
from zeroshot.images.download import AddressPolicy, Downloader
from zeroshot.labels import LabelSetFile, LabelSetStore
from zeroshot.service import problems
from zeroshot.service.compat import hugging_face, openai, roboflow
from zeroshot.service.config import ServiceConfig
from zeroshot.service.gallery_pool import GalleryPool
from zeroshot.service.inference.pipeline import Pipeline
from zeroshot.service.inference.watchdog import Watchdog
from zeroshot.service.metrics import Metrics
from zeroshot.service.middleware.auth import Auth
from zeroshot.service.middleware.limits import Limits
from zeroshot.service.middleware.request_log import RequestLog
from zeroshot.service.openapi import document
from zeroshot.service.routes import classify, galleries, health, label_sets
from zeroshot.service.schemas import classify as classify_schemas
from zeroshot.service.schemas import galleries as gallery_schemas
from zeroshot.service.schemas import label_sets as label_set_schemas
from zeroshot.service.state import ServiceState, StateCollector

_ROUTERS = (
    classify.router, label_sets.router, galleries.router, openai.router, hugging_face.router, roboflow.router,
    health.router,
)  # fmt: skip
_BODIES = (
    classify_schemas.ClassifyRequest, classify_schemas.Question, classify_schemas.StreamLine,
    classify_schemas.StreamAnswer, openai.EmbeddingRequest, hugging_face.HuggingFaceRequest, roboflow.RoboflowImages,
    roboflow.RoboflowTexts, roboflow.RoboflowComparison, LabelSetFile, label_set_schemas.LabelSetOptions,
    label_set_schemas.NewLabels, label_set_schemas.CopyRequest, gallery_schemas.NewGallery, gallery_schemas.NewItems,
    gallery_schemas.NewItem, gallery_schemas.RelabelRequest, gallery_schemas.SearchRequest,
)  # fmt: skip


def create_app(
    classifier: ZeroShotClassifier,
    home: Path,
    config: ServiceConfig | None = None,
    download: Downloader | None = None,
) -> FastAPI:
    """Build the service around a loaded classifier.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Answers every request.
    home : Path
        ZEROSHOT_HOME, where galleries and label sets are.
    config : ServiceConfig or None
        Bounds and guards; the defaults when None.
    download : Downloader or None
        Fetches images that are given as URLs; made from the configuration when None.

    Returns
    -------
    FastAPI
        The ASGI application. Its lifespan warms the encoder up, and at the end answers what was accepted.
    """
    config = config or ServiceConfig()
    limits = classifier.limits
    if download is None and config.url_hosts:
        download = Downloader(limits.max_bytes, config.url_timeout_s, AddressPolicy(config.url_hosts))
    metrics, store = Metrics(), LabelSetStore(home)
    pipeline = Pipeline(classifier, store, config, metrics, download)
    pool = GalleryPool(home, pipeline.classifier.encoder, limits=pipeline.limits, cache=classifier.cache)
    app = FastAPIOffline(  # its /docs page needs no CDN
        title="zeroshot",
        version=__version__,
        summary="Zero-shot image classification: classes are text, so a new one needs no training.",
        lifespan=_lifespan,
    )
    app.state.service = ServiceState(
        config=config,
        pipeline=pipeline,
        label_sets=store,
        galleries=pool,
        metrics=metrics,
        gallery_threads=CapacityLimiter(available_cpus() + 2),
        whole_gallery_threads=CapacityLimiter(1),
        label_set_threads=CapacityLimiter(4),
        started=int(time.time()),
    )
    metrics.registry.register(StateCollector(app.state.service))
    problems.install(app)
    for router in _ROUTERS:
        app.include_router(router)
    document(app, _BODIES)
    app.add_middleware(Limits, config=config, pipeline=pipeline, metrics=metrics)  # the last added is the outermost
    app.add_middleware(Auth, config=config, metrics=metrics)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=config.cors_origins, allow_methods=["*"], allow_headers=["*"], max_age=3600
        )
    app.add_middleware(RequestLog, config=config, metrics=metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: ServiceState = app.state.service
    watchdog = Watchdog([state.pipeline.batcher, state.pipeline.texts], state.config)
    await run_sync(state.pipeline.warm_up)
    watchdog.start()
    yield
    watchdog.close()
    await run_sync(state.galleries.close)
    await run_sync(state.pipeline.close)
    if state.config.tracing is not None:
        await run_sync(state.config.tracing.close)
