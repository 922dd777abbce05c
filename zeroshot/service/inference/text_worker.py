"""The thread that embeds texts: in slices, of the request that has had least of it, and none for those that have ended.

A request's texts are one job. The worker takes a slice of a fraction of a second from one job at a time: of the caller
who has had least of it lately, and of that caller's jobs the one that has, so that short work passes long work. Between
slices it drops jobs whose request is over. A job that cannot be done in its time is refused before it begins. It knows
texts, futures and time; it does not know HTTP.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from zeroshot.encoders import Encoder, FloatArray
from zeroshot.encoders.truncation import truncation_warnings_off
from zeroshot.errors import DeadlineExceeded, Overloaded, WorkerLost
from zeroshot.labels.class_matrix import text_cost
from zeroshot.service.config import ServiceConfig
from zeroshot.service.context import RequestContext
from zeroshot.service.inference.batcher import Health

_SLICE_S = 0.15  # a slice is kept small enough to take no longer
_MOST_AT_ONCE = 512  # texts of a slice
_MEMORY = 0.3  # weight of the newest slice in the running mean of seconds per character
_HALF_LIFE_S = 10.0  # of what a caller has had
_FIRST_GUESS = 5e-5  # seconds per character, before anything was measured


@dataclass(eq=False, slots=True)
class _Job:
    texts: Sequence[str]
    context: RequestContext
    future: Future[FloatArray]
    rows: list[FloatArray] = field(default_factory=list)
    done: int = 0
    spent_s: float = 0.0
    is_urgent: bool = False

    @property
    def left(self) -> int:
        """Characters to go."""
        return text_cost(self.texts[self.done :])


class TextWorker:
    """The thread that embeds texts, and the jobs before it."""

    def __init__(self, encoder: Encoder, config: ServiceConfig) -> None:
        self.encoder = encoder
        self.stall_s = config.stall_timeout_s
        self.close_s = config.close_timeout_s
        self.char_s = _FIRST_GUESS  # running mean of seconds per character
        self.batches = 0
        self.restarts = 0
        self._jobs: list[_Job] = []
        self._had: dict[str, float] = defaultdict(float)  # seconds of each caller, halved again and again
        self._halved = time.monotonic()
        self._left = 0  # characters of all jobs
        self._changed = threading.Condition()  # reentrant
        self._busy_since: float | None = None
        self._closed = False
        self._thread = self._start()

    @property
    def waiting(self) -> int:
        """How many jobs there are."""
        return len(self._jobs)

    @property
    def health(self) -> Health:
        """Whether the thread is alive and its slice within its time."""
        if not self._thread.is_alive():
            return "dead"
        since = self._busy_since
        return "stalled" if since is not None and time.monotonic() - since > self.stall_s else "ok"

    def admit(self, characters: float, context: RequestContext) -> None:
        """Refuse what cannot be done in its request's time: all before it, or its share of a worker that others use."""
        with self._changed:
            ahead = min(self._left, characters * len(self._jobs))
        needed, left = (ahead + characters) * self.char_s, context.deadline - time.monotonic()
        if needed <= left:
            return
        alone = characters * self.char_s
        if alone > left:
            raise Overloaded(
                f"The texts would take about {alone:.0f} s, and the request has {max(left, 0):.0f} s.",
                "Send fewer texts, labels or templates at once; those that are embedded are kept.",
                retry_after_s=1.0,
            )
        raise Overloaded("Others' texts are waiting.", "Try again later.", retry_after_s=ahead * self.char_s)

    def submit(self, texts: Sequence[str], context: RequestContext, *, is_urgent: bool = False) -> Future[FloatArray]:
        """Put n texts in: (n, dim), or the error."""
        job = _Job(texts, context, Future(), is_urgent=is_urgent)
        if not is_urgent:
            self.admit(job.left, context)
        with self._changed:
            if self._closed:
                raise Overloaded("The server is stopping.", retry_after_s=1.0)
            self._jobs.append(job)
            self._left += job.left
            self._changed.notify_all()
        return job.future

    def restart(self) -> None:
        """Start a new thread if the old one has died; what waits is still there."""
        with self._changed:
            if not self._closed and not self._thread.is_alive():
                self.restarts += 1
                self._thread = self._start()

    def close(self) -> None:
        """Give up what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.fail_pending()
        self._thread.join(self.close_s)

    def fail_pending(self) -> None:
        """Raise an error for every job."""
        for job in list(self._jobs):
            self._end(job, WorkerLost("The text encoder has stopped.", "Try again."))

    def _start(self) -> threading.Thread:
        self._busy_since = None
        thread = threading.Thread(target=self._work, name="zeroshot-text-encoder", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        while (job := self._take()) is not None:
            try:
                self._encode(job)
            except BaseException:  # the thread is being ended from outside
                self._end(job, WorkerLost("The text encoder's thread was lost.", "Try again."))
                raise
            finally:
                self._busy_since = None

    def _take(self) -> _Job | None:
        """Wait for a job, and choose one; None when there is no more to do."""
        with self._changed:
            while True:
                now = time.monotonic()
                for job in [one for one in self._jobs if one.context.is_over or one.context.deadline < now]:
                    self._end(job, DeadlineExceeded("The request's time was up before its texts were embedded."))
                if self._closed:
                    return None
                if self._jobs:
                    break
                self._changed.wait()
            if now - self._halved > _HALF_LIFE_S:
                callers = {one.context.share for one in self._jobs}
                self._had = defaultdict(float, {caller: self._had[caller] / 2 for caller in callers})
                self._halved = now
            self._busy_since = now
            return min(self._jobs, key=lambda one: (not one.is_urgent, self._had[one.context.share], one.spent_s))

    def _encode(self, job: _Job) -> None:
        """Embed a slice of a job."""
        texts = self._slice(job)
        characters, start = text_cost(texts), time.monotonic()
        try:
            with truncation_warnings_off():  # the answer has them
                rows = self.encoder.encode_texts(texts)
        except Exception as error:  # whatever the model's runtime raises is the answer
            self._end(job, error)
            return
        took = time.monotonic() - start
        self.batches += 1
        self.char_s += _MEMORY * (took / characters - self.char_s)
        with self._changed:
            job.rows.append(rows)
            job.done += len(texts)
            job.spent_s += took
            self._had[job.context.share] += took
            self._left -= characters
        if job.done == len(job.texts):
            self._end(job, None)

    def _slice(self, job: _Job) -> Sequence[str]:
        """The next texts of a job: as many as take a fraction of a second, and at least one."""
        most = _SLICE_S / self.char_s
        stop, characters = job.done, 0
        while stop < min(len(job.texts), job.done + _MOST_AT_ONCE):
            characters += text_cost(job.texts[stop : stop + 1])
            if characters > most and stop > job.done:
                break
            stop += 1
        return job.texts[job.done : stop]

    def _end(self, job: _Job, error: BaseException | None) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self._left -= job.left
        with suppress(InvalidStateError):  # nobody waits for it any more
            if error is None:
                job.future.set_result(np.concatenate(job.rows))
            else:
                job.future.set_exception(error)
