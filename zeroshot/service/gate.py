"""ASGI middleware that bounds what requests may cost: bytes in all and at once, time, and work for those who have left.

Beyond a bound the answer is there at once (413, 503 with Retry-After), whatever else the server is doing, and nothing
more of the request is read. A request that takes too long is answered 408 (its body does not come) or 504; one whose
client has gone is dropped, and its place in the queue is free.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroshot.errors import Overloaded
from zeroshot.service.context import current
from zeroshot.service.metrics import Metrics
from zeroshot.service.problems import RequestError, problem

NDJSON = b"application/x-ndjson"

_ROOM_FOR_LABELS = 32 * 2**20  # 10,000 labels of 1,000 characters, escaped
_FREE = frozenset(["/", "/healthz", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json"])
_WITH_PICTURES = ("/v1/classify", "/v1/embeddings", "/hf/", "/clip/")
_REFUSAL = bytes(
    problem(503, "overloaded", "The server is at work on as many pictures as it takes on. Try again later.").body
)
_REFUSAL_HEADERS = [
    (b"content-type", b"application/problem+json"),
    (b"content-length", b"%d" % len(_REFUSAL)),
]


class Gate:
    """Bound requests."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_image_bytes: int,
        max_bytes_in_flight: int,
        max_requests: int,
        timeout_s: float,
        retry_after_s: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self.app = app
        self.retry_after_s = retry_after_s
        self.max_bytes = max_image_bytes * 4 // 3 + _ROOM_FOR_LABELS
        self.max_bytes_in_flight = max_bytes_in_flight
        self.max_requests = max_requests
        self.timeout_s = timeout_s
        self.metrics = metrics
        self.requests = 0
        self.bytes_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting."""
        if scope["type"] != "http" or scope["path"] in _FREE:
            await self.app(scope, receive, send)
            return
        wait_s = self.retry_after_s() if scope["path"].startswith(_WITH_PICTURES) else 0.0
        if wait_s or self.requests >= self.max_requests:
            self.metrics.refused("overload")
            await _refuse(send, max(1, math.ceil(wait_s)))
            return
        headers = dict(scope["headers"])
        streamed = headers.get(b"content-type", b"").lower().startswith(NDJSON)
        declared = headers.get(b"content-length", b"0")
        if not streamed and declared.isdigit() and int(declared) > self.max_bytes:
            self.metrics.refused("size")
            await problem(413, "body-too-large", self._too_large())(scope, receive, send)
            return
        self.requests += 1
        body = _Body(self, receive, streamed=streamed)
        try:
            await self._run(scope, body, send)
        finally:
            self.requests -= 1
            self.bytes_in_flight -= body.counted

    async def _run(self, scope: Scope, body: _Body, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        work = asyncio.ensure_future(self.app(scope, body.receive, noting))
        gone = asyncio.ensure_future(body.client_gone())
        limit = None if body.streamed else max(0.0, current().deadline - time.monotonic())
        try:
            await asyncio.wait((work, gone), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or gone.done():
                if gone.done() and not work.done():
                    return  # nobody is there to read an answer
                work.result()
                return
        finally:
            await _end(work)
            await _end(gone)
        if begun:
            return
        if body.complete:
            answer = problem(504, "deadline-exceeded", f"No answer within {self.timeout_s:g} s. Try again later.")
        else:
            answer = problem(
                408, "request-timeout", f"The body did not come within {self.timeout_s:g} s. Send it anew."
            )
        await answer(scope, body.receive, send)

    def take(self, count: int) -> None:
        """Count bytes in, or refuse them."""
        if self.bytes_in_flight + count > self.max_bytes_in_flight:
            self.metrics.refused("memory")
            raise Overloaded(f"Bodies of {self.bytes_in_flight:,} bytes are being worked on.")
        self.bytes_in_flight += count

    def _too_large(self) -> str:
        return f"The body has more than {self.max_bytes:,} bytes. Send less, or raise ZEROSHOT_MAX_IMAGE_BYTES."


class _Body:
    """A request's body as it comes in."""

    def __init__(self, gate: Gate, receive: Receive, *, streamed: bool) -> None:
        self.counted = 0
        self.complete = False
        self.streamed = streamed
        self._gate = gate
        self._receive = receive
        self._read = asyncio.Event()

    async def receive(self) -> Message:
        """Give the next part; of a stream only the part at hand is counted, as lines are dropped when they are done."""
        if self.streamed:
            return await self._next_of_stream()
        message = await self._receive()
        count = len(message.get("body", b""))
        if self.counted + count > self._gate.max_bytes:
            self._gate.metrics.refused("size")
            raise RequestError(413, "body-too-large", self._gate._too_large())
        self._gate.take(count)
        self.counted += count
        self._note(message)
        return message

    async def _next_of_stream(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), self._gate.timeout_s)
        except TimeoutError as error:
            raise RequestError(
                408, "request-timeout", f"Nothing came for {self._gate.timeout_s:g} s.", "Send it anew."
            ) from error
        self._note(message)
        return message

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.complete = True
            self._read.set()

    async def client_gone(self) -> None:
        """Return when the client has left; it is listened for once the body is in."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _end(task: asyncio.Future[None]) -> None:
    """Cancel what still runs, and wait until it has ended; its own exception was raised already, or is about nobody."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()


async def _refuse(send: Send, retry_after_s: int) -> None:
    """Answer 503 with as little work as can be."""
    headers = [*_REFUSAL_HEADERS, (b"retry-after", b"%d" % retry_after_s)]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
