"""The thread that encodes: what goes together, what is refused, and what happens when it fails, hangs or dies."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest

from tests.images import cat
from zeroshot import Encoder
from zeroshot.errors import DeadlineExceeded, ModelCorrupt, Overloaded, WorkerLost
from zeroshot.service import ServiceConfig
from zeroshot.service.inference.batcher import Batcher, BatchReport, Job
from zeroshot.service.inference.watchdog import Watchdog

LATER = float("inf")


class Gated:
    """An encoder that waits to be let through, and does what an image's first number says.

    The real one cannot be made to hang, to die or to take a known time.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.entered.release()
        assert self.gate.wait(20)
        self.batches.append(len(pixels))
        for row in pixels:
            if row.flat[0] == 13:
                raise ModelCorrupt("poison")
            if row.flat[0] == 14:
                raise SystemExit
        return pixels.reshape(len(pixels), -1)[:, :4]


@contextmanager
def batcher(
    encoder: object, on_batch: Callable[[BatchReport], object] = lambda _: None, **bounds: float
) -> Iterator[Batcher]:
    made = Batcher(encoder, ServiceConfig(**bounds), on_batch)
    try:
        yield made
    finally:
        if isinstance(encoder, Gated):
            encoder.gate.set()
        made.close()


def submit(to: Batcher, number: float = 0.0, deadline: float = LATER, **options: bool) -> Future[np.ndarray]:
    future: Future[np.ndarray] = Future()
    to.submit(Job(np.full((3, 2, 2), number, np.float32), future, deadline), **options)
    return future


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_arrives_while_a_batch_runs_forms_the_next() -> None:
    encoder, reports = Gated(), list[BatchReport]()
    with batcher(encoder, reports.append, batch_size=4) as one:
        first = submit(one, 1)
        assert encoder.entered.acquire(timeout=5)  # an idle encoder waits for nobody
        others = [submit(one, number) for number in range(2, 8)]
        assert one.waiting == 6
        encoder.gate.set()
        assert [future.result(5)[0] for future in [first, *others]] == [1, 2, 3, 4, 5, 6, 7]
        eventually(lambda: len(reports) == 3)
        assert [report.size for report in reports] == [1, 4, 2]
        assert len(reports[1].waited_s) == 4


def test_vectors_are_the_encoders_own_whatever_they_share_a_batch_with(tiny: Encoder) -> None:
    images = [cat().rotate(turn) for turn in range(0, 120, 10)]
    pixels = [tiny.preprocessing(image) for image in images]
    with batcher(tiny, batch_size=5) as one:
        futures: list[Future[np.ndarray]] = []
        for row in pixels:
            futures.append(Future())
            one.submit(Job(row, futures[-1], LATER))
        together = np.stack([future.result(30) for future in futures])
    np.testing.assert_allclose(together, tiny.encode_images(images), atol=1e-5)


def test_a_poisonous_image_harms_no_other_and_the_worker_lives_on() -> None:
    encoder = Gated()
    with batcher(encoder) as one:
        submit(one)
        assert encoder.entered.acquire(timeout=5)
        futures = [submit(one, number) for number in (1, 13, 2)]
        encoder.gate.set()
        assert futures[0].result(5)[0] == 1
        assert futures[2].result(5)[0] == 2
        with pytest.raises(ModelCorrupt, match="poison"):
            futures[1].result(5)
        assert submit(one, 3).result(5)[0] == 3
        assert one.health == "ok"


def test_the_queue_is_bounded_but_for_probes() -> None:
    encoder = Gated()
    with batcher(encoder, max_in_flight=2, batch_size=1) as one:
        submit(one)
        assert encoder.entered.acquire(timeout=5)
        waiting = [submit(one, number) for number in (1, 2)]
        with pytest.raises(Overloaded, match="2 images are waiting"):
            submit(one, 3)
        probe = submit(one, 4, high_priority=True)
        encoder.gate.set()
        assert probe.result(5)[0] == 4
        assert [future.result(5)[0] for future in waiting] == [1, 2]


