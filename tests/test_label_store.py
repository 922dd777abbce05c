"""Stored label sets: versions, several writers, and the same answers in Python, on the command line and over HTTP."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml

from tests.conftest import Run, running_server
from tests.images import PHOTOS, cat
from zeroshot import Label, LabelSet, ZeroShotClassifier
from zeroshot.errors import (
    DefinitionError,
    DefinitionNotFound,
    LabelError,
    LabelSetCorrupt,
    LabelSetError,
    LabelSetExists,
    LabelSetNotFound,
    LabelSetRefused,
    OutputExists,
)
from zeroshot.labels import (
    Calibration,
    Head,
    LabelSetStore,
    Measured,
    Mode,
    find_label_set,
    load_label_set,
    parse_labels,
)
from zeroshot.labels.exporting import export_label_set
from zeroshot.labels.store import FILE
from zeroshot.prompts import load_templates

CAT = PHOTOS / "cat.jpg"


def head(labels: tuple[str, ...] = ("cat", "dog")) -> Head:
    weights = np.arange(len(labels) * 3, dtype=np.float32).reshape(-1, 3)
    return Head(
        "m", "f" * 64, labels, weights, weights[:1], np.array([0]), 2.0, 3.0, Measured(9, 0.5, 0.6, -0.1, 0.3), "x"
    )


@pytest.fixture
def store(tmp_path: Path) -> LabelSetStore:
    return LabelSetStore(tmp_path / "home")


@pytest.fixture
def pets(store: LabelSetStore) -> LabelSetStore:
    store.create(LabelSet("pets", parse_labels(["cat", "dog"])))
    return store


FULL = LabelSet(
    "full",
    (
        Label("animal", threshold=0.25),
        Label("cat", ("a cat", "a furry thing"), parent="animal", aliases=("kitten",)),
        Label("猫", wording="cat"),
    ),
    load_templates(["my {}"]),
    mode=Mode.MULTILABEL,
    threshold=0.4,
    description="d",
    source="s",
    calibrations=(Calibration(model="m", fingerprint="f" * 64, temperature=2.0, thresholds={"cat": 0.3}, images=7),),
    heads=(head(),),
)


def test_everything_a_set_says_is_kept_and_survives_a_file(store: LabelSetStore, tmp_path: Path) -> None:
    stored = store.create(FULL)
    paths = export_label_set(stored, tmp_path / "full.yaml")
    assert [path.suffix for path in paths] == [".npz", ".yaml"]
    for found in (stored, LabelSetStore(tmp_path / "home").get("full"), load_label_set(tmp_path / "full.yaml")):
        assert found == FULL
        assert (found.description, found.source, found.calibrations) == ("d", "s", FULL.calibrations)
        assert [one.digest for one in found.heads] == [FULL.heads[0].digest]
        assert found.heads[0].measured == FULL.heads[0].measured
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    with pytest.raises(DefinitionError, match="is not the file"):
        load_label_set(tmp_path / "full.yaml")
    with pytest.raises(OutputExists, match="exists"):
        export_label_set(stored, tmp_path / "full.yaml")


def test_every_change_makes_a_version_and_every_version_can_be_had_again(pets: LabelSetStore) -> None:
    assert pets.add("pets", ["horse", Label("pony", parent="horse")]).version == 2
    assert pets.remove("pets", ["cat"]).names == ("dog", "horse", "pony")
    pets.update("pets", lambda old: replace(old, threshold=0.3), what="stricter")
    pets.rename("pets", "beasts")
    for reader in (pets, LabelSetStore(pets._file.path.parent)):
        names = [reader.get(f"beasts@{version}").names for version in (1, 2, 3, 4)]
        assert names == [("cat", "dog"), ("cat", "dog", "horse", "pony"), ("dog", "horse", "pony"), names[2]]
        assert [reader.get(f"beasts@{version}").threshold for version in (3, 4)] == [None, 0.3]
        assert [line.change for line in reader.history("beasts")] == [
            "created", "added horse, pony", "removed cat", "stricter",
        ]  # fmt: skip
        assert [(s.name, s.version, s.count) for s in reader.summaries()] == [("beasts", 4, 3)]


def test_what_was_learnt_is_replaced_for_its_encoder_alone(store: LabelSetStore) -> None:
    store.create(FULL)
    other = Calibration(model="o", fingerprint="0" * 64)
    store.update("full", lambda old: old.with_fitted(other.fingerprint, other, None), what="calibrated")
    newest = store.update("full", lambda old: old.with_fitted("f" * 64, None, None), what="forgotten")
    assert (newest.calibrations, newest.heads) == ((other,), ())
    assert len(store.get("full@2").calibrations) == 2
    assert store.get("full@1").head_for("f" * 64) is not None


def test_what_cannot_be_is_refused_and_changes_nothing(pets: LabelSetStore) -> None:
    pets.add("pets", [Label("puppy", parent="dog")])
    before = pets.get("pets")
    refused = [
        (lambda: pets.create(LabelSet("pets", parse_labels(["a"], at_least=1))), LabelSetExists, "already"),
        (lambda: pets.create(LabelSet("cifar10", parse_labels(["a", "b"]))), LabelSetExists, "shipped"),
        (lambda: pets.create(LabelSet("../x", parse_labels(["a", "b"]))), LabelSetRefused, "'../x'"),
        (lambda: pets.create(LabelSet("x@1", parse_labels(["a", "b"]))), LabelSetRefused, "'x@1'"),
        (lambda: pets.create(LabelSet("x.json", parse_labels(["a", "b"]))), LabelSetRefused, "'x.json'"),
        (lambda: pets.create(LabelSet("x", ())), LabelError, "no labels"),
        (lambda: pets.add("pets", ["horse", "cat"]), LabelSetExists, "has 'cat'"),
        (lambda: pets.add("pets", ["horse", " "]), LabelError, "blank"),
        (lambda: pets.add("pets", [Label("kitten", parent="lion")]), LabelError, "'lion', is not among"),
        (lambda: pets.add("nope", ["x"]), LabelSetNotFound, "'nope'"),
        (lambda: pets.remove("pets", ["dog"]), LabelError, "parent of 'puppy'"),
        (lambda: pets.remove("pets", ["cat", "dogg"]), LabelSetNotFound, "Did you mean dog"),
        (lambda: pets.remove("pets", ["cat", "dog", "puppy"]), LabelError, "no labels"),
        (lambda: pets.rename("pets", "food101"), LabelSetExists, "shipped"),
        (lambda: pets.get("pets@0"), LabelSetNotFound, "no version '0'"),
        (lambda: pets.get("pets@"), LabelSetNotFound, "no version ''"),
        (lambda: pets.get("pets@9"), LabelSetNotFound, "It has 1 to 2"),
        (lambda: pets.delete("petz"), LabelSetNotFound, "Did you mean pets"),
    ]
    for act, error, message in refused:
        with pytest.raises(error, match=message) as raised:
            act()
        assert raised.value.remedy
    assert pets.get("pets") is before
    assert [found.name for found in pets.summaries()] == ["pets"]


def test_a_deleted_name_can_be_used_again_and_is_another_set(pets: LabelSetStore, tmp_path: Path) -> None:
    other = LabelSetStore(tmp_path / "home")
    assert other.get("pets").names == ("cat", "dog")
    pets.delete("pets")
    with pytest.raises(LabelSetNotFound):
        other.get("pets")
    pets.create(LabelSet("pets", parse_labels(["fish", "bird"])))
    assert (other.get("pets").names, other.get("pets").version) == (("fish", "bird"), 1)


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    store = LabelSetStore(tmp_path / "home")
    assert store.summaries() == []
    assert find_label_set("cifar10", store).name == "cifar10"
    with pytest.raises(DefinitionNotFound):
        find_label_set("pets", store)
    assert not (tmp_path / "home").exists()


def test_writers_in_several_processes_and_threads_lose_nothing(pets: LabelSetStore, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from zeroshot.labels import LabelSetStore\n"
        "store = LabelSetStore(pathlib.Path(sys.argv[1]))\n"
        "for i in range(25): store.add('pets', [f'{sys.argv[2]} {i}'])"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "home"), f"process {n}"]) for n in range(2)
    ]
    threads = [
        threading.Thread(target=lambda n=n: [pets.add("pets", [f"thread {n} {i}"]) for i in range(25)])
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(60) for process in processes] == [0, 0]
    newest = pets.get("pets")
    assert newest.version == 101
    assert set(newest.names) == {"cat", "dog"} | {
        f"{k} {n} {i}" for k in ("process", "thread") for n in (0, 1) for i in range(25)
    }


def test_a_change_that_fails_halfway_is_as_if_it_had_not_been(pets: LabelSetStore) -> None:
    def fail(old: LabelSet) -> LabelSet:
        raise RuntimeError(old.name)

    with pytest.raises(RuntimeError, match="pets"):
        pets.update("pets", fail, what="nothing")
    assert (pets.get("pets").version, len(pets.history("pets"))) == (1, 1)


def test_damage_is_said_and_not_answered_with(pets: LabelSetStore, tmp_path: Path) -> None:
    pets.create(FULL)
    path = tmp_path / "home" / FILE
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE heads SET content = substr(content, 2)")
    connection.close()
    with pytest.raises(LabelSetCorrupt, match="a head is damaged"):
        LabelSetStore(tmp_path / "home").get("full")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LabelSetCorrupt, match="newer version"):
        LabelSetStore(tmp_path / "home").summaries()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(LabelSetCorrupt, match="is damaged"):
        LabelSetStore(tmp_path / "other").summaries()
    (tmp_path / "third").write_text("a file where a folder should be")
    with pytest.raises(LabelSetError, match="cannot be used"):
        LabelSetStore(tmp_path / "third").create(FULL)


def test_a_head_changes_the_answer_and_new_labels_keep_their_text(classifier: ZeroShotClassifier) -> None:
    encoder = classifier.encoder
    vector = encoder.encode_images([cat()])[0]
    pull = Head(
        "tiny",
        encoder.fingerprint,
        ("dog", "cat"),
        np.stack([40 * vector, 0 * vector]),
        np.empty((0, encoder.dim), np.float32),
        np.empty(0, int),
    )
    plain = LabelSet("pets", parse_labels(["cat", "dog", "rocket"]))
    learnt = plain.with_fitted(encoder.fingerprint, None, pull)
    assert classifier.classify(CAT, plain).label == "cat"
    assert classifier.classify(CAT, learnt).label == "dog"
    without, with_head = (
        {p.label: p.score for p in classifier.classify(CAT, one).predictions} for one in (plain, learnt)
    )
    assert with_head["rocket"] == pytest.approx(without["rocket"], rel=1e-6)


def test_a_label_added_on_the_command_line_is_in_the_servers_next_answer(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()

    def zeroshot(*arguments: object) -> str:
        finished = run(*arguments, ZEROSHOT_HOME=str(folder))
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    zeroshot("labels", "create", "pets", "--labels", "dog,horse")
    with running_server(folder) as url, httpx.Client(base_url=url, timeout=60) as http:

        def ask(**fields: str) -> dict[str, object]:
            answer = http.post("/v1/classify", files={"image": CAT.read_bytes()}, data={"label_set": "pets", **fields})
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        assert (ask()["labels"], ask()["label_set"]) == (["dog"], "pets@1")
        assert zeroshot("labels", "add", "pets", "cat") == "pets@2: 3 labels\n"
        assert (ask()["labels"], ask()["label_set"]) == (["cat"], "pets@2")
        assert ask(label_set="pets@1")["labels"] == ["dog"]
        assert ask(label_set="pets@1", threshold="0.9999")["labels"] == []
        several = ask(mode="multilabel")
        from_cli = json.loads(zeroshot("classify", CAT, "--label-set", "pets", "--mode", "multilabel", "--json"))
        assert {**from_cli, "path": None} == {**several, "path": None}
        image = base64.b64encode(CAT.read_bytes()).decode()
        tree = {"image": image, "labels": [{"name": "animal", "children": ["cat", "dog"]}, "rocket"]}
        answer = http.post("/v1/classify", json=tree).json()
        assert [level["label"] for level in answer["levels"]] == ["animal", "cat"]
        for wrong, field in (
            ({"mode": "best"}, "mode"),
            ({"threshold": 2}, "threshold"),
            ({"temperature": 0}, "temperature"),
        ):
            refused = http.post("/v1/classify", json={**tree, **wrong})
            assert (refused.status_code, refused.json()["field"]) == (422, field)
        assert http.post("/v1/classify", json={**tree, "labels": None, "label_set": "nope"}).status_code == 404


def test_the_commands_of_labels(run: Run, tmp_path: Path) -> None:
    def said(*arguments: object, code: int = 0) -> str:
        finished = run("labels", *arguments)
        assert finished.returncode == code, finished.stderr
        assert "Traceback" not in finished.stderr
        return finished.stdout or finished.stderr

    assert said("create", "zoo", "--labels", "animal,plant", "--mode", "hierarchical") == "zoo@1: 2 labels\n"
    assert said("add", "zoo", "cat", "dog", "--parent", "animal") == "zoo@2: 4 labels\n"
    assert said("set", "zoo", "--threshold", "0.3") == "zoo@3: 4 labels\n"
    assert said("copy", "zoo@2", "zoo2") == "zoo2@1: 4 labels\n"
    assert said("rename", "zoo2", "zoo3") == "zoo3@1: 4 labels\n"
    assert "copied from zoo@2" in said("show", "zoo3", "--history")
    assert yaml.safe_load(said("show", "zoo"))["threshold"] == 0.3
    assert json.loads(said("show", "zoo3", "--json"))["labels"][2] == {"name": "cat", "parent": "animal"}
    said("export", "zoo", "out.yaml")
    assert "out.yaml: zoo, 4 labels, hierarchical" in said("validate", "out.yaml")
    assert "already" in said("import", "out.yaml", code=2)
    assert said("import", "out.yaml", "--replace") == "zoo@4: 4 labels\n"
    assert said("import", "out.yaml", "--name", "again") == "again@1: 4 labels\n"
    assert said("remove", "again", "cat") == "again@2: 3 labels\n"
    assert "again@2" in said("list")
    said("delete", "again", "--yes")
    assert "again" not in said("list")
    (tmp_path / "bad.yaml").write_text("name: x\nlabels:\n  - a\n  - {name: b, parent: z}\n")
    assert "bad.yaml:4:23: labels.1.parent" in said("validate", "bad.yaml", code=2)
