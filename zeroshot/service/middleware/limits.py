"""ASGI middleware that bounds requests: places in the pipeline, bytes in all and at once, time.

Beyond a bound the answer comes at once (413, 503 with Retry-After) and nothing more of the request is read. A request
that takes too long is answered 408 (its body does not come) or 504; when its client leaves, the work is cancelled.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroshot.errors import DeadlineExceeded, Overloaded, ZeroshotError
from zeroshot.service.config import ServiceConfig
from zeroshot.service.context import current
from zeroshot.service.inference.pipeline import Pipeline
from zeroshot.service.metrics import Metrics
from zeroshot.service.problems import RequestError, problem, respond

NDJSON = b"application/x-ndjson"

_FREE = frozenset(["/", "/healthz", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json"])
_INFERENCE = ("/v1/classify", "/v1/embeddings", "/hf/", "/clip/")
_INFERENCE_IN_GALLERY = ("/items", "/search", "/classify")
_REFUSAL = bytes(
    problem(503, "overloaded", "The server is at work on as many images as it takes on. Try again later.").body
)
_REFUSAL_HEADERS = [
    (b"content-type", b"application/problem+json"),
    (b"content-length", b"%d" % len(_REFUSAL)),
]


class Limits:
    """Bound requests."""

    def __init__(self, app: ASGIApp, config: ServiceConfig, pipeline: Pipeline, metrics: Metrics) -> None:
        self.app = app
        self.pipeline = pipeline
        self.metrics = metrics
        self.max_bytes = pipeline.classifier.limits.max_bytes * 4 // 3 + config.label_bytes
        self.max_bytes_in_flight = config.max_bytes_in_flight
        self.max_requests = 2 * config.max_in_flight + 64
        self.timeout_s = config.request_timeout_s
        self.requests = 0
        self.bytes_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting; one that takes images or texts holds a place in the pipeline."""
        if scope["type"] != "http" or scope["path"] in _FREE:
            await self.app(scope, receive, send)
            return
        pipeline, inference = self.pipeline, _is_inference(scope)
        is_full = inference and pipeline.in_flight >= pipeline.max_in_flight
        if is_full or self.requests >= self.max_requests:
            self.metrics.refused("overload")
            await _refuse(send, math.ceil(pipeline.retry_after_s) if is_full else 1)
            return
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        places = 1 if inference else 0
        self.requests += 1
        pipeline.in_flight += places
        body = _Body(self, receive)
        try:
            if headers.get(b"content-type", b"").lower().startswith(NDJSON):
                await self._run(scope, body.next_part, send, body.client_gone(), None)
                return
            if declared.isdigit() and int(declared) > self.max_bytes:
                raise body.too_large()
            if (content := await body.read(self._left_s())) is not None:
                whole: asyncio.Queue[Message] = asyncio.Queue()
                whole.put_nowait({"type": "http.request", "body": content, "more_body": False})
                await self._run(scope, whole.get, send, receive(), self._left_s())
        except ZeroshotError as error:  # of this middleware: those of the routes are answered below it
            await respond(error, scope["path"])(scope, receive, send)
        finally:
            self.requests -= 1
            pipeline.in_flight -= places
            self.bytes_in_flight -= body.counted

    def _left_s(self) -> float:
        return max(0.0, current.get().deadline - time.monotonic())

    async def _run(
        self, scope: Scope, receive: Receive, send: Send, client_gone: Awaitable[object], limit_s: float | None
    ) -> None:
        """Have the request answered until its client leaves or its time is up."""
        work = asyncio.ensure_future(self.app(scope, receive, send))
        gone = asyncio.ensure_future(client_gone)
        try:
            await asyncio.wait((work, gone), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            if work.done() or gone.done():
                return
        finally:
            current.get().is_over = True
            gone.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
                if not work.cancelled():
                    work.exception()  # nobody waits for it
        if current.get().status is None:
            raise DeadlineExceeded(f"No answer within {self.timeout_s:g} s.", "Try again later.")

    def take(self, count: int) -> None:
        """Count bytes in, or refuse them."""
        if self.bytes_in_flight + count > self.max_bytes_in_flight:
            self.metrics.refused("memory")
            raise Overloaded(f"Bodies of {self.bytes_in_flight:,} bytes are being worked on.")
        self.bytes_in_flight += count


class _Body:
    """A request's body as it comes in."""

    def __init__(self, limits: Limits, receive: Receive) -> None:
        self.counted = 0
        self._limits = limits
        self._receive = receive
        self._complete = asyncio.Event()

    async def read(self, limit_s: float) -> bytes | None:
        """Read all of it, within bounds; None if the client has left."""
        parts = []
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    if self.counted + len(part) > self._limits.max_bytes:
                        raise self.too_large()
                    self._limits.take(len(part))
                    self.counted += len(part)
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            raise _no_body(f"The body did not come within {self._limits.timeout_s:g} s.") from error

    async def next_part(self) -> Message:
        """Give the next part of a stream, which is not counted: lines are dropped when they are done."""
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.timeout_s)
        except TimeoutError as error:
            raise _no_body(f"Nothing came for {self._limits.timeout_s:g} s.") from error
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._complete.set()
        return message

    async def client_gone(self) -> None:
        """Return when the client of a stream has left; it is listened for once the body is in."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def too_large(self) -> RequestError:
        """Refuse what has too many bytes."""
        self._limits.metrics.refused("size")
        most = self._limits.max_bytes
        return RequestError(
            413,
            "body-too-large",
            f"The body has more than {most:,} bytes.",
            "Send less, or raise ZEROSHOT_MAX_IMAGE_BYTES.",
        )


def _is_inference(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith(_INFERENCE) or (
        path.startswith("/v1/galleries/") and scope["method"] == "POST" and path.endswith(_INFERENCE_IN_GALLERY)
    )


def _no_body(message: str) -> RequestError:
    return RequestError(408, "request-timeout", message, "Send it again.")


async def _refuse(send: Send, retry_after_s: int) -> None:
    """Answer 503 with as little work as can be."""
    headers = [*_REFUSAL_HEADERS, (b"retry-after", b"%d" % retry_after_s)]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
