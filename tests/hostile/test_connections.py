"""What a connection can send around a request, or refuse to read: each is answered or closed, and costs little."""

from __future__ import annotations

import json
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.hostile.harness import PATIENCE_S, HostileServer, hostile_server, watched

pytestmark = pytest.mark.slow

MB = 10**6
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileServer]:
    with hostile_server(tmp_path_factory.mktemp("hostile"), open_files=1024, ZEROSHOT_REQUEST_TIMEOUT_S="2") as running:
        yield running


def endless(part: bytes, total: int = 100 * MB) -> Iterator[bytes]:
    """The same again and again, in large pieces."""
    piece = part * (2**20 // len(part) + 1)
    for _ in range(total // len(piece) + 1):
        yield piece


def send(connection: socket.socket, *parts: bytes | Iterator[bytes]) -> None:
    """Send until the server has had enough."""
    with suppress(OSError):
        for part in parts:
            for piece in [part] if isinstance(part, bytes) else part:
                connection.sendall(piece)


def read_all(connection: socket.socket, timeout_s: float = PATIENCE_S) -> bytes:
    """Read until the server closes."""
    connection.settimeout(timeout_s)
    found = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            found += part
    return found


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Read until something has come."""
    found = b""
    while end not in found:
        part = connection.recv(65536)
        assert part, f"closed after {found!r}"
        found += part
    return found


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "a URL": (b"GET /", b"a"),
    "a query": (b"GET /healthz?labels=", b"a&labels="),
    "a method": (b"", b"A"),
    "one header": (b"GET /healthz HTTP/1.1\r\nX: ", b"a"),
    "many headers": (b"GET /healthz HTTP/1.1\r\n", b"X-Some: thing\r\n"),
    "a header's name": (b"GET /healthz HTTP/1.1\r\n", b"a"),
    "a chunk's extension": (CHUNKED + b"5;a=", b"b"),
    "a chunk's size": (CHUNKED, b"0"),
    "trailers": (CHUNKED + b"0\r\n", b"X-Some: thing\r\n"),
    "one trailer": (CHUNKED + b"0\r\nX: ", b"a"),
    "chunks of one byte with an extension": (CHUNKED, b"1;" + b"a" * 200 + b"\r\nx\r\n"),
    "empty lines": (b"", b"\r\n"),
    "requests before their turn": (b"", ASK),
    "a refused body": (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"a"),
    "a refused body in chunks": (
        b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b"a" * 0x10000 + b"\r\n",
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_ended(server: HostileServer, name: str) -> None:
    first, rest = ENDLESS[name]
    with watched(server) as watch, server.connect() as connection:
        done = threading.Event()

        def write() -> None:
            send(connection, first, endless(rest, 2_000 * MB))
            done.set()

        threading.Thread(target=write, daemon=True).start()
        if name != "requests before their turn":
            answer = read_all(connection)
            assert answer.split(b"\r\n")[0][9:12] in (b"", b"400", b"404", b"405", b"408", b"413", b"431"), answer[:200]
        else:
            assert read_all(connection).count(b"200 OK") >= 16
        connection.close()
        assert done.wait(PATIENCE_S)
    assert watch.growth < 100 * MB


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/0.9\r\n\r\n", b"400"),
        (b"GET /\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
        (HEAD + b"Content-Length: -2\r\n\r\n{}", b"400"),
        (HEAD + b"Content-Length: 1e3\r\n\r\n{}", b"400"),
        (HEAD + b"Transfer-Encoding: identity, chunked, gzip\r\n\r\n0\r\n\r\n", b"400"),
        (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", b"400"),
        (CHUNKED + b"ffffffffffffffffff\r\n", b"400"),
        (CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 65536 + b"\r\n\r\n", b"431"),
        (ASK[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\nrubbish", b"200"),
        (ASK[:-2] + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n", b"200"),
        (ASK[:-2] + b"Connection: close\r\n\r\nrubbish", b"200"),
        (ASK + b"rubbish\r\n\r\n", b"200"),
        (HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", b"100"),
        (HEAD + b"Content-Length: 2\r\n\r\n{", b"408"),
        (CHUNKED + b"5\r\n{", b"408"),
    ],
)
def test_what_is_not_quite_http_is_answered_and_closed(server: HostileServer, sent: bytes, status: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        answer = read_all(connection)
    assert answer.split(b"\r\n")[0].split(b" ")[1:2] == [status], answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    if status in (b"400", b"431") and b"problem+json" in head.lower():
        assert json.loads(body)["detail"]
    assert server.ask("GET", "/healthz")[0] == 200


HALVES = {"nothing": b"", "half a line": b"GET /heal", "half a head": b"GET /healthz HTTP/1.1\r\nHost: loc"}


def test_a_thousand_connections_that_say_half_of_anything_lock_nobody_out(server: HostileServer) -> None:
    with watched(server, wait_s=1.0), ExitStack() as stack:
        held = []
        for number in range(1_500):
            connection = stack.enter_context(server.connect())
            held.append(connection)
            with suppress(OSError):
                connection.sendall(list(HALVES.values())[number % 3])
        time.sleep(1)
    with watched(server, wait_s=1.0), ExitStack() as stack:  # and kept ones that have asked once
        for _ in range(1_500):
            connection = stack.enter_context(server.connect())
            with suppress(OSError):
                connection.sendall(ASK)
                connection.recv(100)


def test_half_of_anything_and_what_is_not_read_is_given_up(server: HostileServer) -> None:
    large = {"name": "large", "labels": [{"name": f"label {n}", "descriptions": ["x" * 900]} for n in range(9_000)]}
    assert server.ask("POST", "/v1/label-sets", json.dumps(large).encode())[0] == 201
    before = sockets(server)
    with watched(server) as watch, ExitStack() as stack:
        unread = [stack.enter_context(server.connect()) for _ in range(5)]
        for connection in unread:
            connection.sendall(b"GET /v1/label-sets/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        halves = {name: stack.enter_context(server.connect()) for name in HALVES}
        for name, connection in halves.items():
            connection.sendall(HALVES[name])
        begun = time.monotonic()
        waiting = dict(halves)
        while waiting:
            assert time.monotonic() < begun + PATIENCE_S
            time.sleep(0.5)
            for name, connection in list(waiting.items()):
                if select.select([connection], [], [], 0)[0]:
                    assert read_all(connection) == b""
                    del waiting[name]
                elif name != "nothing":
                    with suppress(OSError):
                        connection.sendall(b"x")  # a byte now and then keeps nothing open
        assert 5 < time.monotonic() - begun < 30
        while sockets(server) > before + 1:  # the probe's
            assert time.monotonic() < begun + 2 * PATIENCE_S
            time.sleep(0.5)
    assert watch.growth < 200 * MB


def sockets(server: HostileServer) -> int:
    """How many sockets the server has open."""
    found = 0
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(OSError):
            found += str(link.readlink()).startswith("socket:")
    return found


def test_stopping_tells_how_many_got_no_answer(tmp_path: Path) -> None:
    with hostile_server(tmp_path, drain_s=2) as server, ExitStack() as stack:
        idle, half, *slow = [stack.enter_context(server.connect()) for _ in range(7)]
        idle.sendall(ASK)
        assert idle.recv(100)
        half.sendall(HALVES["half a head"])
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        time.sleep(0.5)
        took = server.stop()
        assert took <= server.drain_s + 2.5
        unanswered = sum(read_all(one) == b"" for one in slow)
        assert f"and {unanswered} were not" in server.log
        assert unanswered == 5
        assert server.process.returncode == 1


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    with hostile_server(tmp_path, drain_s=60) as server, server.connect() as slow:
        slow.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        time.sleep(0.5)
        server.process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 130


def test_a_hangup_changes_the_log_level_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZEROSHOT_LOG_LEVEL=error\n")
    with hostile_server(tmp_path) as server:
        server.ask("GET", "/v1/models")
        assert "/v1/models" not in server.log
        (tmp_path / ".env").write_text("ZEROSHOT_LOG_LEVEL=info\n")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        server.ask("GET", "/v1/models")
        assert "/v1/models" in server.log
        (tmp_path / ".env").write_text("ZEROSHOT_LOG_LEVEL=nonsense\n")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert server.ask("GET", "/healthz")[0] == 200
        assert "nonsense" in server.log


def test_a_request_right_behind_a_body_that_was_refused_is_answered(server: HostileServer) -> None:
    body = b"x" * 300_000
    refused = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n"
    for cut in (1, 1_000, 100_000):
        with server.connect() as connection:
            connection.sendall(refused + body[:-cut])
            assert b" 405 " in read_until(connection, b"see /docs")
            connection.sendall(body[-cut:] + refused + body[:100_000])
            assert b" 405 " in read_until(connection, b"see /docs")
