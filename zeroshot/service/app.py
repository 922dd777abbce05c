"""The application: what it is made of, and nothing that a part does.

request -> Observing -> (CORS) -> Access -> Gate -> route -> Pipeline -> encoder
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from zeroshot import __version__
from zeroshot.classifier import ZeroShotClassifier
from zeroshot.cpu import available_cpus
from zeroshot.labels import LabelSetFile, LabelSetStore
from zeroshot.service import gallery_schemas, label_set_schemas, problems
from zeroshot.service.access import Access
from zeroshot.service.classifying import classify_routes
from zeroshot.service.documents import document
from zeroshot.service.embedding import EmbeddingRequest, embedding_routes
from zeroshot.service.galleries import gallery_routes
from zeroshot.service.gate import Gate
from zeroshot.service.health import health_routes
from zeroshot.service.hugging_face import HuggingFaceRequest, hugging_face_routes
from zeroshot.service.keys import ApiKeys, RateLimit
from zeroshot.service.label_sets import label_set_routes
from zeroshot.service.metrics import Metrics
from zeroshot.service.observing import Observing
from zeroshot.service.open_galleries import OpenGalleries
from zeroshot.service.pipeline import Pipeline
from zeroshot.service.questions import Questions
from zeroshot.service.queued_encoder import QueuedEncoder
from zeroshot.service.remote import RemotePictures
from zeroshot.service.roboflow import RoboflowComparison, RoboflowImages, RoboflowTexts, roboflow_routes
from zeroshot.service.schemas import ClassifyRequest, Question, StreamAnswer, StreamLine
from zeroshot.service.tracing import Tracing
from zeroshot.service.watchdog import Watchdog, end_process

_BODIES = (
    ClassifyRequest, Question, StreamLine, StreamAnswer, EmbeddingRequest, HuggingFaceRequest, RoboflowImages,
    RoboflowTexts, RoboflowComparison, LabelSetFile, label_set_schemas.LabelSetOptions, label_set_schemas.NewLabels,
    label_set_schemas.CopyRequest, gallery_schemas.NewGallery, gallery_schemas.NewItems, gallery_schemas.NewItem,
    gallery_schemas.RelabelRequest, gallery_schemas.SearchRequest,
)  # fmt: skip


@dataclass(frozen=True)
class ServiceOptions:
    """How the service is bounded and guarded.

    Parameters
    ----------
    keys : ApiKeys
        Whose requests are accepted; with none everybody's are.
    hosts : tuple of str
        Names that the header ``Host`` may have; any where it is empty.
    origins : tuple of str
        Origins of web pages that may ask.
    rate_per_minute : int
        Requests of each caller; 0 is no limit.
    url_hosts : tuple of str
        Hosts that pictures are fetched from; none where it is empty.
    url_timeout_s : float
        Most seconds to fetch one.
    max_batch : int
        Most pictures encoded at once.
    max_in_flight : int
        Most pictures that are being worked on.
    max_images : int
        Most pictures in a request that is no stream.
    max_bytes_in_flight : int
        Most bytes of all bodies that are being worked on.
    decode_threads : int
        Pictures decoded at once; 0 is one per core.
    timeout_s : float
        Most seconds a request may take.
    stall_s : float
        Seconds after which a running batch counts as stalled.
    tracing : Tracing or None
        Makes spans.
    end : callable
        Ends the process when the encoder does not recover.
    """

    keys: ApiKeys = field(default_factory=ApiKeys)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    rate_per_minute: int = 0
    url_hosts: tuple[str, ...] = ()
    url_timeout_s: float = 10.0
    max_batch: int = 16
    max_in_flight: int = 128
    max_images: int = 64
    max_bytes_in_flight: int = 512 * 2**20
    decode_threads: int = 0
    timeout_s: float = 30.0
    stall_s: float = 8.0
    tracing: Tracing | None = None
    end: Callable[[], None] = end_process


def create_app(
    classifier: ZeroShotClassifier,
    home: Path,
    options: ServiceOptions | None = None,
    remote: RemotePictures | None = None,
) -> FastAPI:
    """Build the service around a loaded classifier.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Answers every request.
    home : Path
        ZEROSHOT_HOME, where galleries and label sets are.
    options : ServiceOptions or None
        Bounds and guards; the defaults when None.
    remote : RemotePictures or None
        Fetches pictures; made from the options when None.

    Returns
    -------
    FastAPI
        The ASGI application. Its lifespan warms the encoder up, and at the end answers what was accepted.
    """
    options = options or ServiceOptions()
    limits = classifier.limits
    if remote is None and options.url_hosts:
        remote = RemotePictures(options.url_hosts, limits.max_bytes, options.url_timeout_s)
    metrics = Metrics()
    pipeline = Pipeline(
        classifier,
        remote=remote,
        max_batch=options.max_batch,
        max_in_flight=options.max_in_flight,
        decode_threads=options.decode_threads,
        stall_s=options.stall_s,
        on_batch=metrics.batch_done,
        on_refusal=lambda: metrics.refused("overload"),
    )
    watchdog = Watchdog(pipeline.batcher, end=options.end)
    label_sets = LabelSetStore(home)
    questions = Questions(label_sets, pipeline)
    galleries = OpenGalleries(home, QueuedEncoder(pipeline), limits=limits, cache=classifier.cache)
    metrics.watch(pipeline, galleries.counts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_sync(pipeline.warm_up)
        watchdog.start()
        yield
        watchdog.close()
        await run_sync(galleries.close)
        await run_sync(pipeline.close)
        if options.tracing is not None:
            await run_sync(options.tracing.close)

    app = FastAPIOffline(  # its /docs page needs no CDN
        title="zeroshot",
        version=__version__,
        summary="Zero-shot image classification: classes are text, so a new one needs no training.",
        lifespan=lifespan,
    )
    problems.install(app)
    slots = anyio.CapacityLimiter(available_cpus() + 2)  # what galleries do at once
    app.include_router(classify_routes(pipeline, questions, max_images=options.max_images, timeout_s=options.timeout_s))
    app.include_router(label_set_routes(label_sets))
    app.include_router(gallery_routes(galleries, questions, slots, limits.max_bytes))
    app.include_router(embedding_routes(pipeline, max_images=options.max_images))
    app.include_router(hugging_face_routes(pipeline, questions))
    app.include_router(roboflow_routes(pipeline, max_images=options.max_images))
    app.include_router(health_routes(pipeline, metrics))
    document(app, _BODIES)

    app.add_middleware(  # the last one added is the outermost
        Gate,
        max_image_bytes=limits.max_bytes,
        max_bytes_in_flight=options.max_bytes_in_flight,
        max_requests=2 * options.max_in_flight + 64,
        timeout_s=options.timeout_s,
        retry_after_s=lambda: 0.0 if pipeline.in_flight < pipeline.max_in_flight else pipeline.retry_after_s,
        metrics=metrics,
    )
    app.add_middleware(
        Access,
        keys=options.keys,
        hosts=options.hosts,
        origins=options.origins,
        rate=RateLimit(options.rate_per_minute) if options.rate_per_minute else None,
        metrics=metrics,
    )
    if options.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=options.origins, allow_methods=["*"], allow_headers=["*"], max_age=3600
        )
    app.add_middleware(Observing, metrics=metrics, timeout_s=options.timeout_s, tracing=options.tracing)
    app.state.pipeline = pipeline
    return app
