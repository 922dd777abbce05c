"""Galleries over HTTP: the same answers as in Python, and every mistake a problem that names it."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Run, running_server
from tests.images import PHOTOS
from tests.vectors import unit
from zeroshot import Encoder
from zeroshot.gallery import Gallery, Query
from zeroshot.labels import LabelSet, parse_labels


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server, and its home."""
    folder = tmp_path_factory.mktemp("galleries")
    with running_server(folder) as url:
        yield url, folder


@pytest.fixture
def http(base: tuple[str, Path]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base[0], timeout=60) as client:
        yield client
        assert client.get("/readyz").status_code == 200


def encoded(name: str) -> str:
    return base64.b64encode((PHOTOS / name).read_bytes()).decode()


@pytest.fixture
def path(http: httpx.Client) -> str:
    """Of a gallery with the shipped photos."""
    name = f"g{uuid.uuid4().hex}"
    assert http.post("/v1/galleries", json={"name": name}).status_code == 201
    items = [{"id": photo.stem, "image": encoded(photo.name), "uri": f"/photos/{photo.name}",
              "metadata": {"letters": len(photo.stem)}} for photo in sorted(PHOTOS.glob("*.jpg"))]  # fmt: skip
    answer = http.post(f"/v1/galleries/{name}/items", json={"items": items}).json()
    assert answer["stored"] == len(items)
    assert [result["id"] for result in answer["results"]] == [item["id"] for item in items]
    return f"/v1/galleries/{name}"


def test_a_gallerys_life(http: httpx.Client, path: str) -> None:
    name = path.rpartition("/")[2]
    assert {"name": name, "count": 6, "model": "tiny", "problem": None} in http.get("/v1/galleries").json()["galleries"]
    info = http.get(path).json()
    assert (info["count"], info["dim"], info["index"], info["fields"]) == (6, 640, "exact", {"letters": 6})
    item = http.get(f"{path}/items/cat", params={"vector": True}).json()
    assert (item["width"], item["height"], item["uri"], len(item["vector"])) == (451, 300, "/photos/cat.jpg", 640)
    assert http.delete(f"{path}/items/cat").status_code == 204
    assert http.get(f"{path}/items/cat").status_code == 404
    assert http.post(f"{path}/verify").json() == {
        "count": 5, "missing": 0, "surplus": 0, "different": 0, "recall": 1.0, "repaired": False,
    }  # fmt: skip
    assert http.post(f"{path}/compact").json()["count"] == 5
    assert http.delete(path).status_code == 204
    assert http.get(path).json()["type"] == "urn:zeroshot:problem:gallery-not-found"
    assert http.post("/v1/galleries", json={"name": name}).status_code == 201
    assert http.get(path).json()["count"] == 0


def test_python_http_and_the_command_line_find_the_same(
    http: httpx.Client, path: str, base: tuple[str, Path], tiny: Encoder, run: Run
) -> None:
    queries = [
        {"text": "something to drink"},
        {"image": encoded("cat.jpg"), "weight": 0.5},
        {"id": "rocket", "weight": -0.25},
    ]
    over_http = http.post(f"{path}/search", json={"queries": queries, "where": {"letters": {"gt": 2}}, "top_k": 4})
    hits = [(hit["id"], hit["similarity"]) for hit in over_http.json()["hits"]]
    assert len(hits) == 4
    name = path.rpartition("/")[2]
    with Gallery(base[1], name, tiny) as gallery:
        found = gallery.search(
            [
                Query(text="something to drink"),
                Query(image=PHOTOS / "cat.jpg", weight=0.5),
                Query(id="rocket", weight=-0.25),
            ],
            where={"letters": {"gt": 2}},
            top_k=4,
        )
    assert [(hit.item.id, hit.similarity) for hit in found] == hits
    # The command line takes a minus for sentences; the same sum without it is compared on all three sides below.
    printed = run(
        "search", "something to drink", "--image", f"0.5:{PHOTOS / 'cat.jpg'}", "--gallery", name, "--top", 4, "--json",
        ZEROSHOT_HOME=str(base[1]),
    )  # fmt: skip
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    again = http.post(f"{path}/search", json={"queries": queries[:2], "top_k": 4}).json()["hits"]
    assert lines == again


