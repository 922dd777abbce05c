"""What is known of the request being handled, for every part of the service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

STAGES = ("fetch", "decode", "queue", "encode", "text", "rank", "search", "store")
"""The parts of a request that are timed."""


@dataclass(eq=False, slots=True)
class RequestContext:
    """One request.

    `status` is None until its answer has begun, `share` is whose share of the server it takes: of a key or an address.
    Once it `is_over`, nobody waits for its work.
    """

    id: str
    deadline: float
    caller: str = "anonymous"
    share: str = "-"
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    images: int = 0
    status: int | None = None
    is_over: bool = False

    def add(self, stage: str, start: float, end: float) -> None:
        """Note when a stage was worked on; of several images, from the first's beginning to the last's end."""
        known = self.stages.get(stage, (start, end))
        self.stages[stage] = min(known[0], start), max(known[1], end)


_NO_REQUEST = RequestContext("-", float("inf"))
current: ContextVar[RequestContext] = ContextVar("zeroshot_request", default=_NO_REQUEST)
"""The request being handled; outside of any, one without a deadline."""


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Time a stage of the current request."""
    start = time.monotonic()
    try:
        yield
    finally:
        current.get().add(stage, start, time.monotonic())
