"""The outermost ASGI middleware: every request gets an id, a deadline, security headers, a log line and its metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroshot.service.context import RequestContext, entered
from zeroshot.service.logs import ACCESS
from zeroshot.service.metrics import Metrics
from zeroshot.service.tracing import Tracing

_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
_PAGES = (b"default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
          b"img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'")  # fmt: skip
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
_PAGE_HEADERS = [*_HEADERS[:3], (b"content-security-policy", _PAGES)]
_QUIET = frozenset(["/healthz", "/readyz", "/metrics"])  # asked every few seconds: logged when they fail
_PAGES_AT = ("/docs", "/redoc", "/static-offline-docs")


class Observing:
    """Note what happens to every request."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, timeout_s: float, tracing: Tracing | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.timeout_s = timeout_s
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and take note of its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.monotonic()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        identity = given if _ID.fullmatch(given) else uuid.uuid4().hex.encode()
        context = RequestContext(identity.decode(), start + self._timeout(headers.get(b"x-request-timeout")))
        more = _PAGE_HEADERS if scope["path"].startswith(_PAGES_AT) else _HEADERS
        status = 499  # what is logged for a client that left before its answer
        noted = False

        def note() -> None:
            nonlocal noted
            if not noted:
                noted = True
                self._note(scope, headers, context, status, time.monotonic() - start)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *more, (b"x-request-id", identity)]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                note()  # before the last byte: who has the whole answer finds it counted
            await send(message)

        with entered(context):
            try:
                await self.app(scope, receive, noting)
            finally:
                note()

    def _timeout(self, asked: bytes | None) -> float:
        with suppress(TypeError, ValueError):
            seconds = float(asked)  # type: ignore[arg-type]  # None is a TypeError
            if 0 < seconds < self.timeout_s:
                return seconds
        return self.timeout_s

    def _note(
        self, scope: Scope, headers: dict[bytes, bytes], context: RequestContext, status: int, took_s: float
    ) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(method, route, status).inc()
        self.metrics.seconds.labels(route).observe(took_s)
        for stage in ("fetch", "decode", "text", "rank"):  # queue and encode are counted batch by batch
            if stage in context.stages:
                began, ended = context.stages[stage]
                self.metrics.stages.labels(stage).observe(ended - began)
        if scope["path"] not in _QUIET or status >= 400:
            level = logging.ERROR if status >= 500 and status != 503 else logging.INFO
            if ACCESS.isEnabledFor(level):
                client = scope.get("client")
                facts = {
                    "status": status,
                    "ms": round(1e3 * took_s, 1),
                    "caller": context.caller,
                    "client": client[0] if client else "-",
                    **{f"{name}_ms": round(1e3 * (end - begin), 1) for name, (begin, end) in context.stages.items()},
                }
                if context.pictures:
                    facts["pictures"] = context.pictures
                ACCESS.log(level, "%s %s", method, _loggable(scope["path"]), extra=facts)
        if self.tracing is not None:
            text = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
            self.tracing.record(context, text, {"method": method, "route": route, "status": status}, took_s)


def _loggable(path: str) -> str:
    """A path without what would break a line or go on for ever; the query, which may hold labels, is not in it."""
    return "".join(character if character.isprintable() else "?" for character in path[:200])
