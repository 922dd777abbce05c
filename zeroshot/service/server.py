"""Run the application: uvicorn with graceful shutdown, and glibc's allocator kept small."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from zeroshot.errors import OptionError

_LOG = logging.getLogger(__name__)
_BACKLOG = 2048
_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # of glibc's malloc.h
_ARENAS = 2
_TRIM_BYTES = 8 * 2**20
_KEEP_ALIVE_S = 75  # longer than what load balancers keep idle connections for (60 s), so that they close first


class Server(uvicorn.Server):
    """A server with graceful shutdown: what was accepted is answered, and the exit code is 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Begin to drain on SIGTERM and SIGINT; a second SIGINT gives up what is not answered yet."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals come to the main thread alone
            return
        former = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


class _OnlyServer(Server):
    """A server that has the process to itself."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and call gc.freeze(): so that garbage collection skips what was loaded at startup."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()


def bound_memory() -> None:
    """Limit glibc's malloc to two arenas, and trim them.

    By default it gives every thread an arena, which keeps what its largest images took. A few megabytes at the top are
    left, so that not every image goes to the kernel and back. Call it before there are threads. MALLOC_ARENA_MAX in
    the environment wins; other C libraries are left as they are.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    with suppress(OSError, AttributeError, TypeError):  # no such function: musl, macOS, Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def bind(host: str, port: int) -> socket.socket:
    """Take an address before anything slow is done."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise OptionError(
            f"The address {host}:{port} cannot be bound: {error.strerror or error}.",
            "Stop what uses it, or choose another --port (0 picks a free one).",
            field="port",
        ) from error
    bound.set_inheritable(True)
    return bound


def serve(app: ASGIApp, bound: socket.socket, *, drain_timeout_s: float) -> None:
    """Answer until told to stop; then answer what was accepted, and return."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(drain_timeout_s) or None,
    )
    host, port = bound.getsockname()[:2]
    _LOG.info("serving http://%s:%d, /docs describes it", f"[{host}]" if ":" in host else host, port)
    _OnlyServer(config).run(sockets=[bound])
    _LOG.info("stopped; every accepted request was answered")
