"""The text worker: fair, bounded in time, and watched; with encoders that wait to be let go."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from tests.test_batching import eventually
from zeroshot.encoders import FloatArray
from zeroshot.errors import DeadlineExceeded, ModelError, Overloaded, WorkerLost
from zeroshot.labels import Label, class_matrix
from zeroshot.labels.class_matrix import MAX_PROMPTS
from zeroshot.prompts import TemplateSet
from zeroshot.service import ServiceConfig
from zeroshot.service.context import RequestContext, current
from zeroshot.service.inference.queued_encoder import QueuedEncoder
from zeroshot.service.inference.text_worker import TextWorker
from zeroshot.service.inference.watchdog import Watchdog


class SlowTexts:
    """A text tower that waits for every slice, and remembers what came."""

    def __init__(self, release: threading.Event) -> None:
        self.release = release
        self.seen: list[list[str]] = []
        self.error: BaseException | None = None

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Vectors of the texts' lengths, once it is let go."""
        self.seen.append(list(texts))
        assert self.release.wait(20)
        if self.error is not None:
            raise self.error
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)


class Texts:
    """A worker with its slow tower."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.tower = SlowTexts(self.release)
        self.worker = TextWorker(self.tower, ServiceConfig(stall_timeout_s=0.2))  # type: ignore[arg-type]
        self.worker.char_s = 1e-3  # a slice has 150 characters


@pytest.fixture
def texts() -> Iterator[Texts]:
    made = Texts()
    yield made
    made.release.set()
    made.worker.close()


def request(share: str = "a", left_s: float = 60) -> RequestContext:
    return RequestContext("-", time.monotonic() + left_s, share=share)


LONG = ["x" * 100] * 20


def test_rows_come_back_in_order_over_many_slices(texts: Texts) -> None:
    texts.release.set()
    asked = ["x" * (n % 50) for n in range(300)]
    rows = texts.worker.submit(asked, request()).result(20)
    assert rows[:, 0].tolist() == [n % 50 for n in range(300)]
    assert len(texts.tower.seen) > 3


@pytest.mark.parametrize("other", ["a", "b"])
def test_short_work_passes_long_work(texts: Texts, other: str) -> None:
    long = texts.worker.submit(LONG, request("a"))
    short = texts.worker.submit(["short"], request(other))
    eventually(lambda: texts.tower.seen)
    texts.release.set()
    assert short.result(20).shape == (1, 2)
    assert long.result(20).shape == (20, 2)
    assert texts.tower.seen.index(["short"]) <= 2


def test_a_caller_does_not_get_more_for_asking_more_often(texts: Texts) -> None:
    many = [texts.worker.submit(["x" * 100] * 3, request("a")) for _ in range(10)]
    one = texts.worker.submit(["y" * 100] * 3, request("b"))
    texts.release.set()
    assert one.result(20).shape == (3, 2)
    for each in many:
        each.result(20)
    assert max(place for place, seen in enumerate(texts.tower.seen) if seen[0][0] == "y") <= 8


@pytest.mark.parametrize("over", ["left", "late"])
def test_what_nobody_waits_for_is_dropped_between_slices(texts: Texts, over: str) -> None:
    context = request()
    job = texts.worker.submit(LONG, context)
    eventually(lambda: texts.tower.seen)
    if over == "left":
        context.is_over = True
    else:
        context.deadline = 0
    texts.release.set()
    with pytest.raises(DeadlineExceeded):
        job.result(20)
    assert len(texts.tower.seen) == 1
    assert texts.worker.waiting == 0


def test_what_cannot_be_done_in_time_is_refused_before_it_begins(texts: Texts) -> None:
    with pytest.raises(Overloaded, match="would take about 2 s, and the request has 1 s"):
        texts.worker.submit(LONG, request(left_s=1))
    held = texts.worker.submit(LONG, request())
    with pytest.raises(Overloaded, match="Others' texts are waiting"):
        texts.worker.submit(LONG, request(left_s=3))
    short = texts.worker.submit(["short"], request(left_s=3))
    texts.release.set()
    assert short.result(20).shape == (1, 2)
    assert held.result(20).shape == (20, 2)


def test_an_error_is_the_answer_and_the_worker_goes_on(texts: Texts) -> None:
    texts.release.set()
    texts.tower.error = ModelError("The session fails.", "Load it again.")
    with pytest.raises(ModelError, match="session fails"):
        texts.worker.submit(["a"], request()).result(20)
    texts.tower.error = None
    assert texts.worker.submit(["a"], request()).result(20).shape == (1, 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_told_and_started_again(texts: Texts) -> None:
    watchdog = Watchdog([texts.worker], ServiceConfig(watch_every_s=0.05))
    texts.tower.error = SystemExit()
    job = texts.worker.submit(["a"], request())
    texts.release.set()
    with pytest.raises(WorkerLost):
        job.result(20)
    eventually(lambda: texts.worker.health == "dead")
    texts.tower.error = None
    watchdog.start()
    assert texts.worker.submit(["a"], request()).result(20).shape == (1, 2)
    assert texts.worker.restarts == 1
    watchdog.close()


def test_a_stalled_thread_ends_the_process_and_fails_what_waits(texts: Texts) -> None:
    ended = threading.Event()
    config = ServiceConfig(watch_every_s=0.05, stall_grace_s=0.2, end_process=ended.set)
    watchdog = Watchdog([texts.worker], config)
    watchdog.start()
    job = texts.worker.submit(["a"], request())
    eventually(lambda: texts.worker.health == "stalled")
    assert ended.wait(20)
    with pytest.raises(WorkerLost):
        job.result(20)


class OneByOne(SlowTexts):
    """What class matrices need of an encoder."""

    spec = template_set = fingerprint = "slow"
    dim, logit_scale, logit_bias, preprocessing = 2, 1.0, None, None


def test_labels_are_refused_by_what_all_of_them_cost(texts: Texts) -> None:
    encoder = QueuedEncoder(OneByOne(texts.release), texts.worker)  # type: ignore[arg-type]
    labels = [Label(f"label {n}") for n in range(10_000)]
    templates = TemplateSet("t", tuple(f"{{}} {n}" for n in range(100)))
    token = current.set(request(left_s=600))
    try:
        with pytest.raises(Overloaded, match="would take about 2"):  # 20,000 s and more, though a part would do
            class_matrix(encoder, labels, templates)
    finally:
        current.reset(token)
    assert not texts.tower.seen
    with pytest.raises(Exception, match=f"{MAX_PROMPTS:,} are allowed"):
        class_matrix(encoder, labels, TemplateSet("t", tuple(f"{{}} {n}" for n in range(101))))
