"""What is known of the request at hand, wherever in the service one stands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class RequestContext:
    """One request."""

    id: str
    deadline: float
    caller: str = "anonymous"
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    pictures: int = 0

    def add(self, stage: str, start: float, end: float) -> None:
        """Note when a stage was worked on; of several pictures, from the first's beginning to the last's end."""
        known = self.stages.get(stage, (start, end))
        self.stages[stage] = min(known[0], start), max(known[1], end)


_NOWHERE = RequestContext("-", float("inf"))
_CURRENT: ContextVar[RequestContext] = ContextVar("zeroshot_request", default=_NOWHERE)


def current() -> RequestContext:
    """Give the request at hand; outside of any, one without an end."""
    return _CURRENT.get()


@contextmanager
def entered(context: RequestContext) -> Iterator[RequestContext]:
    """Make a request the one at hand."""
    token = _CURRENT.set(context)
    try:
        yield context
    finally:
        _CURRENT.reset(token)


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Time a stage of the request at hand."""
    start = time.monotonic()
    try:
        yield
    finally:
        current().add(stage, start, time.monotonic())
