"""The HTTP API, asked as a stranger would, on a real server."""

from __future__ import annotations

import base64
import json
import re
import socket
from pathlib import Path

import httpx
import pytest

from tests.conftest import Run, running_server
from tests.images import BAD, CATS, ODD, PHOTOS

CAT = (PHOTOS / "cat.jpg").read_bytes()
CAT_BASE64 = base64.b64encode(CAT).decode()
TWO = ["cat", "dog"]


def problem_of(answer: httpx.Response, status: int, slug: str) -> dict[str, object]:
    """Check that an answer is this problem, in RFC 9457's form, and give its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == f"urn:zeroshot:problem:{slug}", body
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in answer.text
    return body


@pytest.mark.parametrize("image", [CAT_BASE64, f"data:image/jpeg;base64,{CAT_BASE64}"], ids=["base64", "data URI"])
def test_json_is_answered(client: httpx.Client, image: str) -> None:
    answer = client.post("/v1/classify", json={"image": image, "labels": [*TWO, "cup of coffee"], "top_k": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == "tiny"
    assert [p["label"] for p in body["predictions"]] == TWO
    assert body["predictions"][0]["score"] > 0.9


def test_a_form_is_answered(client: httpx.Client) -> None:
    for labels in (TWO, "cat,dog"):
        answer = client.post("/v1/classify", files={"image": CAT}, data={"labels": labels, "top_k": "1"})
        assert [p["label"] for p in answer.json()["predictions"]] == ["cat"]


def test_label_objects_label_sets_and_templates_are_taken(client: httpx.Client) -> None:
    described = [{"name": "pet", "descriptions": ["a cat", "a dog"]}, {"name": "x", "wording": "rocket"}]
    answer = client.post("/v1/classify", json={"image": CAT_BASE64, "labels": described})
    assert answer.json()["predictions"][0]["label"] == "pet"
    answer = client.post("/v1/classify", json={"image": CAT_BASE64, "label_set": "cifar10", "templates": "none"})
    assert answer.json()["predictions"][0]["label"] == "cat"
    one = client.post("/v1/classify", json={"image": CAT_BASE64, "labels": TWO, "templates": "a photo of a {}."})
    same = client.post("/v1/classify", json={"image": CAT_BASE64, "labels": TWO, "templates": ["a photo of a {}."]})
    assert one.json() == same.json()


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_problems(client: httpx.Client, name: str) -> None:
    make, kind = BAD[name]
    status = 413 if kind == "image-too-large" else 422
    problem_of(client.post("/v1/classify", files={"image": make()}, data={"labels": TWO}), status, kind)
    encoded = base64.b64encode(make()).decode()
    body = problem_of(client.post("/v1/classify", json={"image": encoded, "labels": TWO}), status, kind)
    assert body["field"] == "image"


@pytest.mark.parametrize("name", [*CATS, *ODD])
def test_odd_images_are_classified(client: httpx.Client, name: str) -> None:
    answer = client.post("/v1/classify", files={"image": {**CATS, **ODD}[name]()}, data={"labels": TWO})
    assert answer.status_code == 200, answer.text
    if name in CATS:
        assert answer.json()["predictions"][0]["label"] == "cat"


REFUSED = {
    "no labels": ({"labels": []}, 422, "invalid-labels", "labels"),
    "neither labels nor set": ({}, 422, "invalid-request", "labels"),
    "both labels and set": ({"labels": TWO, "label_set": "cifar10"}, 422, "invalid-request", "labels"),
    "one label": ({"labels": ["cat"]}, 422, "invalid-labels", "labels"),
    "blank label": ({"labels": ["cat", " "]}, 422, "invalid-labels", "labels"),
    "duplicate labels": ({"labels": ["cat", "cat"]}, 422, "invalid-labels", "labels"),
    "10,001 labels": ({"labels": [str(i) for i in range(10_001)]}, 422, "invalid-labels", "labels"),
    "long label": ({"labels": ["cat", "x" * 10_000]}, 422, "invalid-labels", "labels"),
    "label of another type": ({"labels": ["cat", 5]}, 422, "invalid-request", "labels.1"),
    "labels of another type": ({"labels": "cat,dog"}, 422, "invalid-request", "labels"),
    "unknown label set": ({"label_set": "cifar11"}, 404, "definition-not-found", "label_set"),
    "a path as label set": ({"label_set": "prompts/labels/cifar10.yaml"}, 404, "definition-not-found", "label_set"),
    "template without slot": ({"labels": TWO, "templates": ["a cat"]}, 422, "invalid-template", "templates"),
    "unknown template set": ({"labels": TWO, "templates": "simpel"}, 404, "definition-not-found", "templates"),
    "top_k 0": ({"labels": TWO, "top_k": 0}, 422, "invalid-request", "top_k"),
    "top_k text": ({"labels": TWO, "top_k": "2"}, 422, "invalid-request", "top_k"),
    "unknown field": ({"labels": TWO, "colour": "red"}, 422, "invalid-request", "colour"),
    "null image": ({"labels": TWO, "image": None}, 422, "invalid-request", "image"),
    "invalid base64": ({"labels": TWO, "image": "***"}, 422, "image-unreadable", "image"),
    "empty image": ({"labels": TWO, "image": ""}, 422, "image-unreadable", "image"),
    "URL": ({"labels": TWO, "image": "http://127.0.0.1/cat.jpg"}, 422, "image-source-refused", "image"),
    "file path": ({"labels": TWO, "image": "/etc/passwd"}, 422, "image-unreadable", "image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_requests_are_problems_that_name_the_field(client: httpx.Client, name: str) -> None:
    fields, status, slug, field = REFUSED[name]
    body = problem_of(client.post("/v1/classify", json={"image": CAT_BASE64, **fields}), status, slug)
    assert body["field"] == field
    assert len(body["detail"]) < 400


@pytest.mark.parametrize("body", ["[]", "5", '"text"', "null"])
def test_json_that_is_no_object_is_a_problem(client: httpx.Client, body: str) -> None:
    headers = {"content-type": "application/json"}
    problem_of(client.post("/v1/classify", content=body, headers=headers), 422, "invalid-request")


@pytest.mark.parametrize("body", ["", "{", "{'image': 1}", b"\xff\xfe", "[" * 100_000])
def test_malformed_json_is_a_problem(client: httpx.Client, body: str | bytes) -> None:
    headers = {"content-type": "application/json"}
    problem_of(client.post("/v1/classify", content=body, headers=headers), 400, "invalid-json")


def test_of_two_bad_images_one_is_the_answer_and_none_is_left_behind(tmp_path: Path) -> None:
    unreadable = {"type": "base64", "value": base64.b64encode(b"no image").decode()}
    body = {"image": [unreadable, {"type": "base64", "value": "no base64!"}]}
    with running_server(tmp_path) as url:
        for _ in range(5):
            problem_of(httpx.post(f"{url}/clip/embed_image", json=body), 422, "image-unreadable")
        assert "never retrieved" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_content_types_are_refused(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/v1/classify", content=b"x", headers={"content-type": content_type})
    problem_of(answer, 415, "unsupported-content-type")


def test_an_image_may_be_the_body_with_its_options_in_the_query(client: httpx.Client) -> None:
    for content_type in ("image/jpeg", "application/octet-stream", "image/x-whatever"):
        answer = client.post(
            "/v1/classify",
            params={"labels": "cat,dog", "top_k": 1, "mode": "multiclass", "temperature": 2},
            content=CAT,
            headers={"content-type": content_type},
        )
        assert answer.json()["labels"] == ["cat"]
    repeated = client.post(
        "/v1/classify", params={"labels": TWO}, content=CAT, headers={"content-type": "image/jpeg"}
    ).json()
    assert [one["label"] for one in repeated["predictions"]] == TWO
    beside = client.post("/v1/classify?top_k=1", json={"image": CAT_BASE64, "labels": TWO})
    assert problem_of(beside, 422, "invalid-request")["field"] == "top_k"
    for query, field in (
        ("labels=cat,dog&top_k=x", "top_k"),
        ("labels=cat,dog&colour=1", "colour"),
        ("top_k=1", "labels"),
    ):
        refused = client.post(f"/v1/classify?{query}", content=CAT, headers={"content-type": "image/jpeg"})
        assert problem_of(refused, 422, "invalid-request")["field"] == field


def test_several_images_are_answered_each_by_itself(client: httpx.Client) -> None:
    broken = base64.b64encode(BAD["truncated JPEG"][0]()).decode()
    asked = {"images": [CAT_BASE64, broken, "***", CAT_BASE64], "labels": TWO, "top_k": 1}
    results = client.post("/v1/classify", json=asked).json()["results"]
    assert [one.get("labels") for one in results] == [["cat"], None, None, ["cat"]]
    assert [one["problem"]["type"].rpartition(":")[2] for one in results[1:3]] == ["image-unreadable"] * 2
    files = [("image", CAT), ("image", b"x"), ("image", CAT)]
    formed = client.post("/v1/classify", files=files, data={"labels": TWO}).json()["results"]
    assert ["problem" in one for one in formed] == [False, True, False]
    for body in ({"images": []}, {"images": [CAT_BASE64], "image": CAT_BASE64}, {"images": [CAT_BASE64] * 65}):
        problem_of(client.post("/v1/classify", json={"labels": TWO, **body}), 422, "invalid-request")


def test_forms_without_an_image_or_broken_are_problems(client: httpx.Client) -> None:
    problem_of(client.post("/v1/classify", files={"photo": CAT}, data={"labels": TWO}), 422, "invalid-request")
    headers = {"content-type": "multipart/form-data"}
    problem_of(client.post("/v1/classify", content=b"x", headers=headers), 400, "invalid-form")
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/classify", content=b"--b\r\nbroken", headers=headers)
    assert answer.status_code in (400, 422)
    problem_of(
        client.post("/v1/classify", files={"image": CAT}, data={"labels": TWO, "top_k": "two"}), 422, "invalid-request"
    )


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: str) -> None:
    host, port = server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 999999999999\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    problem_of(client.get("/nowhere"), 404, "not-found")
    problem_of(client.get("/v1/classify"), 405, "method-not-allowed")
    allowed = {method.strip() for method in client.put("/v1/galleries/x").headers["allow"].split(",")}
    assert allowed == {"GET", "DELETE"}


def test_it_says_that_it_is_alive(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_the_api_describes_itself(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/classify"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data", "image/*"}
    assert {"200", "400", "404", "413", "415", "422"} <= set(operation["responses"])
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])


def test_the_docs_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs").text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert addresses
    for address in addresses:
        assert address.startswith("/")
        assert client.get(address).status_code == 200


def test_labels_may_be_in_any_script(client: httpx.Client) -> None:
    for answer in (
        client.post("/v1/classify", json={"image": CAT_BASE64, "labels": ["cat", "собака", "🚀"]}),
        client.post("/v1/classify", files={"image": CAT}, data={"labels": ["cat", "собака", "🚀"]}),
    ):
        assert {p["label"] for p in answer.json()["predictions"]} == {"cat", "собака", "🚀"}


def test_a_server_that_cannot_start_says_why(run: Run) -> None:
    for arguments, message in ((("--model", "tinny"), "'tinny' is not a known model"), (("--port", "99999"), "--port")):
        finished = run("serve", *arguments)
        assert finished.returncode == 2
        assert message in finished.stderr
        assert "Traceback" not in finished.stderr
