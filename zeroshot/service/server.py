"""Run the application: uvicorn with bounded connections and a bounded end, and glibc's allocator kept small."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from zeroshot.errors import OptionError
from zeroshot.service.connections import Connection, ConnectionLimits, Connections

_LOG = logging.getLogger(__name__)
_BACKLOG = 2048
_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # of glibc's malloc.h
_ARENAS = 2
_TRIM_BYTES = 8 * 2**20
_DRAIN_TICK_S = 0.02
_CLOSE_S = 1.5  # after draining, for closing the application and ending threads
_UNANSWERED, _INTERRUPTED = 1, 130  # exit codes


class Server(uvicorn.Server):
    """A server with bounded connections and an end: what was accepted is answered, as long as the time to drain allows.

    Parameters
    ----------
    config : uvicorn.Config
        Application and logging; the protocol is ours.
    limits : ConnectionLimits or None
        Bounds of connections; the defaults when None.
    drain_timeout_s : float
        Most seconds between the order to stop and the end of answering.
    on_hangup : callable
        Called, in a thread, at SIGHUP.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        limits: ConnectionLimits | None = None,
        drain_timeout_s: float = math.inf,
        on_hangup: Callable[[], object] = lambda: None,
    ) -> None:
        self.clients = Connections(limits or ConnectionLimits())
        config.http = partial(Connection, self.clients)  # type: ignore[assignment]  # it is only called
        config.ws = "none"
        super().__init__(config)
        self.drain_timeout_s = drain_timeout_s
        self._on_hangup = on_hangup
        self._watch: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Begin to drain on SIGTERM and SIGINT; a second SIGINT ends the process at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals come to the main thread alone
            return
        handlers: dict[signal.Signals, Callable[..., None]] = {
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_exit,
        }
        if sys.platform != "win32":
            handlers[signal.SIGHUP] = lambda *_: threading.Thread(target=self._on_hangup, daemon=True).start()
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to drain, or end."""
        if self.should_exit and sig == signal.SIGINT:
            os.write(2, b"stopped at once, by a second SIGINT\n")
            os._exit(_INTERRUPTED)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and watch the connections."""
        await super().startup(sockets)
        self._watch = asyncio.get_running_loop().create_task(self.clients.watch())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, answer what was asked, and close the application."""
        for listener in self.servers:
            listener.close()
        for one in sockets or []:
            one.close()
        end = time.monotonic() + self.drain_timeout_s
        self.clients.drain()
        while (self.clients.open or self.server_state.tasks) and time.monotonic() < end:
            await asyncio.sleep(_DRAIN_TICK_S)
        self.clients.cut()
        if self._watch is not None:
            self._watch.cancel()
        await self.lifespan.shutdown()


class _OnlyServer(Server):
    """A server that has the process to itself."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and call gc.freeze(): so that garbage collection skips what was loaded at startup."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, and see to it that the process ends, whatever its threads do."""
        if not self.should_exit:
            threading.Thread(target=self._end_in_time, name="zeroshot-end", daemon=True).start()
        super().handle_exit(sig, frame)

    def say_how_it_ended(self) -> int:
        """Log what was answered, and give the exit code."""
        unanswered = self.clients.count_unanswered()
        level = logging.ERROR if unanswered else logging.INFO
        counts = self.clients.answered, unanswered
        _LOG.log(level, "stopped; since the order to stop %d requests were answered, and %d were not", *counts)
        return _UNANSWERED if unanswered else 0

    def _end_in_time(self) -> None:
        time.sleep(self.drain_timeout_s + _CLOSE_S)
        _LOG.warning("threads are still at work %g s after the order to stop", self.drain_timeout_s + _CLOSE_S)
        code = self.say_how_it_ended()
        logging.shutdown()
        os._exit(code)


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


def serve(
    app: ASGIApp, bound: socket.socket, *, drain_timeout_s: float, on_hangup: Callable[[], object] = lambda: None
) -> int:
    """Answer until told to stop; then answer what was accepted.

    Parameters
    ----------
    app : ASGI application
        Answers.
    bound : socket
        See ``bind``.
    drain_timeout_s : float
        Most seconds between the order to stop and the end of answering.
    on_hangup : callable
        Called, in a thread, at SIGHUP.

    Returns
    -------
    int
        The exit code: 0 if every accepted request was answered, else 1. Where threads do not end, the process does,
        with that code, and this does not return.
    """
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, date_header=False, backlog=_BACKLOG
    )
    server = _OnlyServer(config, drain_timeout_s=drain_timeout_s, on_hangup=on_hangup)
    host, port = bound.getsockname()[:2]
    _LOG.info("serving http://%s:%d, /docs describes it", f"[{host}]" if ":" in host else host, port)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    server.run(sockets=[bound])
    return server.say_how_it_ended()


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Drop uvicorn's tracebacks of requests that end with the server: they are counted."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
