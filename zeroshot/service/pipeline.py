"""From a picture as it came to its vector, and from labels to what scores it, without holding up the event loop.

source --decoding thread--> pixels --encoder thread--> vector          labels --text thread--> scorer

A picture goes from thread to thread by itself and wakes the event loop once, with its vector or its error. Pictures
are decoded in a bounded pool, encoded by one thread (``batching``), and what is in flight is bounded as a whole: beyond
that the answer is "overloaded", at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from PIL import Image

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.cpu import available_cpus
from zeroshot.encoders import FloatArray
from zeroshot.errors import DeadlineExceeded, Overloaded, WorkerLost, ZeroshotError
from zeroshot.images import ImageSource, is_url, load
from zeroshot.labels import LabelSet
from zeroshot.prompts import TemplateSet
from zeroshot.scoring import Scorer, ScoringOptions
from zeroshot.service.batching import Batcher, BatchReport, Health, Job
from zeroshot.service.context import RequestContext, current, timed
from zeroshot.service.remote import RemotePictures

ResultT = TypeVar("ResultT")

_PROBE = Image.new("RGB", (8, 8), (200, 60, 60))
_PROBE_EVERY_S = 1.0  # one probe answers all who ask within this time
_PROBE_TIMEOUT_S = 5.0
_WARM_UP_TIMEOUT_S = 600.0
_BULK_BATCHES = 8  # how many batches of them the queue has room for, beside what is in flight


class Pipeline:
    """Everything between a request and the encoder."""

    def __init__(
        self,
        classifier: ZeroShotClassifier,
        *,
        remote: RemotePictures | None = None,
        max_batch: int = 16,
        max_in_flight: int = 128,
        decode_threads: int = 0,
        stall_s: float = 10.0,
        on_batch: Callable[[BatchReport], None] | None = None,
        on_refusal: Callable[[], None] | None = None,
    ) -> None:
        self.classifier = classifier
        self.remote = remote
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self.batcher = Batcher(
            classifier.encoder,
            max_batch=max_batch,
            max_waiting=max_in_flight + _BULK_BATCHES * max_batch,
            stall_s=stall_s,
            on_batch=on_batch,
        )
        self._decoders = ThreadPoolExecutor(decode_threads or available_cpus(), "zeroshot-decode")
        self._fetchers = ThreadPoolExecutor(16, "zeroshot-fetch")
        self._texts = ThreadPoolExecutor(1, "zeroshot-text")
        self._on_refusal = on_refusal
        self._probe: tuple[float, Future[FloatArray]] | None = None

    @contextmanager
    def admitted(self, pictures: int) -> Iterator[None]:
        """Hold places for pictures."""
        if self.in_flight + pictures > self.max_in_flight:
            if self._on_refusal is not None:
                self._on_refusal()
            raise Overloaded(
                f"{self.in_flight} pictures are in flight, of {self.max_in_flight} at most.",
                "Try again later." if pictures <= self.max_in_flight else "Send fewer pictures at once.",
                retry_after_s=self.retry_after_s,
            )
        self.in_flight += pictures
        try:
            yield
        finally:
            self.in_flight -= pictures

    @property
    def retry_after_s(self) -> float:
        """When it is worth trying again: when what is in flight will be done."""
        return max(1.0, self.in_flight * self.batcher.picture_s)

    async def embed(self, source: ImageSource) -> FloatArray:
        """Decode and encode one picture."""
        context = current()
        if isinstance(source, str) and is_url(source) and self.remote is not None:
            start = time.monotonic()
            source = await self._in(self._fetchers, self.remote.fetch, source, context.deadline)
            context.add("fetch", start, time.monotonic())
        outcome: Future[FloatArray] = Future()
        jobs: list[Job] = []
        self._decoders.submit(self._decode, source, outcome, context, jobs)
        try:
            return await asyncio.wrap_future(outcome)
        finally:
            for job in jobs:
                _note(context, job)
            del outcome, jobs  # an error's traceback keeps this frame, which must not keep the error: a cycle

    def _decode(
        self, source: ImageSource, outcome: Future[FloatArray], context: RequestContext, jobs: list[Job]
    ) -> None:
        """In a decoding thread: whatever happens, `outcome` gets to know; the job made of the picture joins `jobs`."""
        if outcome.cancelled():
            return
        start = time.monotonic()
        try:
            if start > context.deadline:
                raise DeadlineExceeded("The picture's turn did not come in time.", "Try again, or allow more time.")
            preprocessing = self.classifier.encoder.preprocessing
            pixels = preprocessing(load(source, self.classifier.limits, enough=preprocessing.enough))
            context.add("decode", start, time.monotonic())
            job = Job(pixels, outcome, context.deadline)
            jobs.append(job)
            self.batcher.submit(job)
        except BaseException as error:  # a decoder may raise anything; the request must not wait for ever
            if isinstance(error, ZeroshotError):
                _drop_frames(error)
            if not outcome.cancelled():
                outcome.set_exception(error)

    async def scorer(self, labels: LabelSet, templates: TemplateSet | None, options: ScoringOptions) -> Scorer:
        """Give what scores pictures under labels; labels that are new are embedded in the text thread."""
        if (known := self.classifier.find_scorer(labels, templates=templates, options=options)) is not None:
            return known
        with timed("text"):
            return await self.in_text_thread(lambda: self._scorer(labels, templates, options))

    def _scorer(self, labels: LabelSet, templates: TemplateSet | None, options: ScoringOptions) -> Scorer:
        """Without Python warnings: the answer has them."""
        return self.classifier.scorer(labels, templates=templates, options=options, on_warning=lambda _: None)

    async def in_text_thread(self, work: Callable[[], ResultT]) -> ResultT:
        """Run what embeds texts, one after the other."""
        return await self._in(self._texts, work)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., ResultT], *arguments: object) -> ResultT:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    async def probe(self) -> None:
        """Encode a small picture, before all that waits."""
        self._check_health()
        now = time.monotonic()
        if self._probe is None or now - self._probe[0] > _PROBE_EVERY_S:
            future: Future[FloatArray] = Future()
            pixels = self.classifier.encoder.preprocessing(_PROBE)
            self.batcher.submit(Job(pixels, future, now + _PROBE_TIMEOUT_S), urgent=True)
            self._probe = now, future
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._probe[1])), _PROBE_TIMEOUT_S)
        except TimeoutError as error:
            self._check_health()
            raise WorkerLost(f"The encoder did not answer within {_PROBE_TIMEOUT_S:g} s.") from error

    def _check_health(self) -> None:
        health: Health = self.batcher.health
        if health != "ok":
            raise WorkerLost(f"The encoder's thread is {health}.")

    def warm_up(self) -> None:
        """Encode pictures one by one and a batch, and a text, so that the first request finds everything loaded."""
        encoder = self.classifier.encoder
        pixels = encoder.preprocessing(_PROBE)
        for count in (1, 1, self.batcher.max_batch):
            futures: list[Future[FloatArray]] = [Future() for _ in range(count)]
            for future in futures:
                self.batcher.submit(Job(pixels, future, time.monotonic() + _WARM_UP_TIMEOUT_S), urgent=True)
            for future in futures:
                future.result()
        encoder.encode_texts(["a photo"])

    def close(self, timeout_s: float = 10.0) -> None:
        """End the threads."""
        for pool in (self._decoders, self._fetchers, self._texts):
            pool.shutdown(wait=False, cancel_futures=True)
        self.batcher.close(timeout_s)


def _drop_frames(error: BaseException | None) -> None:
    """Take the tracebacks off an error that is an answer: its frames keep the picture, and the thread's keep the error.

    Such a cycle waits for the garbage collector with all that it holds.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _note(context: RequestContext, job: Job) -> None:
    if job.started:
        context.add("queue", job.arrived, job.started)
    if job.ended:
        context.add("encode", job.started, job.ended)
