"""Fixtures: the real tiny, the real program, a real server on a port."""

from __future__ import annotations

import functools
import io
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.images import seven_photos
from zeroshot import Encoder, ZeroShotClassifier, load_encoder
from zeroshot.cli import main
from zeroshot.service.server import Server, bind

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a program under test: no settings of whoever runs the tests."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("ZEROSHOT_")}
    return {**own, "ZEROSHOT_HOME": str(home), "COLUMNS": "120", "NO_COLOR": "1", **extra}


@pytest.fixture(scope="session")
def tiny() -> Encoder:
    return load_encoder("tiny")


@pytest.fixture(scope="session")
def classifier(tiny: Encoder) -> ZeroShotClassifier:
    return ZeroShotClassifier(tiny)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Label to file, seven photos."""
    return seven_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the program as a user does; ``stdin`` takes bytes, other keywords are environment variables."""

    def run_program(*arguments: object, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[str]:
        finished = subprocess.run(
            [sys.executable, "-m", "zeroshot", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=environment(tmp_path / "home", **variables),
            timeout=120,
        )
        return subprocess.CompletedProcess(
            finished.args, finished.returncode, finished.stdout.decode(), finished.stderr.decode()
        )

    return run_program


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of the shipped photos with 20 parts of it."""
    from benchmarks.data import write_crops  # loads scikit-learn

    return write_crops(tmp_path_factory.mktemp("crops") / "crops", 20, seed=1)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder that tests share, so that each image is encoded once."""
    return tmp_path_factory.mktemp("home")


_load_encoder_once = functools.cache(load_encoder)


@pytest.fixture
def invoke(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the program as ``run`` does, but in this process, and with the shared home.

    For tests of what it answers, not of what a process does. Modules and models are loaded once for all tests, which is
    most of the time that a process takes.
    """

    def run_here(
        *arguments: object, stdin: bytes = b"", home: Path = home, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        words = list(map(str, arguments))
        with monkeypatch.context() as patch, warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err):
            patch.chdir(tmp_path)
            patch.setattr(os, "environ", environment(home, **variables))
            patch.setattr(sys, "argv", ["zeroshot", *words])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr("zeroshot.encoders.load_encoder", _load_encoder_once)
            patch.setattr("zeroshot.cli._SHOWN", set())
            with pytest.raises(SystemExit) as ended:
                main()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return run_here


@pytest.fixture
def run_here(invoke: Run, tmp_path: Path) -> Run:
    """Run the program in this process, with a home of its own."""
    return functools.partial(invoke, home=tmp_path / "home")


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Base URL of an application on a real port, served from a thread of this process."""
    bound = bind("127.0.0.1", 0)
    port = bound.getsockname()[1]
    server = Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def running_server(folder: Path, *arguments: str, **variables: str) -> Iterator[str]:
    """Base URL of a ``zeroshot serve`` that is ready; its log must hold no traceback in the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "zeroshot", "serve", "--port", str(port), *arguments],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=environment(folder, **variables),
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a running server of tiny."""
    with running_server(tmp_path_factory.mktemp("server")) as url:
        yield url


def wait_until_ready(url: str, process: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    """Return when /readyz answers 200."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended while starting"
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(url)


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    """A client of the running server, which must be alive and right after every test."""
    with httpx.Client(base_url=server, timeout=60) as http:
        yield http
        assert http.get("/readyz").json() == {"status": "ready"}