@pytest.mark.parametrize("query", [{"text": "a cat"}, {"text": "eine Rakete"}, {"image": "coffee.jpg"}, {"id": "cat"}])
def test_one_query_finds_the_same_in_python_to_the_last_bit(
    http: httpx.Client, path: str, base: tuple[str, Path], tiny: Encoder, query: dict[str, str]
) -> None:
    sent = {"image": encoded(query["image"])} if "image" in query else query
    hits = [http.post(f"{path}/search", json={"queries": [sent]}).json()["hits"] for _ in range(2)]
    assert hits[0] == hits[1]  # the second time from the text cache
    ours = Query(image=PHOTOS / query["image"]) if "image" in query else Query(**query)
    with Gallery(base[1], path.rpartition("/")[2], tiny) as gallery:
        found = gallery.search(ours)
    assert [(hit["id"], hit["similarity"]) for hit in hits[0]] == [(hit.item.id, hit.similarity) for hit in found]


def test_an_image_alone_is_searched_with_a_form(http: httpx.Client, path: str) -> None:
    with (PHOTOS / "coffee.jpg").open("rb") as file:
        answer = http.post(f"{path}/search", files={"image": file}, data={"top_k": "1", "where": '{"letters": 6}'})
    assert [hit["id"] for hit in answer.json()["hits"]] == ["coffee"]


def test_a_collection_is_relabelled(http: httpx.Client, path: str, base: tuple[str, Path], tiny: Encoder) -> None:
    labels = ["a cat", "a cup of coffee", "a rocket", "a submarine"]
    rows = http.post(f"{path}/classify", json={"labels": labels, "examples": 1}).json()["labels"]
    assert [row["label"] for row in rows] == labels
    assert rows[0]["examples"][0]["id"] == "cat"
    with Gallery(base[1], path.rpartition("/")[2], tiny) as gallery:
        counted = gallery.classify(LabelSet("custom", parse_labels(labels)))
    assert [row["count"] for row in rows] == [one.count for one in counted]


def test_lines_are_stored_one_by_one(http: httpx.Client, path: str) -> None:
    lines = [
        json.dumps({"id": "again", "image": "data:image/jpeg;base64," + encoded("cat.jpg")}),
        "",
        "{not json",
        json.dumps([1]),
        json.dumps({"id": "cat", "image": encoded("cat.jpg")}),
        json.dumps({"id": "text", "image": base64.b64encode(b"hello").decode()}),
        json.dumps({"id": "url", "image": "http://127.0.0.1:1/cat.jpg"}),
        json.dumps({"id": "vector", "vector": [float(x) * 3 for x in unit(1)], "metadata": {"a": None}}),
        json.dumps({"id": "short", "vector": [1.0]}),
        json.dumps({"id": "neither"}),
        json.dumps({"image": encoded("coffee.jpg")}),
    ]
    body = "\n".join(lines).encode()
    answer = http.post(
        f"{path}/items", content=iter([body[:1000], body[1000:]]), headers={"content-type": "application/x-ndjson"}
    )
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    results = [json.loads(line) for line in answer.text.splitlines()]
    problems = [result.get("problem", {}).get("type", "").rpartition(":")[2] for result in results]
    assert problems == [
        "", "invalid-json", "invalid-request", "item-exists", "image-unreadable", "image-source-refused",
        "", "invalid-option", "invalid-request", "",
    ]  # fmt: skip
    assert [result["status"] for result in results] == ["stored" if not one else "refused" for one in problems]
    assert len(results[-1]["id"]) == 64  # the image's own sha256
    assert http.get(path).json()["count"] == 9
    assert {"again", "cat"} <= set(http.get(f"{path}/duplicates").json()["groups"][0])
    replaced = http.post(
        f"{path}/items?replace=true", content=lines[4], headers={"content-type": "application/x-ndjson"}
    )
    assert json.loads(replaced.text) == {"id": "cat", "status": "stored"}


def test_a_client_that_goes_away_harms_nobody(http: httpx.Client, path: str) -> None:
    """The server's log must hold no traceback in the end, which the server's fixture checks."""

    def lines() -> Iterator[bytes]:
        for number in range(100):
            yield json.dumps({"id": f"{number}", "vector": unit(number).tolist()}).encode() + b"\n"
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        http.post(f"{path}/items", content=lines(), headers={"content-type": "application/x-ndjson"})
    deadline = time.monotonic() + 20
    while http.get(path).json()["count"] < 6 + 64 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert http.get(path).json()["count"] == 6 + 64  # what came as a whole batch is stored


