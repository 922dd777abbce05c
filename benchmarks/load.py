"""A load generator that costs next to nothing: HTTP/1.1 over asyncio's streams, closed or open loop, loopback only."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np


@dataclass
class Load:
    """What came of it."""

    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)  # of answers with status 200

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return self.statuses[200] / self.seconds

    def quantile(self, share: float) -> float:
        """A quantile of the good answers' latencies, in seconds."""
        return float(np.quantile(self.latencies, share)) if self.latencies else float("nan")


class Connection:
    """One keep-alive connection."""

    def __init__(self, url: str, path: str, content_type: str, body: bytes) -> None:
        parts = urlsplit(url)
        if parts.hostname not in ("127.0.0.1", "localhost"):
            raise ValueError(f"{url} is not on this machine")
        self._address = parts.hostname, parts.port
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
        self._request = f"{head}\r\n\r\n".encode() + body
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> int:
        """Send the request once, and give the status of the answer; 0 for a broken connection."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address)
            reader, writer = self._streams
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            status = int(head[9:12])
            if b"connection: close" in head:
                self.close()
            return status
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return 0

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def closed_loop(url: str, path: str, content_type: str, body: bytes, *, clients: int, seconds: float) -> Load:
    """So many clients, each asking again as soon as it has its answer."""
    result = Load(seconds)
    connections = [Connection(url, path, content_type, body) for _ in range(clients)]
    end = time.perf_counter() + seconds

    async def client(connection: Connection) -> None:
        while (start := time.perf_counter()) < end:
            status = await connection.ask()
            if time.perf_counter() < end:
                _note(result, status, time.perf_counter() - start)

    await asyncio.gather(*map(client, connections))
    for connection in connections:
        connection.close()
    return result


async def open_loop(url: str, path: str, content_type: str, body: bytes, *, rate: float, seconds: float) -> Load:
    """Requests at a rate that does not wait for answers; what is due goes out every 5 ms, which costs few timers."""
    result = Load(seconds)
    idle: list[Connection] = []
    running: set[asyncio.Task[None]] = set()
    begin = time.perf_counter()

    async def one() -> None:
        connection = idle.pop() if idle else Connection(url, path, content_type, body)
        start = time.perf_counter()
        _note(result, await connection.ask(), time.perf_counter() - start)
        idle.append(connection)

    sent = 0
    while sent < int(rate * seconds):
        await asyncio.sleep(0.005)
        due = int(rate * min(seconds, time.perf_counter() - begin))
        for _ in range(sent, due):
            task = asyncio.ensure_future(one())
            running.add(task)
            task.add_done_callback(running.discard)
        sent = due
    await asyncio.gather(*running)
    for connection in idle:
        connection.close()
    return result


def _note(result: Load, status: int, took: float) -> None:
    result.statuses[status] += 1
    if status == 200:
        result.latencies.append(took)
