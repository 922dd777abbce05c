"""One way to the encoder: whatever takes an image or a text is bounded, timed and cached alike."""

from __future__ import annotations

import ast
import base64
import inspect
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import anyio
import httpx
import numpy as np
import pytest
from fastapi import FastAPI

import zeroshot.service
from tests.conftest import served
from tests.images import PHOTOS
from tests.test_batching import eventually
from tests.test_service import problem_of
from tests.test_text_worker import SlowTexts
from zeroshot import AsyncClient, Client, Encoder, Gallery, ZeroShotClassifier
from zeroshot.client.calls import Options
from zeroshot.encoders import TextCache
from zeroshot.service import ServiceConfig, create_app
from zeroshot.service.context import STAGES, RequestContext
from zeroshot.service.inference.batcher import Batcher
from zeroshot.service.inference.pipeline import Pipeline
from zeroshot.service.inference.watchdog import Watchdog
from zeroshot.service.middleware.auth import Auth
from zeroshot.service.middleware.limits import Limits
from zeroshot.service.middleware.request_log import RequestLog
from zeroshot.service.problems import RequestError
from zeroshot.service.requests import _LARGE_BODY, parse, read_question
from zeroshot.service.schemas.classify import ClassifyRequest, Question
from zeroshot.service.schemas.galleries import RelabelRequest
from zeroshot.settings import Settings

CAT = (PHOTOS / "cat.jpg").read_bytes()
CAT_BASE64 = base64.b64encode(CAT).decode()
IMAGE, TEXT = {"decode", "queue", "encode"}, {"text"}
TWO = ["cat {}", "dog {}"]
ROBOFLOW = {"type": "base64", "value": CAT_BASE64}


def json_lines(*lines: object) -> bytes:
    return "\n".join(map(json.dumps, lines)).encode()