def test_items_are_listed_page_by_page(http: httpx.Client, path: str) -> None:
    seen, after = [], None
    while True:
        page = http.get(f"{path}/items", params={"limit": 4} | ({"after": after} if after else {})).json()
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == ["astronaut", "camera", "cat", "coffee", "motorcycle", "rocket"]
    some = http.get(f"{path}/items", params={"where": '{"letters": {"lt": 6}}'}).json()
    assert [item["id"] for item in some["items"]] == ["cat"]


def test_ids_may_be_paths(http: httpx.Client, path: str) -> None:
    id_ = "/a folder/ü?#%.jpg"
    http.post(f"{path}/items", json={"items": [{"id": id_, "vector": unit(5).tolist()}]})
    url = f"{path}/items/{httpx.QueryParams({'': id_})!s}".replace("items/=", "items/").replace("+", "%20")
    assert http.get(url).json()["id"] == id_
    assert http.delete(url).status_code == 204


BAD: dict[str, tuple[str, str, object, int, str | None]] = {
    "no name": ("POST", "/v1/galleries", {}, 422, "name"),
    "bad name": ("POST", "/v1/galleries", {"name": "../x"}, 422, None),
    "not an object": ("POST", "/v1/galleries", [1], 422, None),
    "no such gallery": ("POST", "/v1/galleries/none/search", {"queries": [{"text": "x"}]}, 404, None),
    "no query": ("POST", "{}/search", {"queries": []}, 422, "queries"),
    "blank query": ("POST", "{}/search", {"queries": [{"text": " "}]}, 422, "query"),
    "two in one": ("POST", "{}/search", {"queries": [{"text": "a", "id": "cat"}]}, 422, "query"),
    "unknown id": ("POST", "{}/search", {"queries": [{"id": "nothing"}]}, 404, None),
    "bad image": ("POST", "{}/search", {"queries": [{"image": "!!"}]}, 422, "image"),
    "short vector": ("POST", "{}/search", {"queries": [{"vector": [1, 2]}]}, 422, "vector"),
    "top_k": ("POST", "{}/search", {"queries": [{"text": "a"}], "top_k": 0}, 422, "top_k"),
    "filter": ("POST", "{}/search", {"queries": [{"text": "a"}], "where": {"a": {"like": 1}}}, 422, "where"),
    "unknown field": ("POST", "{}/search", {"queries": [{"text": "a"}], "k": 1}, 422, "k"),
    "no labels": ("POST", "{}/classify", {}, 422, "labels"),
    "unknown set": ("POST", "{}/classify", {"label_set": "nothing"}, 404, "label_set"),
    "limit": ("GET", "{}/items?limit=0", None, 422, "limit"),
    "where": ("GET", "{}/items?where=x", None, 422, "where"),
    "similarity": ("GET", "{}/duplicates?min_similarity=2", None, 422, "min_similarity"),
    "unknown item": ("DELETE", "{}/items/nothing", None, 404, None),
    "no items": ("POST", "{}/items", {"items": []}, 422, "items"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_problems_that_name_the_field(http: httpx.Client, path: str, case: str) -> None:
    method, where, body, status, field = BAD[case]
    answer = http.request(method, where.format(path), json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field") == field
    assert http.get(path).json()["count"] == 6


def test_a_gallery_of_another_model_is_refused(http: httpx.Client, base: tuple[str, Path], tiny: Encoder) -> None:
    class Other:
        spec, fingerprint, dim = "other", "0" * 64, 640

    with Gallery(base[1], "foreign", Other(), create=True):
        pass
    assert http.get("/v1/galleries/foreign").json()["type"] == "urn:zeroshot:problem:gallery-mismatch"
    assert "foreign" in [one["name"] for one in http.get("/v1/galleries").json()["galleries"]]


def test_the_api_describes_galleries(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    names = {"NewGallery", "NewItems", "NewItem", "SearchRequest", "RelabelRequest"}
    assert names <= set(document["components"]["schemas"])
    assert "application/x-ndjson" in document["paths"]["/v1/galleries/{name}/items"]["post"]["requestBody"]["content"]
