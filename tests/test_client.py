"""``zeroshot.Client`` and ``AsyncClient`` against a real server, and against one that is away or overloaded."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.images import PHOTOS
from zeroshot import AsyncClient, Client, Encoder, Label, LabelSet, ZeroShotClassifier
from zeroshot.client import calls
from zeroshot.errors import ImageNotFound, ServerProblem, ServerUnreachable
from zeroshot.labels import parse_labels

LABELS = ["cat", "dog", "a cup of coffee"]


@pytest.fixture
def ask(server: str) -> Iterator[Client]:
    with Client(server) as made:
        yield made


def test_the_clients_answers_are_the_classifiers(ask: Client, classifier: ZeroShotClassifier) -> None:
    tree = LabelSet(
        "t", parse_labels(["animal", Label("cat", parent="animal"), Label("dog", parent="animal"), "rocket"])
    )
    for labels, options in (
        (LABELS, {}),
        (LABELS, {"top_k": 1, "mode": "multilabel"}),
        (tree, {}),
        (["cat"], {"mode": "binary"}),
    ):
        for image in (PHOTOS / "cat.jpg", str(PHOTOS / "cat.jpg"), (PHOTOS / "cat.jpg").read_bytes()):
            here, there = classifier.classify(image, labels, **options), ask.classify(image, labels, **options)
            assert (there.labels, there.mode) == (here.labels, here.mode)
            for ours, theirs in zip(
                (*here.predictions, *here.levels), (*there.predictions, *there.levels), strict=True
            ):
                assert theirs.label == ours.label
                assert theirs.score == pytest.approx(ours.score, abs=1e-4)
    opened = Image.open(PHOTOS / "cat.jpg")
    assert ask.classify(opened, LABELS).label == "cat"
    assert ask.classify(PHOTOS / "cat.jpg", label_set="cifar10", templates="none", threshold=0.1).label == "cat"


def test_several_images_and_streams_keep_their_order_and_bad_ones_their_place(ask: Client) -> None:
    cat, coffee, bad = (PHOTOS / "cat.jpg").read_bytes(), (PHOTOS / "coffee.jpg").read_bytes(), b"no image"
    found = ask.classify([cat, bad, coffee], LABELS)
    assert [one.label if not isinstance(one, ServerProblem) else one.slug for one in found] == [
        "cat", "image-unreadable", "a cup of coffee",
    ]  # fmt: skip
    images = [cat, coffee] * 50
    images[70] = bad
    streamed = list(ask.classify_stream(iter(images), LABELS, top_k=1))
    assert [image for image, _ in streamed] == images
    assert isinstance(streamed[70][1], ServerProblem)
    assert all(one.label == LABELS[2 * (i % 2)] for i, (_, one) in enumerate(streamed) if i != 70)


def test_vectors_come_as_arrays(ask: Client, tiny: Encoder) -> None:
    np.testing.assert_allclose(ask.embed_texts(LABELS), tiny.encode_texts(LABELS), atol=1e-5)
    images = ask.embed_images([PHOTOS / "cat.jpg", PHOTOS / "rocket.jpg"], model="tiny")
    assert images.shape == (2, 640)
    assert images.dtype == np.float32


def test_label_sets_are_kept_on_the_server(ask: Client) -> None:
    name = f"set-{uuid.uuid4().hex}"
    assert ask.create_label_set(name, ["cat", Label("dog", aliases=("hound",))]) == 1
    assert ask.add_labels(name, ["x/y", "rocket"]) == 2
    assert ask.label_set(name).names == ("cat", "dog", "x/y", "rocket")
    assert ask.remove_label(name, "x/y") == 3
    assert ask.label_set(f"{name}@1").labels[1].aliases == ("hound",)
    assert name in [one["name"] for one in ask.label_sets()]
    assert ask.classify(PHOTOS / "rocket.jpg", label_set=name).label == "rocket"
    ask.delete_label_set(name)
    whole = LabelSet(name, parse_labels(["a", "b"]), mode="multilabel", threshold=0.3)
    assert ask.create_label_set(name, whole) == 1
    assert ask.label_set(name).threshold == 0.3
    ask.delete_label_set(name)
    assert ask.request("GET", "/v1/galleries") == {"galleries": []} or ask.request("GET", "/v1/galleries")


def test_the_servers_problems_are_errors_in_its_words(ask: Client) -> None:
    with pytest.raises(ServerProblem, match="'cat' is given twice") as caught:
        ask.classify(PHOTOS / "cat.jpg", ["cat", "cat"])
    assert (caught.value.status, caught.value.slug, caught.value.field) == (422, "invalid-labels", "labels")
    with pytest.raises(ServerProblem, match="not an image"):
        ask.classify(b"no image", LABELS)
    with pytest.raises(ServerProblem, match="fetching images is off"):
        ask.classify("https://images.example/cat.jpg", LABELS)
    with pytest.raises(ServerProblem, match="no label set named"):
        ask.classify(PHOTOS / "cat.jpg", label_set="nowhere")
    with pytest.raises(ImageNotFound, match="nowhere"):
        ask.classify(Path("nowhere.jpg"), LABELS)


def test_the_async_client_has_the_same_methods_and_answers(server: str, tiny: Encoder) -> None:
    public = lambda kind: {name for name in vars(kind) if not name.startswith("_")}  # noqa: E731
    assert public(AsyncClient) - {"aclose"} == public(Client) - {"close"}

    async def everything() -> None:
        name = f"set-{uuid.uuid4().hex}"
        async with AsyncClient(server) as ask:
            assert await ask.is_ready()
            assert (await ask.classify(PHOTOS / "cat.jpg", LABELS)).label == "cat"
            both = await ask.classify([PHOTOS / "cat.jpg", b"x"], LABELS)
            assert [isinstance(one, ServerProblem) for one in both] == [False, True]
            streamed = [one async for _, one in ask.classify_stream([PHOTOS / "cat.jpg"] * 3, LABELS)]
            assert [one.label for one in streamed] == ["cat"] * 3
            np.testing.assert_allclose(await ask.embed_texts(["cat"]), tiny.encode_texts(["cat"]), atol=1e-5)
            assert (await ask.embed_images([PHOTOS / "cat.jpg"])).shape == (1, 640)
            assert await ask.create_label_set(name, ["a", "b"]) == 1
            assert await ask.add_labels(name, ["c"]) == 2
            assert await ask.remove_label(name, "a") == 3
            assert (await ask.label_set(name)).names == ("b", "c")
            assert name in [one["name"] for one in await ask.label_sets()]
            await ask.delete_label_set(name)
            assert "galleries" in await ask.request("GET", "/v1/galleries")
            with pytest.raises(ServerProblem):
                await ask.classify(PHOTOS / "cat.jpg", [])

    asyncio.run(everything())


class Busy(BaseHTTPRequestHandler):
    """Answers 503 as often as it is told to, hangs up, then answers."""

    protocol_version = "HTTP/1.1"
    refusals = 0
    hang_ups = 0
    asked: list[str]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer()

    def _answer(self) -> None:
        type(self).asked.append(f"{self.command} {self.headers.get('authorization')}")
        if type(self).hang_ups:
            type(self).hang_ups -= 1
            self.close_connection = True
            return
        refused = type(self).refusals > 0
        type(self).refusals -= refused
        body = b'{"data": [{"id": "tiny"}], "version": 7}' if not refused else b"busy"
        self.send_response(HTTPStatus.SERVICE_UNAVAILABLE if refused else HTTPStatus.OK)
        self.send_header("content-length", str(len(body)))
        if refused:
            self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[str]:
    Busy.refusals = Busy.hang_ups = 0
    Busy.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_that_is_overloaded_is_asked_again(busy: str) -> None:
    Busy.refusals = 3
    with Client(busy, api_key="secret") as ask:
        assert ask.models() == [{"id": "tiny"}]
        assert Busy.asked == ["GET Bearer secret"] * 4
        Busy.refusals = 9
        with pytest.raises(ServerProblem, match="503: busy"):
            ask.models()
    assert len(Busy.asked) == 4 + 5

    async def again() -> None:
        Busy.refusals = 2
        async with AsyncClient(busy) as ask:
            assert await ask.models() == [{"id": "tiny"}]

    asyncio.run(again())


def test_a_broken_connection_is_tried_again_only_where_twice_is_as_good_as_once(busy: str) -> None:
    Busy.hang_ups = 1
    with Client(busy) as ask:
        assert ask.models() == [{"id": "tiny"}]
        Busy.hang_ups, Busy.asked = 1, []
        with pytest.raises(ServerUnreachable):
            ask.add_labels("pets", ["cat"])
        assert Busy.asked == ["POST None"]
    with Client("http://127.0.0.1:1", retries=0) as nobody:
        with pytest.raises(ServerUnreachable, match="Is it running"):
            nobody.models()
        assert not nobody.is_ready()


def test_waits_follow_the_server_and_grow_without_it() -> None:
    said = httpx.Response(503, headers={"retry-after": "3"})
    assert 3.0 <= calls.wait_s(0, said) <= 3.75
    assert calls.wait_s(0, None) < calls.wait_s(3, None) < 3
    assert calls.wait_s(60, None) <= 37.5
    assert calls.wait_s(1, httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})) < 1
