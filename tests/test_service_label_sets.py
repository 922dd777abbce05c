"""Stored label sets over HTTP: a whole life, and every mistake a problem that names it."""

from __future__ import annotations

import base64
import json
import uuid

import httpx
import pytest

from tests.images import BAD, PHOTOS
from tests.test_service import problem_of

CAT = base64.b64encode((PHOTOS / "cat.jpg").read_bytes()).decode()


@pytest.fixture
def name(client: httpx.Client) -> str:
    """Of a stored set of two labels."""
    made = f"set-{uuid.uuid4().hex}"
    answer = client.post(
        "/v1/label-sets", json={"name": made, "labels": ["cat", {"name": "dog", "aliases": ["hound"]}]}
    )
    assert answer.status_code == 201
    assert answer.json() == {"name": made, "version": 1, "count": 2}
    return made


def test_a_label_sets_life(client: httpx.Client, name: str) -> None:
    path = f"/v1/label-sets/{name}"
    shown = client.get(path).json()
    assert shown == {"name": name, "labels": ["cat", {"name": "dog", "aliases": ["hound"]}]}
    assert client.post(f"{path}/labels", json={"labels": ["rocket", {"name": "x/y"}]}).json()["version"] == 2
    assert client.delete(f"{path}/labels/x%2Fy").json() == {"name": name, "version": 3, "count": 3}
    assert client.patch(path, json={"mode": "multilabel", "threshold": 0.4}).json()["version"] == 4
    assert client.get(path).json()["mode"] == "multilabel"
    assert client.patch(path, json={"mode": None}).json()["version"] == 5
    assert "mode" not in client.get(path).json()
    assert client.put(path, json={"name": name, "labels": ["a", "b"]}).json() == {
        "name": name, "version": 6, "count": 2,
    }  # fmt: skip
    assert client.get(path, params={"version": 2}).json()["labels"][-2:] == ["rocket", "x/y"]
    assert [one["version"] for one in client.get(f"{path}/versions").json()["versions"]] == [1, 2, 3, 4, 5, 6]
    listed = client.get("/v1/label-sets").json()["label_sets"]
    mine = next(one for one in listed if one["name"] == name)
    assert (mine["version"], mine["count"], mine["shipped"]) == (6, 2, False)
    assert {"name": "cifar10", "shipped": True, "version": None, "count": None, "changed": None} in listed
    copied = client.post(f"{path}/copy", json={"name": f"{name}-2"}).json()
    assert copied["version"] == 1
    assert client.post("/v1/label-sets/cifar10/copy", json={"name": f"{name}-c"}).json()["count"] == 10
    assert client.patch(f"{path}-2", json={"name": f"{name}-3"}).json()["name"] == f"{name}-3"
    for gone in (path, f"{path}-3", f"{path}-c"):
        assert client.delete(gone).status_code == 204
    problem_of(client.get(path), 404, "definition-not-found")


def test_what_is_added_is_in_the_next_answer_and_versions_can_be_asked_again(client: httpx.Client, name: str) -> None:
    def ask(label_set: str) -> dict[str, object]:
        return client.post("/v1/classify", json={"image": CAT, "label_set": label_set, "top_k": 1}).json()

    client.delete(f"/v1/label-sets/{name}/labels/cat")  # one label is left, of which nothing can be asked
    problem_of(client.post("/v1/classify", json={"image": CAT, "label_set": name}), 422, "invalid-labels")
    client.post(f"/v1/label-sets/{name}/labels", json={"labels": ["tabby cat"]})
    assert ask(name)["labels"] == ["tabby cat"]
    assert ask(name)["label_set"] == f"{name}@3"
    assert ask(f"{name}@1")["labels"] == ["cat"]
    client.delete(f"/v1/label-sets/{name}")


