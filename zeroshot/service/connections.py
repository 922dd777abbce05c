"""The connections of the server: how much a head may have, how long one may wait, and how many there may be.

uvicorn bounds none of it. What a client sends before the application sees it, and what it does not read afterwards, is
counted here, so that it costs little and ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from zeroshot.service.problems import problem

_SWEEP_S = 0.5
_LINGER_S = 3.0  # what a client that was answered early has to stop sending, and to read the answer
_PIPELINED = 16  # requests sent before their turn; after them the connection is closed
_OVERHEAD = 64  # bytes of framing that a byte of a body may have: chunks of one byte have 5
_PROGRESS = 16 * 1024  # bytes that a client has to read within the write timeout
_HEADS = 16 * 2**20  # bytes of all heads that are not whole yet
_RESERVED = 256  # file descriptors for everything else: databases, models, temporary files
_FEWEST, _MOST = 16, 10_000  # connections


def connections_by_descriptors() -> int:
    """Say how many connections the file descriptors of this process allow, after asking for more of them.

    Returns
    -------
    int
        At most 10,000; some descriptors are left for databases, models and temporary files.
    """
    if sys.platform == "win32":
        return _MOST
    import resource

    wanted = _MOST + _RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _MOST
    return max(_FEWEST, soft - _RESERVED, soft // 2)


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds of every connection; sizes are in bytes, times in seconds.

    Parameters
    ----------
    head : int
        Most bytes of a request line and its headers.
    headers : int
        Most headers.
    head_timeout_s : float
        How long a head may take to come, from the opening of the connection or from its own first byte.
    keep_alive_s : float
        How long a connection is kept between requests.
    write_timeout_s : float
        How long a client may read next to nothing of its answer.
    count : int
        Most connections; beyond it those that have waited longest for a request are closed.
    """

    head: int = 64 * 1024
    headers: int = 128
    head_timeout_s: float = 10.0
    keep_alive_s: float = 75.0  # longer than what load balancers keep idle connections for (60 s): they close first
    write_timeout_s: float = 30.0
    count: int = field(default_factory=connections_by_descriptors)


