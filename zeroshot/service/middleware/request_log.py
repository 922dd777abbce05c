"""The outermost ASGI middleware: every request gets an id, a deadline, security headers, a log line and its metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroshot.service.config import ServiceConfig
from zeroshot.service.context import RequestContext, current
from zeroshot.service.log_config import ACCESS
from zeroshot.service.metrics import Metrics

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


class RequestLog:
    """Log and count every request."""

    def __init__(self, app: ASGIApp, config: ServiceConfig, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        self.timeout_s = config.request_timeout_s
        self.tracing = config.tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and record its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.monotonic()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        identity = given if _ID.fullmatch(given) else uuid.uuid4().hex.encode()
        context = RequestContext(identity.decode(), start + self._timeout(headers.get(b"x-request-timeout")))
        more = _PAGE_HEADERS if scope["path"].startswith(_PAGES_AT) else _HEADERS
        recorded = False

        def record() -> None:
            nonlocal recorded
            recorded = True
            self._record(scope, headers, context, time.monotonic() - start)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                own = [(b"x-request-id", identity)]
                if context.stages:
                    own.append((b"server-timing", _server_timing(context)))
                message["headers"] = [*message["headers"], *more, *own]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                record()  # before the last byte, so that /metrics includes it
            await send(message)

        token = current.set(context)
        try:
            await self.app(scope, receive, send_on)
        finally:
            current.reset(token)
            if not recorded:
                record()

    def _timeout(self, asked: bytes | None) -> float:
        with suppress(TypeError, ValueError):
            seconds = float(asked)  # type: ignore[arg-type]  # None is a TypeError
            if 0 < seconds < self.timeout_s:
                return seconds
        return self.timeout_s

    def _record(self, scope: Scope, headers: dict[bytes, bytes], context: RequestContext, took_s: float) -> None:
        status = context.status or 499  # the client left before its answer
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.metrics.requests.labels(method, route, status).inc()
        self.metrics.seconds.labels(route).observe(took_s)
        for stage, (began, ended) in context.stages.items():
            if stage not in ("queue", "encode"):  # these are counted batch by batch
                self.metrics.stage[stage].observe(ended - began)
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
                if context.images:
                    facts["images"] = context.images
                ACCESS.log(level, "%s %s", method, _loggable(scope["path"]), extra=facts)
        if self.tracing is not None:
            text = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
            self.tracing.record(context, text, {"method": method, "route": route, "status": status}, took_s)


def _server_timing(context: RequestContext) -> bytes:
    """The stages in the form of the header Server-Timing, in milliseconds."""
    parts = (f"{name};dur={1e3 * (ended - began):.1f}" for name, (began, ended) in context.stages.items())
    return ", ".join(parts).encode()


def _loggable(path: str) -> str:
    """A path, printable and cut; the query, which may hold labels, is not in it."""
    return "".join(character if character.isprintable() else "?" for character in path[:200])
