"""What a request has taken goes with its answer: nothing is left that would wait for the garbage collector."""

from __future__ import annotations

import base64
import gc
import http.client
import json
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import served
from tests.images import PHOTOS
from zeroshot import ZeroShotClassifier
from zeroshot.service import create_app

CAT = (PHOTOS / "cat.jpg").read_bytes()
CAT_BASE64 = base64.b64encode(CAT).decode()
BAD_BASE64 = base64.b64encode(bytes(50_000)).decode()
TWO = ["cat", "dog"]
FORM = (
    b'--edge\r\nContent-Disposition: form-data; name="image"; filename="cat.jpg"\r\n\r\n' + CAT + b"\r\n"
    b'--edge\r\nContent-Disposition: form-data; name="labels"\r\n\r\ncat,dog\r\n--edge--\r\n'
)
JSON = "application/json"
REQUESTS: dict[str, tuple[str, object, str, int]] = {
    "one": ("/v1/classify", {"image": CAT_BASE64, "labels": TWO}, JSON, 200),
    "several": ("/v1/classify", {"images": [CAT_BASE64] * 3, "labels": TWO}, JSON, 200),
    "one of them bad": ("/v1/classify", {"images": [CAT_BASE64, BAD_BASE64], "labels": TWO}, JSON, 200),
    "bad": ("/v1/classify", {"image": BAD_BASE64, "labels": TWO}, JSON, 422),
    "no labels": ("/v1/classify", {"image": CAT_BASE64, "labels": []}, JSON, 422),
    "the image as the body": ("/v1/classify?labels=cat&labels=dog", CAT, "image/jpeg", 200),
    "a form": ("/v1/classify", FORM, "multipart/form-data; boundary=edge", 200),
    "a vector": ("/v1/embeddings", {"model": "tiny", "input": [CAT_BASE64], "modality": "image"}, JSON, 200),
    "a stream": (
        "/v1/classify/stream",
        "\n".join(map(json.dumps, [{"labels": TWO}, {"image": CAT_BASE64}, {"image": BAD_BASE64}])).encode(),
        "application/x-ndjson",
        200,
    ),
    "added to a gallery": (
        "/v1/galleries/pets/items",
        {"items": [{"id": "cat", "image": CAT_BASE64}], "replace": True},
        JSON,
        200,
    ),
    "looked for in a gallery": ("/v1/galleries/pets/search", {"queries": [{"image": CAT_BASE64}]}, JSON, 200),
}


@pytest.fixture(scope="module")
def ask(classifier: ZeroShotClassifier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Ask a server in this process, whose garbage can be seen, with a client that leaves none itself."""
    with served(create_app(classifier, tmp_path_factory.mktemp("home"))) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

        def ask_it(path: str, body: object, content_type: str, status: int) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("POST", path, content, {"Content-Type": content_type})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == status, text

        ask_it("/v1/galleries", {"name": "pets"}, JSON, 201)
        yield ask_it
        connection.close()


@pytest.mark.parametrize("name", REQUESTS)
def test_an_answered_request_leaves_no_garbage(ask: Callable[..., None], name: str) -> None:
    for _ in range(3):
        ask(*REQUESTS[name])  # what is made once and kept
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            ask(*REQUESTS[name])
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [type(one).__name__ for one in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert len(left) < 10, sorted(left)
