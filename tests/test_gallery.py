"""Galleries: what was stored is found, nothing acknowledged is lost, and re-labelling reads no image."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.conftest import environment
from tests.images import PHOTOS
from tests.vectors import StubEncoder, unit
from zeroshot import Encoder, ZeroShotClassifier, load_encoder
from zeroshot.encoders.streaming import encode_one
from zeroshot.errors import (
    GalleryBusy,
    GalleryCorrupt,
    GalleryError,
    GalleryMismatch,
    GalleryNotFound,
    ItemExists,
    ItemNotFound,
    OptionError,
)
from zeroshot.gallery import Gallery, Item, Query, delete_gallery, gallery_names
from zeroshot.gallery.catalog import DATABASE
from zeroshot.gallery.store import GalleryStore
from zeroshot.labels import LabelSet, load_label_set, parse_labels

DIM = 640


@pytest.fixture
def gallery(tmp_path: Path, tiny: Encoder) -> Iterator[Gallery]:
    with Gallery(tmp_path, "test", tiny, create=True) as opened:
        yield opened


@pytest.fixture
def photos_gallery(gallery: Gallery, tiny: Encoder) -> Gallery:
    gallery.add(
        (Item(path.stem, uri=str(path), metadata={"name": path.stem}), encode_one(tiny, path))
        for path in sorted(PHOTOS.glob("*.jpg"))
    )
    return gallery


def test_images_are_found_by_sentence_image_example_and_sum(photos_gallery: Gallery) -> None:
    assert photos_gallery.search("a small furry pet")[0].item.id == "cat"
    itself = photos_gallery.search(Query(image=PHOTOS / "coffee.jpg"), top_k=1)[0]
    assert itself.item.id == "coffee"
    assert itself.similarity == pytest.approx(1, abs=1e-5)
    assert "rocket" not in [hit.item.id for hit in photos_gallery.search(Query(id="rocket"))]
    both = photos_gallery.search([Query(image=PHOTOS / "coffee.jpg"), Query(image=PHOTOS / "rocket.jpg")], top_k=2)
    assert {hit.item.id for hit in both} == {"coffee", "rocket"}
    without = photos_gallery.search([Query(id="cat"), Query(text="cat", weight=-1.0)])
    assert without[0].item.id != "cat"
    sure = photos_gallery.search("cat", min_similarity=0.4)
    assert [hit.item.id for hit in sure] == ["cat"]
    similarities = [hit.similarity for hit in photos_gallery.search("cat")]
    assert similarities == sorted(similarities, reverse=True)
    assert len(similarities) == 6


def test_everything_is_there_after_reopening(tmp_path: Path, tiny: Encoder) -> None:
    item = Item("ü/1", "file.jpg", "ab" * 32, 640, 480, 1234, 5678, {"tags": ["a", "b"], "n": 1.5, "none": None})
    with Gallery(tmp_path, "g", tiny, create=True) as gallery:
        gallery.add([(item, unit(1))])
    with Gallery(tmp_path, "g", tiny) as again:
        stored, vector = again.get("ü/1")
        assert stored == item
        np.testing.assert_array_equal(vector, unit(1))
        assert again.search(Query(vector=unit(1)))[0].item == item
        assert len(again) == 1
    assert gallery_names(tmp_path) == ["g"]
    delete_gallery(tmp_path, "g")
    assert gallery_names(tmp_path) == []


def test_replacing_and_deleting_are_seen_at_once(gallery: Gallery) -> None:
    gallery.add([(Item("a"), unit(1)), (Item("b"), unit(2))])
    with pytest.raises(ItemExists, match="'a'"):
        gallery.add([(Item("c"), unit(3)), (Item("a"), unit(4))])
    assert len(gallery) == 2  # all or none: c was not stored
    gallery.add([(Item("a", metadata={"new": True}), unit(5))], replace=True)
    best = gallery.search(Query(vector=unit(5)), top_k=1)[0]
    assert (best.item.id, best.item.metadata) == ("a", {"new": True})
    assert gallery.delete(["a"]) == 1
    assert [hit.item.id for hit in gallery.search(Query(vector=unit(5)))] == ["b"]
    with pytest.raises(ItemNotFound, match="'a'"):
        gallery.delete(["b", "a"])
    assert len(gallery) == 1
    with pytest.raises(ItemNotFound):
        gallery.get("a")


def test_listing_goes_page_by_page(gallery: Gallery) -> None:
    gallery.add((Item(f"{n:03}", metadata={"odd": n % 2 == 1}), unit(n)) for n in range(25))
    seen, after = [], None
    while page := gallery.list_items(limit=10, after=after):
        seen += [item.id for item in page]
        after = page[-1].id
    assert seen == [f"{n:03}" for n in range(25)]
    assert len(gallery.list_items({"odd": True}, limit=100)) == 12


METADATA: list[dict[str, Any]] = [
    {"colour": "red", "year": 2020, "ok": True},
    {"colour": "blue", "year": 2021.5, "ok": False},
    {"colour": None, "year": "2020"},
    {"camera": {"make": "x", "iso": 100}},
    {"colour": "red", "year": 1, "camera": {"make": "y"}},
    {},
    {"ok": 1},
]
_FIELDS = st.sampled_from(["colour", "year", "ok", "camera.make", "camera.iso", "nothing"])
_VALUES = st.sampled_from(["red", "blue", "x", "2020", 2020, 1, 2021.5, 100, True, False])
_LEAVES = st.one_of(
    st.builds(lambda f, v: {f: v}, _FIELDS, _VALUES),
    st.builds(lambda f, e: {f: {"exists": e}}, _FIELDS, st.booleans()),
    st.builds(lambda f, v: {f: {"in": v}}, _FIELDS, st.lists(_VALUES, max_size=3)),
    st.builds(
        lambda f, o, v: {f: {o: v}},
        _FIELDS,
        st.sampled_from(["lt", "lte", "gt", "gte"]),
        _VALUES.filter(lambda v: not isinstance(v, bool)),
    ),
)
_FILTERS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"and": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=6,
)


def matches(where: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """The filter language, as the documents describe it, in Python."""
    return all(_matches_one(key, value, metadata) for key, value in where.items())


def _matches_one(key: str, value: Any, metadata: dict[str, Any]) -> bool:
    if key in ("and", "or"):
        return (all if key == "and" else any)(matches(part, metadata) for part in value)
    if key == "not":
        return not matches(value, metadata)
    found: Any = metadata
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(value, dict):
        return _same_type(found, value) and found == value
    ((name, operand),) = value.items()
    if name == "exists":
        return (found is not None) == operand
    if name == "in":
        return any(_same_type(found, one) and found == one for one in operand)
    compare: dict[str, Callable[[Any, Any], bool]] = {
        "lt": lambda a, b: a < b, "lte": lambda a, b: a <= b, "gt": lambda a, b: a > b, "gte": lambda a, b: a >= b,
    }  # fmt: skip
    return _same_type(found, operand) and compare[name](found, operand)


def _same_type(left: Any, right: Any) -> bool:
    def kind(value: Any) -> str:
        if isinstance(value, bool):
            return "bool"
        return "number" if isinstance(value, (int, float)) else type(value).__name__

    return kind(left) == kind(right)


@given(_FILTERS)
@settings(max_examples=200, deadline=None)
def test_filters_mean_what_the_documents_say(filtered: Gallery, where: dict[str, Any]) -> None:
    expected = {str(n) for n, metadata in enumerate(METADATA) if matches(where, metadata)}
    assert {item.id for item in filtered.list_items(where)} == expected
    assert {hit.item.id for hit in filtered.search(Query(vector=unit(99)), top_k=100, where=where)} == expected


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    with Gallery(tmp_path_factory.mktemp("home"), "f", load_encoder("tiny"), create=True) as opened:
        opened.add((Item(str(n), metadata=metadata), unit(n)) for n, metadata in enumerate(METADATA))
        yield opened


@pytest.mark.parametrize(
    "where",
    [
        {"": 1},
        {"a": {}},
        {"a": {"like": "x"}},
        {"a": {"lt": True}},
        {"a": {"in": "x"}},
        {"a": None},
        {"a": [1]},
        {"and": {}},
        {"not": []},
        {'a"': 1},
        [1],
        "a",
    ],
    ids=str,
)
def test_malformed_filters_are_named(gallery: Gallery, where: object) -> None:
    with pytest.raises(OptionError, match="The filter"):
        gallery.search(Query(vector=unit(1)), where=where)


def test_filters_are_applied_inside_the_search(gallery: Gallery) -> None:
    gallery.add((Item(str(n), metadata={"rare": n % 100 == 7}), unit(n)) for n in range(1000))
    query = unit(12345)
    found = gallery.search(Query(vector=query), top_k=10, where={"rare": True})
    brute = sorted((n for n in range(1000) if n % 100 == 7), key=lambda n: -float(unit(n) @ query))
    assert [hit.item.id for hit in found] == [str(n) for n in brute]


def test_a_gallery_is_relabelled_from_vectors_alone(photos_gallery: Gallery) -> None:
    labels = LabelSet("custom", parse_labels(["a cat", "a cup of coffee", "a rocket", "a motorcycle", "a submarine"]))
    counts = {row.label: row for row in photos_gallery.classify(labels)}
    assert sum(row.count for row in counts.values()) == 6
    assert counts["a cat"].examples[0][0] == "cat"
    assert counts["a rocket"].examples[0][0] == "rocket"
    assert counts["a submarine"].count == 0
    assert all(0 <= score <= 1 for row in counts.values() for _, score in row.examples)


def test_relabelling_is_classification(photos_gallery: Gallery, classifier: ZeroShotClassifier) -> None:
    """A label set with templates of its own, which tiny's recommendation of bare names comes before, in both."""
    labels = load_label_set("cifar10")
    assert labels.templates is not None
    rows = {row.label: row for row in photos_gallery.classify(labels, examples=10)}
    for path in sorted(PHOTOS.glob("*.jpg")):
        answer = classifier.classify(path, labels)
        assert dict(rows[answer.label].examples)[path.stem] == pytest.approx(answer.score, abs=1e-5)