def test_a_probe_goes_before_what_waits() -> None:
    encoder, order = Gated(), list[float]()
    with batcher(encoder, batch_size=1) as one:
        submit(one)
        assert encoder.entered.acquire(timeout=5)
        for future in (submit(one, 1), submit(one, 2), submit(one, 9, high_priority=True)):
            future.add_done_callback(lambda done: order.append(float(done.result()[0])))
        encoder.gate.set()
        eventually(lambda: len(order) == 3)
    assert order == [9, 1, 2]


def test_who_leaves_frees_a_place_and_is_not_encoded() -> None:
    encoder = Gated()
    with batcher(encoder, max_in_flight=2) as one:
        submit(one)
        assert encoder.entered.acquire(timeout=5)
        left, stayed = submit(one, 1), submit(one, 2)
        assert left.cancel()
        assert one.waiting == 1
        submit(one, 3)
        encoder.gate.set()
        assert stayed.result(5)[0] == 2
        eventually(lambda: encoder.batches == [1, 2])


def test_an_image_whose_time_is_up_is_dropped_unencoded() -> None:
    encoder = Gated()
    with batcher(encoder) as one:
        submit(one)
        assert encoder.entered.acquire(timeout=5)
        late = submit(one, 1, deadline=time.monotonic() - 1)
        in_time = submit(one, 2)
        encoder.gate.set()
        with pytest.raises(DeadlineExceeded):
            late.result(5)
        assert in_time.result(5)[0] == 2
        eventually(lambda: encoder.batches == [1, 1])


def test_batches_are_kept_short_where_images_take_long() -> None:
    encoder = Gated()
    with batcher(encoder, batch_size=16) as one:
        submit(one)
        assert encoder.entered.acquire(timeout=5)
        one.image_s = 0.3
        futures = [submit(one, number) for number in range(6)]
        one.image_s = 0.3
        encoder.gate.set()
        for future in futures:
            future.result(5)
    assert encoder.batches[1] <= 10  # the running mean moves with the first batch, which took as long as this test
    assert sum(encoder.batches) == 7


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that it dies is the point
def test_a_dead_thread_tells_those_it_had_is_seen_and_is_started_again() -> None:
    encoder = Gated()
    with batcher(encoder) as one:
        submit(one)
        assert encoder.entered.acquire(timeout=5)
        had = [submit(one, 1), submit(one, 14)]
        encoder.gate.set()
        for future in had:
            with pytest.raises(WorkerLost):
                future.result(5)
        eventually(lambda: one.health == "dead")
        waiting = submit(one, 3)
        watchdog = Watchdog([one], ServiceConfig())
        watchdog.start()
        assert waiting.result(10)[0] == 3
        assert (one.health, one.restarts) == ("ok", 1)
        watchdog.close()


def test_a_stalled_batch_is_seen_and_ends_the_process() -> None:
    encoder, ended = Gated(), threading.Event()
    with batcher(encoder, stall_timeout_s=0.1) as one:
        stuck = submit(one)
        assert encoder.entered.acquire(timeout=5)
        waiting = submit(one, 1)
        eventually(lambda: one.health == "stalled")
        watchdog = Watchdog([one], ServiceConfig(stall_grace_s=0.2, end_process=ended.set))
        watchdog.start()
        assert ended.wait(10)
        with pytest.raises(WorkerLost):
            waiting.result(5)
        assert not stuck.done()
        watchdog.close()


def test_closing_answers_what_waits_and_refuses_what_comes_then() -> None:
    encoder = Gated()
    one = Batcher(encoder, ServiceConfig())
    submit(one)
    assert encoder.entered.acquire(timeout=5)
    waiting = submit(one, 1)
    closing = threading.Thread(target=one.close)
    closing.start()
    eventually(lambda: one._closed)
    with pytest.raises(Overloaded):
        submit(one, 2)
    encoder.gate.set()
    closing.join(10)
    assert waiting.result(1)[0] == 1


def test_an_answered_image_is_let_go_without_the_garbage_collector() -> None:
    encoder = Gated()
    encoder.gate.set()
    gc.disable()
    try:
        with batcher(encoder) as one:
            pixels, future = np.ones((3, 2, 2), np.float32), Future[np.ndarray]()
            held = weakref.ref(pixels)
            one.submit(Job(pixels, future, LATER))
            del pixels
            assert future.result(5)[0] == 1
            submit(one, 2).result(5)  # the thread has let go of the batch before
            eventually(lambda: held() is None)
    finally:
        gc.enable()