class Connections:
    """All connections of one server."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.open: set[Connection] = set()
        self.idle: OrderedDict[Connection, None] = OrderedDict()  # those without a request, the longest waiting first
        self.head_bytes = 0
        self.answered = self.unanswered = 0  # requests, since draining began
        self.is_draining = False

    def make_room(self, newcomer: Connection) -> bool:
        """Close the connection that has waited longest, of the address that most wait from; if none waits, say so."""
        waiting = Counter(one.address for one in self.idle)
        address, _ = waiting.most_common(1)[0]
        oldest = next(one for one in self.idle if one.address == address)
        if oldest is newcomer:
            return False
        oldest.drop()
        return True

    def sweep(self) -> None:
        """Close what has waited too long."""
        now = time.monotonic()
        for connection in list(self.open):
            if connection.is_overdue(now):
                connection.drop()

    async def watch(self) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.sweep()

    def drain(self) -> None:
        """Close what waits for a request, and what is answered from now on."""
        self.is_draining, self.answered = True, 0
        for connection in list(self.open):
            connection.shutdown()

    def cut(self) -> None:
        """Close everything; the requests that get no answer are counted."""
        for connection in list(self.open):
            connection.drop()

    def count_unanswered(self) -> int:
        """How many requests have got no answer since draining began, those at work included."""
        return self.unanswered + sum(one.unanswered for one in list(self.open))


class Connection(HttpToolsProtocol):
    """One connection: uvicorn's, bounded."""

    def __init__(self, connections: Connections, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.address = ""
        self._all = connections
        self._limits = connections.limits
        self._in_head = False  # between a head's first byte and its last
        self._is_whole = True  # the last request's body is in
        self._is_over = False  # nothing that comes is read any more
        self._has_left = False
        self._has_begun = False  # a request, within what came last
        self._head_bytes = 0
        self._raw = self._body = 0  # bytes of the body as sent, and as meant
        self._since = 0.0
        self._unread = 0  # bytes that the client has not read, and since when hardly any
        self._unread_since = 0.0

    @property
    def unanswered(self) -> int:
        """How many of its requests have no whole answer yet; none once the client has left."""
        if self._has_left:
            return 0
        at_work = bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)
        return len(self.pipeline) + at_work

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it in; where there are too many, another or this one has to go."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._all.open.add(self)
        self._become_idle()
        beyond = len(self._all.open) - self._limits.count
        if beyond > 0 and not self._all.make_room(self):
            if beyond > _FEWEST:
                self.drop()
            else:
                self._refuse(503, "overloaded", "The server has as many connections as it takes. Try again later.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._has_left = self._has_left or exc is not None
        self._forget()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Note that the client has left; its requests are not ones that got no answer."""
        self._has_left = True

    def data_received(self, data: bytes) -> None:
        """Read what came, within the bounds."""
        if self._is_over or self.transport.is_closing():
            return
        was_in_head, was_whole = self._in_head, self._is_whole
        if was_whole and not was_in_head and not data.strip(b"\r\n"):
            return  # empty lines before a request; the time goes on
        self._has_begun = False
        super().data_received(data)
        if self._is_over:
            return
        if self._in_head:
            if was_in_head and not self._has_begun:
                self._head_bytes += len(data)
                self._all.head_bytes += len(data)
            if self._head_bytes > self._limits.head:
                self._refuse_head()
            elif self._all.head_bytes > _HEADS:
                self._drop_a_head()
        elif not self._is_whole and not was_whole and not self._has_begun:
            self._raw += len(data)
            if self._raw > _OVERHEAD * self._body + self._limits.head:
                self._refuse(400, "invalid-request", "The body has more framing than content.")

    def handle_websocket_upgrade(self) -> None:
        """Refuse: there are none."""
        raise NotImplementedError

    def _unsupported_upgrade_warning(self) -> None:
        """Answer the request as if no upgrade were asked for, and close: what follows would be in another protocol."""
        self._is_over = True
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Answer what is no HTTP."""
        if self.parser is not None and not self._is_over:
            self._refuse(400, "invalid-request", "This is not a valid HTTP/1.1 request.")

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._forget_head()
        self._has_begun = self._in_head = True
        self._is_whole = False
        self._raw = self._body = 0
        if self in self._all.idle:
            self._since = time.monotonic()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers, which come after the body, are left out."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head, and pass the request on."""
        self._forget_head()
        if self._is_over:
            return
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._limits.head or len(self.headers) > self._limits.headers:
            self._refuse_head()
            return
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            self._refuse(400, "invalid-request", "A request is HTTP/1.1 or HTTP/1.0, and has one header Host.")
            return
        if len(self.pipeline) >= _PIPELINED or (self._all.is_draining and self.cycle):
            self._is_over = True
            self.cycle.keep_alive = False  # the last that is answered
            return
        self._all.idle.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._is_over:
            self._body += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._is_whole = True
        if not self._is_over:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Count the answer, and wait for the next request."""
        super().on_response_complete()
        self._all.answered += 1
        if not self.pipeline and not self.transport.is_closing():
            self._become_idle()
            if self._all.is_draining:
                self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Leave it to the sweep."""

    def is_overdue(self, now: float) -> bool:
        """Whether the client takes too long: to send a head, to end a refused body, to read."""
        if self._is_stuck(now):
            return True
        if self not in self._all.idle:
            return False
        if self._is_over or not self._is_whole:
            waits = self._limits.head_timeout_s if self._in_head else _LINGER_S
        elif self.cycle is None:
            waits = self._limits.head_timeout_s
        else:
            waits = self._limits.keep_alive_s
        return now - self._since > waits

    def drop(self) -> None:
        """Close it now."""
        self._forget()
        self.transport.abort()

    def _is_stuck(self, now: float) -> bool:
        """Whether there is an answer of which next to nothing was read for too long."""
        unread = self.transport.get_write_buffer_size()
        if unread == 0 or unread > self._unread or self._unread - unread >= _PROGRESS:
            self._unread, self._unread_since = unread, now
            return False
        return now - self._unread_since > self._limits.write_timeout_s

    def _become_idle(self) -> None:
        self._since = time.monotonic()
        self._all.idle.pop(self, None)
        self._all.idle[self] = None

    def _forget(self) -> None:
        if self._all.is_draining:
            self._all.unanswered += self.unanswered
        self._has_left = True
        self._forget_head()
        self._all.open.discard(self)
        self._all.idle.pop(self, None)

    def _forget_head(self) -> None:
        self._all.head_bytes -= self._head_bytes
        self._head_bytes, self._in_head = 0, False

    def _drop_a_head(self) -> None:
        largest = max((one for one in self._all.idle if one._in_head), key=lambda one: one._head_bytes, default=self)
        largest.drop()

    def _refuse_head(self) -> None:
        limits = self._limits
        self._refuse(
            431,
            "head-too-large",
            f"The request's line and headers have more than {limits.head:,} bytes, or are more than {limits.headers}.",
        )

    def _refuse(self, status: int, slug: str, detail: str) -> None:
        """Answer, read nothing more, and close when the client has had time to read."""
        in_what_follows = self._is_whole or self._in_head
        self._forget_head()
        self._is_over = True
        if self.transport.is_closing():
            return
        if self.unanswered and in_what_follows:
            self.cycle.keep_alive = False  # what was asked before is answered
            return
        if self.unanswered:
            if self.pipeline or self.cycle.response_started:
                self.drop()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        answer = problem(status, slug, detail)
        head = b"".join(b"%s: %s\r\n" % pair for pair in [*answer.raw_headers, (b"connection", b"close")])
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + bytes(answer.body))
        self._become_idle()
        if self.transport.can_write_eof():
            self.transport.write_eof()
