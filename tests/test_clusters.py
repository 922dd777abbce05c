"""Groups found without labels, the file that a person edits, and the label set that it becomes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score

from tests.conftest import Run
from tests.images import seven_photos
from tests.vectors import clustered
from zeroshot import LabelSet, ZeroShotClassifier
from zeroshot.errors import DefinitionError, LearningError, OptionError
from zeroshot.labels import load_label_set, parse_labels
from zeroshot.learning import cluster
from zeroshot.learning.cluster import Clusters, cluster_images, suggest_names


@pytest.fixture
def run(run_here: Run) -> Run:
    """The program, in this process."""
    return run_here


def planted(counts: tuple[int, ...], noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around orthogonal centres, and whose they are."""
    members = np.repeat(np.arange(len(counts)), counts)
    rows = np.eye(len(counts), 24)[members] + noise * np.random.default_rng(0).normal(size=(len(members), 24)) / 5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), members


def test_planted_groups_and_their_number_are_found_largest_first() -> None:
    vectors, members = planted((20, 70, 40, 30, 50))
    found = cluster_images(vectors)
    assert normalized_mutual_info_score(members, found.members) == pytest.approx(1)
    assert np.bincount(found.members).tolist() == [70, 50, 40, 30, 20]
    assert max(found.tried, key=lambda tried: tried[1])[0] == 5
    for number, centroid in enumerate(found.centroids):
        mean = vectors[found.members == number].mean(axis=0)
        np.testing.assert_allclose(centroid, mean / np.linalg.norm(mean), atol=1e-6)


def test_the_same_images_give_the_same_groups() -> None:
    vectors = clustered(300, 32, clusters=6)
    one, two = (cluster_images(vectors, count=6) for _ in range(2))
    assert (one.members == two.members).all()
    assert (one.centroids == two.centroids).all()


def test_hdbscan_leaves_out_what_is_like_nothing_else() -> None:
    vectors, members = planted((40, 30, 20), noise=0.3)
    strays = np.eye(24, dtype=np.float32)[[12, 14, 16, 18]]
    found = cluster_images(np.concatenate([vectors, strays]), method="hdbscan")
    inside = found.members[:90]
    assert normalized_mutual_info_score(members[inside >= 0], inside[inside >= 0]) == pytest.approx(1)
    assert (inside >= 0).mean() > 0.9
    assert (found.members[90:] < 0).all()


def test_the_most_typical_images_come_first() -> None:
    vectors, _ = planted((30, 20))
    found = cluster_images(vectors, count=2)
    typical = found.typical(0, vectors, 5)
    nearness = vectors @ found.centroids[0]
    assert len(typical) == 5
    assert (np.diff(nearness[typical]) <= 0).all()
    assert nearness[typical].min() >= np.sort(nearness[found.members == 0])[-5] - 1e-6


def test_names_are_the_vocabularys_nearest() -> None:
    matrix = np.eye(4, dtype=np.float32)
    assert suggest_names(matrix[[2, 0]], matrix, ["a", "b", "c", "d"], top=1) == [["c"], ["a"]]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": 1}, OptionError, "count=1 is not from 2"),
        ({"count": 30}, OptionError, "count=30 is not from 2"),
        ({"method": "magic"}, OptionError, "no method 'magic'"),
        ({"method": "hdbscan", "count": 3}, OptionError, "finds the number of clusters itself"),
        ({"method": "hdbscan", "min_cluster_size": 99}, OptionError, "min_cluster_size=99"),
        ({"method": "hdbscan", "min_cluster_size": 25}, LearningError, "No images lie closer together"),
    ],
)
def test_what_cannot_be_grouped_is_refused(options: dict[str, object], error: type[Exception], message: str) -> None:
    vectors, _ = planted((15, 15))
    with pytest.raises(error, match=message):
        cluster_images(vectors, **options)