def test_bad_items_queries_and_names_are_refused(gallery: Gallery, tmp_path: Path, tiny: Encoder) -> None:
    for item, vector in [
        (Item(""), unit(1)),
        (Item("a" * 5000), unit(1)),
        (Item("a"), unit(1) * 2),
        (Item("a"), unit(1, 10)),
        (Item("a"), np.full(DIM, np.nan, np.float32)),
        (Item("a", metadata={"x": object()}), unit(1)),
        (Item("a", metadata={"x": float("nan")}), unit(1)),
    ]:
        with pytest.raises(GalleryError):
            gallery.add([(item, vector)])
    assert len(gallery) == 0
    for query in ("", " ", [], Query(), Query(text="a", id="b"), Query(vector=np.zeros(DIM, np.float32))):
        with pytest.raises(OptionError):
            gallery.search(query)
    with pytest.raises(OptionError, match="cancel out"):
        gallery.search([Query(text="a"), Query(text="a", weight=-1)])
    with pytest.raises(OptionError, match="top_k=0"):
        gallery.search("a", top_k=0)
    with pytest.raises(ItemNotFound):
        gallery.search(Query(id="nothing"))
    for name in ("", "a/b", "..", ".hidden", "a" * 101, "ü"):
        with pytest.raises(GalleryError, match="cannot be a gallery's name"):
            Gallery(tmp_path, name, tiny, create=True)
    with pytest.raises(GalleryNotFound, match="There are: test"):
        Gallery(tmp_path, "other", tiny)


