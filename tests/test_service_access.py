"""Who is let in, and what a request may cost."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Run, running_server, served
from tests.images import PHOTOS
from tests.test_batching import eventually
from tests.test_service import problem_of
from zeroshot import Encoder, ImageLimits, ZeroShotClassifier
from zeroshot.errors import OptionError
from zeroshot.images.download import AddressPolicy, Downloader
from zeroshot.service import ServiceConfig, create_app
from zeroshot.service.api_keys import ApiKeys, RateLimit, hash_key, new_key

CAT = (PHOTOS / "cat.jpg").read_bytes()
ASKED = {"image": base64.b64encode(CAT).decode(), "labels": ["cat", "dog"], "top_k": 1}
ALICE, BOB = new_key(), "a key that bob chose himself"


def test_keys_are_kept_as_hashes_and_found_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\nalice={hash_key(ALICE)}\n")
    keys = ApiKeys.read([f"bob={BOB}", new_key()], file)
    assert [name for name, _ in keys.hashes] == ["bob", "key-2", "alice"]
    assert (keys.find(ALICE), keys.find(BOB), keys.find(new_key()), keys.find("")) == ("alice", "bob", None, None)
    assert ALICE not in repr(keys)
    assert BOB not in repr(keys)
    assert len({new_key() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["a=short"], "'a' has 5 characters"),
        (["a=sha256:zz"], "not 64 hex digits"),
        ([f"a={BOB}", f"a={ALICE}"], "Two API keys are named 'a'"),
    ],
)
def test_keys_that_cannot_be_are_refused_without_being_shown(entries: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)) as caught:
        ApiKeys.read(entries, None)
    assert BOB not in str(caught.value)
    with pytest.raises(OptionError, match="cannot be read"):
        ApiKeys.read([], Path("/nowhere/keys"))


def test_a_rate_is_a_bucket_that_fills_evenly() -> None:
    limit = RateLimit(60)
    assert [limit.take("a", now=0.0) for _ in range(60)] == [0.0] * 60
    assert limit.take("a", now=0.0) == pytest.approx(1.0)
    assert limit.take("b", now=0.0) == 0.0
    assert limit.take("a", now=0.5) == pytest.approx(0.5)
    assert limit.take("a", now=1.01) == 0.0
    assert limit.take("a", now=1.02) > 0.9
    assert [limit.take("a", now=1000.0) for _ in range(61)].count(0.0) == 60


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with two keys, one allowed origin and a rate limit; and its folder."""
    folder = tmp_path_factory.mktemp("guarded")
    with running_server(
        folder,
        ZEROSHOT_API_KEYS=f"alice={hash_key(ALICE)},bob={BOB}",
        ZEROSHOT_CORS_ORIGINS="https://app.example",
        ZEROSHOT_RATE_LIMIT_PER_MINUTE="20",
        ZEROSHOT_LOG_FORMAT="json",
    ) as url:
        yield url, folder


def test_a_key_is_needed_and_either_header_carries_it(guarded: tuple[str, Path]) -> None:
    with httpx.Client(base_url=guarded[0], timeout=30) as http:
        answer = http.post("/v1/classify", json=ASKED)
        assert "An API key is needed" in problem_of(answer, 401, "unauthorized")["detail"]
        assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": "Bearer wrong"}, {"x-api-key": BOB + "x"}, {"authorization": f"Basic {BOB}"}):
            problem_of(http.post("/v1/classify", json=ASKED, headers=headers), 401, "unauthorized")
        for path in ("/v1/models", "/metrics", "/v1/galleries", "/v1/label-sets"):
            problem_of(http.get(path), 401, "unauthorized")
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert http.get(path).status_code == 200
        for headers in ({"authorization": f"Bearer {ALICE}"}, {"x-api-key": BOB}, {"authorization": f"bearer {BOB}"}):
            assert http.post("/v1/classify", json=ASKED, headers=headers).json()["labels"] == ["cat"]


def test_web_pages_of_other_origins_are_kept_out(guarded: tuple[str, Path]) -> None:
    with httpx.Client(base_url=guarded[0], headers={"x-api-key": ALICE}) as http:
        evil = {"origin": "https://evil.example"}
        problem_of(http.post("/v1/classify", json=ASKED, headers=evil), 403, "origin-refused")
        assert "access-control-allow-origin" not in http.get("/v1/models", headers=evil).headers
        preflight = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
        assert http.options("/v1/classify", headers={**evil, **preflight}).status_code == 400
        ours = {"origin": "https://app.example"}
        allowed = http.options("/v1/classify", headers={**ours, **preflight})
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        assert http.post("/v1/classify", json=ASKED, headers=ours).status_code == 200
        own = {"origin": guarded[0]}
        assert http.post("/v1/classify", json=ASKED, headers=own).status_code == 200