def test_too_few_images_and_numbers_that_are_not_finite_are_refused() -> None:
    vectors, _ = planted((15, 15))
    with pytest.raises(LearningError, match="There are 1 different images"):
        cluster_images(np.repeat(vectors[:1], 9, axis=0))
    vectors[4, 4] = np.inf
    with pytest.raises(LearningError, match="not finite"):
        cluster_images(vectors)
    assert isinstance(cluster_images(planted((2, 2))[0]), Clusters)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A folder of crops of four real photos, in no order."""
    folder = tmp_path / "images"
    folder.mkdir()
    photos = seven_photos(tmp_path)
    for kind, name in enumerate(("cat", "rocket", "a motorcycle", "flower")):
        image = Image.open(photos[name]).convert("RGB")
        for number in range(9 - kind):
            chance = np.random.default_rng(number)
            side = int(min(image.size) * chance.uniform(0.6, 0.9))
            left, top = (int(chance.integers(length - side + 1)) for length in image.size)
            image.crop((left, top, left + side, top + side)).save(folder / f"{number}-{name}.jpg")
    return folder


def test_a_person_names_groups_in_one_file_and_classifies_by_them(run: Run, crops: Path, tmp_path: Path) -> None:
    def zeroshot(*arguments: object, code: int = 0) -> str:
        finished = run(*arguments)
        assert finished.returncode == code, finished.stderr
        assert "Traceback" not in finished.stderr
        return finished.stdout if code == 0 else finished.stderr

    (crops / "broken.png").write_bytes(b"no image")
    said = zeroshot("cluster", crops, "--count", 4, "--out", "found.yaml")
    assert "9  cat, animal" in said or "9  cat" in said
    file = tmp_path / "found.yaml"
    assert sorted(path.name for path in tmp_path.glob("found.*")) == [
        "found.csv", "found.html", "found.npz", "found.yaml",
    ]  # fmt: skip
    assert (tmp_path / "found.html").read_text().count("<img ") == 8 + 8 + 7 + 6
    with (tmp_path / "found.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    kinds = [row["file"].partition("-")[2] for row in rows]
    assert normalized_mutual_info_score(kinds, [row["cluster"] for row in rows]) == pytest.approx(1)
    assert all((tmp_path / row["file"]).is_file() for row in rows)
    data = yaml.safe_load(file.read_text())
    assert [entry["images"] for entry in data["clusters"]] == [9, 8, 7, 6]
    assert "exists" in zeroshot("cluster", crops, "--out", "found.yaml", code=2)

    # a person's names: one of their own, two groups made one, one left out
    for entry, name in zip(data["clusters"], ("moggy", "machine", "machine", ""), strict=True):
        entry["name"] = name
    file.write_text(yaml.safe_dump(data))
    assert "found, 2 labels" in zeroshot("labels", "validate", file)
    assert "found@1: 2 labels" in zeroshot("labels", "import", file)
    answers = zeroshot("classify", crops / "0-cat.jpg", crops / "1-rocket.jpg", "--label-set", "found", "--json")
    assert [line.partition('"labels": ')[2].partition(",")[0] for line in answers.splitlines()] == [
        '["moggy"]', '["machine"]',
    ]  # fmt: skip
    assert "zeroshot labels" not in zeroshot("labels", "export", "found", "again.yaml")
    assert load_label_set(tmp_path / "again.yaml").heads[0].summary == load_label_set(file).heads[0].summary
    unusable = zeroshot("cluster", tmp_path / "found.csv", "--out", "x.yaml", code=2)
    assert "There is no image that can be used" in unusable
    assert unusable.count("found.csv") == 1
    assert "not a YAML file" in zeroshot("cluster", crops, "--out", "x.npz", code=2)
    assert not list(tmp_path.glob("x.*"))


def test_in_python_a_label_set_and_a_report_come_back(classifier: ZeroShotClassifier, crops: Path) -> None:
    images = [str(path) for path in sorted(crops.iterdir())]
    words = LabelSet("words", parse_labels(["cat", "rocket"]))
    label_set, report = cluster([b"no image", *images], words, classifier, count=4)
    assert report.used == list(range(1, 31))
    assert [one.key for one in report.problems] == ["<8 bytes>"]
    assert label_set.names == report.names
    assert len(set(report.names)) == 4  # a name for each group, though there are two words
    assert {"cat", "rocket"} < set(report.names)
    answers = classifier.classify(images, label_set)
    assert [one.label for one in answers] == [report.names[number] for number in report.clusters.members]


def test_a_mistake_in_the_names_is_shown_with_its_line(run: Run, crops: Path, tmp_path: Path) -> None:
    assert run("cluster", crops, "--count", 3, "--out", "found.yaml").returncode == 0
    file = tmp_path / "found.yaml"
    written = file.read_text()
    good = yaml.safe_load(written)

    def complaint(data: object) -> str:
        file.write_text(yaml.safe_dump(data, sort_keys=False))
        with pytest.raises(DefinitionError) as caught:
            load_label_set(file)
        return str(caught.value)

    twice = {**good, "clusters": [*good["clusters"], good["clusters"][0]]}
    assert "The cluster 0 is there twice" in complaint(twice)
    nameless = {**good, "clusters": [{**entry, "name": ""} for entry in good["clusters"]]}
    assert "0 of the clusters have a name" in complaint(nameless)
    beyond = {**good, "clusters": [*good["clusters"][:2], {**good["clusters"][2], "id": 9}]}
    assert "The vectors have 3 clusters" in complaint(beyond)
    misspelt = {**good, "clusters": [{**good["clusters"][0], "nmae": "x"}, *good["clusters"][1:]]}
    assert "found.yaml:" in complaint(misspelt)
    assert "nmae" in complaint(misspelt)
    (tmp_path / "found.npz").write_bytes((tmp_path / "found.npz").read_bytes()[:-9])
    assert "is not the file that found.yaml was written with" in complaint(good)
    (tmp_path / "found.npz").unlink()
    assert "cannot be read" in complaint(good)