def test_another_encoders_vectors_are_refused(gallery: Gallery) -> None:
    with pytest.raises(GalleryMismatch, match="holds vectors of tiny"):
        GalleryStore(gallery.folder, fingerprint="0" * 64, spec="other", dim=DIM)


def test_a_second_writing_process_is_told_so_and_may_read(gallery: Gallery, tmp_path: Path) -> None:
    gallery.add([(Item("a"), unit(1))])
    program = (
        "import sys, numpy as np, zeroshot\n"
        "from zeroshot.gallery import Gallery, Item\n"
        "gallery = Gallery(sys.argv[1], 'test', zeroshot.load_encoder('tiny'))\n"
        "print(len(gallery), gallery.get('a')[0].id)\n"
        "try: gallery.delete(['a'])\n"
        "except zeroshot.ZeroshotError as error: print(type(error).__name__, error)"
    )
    with gallery.writing():
        other = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True)
        assert other.stdout.startswith("1 a\nGalleryBusy")
        assert str(os.getpid()) in other.stdout
        with pytest.raises(GalleryBusy), Gallery(tmp_path, "test", gallery.encoder) as second:
            second.delete(["a"])
        gallery.add([(Item("b"), unit(2))])
    with Gallery(tmp_path, "test", gallery.encoder) as later:
        assert later.delete(["a"]) == 1
    assert [hit.item.id for hit in gallery.search(Query(vector=unit(1)))] == ["b"]  # what another wrote is seen