REFUSED = {
    "no labels": ("post", "", {"name": "x1", "labels": []}, 422, "invalid-labels"),
    "no name": ("post", "", {"labels": ["a", "b"]}, 422, "invalid-request"),
    "blank name": ("post", "", {"name": "", "labels": ["a", "b"]}, 422, "invalid-request"),
    "a path as name": ("post", "", {"name": "../x", "labels": ["a", "b"]}, 422, "label-set-refused"),
    "a shipped name": ("post", "", {"name": "cifar10", "labels": ["a", "b"]}, 409, "label-set-exists"),
    "unknown parent": ("post", "", {"name": "x1", "labels": ["a", {"name": "b", "parent": "c"}]}, 422,
                       "invalid-labels"),
    "a circle": ("post", "", {"name": "x1", "labels": [{"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}]},
                 422, "invalid-labels"),
    "twice": ("post", "", {"name": "x1", "labels": ["a", "a"]}, 422, "invalid-labels"),
    "vectors": ("post", "", {"name": "x1", "labels": ["a", "b"], "vectors": [{"file": "x.npz", "sha256": "0" * 64}]},
                422, "label-set-refused"),
    "unknown templates": ("post", "", {"name": "x1", "labels": ["a", "b"], "templates": "simpel"}, 404,
                          "definition-not-found"),
    "template file": ("post", "", {"name": "x1", "labels": ["a", "b"], "templates": "/etc/passwd"}, 404,
                      "definition-not-found"),
    "unknown field": ("post", "", {"name": "x1", "labels": ["a", "b"], "colour": 1}, 422, "invalid-request"),
    "taken": ("post", "", {"name": "{name}", "labels": ["a", "b"]}, 409, "label-set-exists"),
    "another name": ("put", "/{name}", {"name": "other", "labels": ["a", "b"]}, 422, "label-set-refused"),
    "a bad mode": ("patch", "/{name}", {"mode": "best"}, 422, "invalid-request"),
    "a bad threshold": ("patch", "/{name}", {"threshold": 2}, 422, "invalid-request"),
    "a label there is": ("post", "/{name}/labels", {"labels": ["cat"]}, 409, "label-set-exists"),
    "an alias there is": ("post", "/{name}/labels", {"labels": ["hound"]}, 409, "label-set-exists"),
    "nothing to add": ("post", "/{name}/labels", {"labels": []}, 422, "invalid-request"),
    "no such set": ("post", "/nowhere/labels", {"labels": ["x"]}, 404, "label-set-not-found"),
    "no such label": ("delete", "/{name}/labels/zebra", None, 404, "label-set-not-found"),
    "no such set to delete": ("delete", "/nowhere", None, 404, "label-set-not-found"),
    "no such history": ("get", "/nowhere/versions", None, 404, "label-set-not-found"),
    "no such version": ("get", "/{name}?version=99", None, 404, "label-set-not-found"),
    "version 0": ("get", "/{name}?version=0", None, 422, "invalid-request"),
    "shipped, to change": ("patch", "/cifar10", {"threshold": 0.5}, 404, "label-set-not-found"),
    "copy to a taken name": ("post", "/cifar10/copy", {"name": "{name}"}, 409, "label-set-exists"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_problems_and_change_nothing(client: httpx.Client, name: str, case: str) -> None:
    method, path, body, status, slug = REFUSED[case]
    before = client.get("/v1/label-sets").json()
    filled = None if body is None else json.loads(json.dumps(body).replace("{name}", name))
    answer = client.request(method, "/v1/label-sets" + path.replace("{name}", name), json=filled)
    problem_of(answer, status, slug)
    assert client.get("/v1/label-sets").json() == before
    client.delete(f"/v1/label-sets/{name}")


def test_a_stream_is_answered_line_by_line_and_bad_lines_in_their_place(client: httpx.Client) -> None:
    lines: list[object] = [{"labels": ["cat", "dog", "rocket"], "top_k": 1}]
    lines += [{"image": CAT, "id": f"cat-{number}"} for number in range(40)]
    lines[3] = {"image": base64.b64encode(BAD["truncated JPEG"][0]()).decode(), "id": "broken"}
    lines[5] = {"photo": CAT}
    text = "\n".join([*(json.dumps(line) for line in lines), "", "{not json"])
    headers = {"content-type": "application/x-ndjson"}
    answer = client.post("/v1/classify/stream", content=text, headers=headers)
    assert answer.headers["content-type"] == "application/x-ndjson"
    results = [json.loads(line) for line in answer.text.splitlines()]
    assert [one["index"] for one in results] == list(range(41))
    assert results[2]["id"] == "broken"
    assert results[2]["problem"]["type"].endswith("image-unreadable")
    assert results[4]["problem"]["type"].endswith("invalid-request")
    assert results[40]["problem"]["type"].endswith("invalid-json")
    good = [one for one in results if "answer" in one]
    assert len(good) == 38
    assert all(one["answer"]["labels"] == ["cat"] and one["id"].startswith("cat-") for one in good)


def test_a_stream_that_cannot_begin_is_a_problem(client: httpx.Client) -> None:
    headers = {"content-type": "application/x-ndjson"}
    for content, status, slug in (
        ("", 422, "invalid-request"),
        ("{", 400, "invalid-json"),
        ('{"labels": []}', 422, "invalid-labels"),
        ('{"image": "x"}', 422, "invalid-request"),
    ):
        problem_of(client.post("/v1/classify/stream", content=content, headers=headers), status, slug)
    problem_of(client.post("/v1/classify/stream", json={}), 415, "unsupported-content-type")
    only_labels = client.post("/v1/classify/stream", content='{"labels": ["a", "b"]}', headers=headers)
    assert (only_labels.status_code, only_labels.text) == (200, "")
