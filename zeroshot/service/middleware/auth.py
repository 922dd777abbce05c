"""ASGI middleware that checks host names, origins, API keys and rates."""

from __future__ import annotations

import math
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from zeroshot.errors import quote
from zeroshot.service.api_keys import RateLimit
from zeroshot.service.config import ServiceConfig
from zeroshot.service.context import current
from zeroshot.service.metrics import Metrics
from zeroshot.service.problems import problem

PUBLIC = frozenset(["/", "/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"])
"""Paths that need no key: they reveal nothing and cost next to nothing."""

_PUBLIC_BELOW = "/static-offline-docs/"
LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])
_READS = frozenset(["GET", "HEAD", "OPTIONS"])


class Auth:
    """Let a request in, or answer 401, 403 or 429."""

    def __init__(self, app: ASGIApp, config: ServiceConfig, metrics: Metrics) -> None:
        self.app = app
        self.keys = config.keys
        self.needs_key = bool(config.keys)
        self.hosts = frozenset(host.lower() for host in config.allowed_hosts)
        self.origins = frozenset(config.cors_origins)
        self.rate = RateLimit(config.rate_limit_per_minute) if config.rate_limit_per_minute else None
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, and pass on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _READ_HEADERS}
        refusal = self._check_origin(scope, headers) or self._check_caller(scope, headers)
        await (refusal or self.app)(scope, receive, send)

    def _check_origin(self, scope: Scope, headers: dict[bytes, str]) -> ASGIApp | None:
        host = headers.get(b"host", "")
        if self.hosts and _host_name(host) not in self.hosts:
            self.metrics.refused("host")
            detail = f"This server does not answer to the host {quote(host)}. Add it to ZEROSHOT_ALLOWED_HOSTS."
            return problem(403, "host-refused", detail)
        origin = headers.get(b"origin")
        if origin is None or scope["method"] in _READS or origin in self.origins:
            return None
        if urlsplit(origin).netloc == host:
            return None
        self.metrics.refused("origin")
        detail = f"Pages of {quote(origin)} may not change anything here. Add it to ZEROSHOT_CORS_ORIGINS."
        return problem(403, "origin-refused", detail)

    def _check_caller(self, scope: Scope, headers: dict[bytes, str]) -> ASGIApp | None:
        path = scope["path"]
        if path in PUBLIC or path.startswith(_PUBLIC_BELOW) or scope["method"] == "OPTIONS":
            return None
        caller = f"address {(scope.get('client') or ('unknown',))[0]}"
        if self.needs_key:
            key = headers.get(b"x-api-key") or _bearer(headers.get(b"authorization", ""))
            name = self.keys.find(key) if key else None
            if name is None:
                self.metrics.refused("key")
                detail = "The API key is not known." if key else "An API key is needed."
                return problem(
                    401,
                    "unauthorized",
                    f"{detail} Send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.",
                    headers={"WWW-Authenticate": "Bearer"},
                    path=path,
                )
            caller = current.get().caller = name
        current.get().share = caller
        wait = 0.0 if self.rate is None else self.rate.take(caller)
        if wait == 0 or self.rate is None:
            return None
        self.metrics.refused("rate")
        return problem(
            429,
            "rate-limited",
            f"More than {self.rate.per_minute} requests a minute. Try again in {wait:.1f} s.",
            headers={"Retry-After": str(math.ceil(wait))},
            path=path,
        )


_READ_HEADERS = frozenset([b"host", b"origin", b"authorization", b"x-api-key"])


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name.strip("[]").lower()


def _bearer(value: str) -> str:
    scheme, _, key = value.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
