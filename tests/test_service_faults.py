"""What may go wrong in production, done on purpose to a real server; most of it takes long and is marked slow."""

from __future__ import annotations

import base64
import ctypes
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.conftest import environment, running_server, served, wait_until_ready
from tests.images import BAD, CATS, ODD, PHOTOS, cat, encode, png_header
from tests.test_batching import eventually
from zeroshot import ZeroShotClassifier
from zeroshot.service import ServiceConfig, create_app

ASKED = {"image": base64.b64encode((PHOTOS / "cat.jpg").read_bytes()).decode(), "labels": ["cat", "dog"], "top_k": 1}
BODY = json.dumps(ASKED).encode()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that the thread dies is the point
def test_the_encoders_thread_killed_from_outside_is_replaced_within_seconds(
    classifier: ZeroShotClassifier, tmp_path: Path
) -> None:
    app = create_app(classifier, tmp_path, ServiceConfig(end_process=lambda: None))
    with served(app) as url, httpx.Client(base_url=url, timeout=30) as http:
        thread = next(
            one
            for one in threading.enumerate()
            if one.name == "zeroshot-encoder" and one is app.state.service.pipeline.batcher._thread
        )
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
        with httpx.Client(base_url=url, timeout=30) as other:  # wakes the thread, which dies of it
            assert other.post("/v1/classify", json=ASKED).status_code in (200, 503)
        eventually(lambda: not thread.is_alive())
        start = time.monotonic()
        eventually(lambda: http.get("/readyz").status_code == 200)
        assert time.monotonic() - start < 10
        assert http.post("/v1/classify", json=ASKED).json()["labels"] == ["cat"]


def start(folder: Path, **variables: str) -> tuple[subprocess.Popen[bytes], str]:
    """A server of its own, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / f"log-{port}").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "zeroshot", "serve", "--port", str(port)],
            stdout=log, stderr=log, cwd=folder, env=environment(folder, **variables),
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    wait_until_ready(url, process)
    return process, url


def hammer(url: str, stop: threading.Event, answered: list[int], broken: list[str]) -> None:
    """Ask again and again, each time on a connection of its own, until told to stop or refused."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}"
    head += "\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    while not stop.is_set():
        try:
            connection = socket.create_connection((host, int(port)), timeout=30)
        except OSError:
            return  # refused: it does not listen any more
        with connection:
            try:
                connection.sendall(head.encode() + BODY)
                answer = connection.recv(65536)
            except OSError:
                return  # it was in the kernel's queue, and never accepted
            if answer.startswith(b"HTTP/1.1 "):
                answered.append(int(answer[9:12]))
            elif answer:
                broken.append(repr(answer[:50]))


def drain_once(folder: Path) -> tuple[int, int]:
    """Stop a server under load; give how many requests it says it answered, and how many got an answer."""
    process, url = start(folder, ZEROSHOT_LOG_FORMAT="json")
    answered, broken, stop = list[int](), list[str](), threading.Event()
    threads = [threading.Thread(target=hammer, args=(url, stop, answered, broken)) for _ in range(6)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(answered) >= 6, within_s=30)
    process.send_signal(signal.SIGTERM)
    code = process.wait(40)
    stop.set()
    for thread in threads:
        thread.join(40)
    assert code == 0
    assert broken == []
    assert set(answered) == {200}
    log = (folder / f"log-{url.rpartition(':')[2]}").read_text()
    assert "Traceback" not in log
    said = [json.loads(line) for line in log.splitlines() if "POST /v1/classify" in line]
    assert {line["status"] for line in said} == {200}
    return len(said), len(answered)


def test_told_to_stop_it_answers_what_it_has_accepted_and_exits_with_0(tmp_path: Path) -> None:
    accepted, answered = drain_once(tmp_path)
    assert accepted == answered


@pytest.mark.slow
def test_fifty_times_told_to_stop_under_load_it_loses_no_request(tmp_path: Path) -> None:
    totals = [drain_once(tmp_path) for _ in range(50)]
    assert [accepted for accepted, _ in totals] == [answered for _, answered in totals]