# What each request asks, and the stages that it has; {} in a text is replaced, so that the text is new.
REQUESTS: dict[str, tuple[str, object, set[str]]] = {
    "classify": ("/v1/classify", {"image": CAT_BASE64, "labels": TWO}, IMAGE | TEXT | {"rank"}),
    "classify several": ("/v1/classify", {"images": [CAT_BASE64] * 2, "labels": TWO}, IMAGE | TEXT | {"rank"}),
    "classify, as a stream": (
        "/v1/classify/stream", json_lines({"labels": TWO}, {"image": CAT_BASE64}), IMAGE | TEXT | {"rank"}
    ),
    "embed texts": ("/v1/embeddings", {"model": "tiny", "input": TWO}, TEXT),
    "embed images": ("/v1/embeddings", {"model": "tiny", "input": [CAT_BASE64], "modality": "image"}, IMAGE),
    "Hugging Face": (
        "/hf/zero-shot-image-classification", {"inputs": CAT_BASE64, "parameters": {"candidate_labels": TWO}},
        IMAGE | TEXT | {"rank"},
    ),
    "Roboflow, an image": ("/clip/embed_image", {"image": ROBOFLOW}, IMAGE),
    "Roboflow, a text": ("/clip/embed_text", {"text": TWO}, TEXT),
    "Roboflow, both": ("/clip/compare", {"subject": ROBOFLOW, "prompt": TWO}, IMAGE | TEXT),
    "add to a gallery": (
        "/v1/galleries/pets/items", {"items": [{"id": "cat", "image": CAT_BASE64}], "replace": True}, IMAGE | {"store"}
    ),
    "add to a gallery, as a stream": (
        "/v1/galleries/pets/items?replace=true", json_lines({"id": "cat", "image": CAT_BASE64}), IMAGE | {"store"}
    ),
    "search by image": ("/v1/galleries/pets/search", {"queries": [{"image": CAT_BASE64}]}, IMAGE | {"search"}),
    "search by text": ("/v1/galleries/pets/search", {"queries": [{"text": TWO[0]}]}, TEXT | {"search"}),
    "search by both": (
        "/v1/galleries/pets/search", {"queries": [{"text": TWO[0]}, {"image": CAT_BASE64, "weight": 0.5}]},
        IMAGE | TEXT | {"search"},
    ),
    "relabel a gallery": ("/v1/galleries/pets/classify", {"labels": TWO}, TEXT | {"rank"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def app(tiny: Encoder, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    home = tmp_path_factory.mktemp("home")
    return create_app(ZeroShotClassifier(tiny, cache=TextCache(home / "texts.sqlite3")), home)


@pytest.fixture(scope="module")
def http(app: FastAPI) -> Iterator[httpx.Client]:
    with served(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        client.post("/v1/galleries", json={"name": "pets"}).raise_for_status()
        yield client


def ask(http: httpx.Client, name: str, word: str = "") -> httpx.Response:
    path, body, _ = REQUESTS[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
    return http.post(path, content=content.replace(b"{}", word.encode()), headers={"content-type": kind})


def test_every_route_that_takes_an_image_or_a_text_is_in_the_table(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    taking = set()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            content = json.dumps(operation.get("requestBody", {}).get("content", {}))
            names = [one.split('"')[0] for one in content.split("#/components/schemas/")[1:]]
            fields = {field for name in names for field in document["components"]["schemas"][name]["properties"]}
            inputs = {"image", "images", "inputs", "input", "text", "queries", "items", "subject", "labels"}
            if "label sets" not in operation["tags"] and (fields & inputs or "x-ndjson" in content):
                taking.add(path.replace("{name}", "pets"))
    assert taking == {path.partition("?")[0] for path, _, _ in REQUESTS.values()}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_full_pipeline_is_answered_with_503(http: httpx.Client, app: FastAPI, name: str) -> None:
    pipeline = app.state.service.pipeline
    pipeline.in_flight += pipeline.max_in_flight
    try:
        answer = ask(http, name)
    finally:
        pipeline.in_flight -= pipeline.max_in_flight
    problem_of(answer, 503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    assert ask(http, name).status_code == 200
    eventually(lambda: pipeline.in_flight == 0)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_stages_are_in_log_metrics_and_answer(
    http: httpx.Client, app: FastAPI, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    stages = REQUESTS[name][2]
    metrics = app.state.service.metrics.registry

    def counts() -> dict[str, float]:
        return {stage: metrics.get_sample_value("zeroshot_stage_seconds_count", {"stage": stage}) for stage in STAGES}

    before = counts()
    with caplog.at_level(logging.INFO, "zeroshot.access"):
        answer = ask(http, name, f"timed for {name}")
    assert answer.status_code == 200, answer.text
    (line,) = [record for record in caplog.records if record.name == "zeroshot.access"]
    assert {stage for stage in STAGES if hasattr(line, f"{stage}_ms")} == stages
    assert {part.partition(";")[0].strip() for part in answer.headers["server-timing"].split(",")} == stages
    assert {stage for stage, count in counts().items() if count > before[stage]} == stages


@pytest.mark.parametrize("name", [name for name, (_, _, stages) in REQUESTS.items() if "text" in stages])
def test_a_repeated_text_is_not_embedded_again(
    http: httpx.Client, tiny: Encoder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[str] = []
    real = type(tiny).encode_texts

    def encode_texts(encoder: Encoder, texts: list[str]) -> np.ndarray:
        embedded.extend(texts)
        return real(encoder, texts)

    monkeypatch.setattr(type(tiny), "encode_texts", encode_texts)
    first = ask(http, name, f"seen in {name}")
    assert embedded
    embedded.clear()
    second = ask(http, name, f"seen in {name}")
    assert embedded == []
    kept = {"time", "fingerprint"}
    if "json" in second.headers["content-type"] and isinstance(first.json(), dict):
        assert {k: v for k, v in first.json().items() if k not in kept} == {
            k: v for k, v in second.json().items() if k not in kept
        }


@pytest.mark.parametrize("name", [name for name, (_, _, stages) in REQUESTS.items() if "decode" in stages])
def test_images_are_decoded_in_the_decoding_threads(
    http: httpx.Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[str] = set()
    real = zeroshot.service.inference.pipeline.load

    def load(*arguments: Any, **options: Any) -> Any:
        threads.add(threading.current_thread().name)
        return real(*arguments, **options)

    monkeypatch.setattr("zeroshot.service.inference.pipeline.load", load)
    assert ask(http, name).status_code == 200
    assert threads
    assert all(thread.startswith("zeroshot-decode") for thread in threads)


@pytest.mark.parametrize("kind", [Pipeline, Batcher, Watchdog, Auth, Limits, RequestLog])
def test_no_part_has_a_bound_of_its_own(kind: type) -> None:
    for parameter in inspect.signature(kind).parameters.values():
        assert not isinstance(parameter.default, (int, float)), parameter


def test_every_default_of_the_service_is_declared_once() -> None:
    config, settings = ServiceConfig(), Settings.model_fields
    for name in set(vars(config)) & set(settings) - {"tracing"}:
        assert getattr(config, name) == settings[name].default
    tree = ast.parse(inspect.getsource(ServiceConfig))
    literal = {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, (ast.Constant, ast.BinOp))
    }
    assert not literal & set(settings) - {"tracing"}
    changed = Settings(_env_file=None, max_in_flight=7, stall_timeout_s=3.0)
    made = ServiceConfig.from_settings(changed, allowed_hosts=("here",))
    assert (made.max_in_flight, made.stall_timeout_s, made.allowed_hosts) == (7, 3.0, ("here",))


def test_the_options_of_a_question_have_the_same_names_everywhere() -> None:
    python = set(inspect.signature(ZeroShotClassifier.classify).parameters) - {"self", "images", "labels"}
    assert set(Options.__annotations__) == python | {"label_set"}
    assert set(Question.model_fields) == python | {"label_set", "labels"}
    assert set(ClassifyRequest.model_fields) - set(Question.model_fields) == {"image", "images"}
    for client in (Client, AsyncClient):
        for method in (client.classify, client.classify_stream):
            *named, options = list(inspect.signature(method).parameters)[1:]
            assert (named, options) == (["images", "labels"], "options")
            assert get_type_hints(method)["options"].__args__ == (Options,)
    gallery = set(inspect.signature(Gallery.classify).parameters) - {"self", "labels", "on_warning"}
    assert gallery - {"examples"} == python - {"top_k"}
    assert set(RelabelRequest.model_fields) == gallery | {"labels", "label_set"}


def test_a_client_refuses_an_option_that_is_none() -> None:
    with Client("http://127.0.0.1:1", retries=0) as client, pytest.raises(TypeError, match="'top'"):
        client.classify(b"x", ["cat", "dog"], top=1)


PADDING = " " * _LARGE_BODY
ODD = {
    "many labels": {"labels": [{"name": f"label {i}"} if i % 2 else f"label {i}" for i in range(1200)]},
    "a label of a wrong type": {"labels": [*(f"label {i}" for i in range(700)), 5]},
    "a label with a wrong field": {
        "labels": [*({"name": f"label {i}"} for i in range(700)), {"name": "a", "color": 1}]
    },
    "a label with a wrong type in it": {"labels": [*({"name": f"l {i}"} for i in range(700)), {"name": 3}]},
    "children": {"labels": [{"name": f"l {i}", "children": [f"c {i}", {"name": f"d {i}"}]} for i in range(600)]},
    "thresholds": {"labels": [{"name": f"l {i}", "threshold": 0} for i in range(600)]},
    "a threshold out of range": {
        "labels": [*({"name": f"l {i}"} for i in range(600)), {"name": "a", "threshold": 1.5}]
    },
    "few": {"labels": ["a", "b"], "threshold": 1, "top_k": 3, "mode": "multilabel", "temperature": 2},
    "a number for a float": {"labels": ["a", "b"], "threshold": 1},
    "a float for a whole number": {"labels": ["a", "b"], "top_k": 1.0},
    "true for a whole number": {"labels": ["a", "b"], "top_k": True},
    "a wrong mode": {"labels": ["a", "b"], "mode": "other"},
    "an unknown field": {"labels": ["a", "b"], "colour": 1},
    "labels of a wrong type": {"labels": "a,b"},
    "a large whole number": {"labels": ["a", "b"], "top_k": 10**30},
    "a list": [1, 2],
    "null": None,
}
RAW = {
    "a name twice": '{"labels": ["a", "b"], "labels": ["c", "d"], "top_k": 1, "top_k": 2}',
    "NaN": '{"labels": ["a", "b"], "threshold": NaN}',
    "infinity": '{"labels": ["a", "b"], "temperature": Infinity}',
    "a lone surrogate": '{"labels": ["a", "\\ud800"]}',
    "a pair": '{"labels": ["a", "\\ud83d\\ude80"]}',
    "cut short": '{"labels": ["a", "b"',
    "too deep": '{"labels": ' + "[" * 300 + "]" * 300 + "}",
    "a comma too many": '{"labels": ["a", "b",]}',
    "a label's name twice": '{"labels": [' + '{"name": "x", "name": "y"},' * 600 + '"z"]}',
}


@pytest.mark.parametrize("name", [*ODD, *RAW])
def test_a_large_body_is_read_as_strictly_as_a_small_one(name: str) -> None:
    body = (RAW[name] if name in RAW else json.dumps(ODD[name])).encode() + PADDING.encode()

    def outcome(read: Any) -> object:
        try:
            return read()
        except RequestError as error:
            return error.status, error.slug, error.field, str(error)

    direct = outcome(lambda: parse(body, ClassifyRequest))
    assert outcome(lambda: anyio.run(read_question, body, ClassifyRequest, 500)) == direct


def test_an_index_that_is_built_does_not_wait_for_requests_texts(
    classifier: ZeroShotClassifier, tmp_path: Path
) -> None:
    app = create_app(classifier, tmp_path)
    gallery = app.state.service.galleries.get("g", create=True)
    release = threading.Event()
    texts = app.state.service.pipeline.texts
    texts.encoder = SlowTexts(release)
    texts.submit(["a text"], RequestContext("-", time.monotonic() + 60))
    try:
        assert gallery.encoder.encode_texts(["a photo"]).shape == (1, 640)
    finally:
        release.set()
        app.state.service.galleries.close()
        app.state.service.pipeline.close()
