"""From an image to its vector, and from labels to the scorer that ranks them, off the event loop.

source --decoding thread--> pixels --encoder thread--> vector      labels, texts --text worker--> scorer, vectors

An image goes from thread to thread by itself and wakes the event loop once, with its vector or its error. Images are
decoded in a bounded pool and encoded by one thread (``batcher``). What is in flight is bounded as a whole: beyond that
the answer is "overloaded", at once. Every route that takes an image or a text goes through here.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard, TypeVar

import numpy as np
from anyio.to_thread import run_sync
from PIL import Image

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.cpu import available_cpus
from zeroshot.encoders import FloatArray
from zeroshot.errors import DeadlineExceeded, ImageError, ModelError, Overloaded, WorkerLost, ZeroshotError
from zeroshot.images import load
from zeroshot.images.download import Downloader
from zeroshot.images.loading import decode_base64, is_url
from zeroshot.labels import LabelSet, LabelSetStore, as_label_set, find_label_set, label_set_names
from zeroshot.labels.class_matrix import Admitting, text_cost
from zeroshot.labels.distinct import text_warnings
from zeroshot.labels.files import LabelEntry
from zeroshot.prompts import TemplateSet, load_templates
from zeroshot.scoring import Scorer, ScoringOptions
from zeroshot.service.config import ServiceConfig
from zeroshot.service.context import RequestContext, current
from zeroshot.service.inference.batcher import Batcher, BatchReport, Job
from zeroshot.service.inference.queued_encoder import QueuedEncoder
from zeroshot.service.inference.text_worker import TextWorker
from zeroshot.service.metrics import Metrics
from zeroshot.service.problems import RequestError

ResultT = TypeVar("ResultT")
GivenLabels = Sequence[str | LabelEntry]
"""Labels as they come over HTTP."""

_PROBE = Image.new("RGB", (8, 8), (200, 60, 60))
_PREPARED_KEPT = 32
_TEXTS_KEPT_AT_ONCE = 256  # in the cache, so that a request that is sent again goes on where it was
_PREPARED_CHARS = 2**20  # of one list of labels that is kept


class Prepared(NamedTuple):
    """Labels, and what scores images under them."""

    labels: LabelSet
    scorer: Scorer


class Pipeline:
    """Everything between a request and the encoder."""

    def __init__(
        self,
        classifier: ZeroShotClassifier,
        label_sets: LabelSetStore,
        config: ServiceConfig,
        metrics: Metrics,
        download: Downloader | None = None,
    ) -> None:
        self.texts = TextWorker(classifier.encoder, config)
        self.classifier = ZeroShotClassifier(
            QueuedEncoder(classifier.encoder, self.texts), limits=classifier.limits, cache=classifier.cache
        )
        self.limits = replace(classifier.limits, allow_urls=False)  # URLs are for `download`, which has a policy
        self.label_sets = label_sets
        self.config = config
        self.metrics = metrics
        self.download = download
        self.max_in_flight = config.max_in_flight
        self.in_flight = 0
        self._more_in_flight = 0  # of requests of several images, beyond the first
        self.batcher = Batcher(classifier.encoder, config, self._on_batch)
        self._decoders = ThreadPoolExecutor(config.decode_threads or available_cpus(), "zeroshot-decode")
        self._fetchers = ThreadPoolExecutor(config.fetch_threads, "zeroshot-fetch")
        self._preparers = ThreadPoolExecutor(config.text_requests, "zeroshot-text")  # they wait for the text worker
        self._building: dict[object, asyncio.Future[None]] = {}
        self._shipped = frozenset(label_set_names())
        self._prepared: OrderedDict[object, Prepared] = OrderedDict()
        self._probe: tuple[float, Future[FloatArray]] | None = None
        self._text_probe: Future[FloatArray] = Future()

    @contextmanager
    def admitted(self, more: int) -> Iterator[None]:
        """Hold places for a request's images beyond the first, which `Limits` holds a place for.

        They are counted apart: requests that each hold one place and ask for more must not all refuse each other.
        """
        if self._more_in_flight + more >= self.max_in_flight:
            self.metrics.refused("overload")
            raise Overloaded(
                f"{self.in_flight} images are in flight, of {self.max_in_flight} at most.",
                "Try again later." if more < self.max_in_flight else "Send fewer images at once.",
                retry_after_s=self.retry_after_s,
            )
        self.in_flight += more
        self._more_in_flight += more
        try:
            yield
        finally:
            self.in_flight -= more
            self._more_in_flight -= more

    @property
    def retry_after_s(self) -> float:
        """When it is worth trying again: when what is in flight will be done."""
        return max(1.0, self.in_flight * self.batcher.image_s)

    async def embed(self, source: str | bytes) -> FloatArray:
        """Decode and encode one image: its bytes, base64, a data URI, or a URL."""
        context = current.get()
        if self.download is not None and isinstance(source, str) and is_url(source):
            start, loop = time.monotonic(), asyncio.get_running_loop()
            source = await loop.run_in_executor(self._fetchers, self.download.fetch, source, context.deadline)
            context.add("fetch", start, time.monotonic())
        outcome: Future[FloatArray] = Future()
        jobs: list[Job] = []
        self._decoders.submit(self._decode, source, outcome, context.deadline, jobs)
        try:
            return await asyncio.wrap_future(outcome)
        finally:
            for job in jobs:
                context.add("decode", job.begun, job.arrived)
                if job.started:
                    context.add("queue", job.arrived, job.started)
                if job.ended:
                    context.add("encode", job.started, job.ended)
            del outcome, jobs  # an error's traceback keeps this frame, which must not keep the error: a cycle

    async def embed_each(self, sources: Sequence[str | bytes], *, at_once: int) -> list[FloatArray | ZeroshotError]:
        """Embed images, some at once; one that cannot be used gives its error."""
        places = asyncio.Semaphore(at_once)

        async def embed_one(source: str | bytes) -> FloatArray | ZeroshotError:
            async with places:
                try:
                    return await self.embed(source)
                except (ImageError, ModelError) as error:
                    return error

        with self.admitted(max(0, min(at_once, len(sources)) - 1)):
            return await gather(embed_one(source) for source in sources)

    async def embed_images(self, sources: Sequence[str | bytes]) -> FloatArray:
        """Embed n images at once: (n, dim); the first that cannot be used is raised."""
        current.get().images += len(sources)
        with self.admitted(max(0, len(sources) - 1)):
            return np.stack(await gather(self.embed(source) for source in sources))

    async def embed_texts(self, texts: Sequence[str]) -> tuple[FloatArray, tuple[str, ...]]:
        """Embed n texts as they are, through the text cache: (n, dim), and which of them have an end that is not read.

        The rows are the encoder's own, bit for bit, whether they come from the cache or not.
        """
        return await self.in_text_thread(self._embed_texts, texts)

    def _embed_texts(self, texts: Sequence[str]) -> tuple[FloatArray, tuple[str, ...]]:
        encoder, cache = self.classifier.encoder, self.classifier.cache
        keys = {f"text:{text}": text for text in texts}  # labels' keys are JSON lists
        rows = {} if cache is None else cache.get_many(encoder.fingerprint, list(keys))
        new = [(key, text) for key, text in keys.items() if key not in rows]
        if isinstance(encoder, Admitting):
            encoder.admit(text_cost(text for _, text in new))
        for start in range(0, len(new), _TEXTS_KEPT_AT_ONCE):
            part = dict(new[start : start + _TEXTS_KEPT_AT_ONCE])
            fresh = dict(zip(part, encoder.encode_texts(list(part.values())), strict=True))
            if cache is not None:
                cache.put_many(encoder.fingerprint, fresh)
            rows.update(fresh)
        return np.stack([rows[f"text:{text}"] for text in texts]), text_warnings(encoder, texts)

    async def prepare(
        self,
        labels: GivenLabels | None,
        label_set: str | None,
        templates: str | list[str] | None,
        options: ScoringOptions,
    ) -> Prepared:
        """Give the label set and the scorer of a request; labels that are new are embedded in the text thread.

        Plain lists and shipped sets that were asked about lately are found at once.
        """
        named = tuple(templates) if isinstance(templates, list) else templates
        key = None
        if label_set in self._shipped or (labels is not None and set(map(type, labels)) <= {str}):
            key = None if labels is None else tuple(labels), label_set, named, options
            if (known := self._prepared.get(key)) is not None:
                self._prepared.move_to_end(key)
                return known
        chosen = await self.label_set(labels, label_set)
        own = None if named is None else _templates(named)
        if len(chosen.labels) > self.config.few_labels:
            scorer = await run_sync(self._find_scorer, chosen, own, options)
        else:
            scorer = self._find_scorer(chosen, own, options)
        if scorer is None:
            scorer = await self._build_scorer(chosen, own, options)
        prepared = Prepared(chosen, scorer)
        if key is not None and sum(len(str(one)) for one in labels or ()) <= _PREPARED_CHARS:
            self._prepared[key] = prepared
            while len(self._prepared) > _PREPARED_KEPT:
                self._prepared.popitem(last=False)
        return prepared

    async def label_set(self, labels: GivenLabels | None, name: str | None) -> LabelSet:
        """Make a label set of labels, or find the one of that name."""
        if (labels is None) == (name is None):
            given = "neither" if labels is None else "both"
            raise RequestError(
                422, "invalid-request", f"'labels' or 'label_set' is needed; {given} was given.", "Give one of them.",
                "labels",
            )  # fmt: skip
        if name is not None:
            return await run_sync(lambda: find_label_set(name, self.label_sets, files=False))
        inline = labels or ()
        return _inline(inline) if len(inline) <= self.config.few_labels else await run_sync(_inline, inline)

    async def _build_scorer(self, chosen: LabelSet, own: TemplateSet | None, options: ScoringOptions) -> Scorer:
        """Embed labels, once however many requests have the same new ones at once."""
        place = chosen.digest, own
        while (building := self._building.get(place)) is not None:
            await asyncio.wait((building,))
            if (known := await run_sync(self._find_scorer, chosen, own, options)) is not None:
                return known
        done = self._building[place] = asyncio.get_running_loop().create_future()
        try:
            return await self.in_text_thread(self._scorer, chosen, own, options)
        finally:
            del self._building[place]
            done.set_result(None)

    def _find_scorer(self, labels: LabelSet, templates: TemplateSet | None, options: ScoringOptions) -> Scorer | None:
        return self.classifier.find_scorer(labels, templates=templates, options=options)

    def _scorer(self, labels: LabelSet, templates: TemplateSet | None, options: ScoringOptions) -> Scorer:
        """Without Python warnings: the answer has them."""
        return self.classifier.scorer(labels, templates=templates, options=options, on_warning=lambda _: None)

    async def in_text_thread(self, work: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Run what embeds texts, or tokenizes them, in a thread, as the request's stage "text", waiting included."""
        context, start = current.get(), time.monotonic()

        def run() -> ResultT:
            _check_time(context.deadline)
            try:
                return work(*arguments)
            finally:
                context.add("text", start, time.monotonic())

        return await asyncio.wrap_future(self._preparers.submit(copy_context().run, run))

    def _decode(self, source: str | bytes, outcome: Future[FloatArray], deadline: float, jobs: list[Job]) -> None:
        """In a decoding thread: whatever happens, `outcome` gets it; the job made of the image joins `jobs`."""
        if outcome.cancelled():
            return
        begun = time.monotonic()
        try:
            _check_time(deadline)
            preprocessing = self.classifier.encoder.preprocessing
            content = decode_base64(source) if is_base64(source) else source
            pixels = preprocessing(load(content, self.limits, enough=preprocessing.enough))
            job = Job(pixels, outcome, deadline, begun)
            jobs.append(job)
            self.batcher.submit(job)
        except BaseException as error:  # a decoder may raise anything; the request must not wait for ever
            if isinstance(error, ZeroshotError):
                _drop_frames(error)
            if not outcome.cancelled():
                outcome.set_exception(error)

    def _on_batch(self, report: BatchReport) -> None:
        """Count a batch; called in the encoder's thread, before the answers, so that /metrics includes them."""
        metrics = self.metrics
        metrics.batches.observe(report.size)
        metrics.images.inc(report.size)
        for waited in report.waited_s:
            metrics.stage["queue"].observe(waited)
        metrics.stage["encode"].observe(report.took_s)

    async def probe(self) -> None:
        """Encode a small image, before all that waits."""
        self._check_health()
        now, timeout_s = time.monotonic(), self.config.probe_timeout_s
        if self._probe is None or now - self._probe[0] > self.config.probe_every_s:
            future: Future[FloatArray] = Future()
            pixels = self.classifier.encoder.preprocessing(_PROBE)
            self.batcher.submit(Job(pixels, future, now + timeout_s), high_priority=True)
            self._probe = now, future
            context = RequestContext("-", now + timeout_s)
            self._text_probe = self.texts.submit(["a photo"], context, is_urgent=True)
        try:
            for probe in (self._probe[1], self._text_probe):
                left_s = self._probe[0] + timeout_s - now
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(probe)), max(0.0, left_s))
        except TimeoutError as error:
            self._check_health()
            raise WorkerLost(f"The encoder did not answer within {timeout_s:g} s.") from error

    def _check_health(self) -> None:
        for what, worker in (("encoder's", self.batcher), ("text encoder's", self.texts)):
            if (health := worker.health) != "ok":
                raise WorkerLost(f"The {what} thread is {health}.")

    def warm_up(self) -> None:
        """Encode images one by one and a batch, and a text, so that the first request finds everything loaded."""
        encoder = self.classifier.encoder
        pixels, deadline = encoder.preprocessing(_PROBE), time.monotonic() + self.config.warm_up_timeout_s
        for count in (1, 1, self.batcher.max_batch):
            futures: list[Future[FloatArray]] = [Future() for _ in range(count)]
            for future in futures:
                self.batcher.submit(Job(pixels, future, deadline), high_priority=True)
            for future in futures:
                future.result()
        context = RequestContext("-", deadline)
        for texts in (["a photo"], [f"a photo of {number} things" for number in range(64)]):  # and how fast it is
            self.texts.submit(texts, context, is_urgent=True).result()

    def close(self) -> None:
        """End the threads."""
        self.texts.close()
        for pool in (self._decoders, self._fetchers, self._preparers):
            pool.shutdown(wait=False, cancel_futures=True)
        self.batcher.close()


async def gather(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Wait for all, cancelling the rest on the first error, which is raised."""
    tasks: list[asyncio.Future[ResultT]] = []
    try:
        tasks.extend(asyncio.ensure_future(one) for one in work)
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def is_base64(source: str | bytes) -> TypeGuard[str]:
    """Tell base64 from bytes, a data URI and a URL."""
    return isinstance(source, str) and source[:5].lower() != "data:" and not is_url(source)


@lru_cache(maxsize=64)
def _templates(given: str | tuple[str, ...]) -> TemplateSet:
    return load_templates(given, files=False)


def _inline(labels: GivenLabels) -> LabelSet:
    return as_label_set(one for item in labels for one in ([item] if isinstance(item, str) else item.to_labels()))


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise DeadlineExceeded("The request's time was up before its turn came.", "Try again, or allow more time.")


def _drop_frames(error: BaseException | None) -> None:
    """Take the tracebacks off an error that is an answer: its frames keep the image, and the thread's keep the error.

    Such a cycle waits for the garbage collector with all that it holds.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