def test_each_caller_has_a_rate_of_its_own(guarded: tuple[str, Path]) -> None:
    with httpx.Client(base_url=guarded[0]) as http:
        answers = [http.get("/v1/models", headers={"x-api-key": BOB}) for _ in range(25)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 3 <= len(refused) <= 8
        problem_of(refused[0], 429, "rate-limited")
        assert 1 <= int(refused[0].headers["retry-after"]) <= 3
        assert http.get("/v1/models", headers={"x-api-key": ALICE}).status_code == 200
        assert http.get("/readyz").status_code == 200


def test_logs_say_who_and_what_but_no_key_label_or_pixel(guarded: tuple[str, Path]) -> None:
    secret_label = "a label nobody needs to know"
    with httpx.Client(base_url=guarded[0], headers={"x-api-key": ALICE}) as http:
        asked = {**ASKED, "labels": [secret_label, "dog"]}
        answer = http.post("/v1/classify?secret=hidden", json=asked, headers={"x-request-id": "my-request-1"})
        assert answer.headers["x-request-id"] == "my-request-1"
        made = http.get("/v1/models", headers={"x-request-id": "two words"}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", made)
    log = (guarded[1] / "log").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    mine = next(line for line in lines if line["request_id"] == "my-request-1")
    assert (mine["level"], mine["message"], mine["status"]) == ("INFO", "POST /v1/classify", 200)
    assert (mine["caller"], mine["images"]) == ("alice", 1)
    assert {"decode_ms", "encode_ms", "queue_ms", "rank_ms", "ms", "time"} <= set(mine)
    for secret in (ALICE, BOB, hash_key(ALICE), secret_label, "hidden", ASKED["image"][:40]):
        assert secret not in log


def test_every_answer_carries_security_headers(client: httpx.Client) -> None:
    for answer in (client.get("/v1/models"), client.get("/nowhere"), client.post("/v1/classify", json={})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_without_keys_only_loopbacks_own_names_are_answered(client: httpx.Client) -> None:
    answer = client.get("/healthz", headers={"host": "rebound.example:8000"})
    assert "rebound.example" in problem_of(answer, 403, "host-refused")["detail"]
    port = client.base_url.port
    for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST"):
        assert client.get("/healthz", headers={"host": host}).status_code == 200


def test_serving_others_needs_keys_or_a_word(run: Run, tmp_path: Path) -> None:
    refused = run("serve", "--host", "0.0.0.0", "--check")  # noqa: S104 (refused)
    assert refused.returncode == 2
    assert "it has no API keys" in refused.stderr
    said = run("serve", "--host", "0.0.0.0", "--port", "0", "--allow-anonymous", "--check")  # noqa: S104
    assert (said.returncode, "ready to serve tiny" in said.stdout) == (0, True)
    made = run("keys", "new", "carol")
    line, key = made.stdout.strip(), made.stderr.strip()
    assert ApiKeys.read([line], None).find(key) == "carol"
    (tmp_path / "keys").write_text(line)
    keyed = run("serve", "--host", "0.0.0.0", "--port", "0", "--check", ZEROSHOT_API_KEYS_FILE=str(tmp_path / "keys"))  # noqa: S104
    assert (keyed.returncode, "1 API keys" in keyed.stdout) == (0, True)
    assert run("keys", "new", "two words").returncode == 2


def test_what_cannot_be_served_is_said_at_once(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = run("serve", "--port", taken.getsockname()[1], "--check")
        assert (busy.returncode, "cannot be bound" in busy.stderr) == (2, True)
    for name, value in (
        ("ZEROSHOT_MAX_IN_FLIGHT", "0"),
        ("ZEROSHOT_LOG_FORMAT", "xml"),
        ("ZEROSHOT_API_KEYS", "short"),
        ("ZEROSHOT_STALL_TIMEOUT_S", "never"),
    ):
        finished = run("serve", "--check", **{name: value})
        assert finished.returncode == 2
        assert name.removeprefix("ZEROSHOT_") in finished.stderr or "API key" in finished.stderr
        assert "Traceback" not in finished.stderr


@pytest.fixture(scope="module")
def small(classifier: ZeroShotClassifier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with room for four images, a megabyte, and half a second."""
    options = ServiceConfig(max_in_flight=4, max_images_per_request=4, max_bytes_in_flight=2**20, request_timeout_s=1.0)
    with served(create_app(classifier, tmp_path_factory.mktemp("small"), options)) as url:
        yield url


def test_what_is_beyond_the_bounds_is_refused_at_once(small: str) -> None:
    with httpx.Client(base_url=small, timeout=30) as http:
        many = {"images": [ASKED["image"]] * 5, "labels": ["cat", "dog"]}
        assert "4 are the most" in problem_of(http.post("/v1/classify", json=many), 422, "invalid-request")["detail"]
        big = problem_of(
            http.post("/v1/classify", content=b"x" * 2**21, headers={"content-type": "image/png"}), 503, "overloaded"
        )
        assert "bytes are being worked on" in big["detail"]
        answers: list[httpx.Response] = []

        def ask() -> None:
            with httpx.Client(base_url=small, timeout=30) as own:
                answers.append(own.post("/v1/classify", json={**many, "images": [ASKED["image"]] * 4}))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) <= {200, 503}
        assert 200 in statuses
        assert 503 in statuses
        full = next(answer for answer in answers if answer.status_code == 503)
        problem_of(full, 503, "overloaded")
        assert int(full.headers["retry-after"]) >= 1
        assert http.post("/v1/classify", json=ASKED).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(small: str) -> None:
    host, port = small.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nx")
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_request_may_ask_for_less_time(small: str) -> None:
    with httpx.Client(base_url=small, timeout=30) as http:
        hurried = http.post("/v1/classify", json=ASKED, headers={"x-request-timeout": "0.0001"})
        assert hurried.status_code in (408, 504)
        assert http.post("/v1/classify", json=ASKED, headers={"x-request-timeout": "nonsense"}).status_code == 200


def test_who_leaves_frees_the_place(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    app = create_app(classifier, tmp_path, ServiceConfig(max_in_flight=3, request_timeout_s=20))
    pipeline = app.state.service.pipeline
    with served(app) as url:
        holding = threading.Event()
        waiting = threading.Event()

        def hold(pixels: object) -> object:
            waiting.set()
            holding.wait(20)
            return type(classifier.encoder).encode_pixels(classifier.encoder, pixels)

        pipeline.batcher.encoder = type("Held", (), {"encode_pixels": staticmethod(hold)})
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps(ASKED).encode()
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connections = []
        for _ in range(3):
            connections.append(socket.create_connection((host, int(port)), timeout=10))
            connections[-1].sendall(f"{head}\r\n\r\n".encode() + body)
            assert waiting.wait(10)
        eventually(lambda: pipeline.in_flight == 3 and pipeline.batcher.waiting == 2)
        assert httpx.post(f"{url}/v1/classify", json=ASKED).status_code == 503
        for connection in connections[1:]:
            connection.close()
        eventually(lambda: pipeline.in_flight == 1 and pipeline.batcher.waiting == 0)
        holding.set()
        assert connections[0].recv(4096).startswith(b"HTTP/1.1 200 ")
        connections[0].close()
        eventually(lambda: pipeline.in_flight == 0)


def test_images_are_fetched_where_that_is_allowed(
    client: httpx.Client, classifier: ZeroShotClassifier, tmp_path: Path
) -> None:
    url = "https://images.example/cat.jpg"
    problem_of(client.post("/v1/classify", json={**ASKED, "image": url}), 422, "image-source-refused")

    class Fetched(Downloader):
        def fetch(self, asked: str, deadline: float = 0.0) -> bytes:
            assert asked == url
            assert 0 < deadline - time.monotonic() <= 30
            return CAT

    app = create_app(classifier, tmp_path, download=Fetched(10**6, 10.0, AddressPolicy(("*",))))
    with served(app) as base, httpx.Client(base_url=base, timeout=30) as http:
        assert http.post("/v1/classify", json={**ASKED, "image": url}).json()["labels"] == ["cat"]
        assert 'zeroshot_stage_seconds_count{stage="fetch"} 1.0' in http.get("/metrics").text


def test_urls_that_the_command_line_may_fetch_are_not_fetched_for_strangers(tiny: Encoder, tmp_path: Path) -> None:
    open_to_all = ZeroShotClassifier(tiny, limits=ImageLimits(allow_urls=True))
    with served(create_app(open_to_all, tmp_path)) as base, httpx.Client(base_url=base, timeout=30) as http:
        http.post("/v1/galleries", json={"name": "g"})
        url = f"{base}/healthz"
        problem_of(http.post("/v1/classify", json={**ASKED, "image": url}), 422, "image-source-refused")
        problem_of(http.post("/v1/galleries/g/search", json={"queries": [{"image": url}]}), 422, "image-source-refused")
        stored = http.post("/v1/galleries/g/items", json={"items": [{"id": "a", "image": url}]}).json()["results"]
        assert stored[0]["problem"]["type"].endswith("image-source-refused")
