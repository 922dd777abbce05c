"""What an operator sees: metrics, the dashboard that draws them, health, spans."""

from __future__ import annotations

import base64
import json
import re
import threading
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import served
from tests.images import PHOTOS, ROOT
from tests.test_batching import eventually
from tests.test_service import problem_of
from zeroshot import Encoder, ZeroShotClassifier
from zeroshot.encoders import TextCache
from zeroshot.service import ServiceConfig, create_app
from zeroshot.service.tracing import Tracing

ASKED = {"image": base64.b64encode((PHOTOS / "cat.jpg").read_bytes()).decode(), "labels": ["cat", "dog"]}


def values(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and labels' values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_happened(tiny: Encoder, tmp_path: Path) -> None:
    classifier = ZeroShotClassifier(tiny, cache=TextCache(tmp_path / "texts.sqlite3"))
    with served(create_app(classifier, tmp_path)) as url, httpx.Client(base_url=url, timeout=30) as http:
        before = values(http.get("/metrics").text)
        for _ in range(3):
            http.post("/v1/classify", json=ASKED)
        http.post("/v1/classify", json={**ASKED, "images": [ASKED["image"]] * 4, "image": None})
        http.post("/v1/classify", json={**ASKED, "labels": []})
        http.post("/v1/galleries", json={"name": "g"})
        http.get("/nowhere")
        after = values(http.get("/metrics").text)
    classify = ("zeroshot_requests_total", "POST", "/v1/classify")
    assert after[*classify, "200"] == 4
    assert after[*classify, "422"] == 1
    assert after["zeroshot_requests_total", "GET", "none", "404"] == 1
    assert after["zeroshot_request_seconds_count", "/v1/classify"] == 5
    assert after["zeroshot_images_total",] - before["zeroshot_images_total",] == 7
    assert after["zeroshot_stage_seconds_count", "queue"] - before["zeroshot_stage_seconds_count", "queue"] == 7
    assert after["zeroshot_stage_seconds_count", "decode"] == 4
    assert after["zeroshot_stage_seconds_count", "rank"] == 4
    assert after["zeroshot_text_cache_misses_total",] == 2
    assert after["zeroshot_gallery_items", "g"] == 0
    assert after["zeroshot_in_flight",] == 0
    assert after["zeroshot_encoder_up",] == 1
    assert after["process_resident_memory_bytes",] > 10**8


def test_the_dashboard_draws_metrics_that_exist(client: httpx.Client) -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
    text = client.get("/metrics").text
    known = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    known |= {f"{name}_bucket" for name in ("zeroshot_request_seconds", "zeroshot_stage_seconds")}
    known |= {"zeroshot_gallery_items", "zeroshot_text_cache_hits_total", "zeroshot_text_cache_misses_total"}
    drawn = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            drawn |= set(re.findall(r"\b(?:zeroshot|process)_\w+", target["expr"]))
    assert drawn - known == set()
    ours = {name for name in known if name.startswith("zeroshot_")}
    base = lambda name: re.sub("_(bucket|count|sum|total)$", "", name)  # noqa: E731
    assert {base(name) for name in ours} == {base(name) for name in drawn if name.startswith("zeroshot_")}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that the thread dies is the point
def test_readiness_is_red_while_the_encoder_is_and_green_again(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    app = create_app(classifier, tmp_path, ServiceConfig(stall_timeout_s=0.3, end_process=lambda: None))
    batcher = app.state.service.pipeline.batcher
    with served(app) as url, httpx.Client(base_url=url, timeout=30) as http:
        assert http.get("/readyz").json() == {"status": "ready"}

        def lose(pixels: object) -> object:
            batcher.encoder = classifier.encoder
            raise SystemExit

        batcher.encoder = type("Lost", (), {"encode_pixels": staticmethod(lose)})
        problem = problem_of(http.post("/v1/classify", json=ASKED), 503, "worker-lost")
        assert "Try again" in problem["detail"]
        seen = set()
        eventually(lambda: seen.add(status := http.get("/readyz").status_code) or status == 200)
        assert http.post("/v1/classify", json=ASKED).json()["labels"] == ["cat"]
        assert values(http.get("/metrics").text)["zeroshot_encoder_restarts_total",] == 1
        assert http.get("/healthz").status_code == 200


def test_a_stalled_encoder_is_not_ready(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    app = create_app(
        classifier, tmp_path, ServiceConfig(stall_timeout_s=0.2, request_timeout_s=1.0, end_process=lambda: None)
    )
    batcher, release = app.state.service.pipeline.batcher, threading.Event()
    with served(app) as url, httpx.Client(base_url=url, timeout=30) as http:

        def hang(pixels: object) -> object:
            release.wait(20)
            return classifier.encoder.encode_pixels(pixels)

        batcher.encoder = type("Hung", (), {"encode_pixels": staticmethod(hang)})
        problem_of(http.post("/v1/classify", json=ASKED), 504, "deadline-exceeded")
        eventually(lambda: http.get("/readyz").status_code == 503)
        assert "stalled" in http.get("/readyz").json()["detail"]
        assert values(http.get("/metrics").text)["zeroshot_encoder_up",] == 0
        assert http.get("/healthz").status_code == 200
        release.set()
        eventually(lambda: http.get("/readyz").status_code == 200)


def test_spans_of_a_request_lie_in_its_callers_trace(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(classifier, tmp_path, ServiceConfig(tracing=Tracing(provider)))
    trace = "0af7651916cd43dd8448eb211c80319c"
    with served(app) as url:
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", "x-request-id": "r1"}
        assert httpx.post(f"{url}/v1/classify", json=ASKED, headers=headers, timeout=30).status_code == 200
        eventually(lambda: len(exporter.get_finished_spans()) > 4)  # made when the answer is on its way
        spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {"POST /v1/classify", "decode", "queue", "encode", "rank"} <= set(spans)
    request = spans["POST /v1/classify"]
    assert f"{request.context.trace_id:032x}" == trace
    assert request.attributes["zeroshot.request_id"] == "r1"
    assert request.attributes["http.response.status_code"] == 200
    order = [spans[name] for name in ("decode", "queue", "encode", "rank")]
    assert all(span.parent.span_id == request.context.span_id for span in order)
    assert [span.start_time for span in order] == sorted(span.start_time for span in order)
    assert all(request.start_time <= span.start_time <= span.end_time <= request.end_time + 10**6 for span in order)
