"""Micro-batching: images that arrive while a batch runs form the next one; an idle encoder never waits for a timer.

One thread owns the encoder's image tower. A batch that fails is tried image by image, so that a bad image fails alone.
Whatever ends the thread is raised for every image it had in hand, and ``health`` shows it until it is started again.
It knows arrays, futures and time; it does not know HTTP.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from zeroshot.encoders import Encoder, FloatArray
from zeroshot.errors import DeadlineExceeded, Overloaded, ServiceError, WorkerLost
from zeroshot.service.config import ServiceConfig

_WANTED_BATCH_S = 1.0  # a batch is kept small enough to take no longer
_MEMORY = 0.2  # weight of the newest batch in the running mean of seconds per image

Health = Literal["ok", "stalled", "dead"]


@dataclass(eq=False, slots=True)
class Job:
    """An image on its way through the encoder, and when: its decoding `begun`, `arrived` here, `started`, `ended`."""

    pixels: FloatArray
    future: Future[FloatArray]
    deadline: float
    begun: float = 0.0
    arrived: float = field(default_factory=time.monotonic)
    started: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A finished batch, for the metrics."""

    size: int
    waited_s: Sequence[float]
    took_s: float


class Batcher:
    """The thread that encodes, and the queue before it."""

    def __init__(
        self, encoder: Encoder, config: ServiceConfig, on_batch: Callable[[BatchReport], object] = lambda _: None
    ) -> None:
        self.encoder = encoder
        self.max_batch = config.batch_size
        self.max_waiting = config.max_in_flight
        self.stall_s = config.stall_timeout_s
        self.close_s = config.close_timeout_s
        self.image_s = 0.0  # running mean of seconds per image
        self.batches = 0
        self.restarts = 0
        self._on_batch = on_batch
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._busy_since: float | None = None
        self._closed = False
        self._thread = self._start()

    @property
    def waiting(self) -> int:
        """How many images wait."""
        return len(self._waiting)

    @property
    def health(self) -> Health:
        """Whether the thread is alive and its batch within its time."""
        if not self._thread.is_alive():
            return "dead"
        since = self._busy_since
        return "stalled" if since is not None and time.monotonic() - since > self.stall_s else "ok"

    @property
    def wait_s(self) -> float:
        """How long an image that came now would wait, in seconds, by what images took lately."""
        return (len(self._waiting) + self.max_batch) * self.image_s

    def submit(self, job: Job, *, high_priority: bool = False) -> None:
        """Put an image in the queue; one of high priority goes first, and is never refused."""
        with self._changed:
            if self._closed or (len(self._waiting) >= self.max_waiting and not high_priority):
                raise Overloaded(f"{len(self._waiting)} images are waiting.", retry_after_s=self.wait_s)
            if high_priority:
                self._waiting.appendleft(job)
            else:
                self._waiting.append(job)
            self._changed.notify_all()
        job.future.add_done_callback(self._forget)  # not the job: with it, the two would keep each other and the pixels

    def restart(self) -> None:
        """Start a new thread if the old one has died; what waits is still there."""
        with self._changed:
            if not self._closed and not self._thread.is_alive():
                self.restarts += 1
                self._thread = self._start()

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(self.close_s)
        self.fail_pending()

    def fail_pending(self) -> None:
        """Raise an error for every image that waits."""
        with self._changed:
            jobs = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        _fail(jobs, WorkerLost, "The encoder has stopped.")

    def _start(self) -> threading.Thread:
        self._busy_since = None
        thread = threading.Thread(target=self._work, name="zeroshot-encoder", daemon=True)
        thread.start()
        return thread

    def _forget(self, future: Future[FloatArray]) -> None:
        """Take a job that was cancelled out of the queue."""
        if not future.cancelled():
            return
        with self._changed:
            job = next((job for job in self._waiting if job.future is future), None)
            if job is not None:  # else its batch has begun
                self._waiting.remove(job)
                self._changed.notify_all()

    def _work(self) -> None:
        while True:
            batch = self._take()
            if batch is None:
                return
            try:
                self._encode(batch)
            finally:  # also when the thread is being ended from outside
                self._busy_since = None
                _fail(batch, WorkerLost, "The encoder's thread was lost.")

    def _take(self) -> list[Job] | None:
        """Wait for images, and take as many as make a batch; None when there is no more to do."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return None
            most = self.max_batch
            if self.image_s > 0:
                most = max(1, min(most, int(_WANTED_BATCH_S / self.image_s)))
            batch: list[Job] = []
            late: list[Job] = []
            now = time.monotonic()
            while self._waiting and len(batch) < most:
                job = self._waiting.popleft()
                if job.deadline < now:
                    late.append(job)
                elif job.future.set_running_or_notify_cancel():
                    batch.append(job)
            self._busy_since = now
            self._changed.notify_all()
        _fail(late, DeadlineExceeded, "The request's time was up before its image was encoded.")
        return batch

    def _encode(self, batch: list[Job]) -> None:
        if not batch:
            return
        start = time.monotonic()
        for job in batch:
            job.started = start
        try:
            rows = self.encoder.encode_pixels(np.stack([job.pixels for job in batch]))
        except Exception as error:  # whatever the model's runtime raises is the answer for the image that caused it
            if len(batch) == 1:
                with suppress(InvalidStateError):  # nobody waits for it any more
                    batch[0].future.set_exception(error)
                return
            for job in batch:
                self._busy_since = time.monotonic()
                self._encode([job])
            return
        self.batches += 1
        ended = time.monotonic()
        for job in batch:
            job.ended = ended
        took = ended - start
        each = took / len(batch)
        self.image_s = each if self.image_s == 0 else (1 - _MEMORY) * self.image_s + _MEMORY * each
        self._on_batch(BatchReport(len(batch), [start - job.arrived for job in batch], took))  # before the answers
        for job, row in zip(batch, rows, strict=True):
            job.future.set_result(row)


def _fail(jobs: Sequence[Job], kind: type[ServiceError], message: str) -> None:
    """Raise an error for every job that has no answer yet."""
    for job in jobs:
        if not job.future.done():
            with suppress(InvalidStateError):  # it was cancelled just now
                job.future.set_exception(kind(message, "Try again."))
