"""Start a server under limits, attack it while everybody else's requests are watched, measure, and stop it.

An attack is ten lines::

    with hostile_server(tmp_path) as server, watched(server):
        with server.connect() as attacker:
            attacker.sendall(b"GET /" + bytes(10**8))
"""

from __future__ import annotations

import http.client
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import environment, wait_until_ready

MEMORY = 4 * 2**30
"""Bytes of address space that a server under attack has."""
GROWTH = 300 * 2**20
"""Bytes by which an attack may make a server grow."""
PATIENCE_S = 60.0
"""Longest wait of a driver for anything; a test that waits longer fails."""


@dataclass
class HostileServer:
    """A ``zeroshot serve`` in a process of its own, and what is known of it."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    drain_s: float

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / "log").read_text(errors="replace")

    def connect(self, timeout_s: float = PATIENCE_S) -> socket.socket:
        """Open a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def memory(self) -> int:
        """Bytes of memory that it holds now."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """Most bytes of memory that it has held."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(f"process {self.process.pid} has ended")

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> tuple[int, bytes]:
        """Send one request over a new connection: the status and the body of its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self) -> float:
        """Send SIGTERM and wait until it is gone: after how many seconds; it must not outlive its drain time."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(self.drain_s + PATIENCE_S)
        return time.monotonic() - begun


@contextmanager
def hostile_server(
    folder: Path,
    *arguments: str,
    memory: int = MEMORY,
    open_files: int | None = None,
    drain_s: float = 5,
    **variables: str,
) -> Iterator[HostileServer]:
    """Run a server under limits; in the end it must be alive, and its log without a traceback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    folder.mkdir(exist_ok=True)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "zeroshot", "serve", "--port", str(port), *arguments],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment(folder, ZEROSHOT_DRAIN_TIMEOUT_S=f"{drain_s:g}", **variables),
        )
    resource.prlimit(process.pid, resource.RLIMIT_AS, (memory, memory))
    if open_files is not None:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_files, open_files))
    server = HostileServer(process, port, folder, drain_s)
    try:
        wait_until_ready(server.url, process)
        yield server
        if process.returncode is None:  # else the test has stopped it
            assert process.poll() is None, f"the server has ended: {server.log[-2000:]}"
            server.stop()
        assert "Traceback" not in server.log
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


@dataclass
class Watch:
    """How a server did while it was attacked."""

    before: int
    """Bytes of memory at the beginning."""
    most: int = 0
    """Most bytes of memory seen."""
    waits_s: list[float] = field(default_factory=list)
    """Seconds until each probe was answered."""
    failures: list[str] = field(default_factory=list)
    """Probes that were not answered with 200."""

    @property
    def growth(self) -> int:
        """Bytes of memory that the attack took at most."""
        return max(0, self.most - self.before)


@contextmanager
def watched(
    server: HostileServer, *, growth: int = GROWTH, wait_s: float = 0.5, worst_s: float = 3.0, path: str = "/healthz"
) -> Iterator[Watch]:
    """Probe a server throughout, as a new caller does each time: it must answer soon, and its memory be bounded.

    Nineteen of twenty probes have to be answered within `wait_s`, and all within `worst_s`: the attacker and the probe
    share the machine with the server.
    """
    watch = Watch(before=server.memory())
    over = threading.Event()

    def probe() -> None:
        while not over.is_set():
            begun = time.monotonic()
            try:
                status, body = server.ask("GET", path, timeout_s=PATIENCE_S)
                if status != 200:
                    watch.failures.append(f"{status} {body[:200]!r}")
            except (OSError, http.client.HTTPException) as error:
                watch.failures.append(repr(error))
            watch.waits_s.append(time.monotonic() - begun)
            over.wait(0.05)

    def measure() -> None:
        with suppress(OSError):  # it has ended; the probe will tell
            while not over.is_set():
                watch.most = max(watch.most, server.memory())
                over.wait(0.02)

    threads = [threading.Thread(target=work, daemon=True) for work in (probe, measure)]
    for thread in threads:
        thread.start()
    try:
        yield watch
    finally:
        over.set()
        for thread in threads:
            thread.join(2 * PATIENCE_S)
    ordered = sorted(watch.waits_s)
    seen = f"{len(ordered)} probes, median {ordered[len(ordered) // 2]:.3f} s, worst {ordered[-1]:.3f} s, "
    seen += f"{watch.growth / 2**20:.0f} MiB grown"
    assert not watch.failures, f"{watch.failures[:3]}; {seen}"
    assert ordered[int(0.95 * (len(ordered) - 1))] <= wait_s, seen
    assert ordered[-1] <= worst_s, seen
    assert watch.growth <= growth, seen


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileServer]:
    """A server that the attacks of one module share."""
    with hostile_server(tmp_path_factory.mktemp("hostile")) as server:
        yield server