def hostile() -> Iterator[tuple[str, bytes]]:
    """Odd and damaged images: every mode and format, whole, cut at every kilobyte, with flipped bits, wrong heads."""
    chance = random.Random(5)  # noqa: S311
    yield from ((name, make()) for name, make in {**CATS, **ODD}.items())
    yield from ((name, make()) for name, (make, _) in BAD.items())
    small = cat().resize((160, 120))
    whole = {
        "jpeg": encode(small, "JPEG", quality=90), "progressive": encode(small, "JPEG", progressive=True),
        "png": encode(small, "PNG"), "webp": encode(small, "WEBP"), "gif": encode(small, "GIF"),
        "tiff": encode(small, "TIFF", compression="tiff_lzw"), "bmp": encode(small, "BMP"),
        "avif": encode(small, "AVIF"), "jp2": encode(small, "JPEG2000"), "ppm": encode(small, "PPM"),
    }  # fmt: skip
    for name, content in whole.items():
        for end in range(0, len(content), 1024):
            yield f"{name} cut at {end}", content[:end]
        for turn in range(40):
            damaged = bytearray(content)
            for _ in range(chance.choice([1, 3, 20])):
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            yield f"{name} flipped {turn}", bytes(damaged)
        for other, body in whole.items():
            yield f"{name} with the head of {other}", body[:32] + content[32:]
    for width, height in ((1, 1), (1, 65_000), (65_000, 1), (30_001, 1), (65_535, 65_535), (2**31 - 1, 2**31 - 1)):
        yield f"a bomb of {width} x {height}", png_header(width, height)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F", "LAB", "HSV"):
        image = small.convert("L").convert(mode) if mode in ("I", "I;16", "F") else small.convert(mode)
        for form in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP"):
            buffer = io.BytesIO()
            try:
                image.save(buffer, form)
            except (OSError, ValueError, KeyError):
                continue  # no such image can be made
            yield f"{mode} as {form}", buffer.getvalue()
    yield "zeros", bytes(5000)
    yield "noise", chance.randbytes(5000)


@pytest.mark.slow
def test_no_image_brings_the_server_down(tmp_path: Path) -> None:
    count = 0
    with running_server(tmp_path) as url, httpx.Client(base_url=url, timeout=5) as http:
        for name, content in hostile():
            count += 1
            if count % 2:
                answer = http.post("/v1/classify", files={"image": content}, data={"labels": ["cat", "dog"]})
            else:
                answer = http.post("/v1/classify?labels=cat,dog", content=content, headers={"content-type": "image/x"})
            assert answer.status_code in (200, 413, 422), (name, answer.text)
        assert http.get("/readyz").status_code == 200
    assert count > 800


@pytest.mark.slow
def test_schemathesis_finds_no_fault_in_the_whole_api(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    variables = {**os.environ, "NO_COLOR": "1", "COLUMNS": "150", "PYTHONPATH": str(tests)}
    with running_server(tmp_path, ZEROSHOT_REQUEST_TIMEOUT_S="10") as url:
        finished = subprocess.run(
            [
                Path(sys.executable).parent / "st", "--config-file", tests / "schemathesis.toml",
                "run", f"{url}/openapi.json", "--url", url, "--max-examples", "30", "--seed", "7", "--workers", "2",
                "--request-timeout", "15", "--continue-on-failure",
            ],
            capture_output=True, text=True, cwd=tmp_path, env={**variables, "SCHEMATHESIS_HOOKS": "schemathesis_hooks"},
        )  # fmt: skip
        assert finished.returncode == 0, finished.stdout[-8000:] + finished.stderr[-2000:]
        assert httpx.get(f"{url}/readyz").status_code == 200


@pytest.mark.slow
def test_memory_stays_where_it_was_under_overload(tmp_path: Path) -> None:
    """Some seconds of it; benchmarks/serving.py does a minute and counts."""
    import psutil

    process, url = start(tmp_path, ZEROSHOT_MAX_IN_FLIGHT="16")
    statuses: list[int] = []
    stop = threading.Event()
    big = base64.b64encode(encode(Image.effect_noise((1500, 1500), 60).convert("RGB"), "JPEG", quality=95)).decode()
    body = json.dumps({**ASKED, "image": big})

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60, headers={"content-type": "application/json"}) as http:
            while not stop.is_set():
                statuses.append(http.post("/v1/classify", content=body).status_code)

    try:
        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        time.sleep(8)
        settled = psutil.Process(process.pid).memory_info().rss
        time.sleep(12)
        later = psutil.Process(process.pid).memory_info().rss
        stop.set()
        for thread in threads:
            thread.join(60)
        assert set(statuses) == {200, 503}
        assert later < settled * 1.15
        assert httpx.get(f"{url}/readyz").status_code == 200
    finally:
        stop.set()
        process.terminate()
        assert process.wait(40) == 0