WRITER = """
import sys, numpy as np
from tests.vectors import StubEncoder
from zeroshot.gallery import Gallery, Item
gallery = Gallery(sys.argv[1], "g", StubEncoder(16), create=True, exact_up_to=150)
start = int(sys.argv[2])
print("opened", start, flush=True)
for n in range(start, start + 100000):
    vector = np.random.default_rng(n).normal(size=16).astype(np.float32)
    vector /= np.linalg.norm(vector)
    if n % 10 == 9:
        gallery.delete([str(n - 5)])
    elif n % 10 == 0:
        gallery.add([(Item(f"{n}-{i}"), vector) for i in range(20)])
    elif n % 10 == 8:
        gallery.build_index()
    elif n % 40 == 7:
        gallery.compact()
    else:
        gallery.add([(Item(str(n), metadata={"n": n}), vector)])
    print("done", n, flush=True)
"""


def effects(n: int) -> tuple[set[str], set[str]]:
    """What the writer's operation n adds and takes away."""
    if n % 10 == 9:
        return set(), {str(n - 5)}
    if n % 10 == 8 or n % 40 == 7:
        return set(), set()
    return ({f"{n}-{i}" for i in range(20)} if n % 10 == 0 else {str(n)}), set()


@pytest.mark.parametrize("rounds", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_no_acknowledged_write_is_lost_when_the_writer_is_killed(tmp_path: Path, rounds: int) -> None:
    chance = random.Random(5)  # noqa: S311
    there: set[str] = set()
    start = 0
    for _ in range(rounds):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, str(start)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(tmp_path),
        )
        first = writer.stdout.readline()
        time.sleep(chance.random() * 0.3)
        writer.send_signal(signal.SIGKILL)
        lines = [first, *writer.communicate()[0].splitlines(keepends=True)]
        done = [int(line.split()[1]) for line in lines if line.endswith("\n") and line.startswith("done")]
        for n in done:
            added, removed = effects(n)
            there = (there | added) - removed
        under_way = done[-1] + 1 if done else start
        added, removed = effects(under_way)
        with Gallery(tmp_path, "g", StubEncoder(16), create=True) as again:
            stored = {item.id for item in again.list_items(limit=10**9)}
            assert stored in (there, (there | added) - removed)
            assert not again.verify().repaired
        there = stored
        start = (under_way // 10 + 1) * 10


def test_damage_is_detected(tmp_path: Path, tiny: Encoder) -> None:
    with Gallery(tmp_path, "g", tiny, create=True) as gallery:
        gallery.add((Item(str(n)), unit(n)) for n in range(200))
        path = gallery.folder / DATABASE
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    position = whole.index(unit(150).tobytes()[:64]) + 30
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    with pytest.raises(GalleryCorrupt, match="'150' is damaged"):
        Gallery(tmp_path, "g", tiny)
    for content in (
        b"no database at all" * 1000,
        whole[: len(whole) // 2],
        whole[:100] + b"\xff" * 8000 + whole[8100:],
    ):
        path.write_bytes(content)
        with pytest.raises(GalleryCorrupt):
            Gallery(tmp_path, "g", tiny).verify()
    path.write_bytes(whole)
    with Gallery(tmp_path, "g", tiny) as again:
        assert again.verify().count == 200


def test_a_damaged_row_is_named(tmp_path: Path, tiny: Encoder) -> None:
    with Gallery(tmp_path, "g", tiny, create=True) as gallery:
        gallery.add([(Item("a", metadata={"colour": "red"}), unit(1)), (Item("b"), unit(2))])
        path = gallery.folder / DATABASE
    with sqlite3.connect(path) as database:  # a change that SQLite itself takes for sound
        database.execute("""UPDATE items SET metadata = '{"colour": "rad"}' WHERE id = 'a'""")
    with Gallery(tmp_path, "g", tiny) as again:
        with pytest.raises(GalleryCorrupt, match="the row of 'a'"):
            again.get("a")
        again.delete(["a"])
        assert [hit.item.id for hit in again.search(Query(vector=unit(1)))] == ["b"]


def test_verify_proves_that_index_and_database_agree(gallery: Gallery) -> None:
    gallery.add((Item(str(n)), unit(n)) for n in range(50))
    assert not gallery.verify().repaired
    gallery.search(Query(vector=unit(1)))  # which reads what was added
    gallery._index._recent.remove([3, 4])
    gallery._index._recent.add([999], unit(7)[np.newaxis])
    found = gallery.verify()
    assert (found.count, found.missing, found.surplus, found.different) == (50, 2, 1, 0)
    assert not gallery.verify().repaired


class AgainstBruteForce(RuleBasedStateMachine):
    """Random additions, replacements, deletions, restarts and searches, compared with a dict."""

    home: Path
    encoder: Encoder

    def __init__(self) -> None:
        super().__init__()
        self.truth: dict[str, np.ndarray] = {}
        self.name = f"g{uuid.uuid4().hex}"  # not random, which hypothesis seeds anew for each example
        self.gallery = Gallery(self.home, self.name, self.encoder, create=True)

    @rule(ids=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4, unique=True), seed=st.integers(0, 10**6))
    def put(self, ids: list[str], seed: int) -> None:
        rows = {id_: unit(seed + n) for n, id_ in enumerate(ids)}
        self.gallery.add([(Item(id_), row) for id_, row in rows.items()], replace=True)
        for id_, row in rows.items():
            self.truth.pop(id_, None)  # what is replaced is the newest; of equal vectors the oldest comes first
            self.truth[id_] = row

    @precondition(lambda self: self.truth)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.truth)))
        self.gallery.delete([id_])
        del self.truth[id_]

    @rule()
    def restart(self) -> None:
        self.gallery.close()
        self.gallery = Gallery(self.home, self.name, self.encoder)

    @rule(seed=st.integers(0, 10**6), top_k=st.integers(1, 9))
    def search(self, seed: int, top_k: int) -> None:
        query = unit(seed)
        hits = self.gallery.search(Query(vector=query), top_k=top_k)
        expected = sorted(self.truth, key=lambda id_: -float(self.truth[id_] @ query))[:top_k]
        assert [hit.item.id for hit in hits] == expected
        for hit in hits:
            assert hit.similarity == pytest.approx(float(self.truth[hit.item.id] @ query), abs=1e-5)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.gallery) == len(self.truth)

    def teardown(self) -> None:
        assert not self.gallery.verify().repaired
        self.gallery.close()


def test_a_gallery_behaves_as_a_dict_of_vectors(tmp_path: Path, tiny: Encoder) -> None:
    AgainstBruteForce.home, AgainstBruteForce.encoder = tmp_path, tiny
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        AgainstBruteForce, settings=settings(max_examples=25, stateful_step_count=25, deadline=None)
    )


def test_metadata_survives_as_json(gallery: Gallery) -> None:
    metadata = json.loads('{"a": [1, 2.5, null, true, {"b": "ü🐈"}], "empty": {}}')
    gallery.add([(Item("x", metadata=metadata), unit(1))])
    assert gallery.get("x")[0].metadata == metadata
