"""Heads from a few labelled images: against scikit-learn, closed forms, and the program on real images."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from tests.conftest import Run
from tests.images import seven_photos
from tests.vectors import clustered
from zeroshot import LabelSet, ZeroShotClassifier
from zeroshot.datasets import Dataset, Sample, open_dataset
from zeroshot.errors import LearningError
from zeroshot.labels import LabelSetStore, as_label_set, parse_labels
from zeroshot.learning import fit
from zeroshot.learning.fit import fit_head
from zeroshot.learning.probe import TrainingSet, fit_probe
from zeroshot.learning.propagation import neighbour_graph, propagate
from zeroshot.scoring import softmax

NAMES = ("a", "b", "c", "d")
ENCODER = {"model": "m", "fingerprint": "f" * 64}


@pytest.fixture
def run(run_here: Run) -> Run:
    """The program, in this process."""
    return run_here


def training_set(each: int, *, misled: float, noise: float = 0.7, seed: int = 0) -> TrainingSet:
    """Images around four centres, under texts that are `misled` of the way towards another label's centre."""
    chance = np.random.default_rng(seed)
    centres = np.eye(4, 32)
    right = np.tile(np.arange(4), each)
    texts = (1 - misled) * centres + misled * centres[[1, 2, 3, 0]]
    vectors = centres[right] + noise * chance.normal(size=(len(right), 32)) / np.sqrt(32)
    unit = [(rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for rows in (texts, vectors)]
    return TrainingSet(unit[0], 20.0, unit[1], right, np.ones(len(right)))


def test_from_no_text_the_probe_is_scikit_learns_logistic_regression() -> None:
    images = training_set(20, misled=0.0)
    blank = TrainingSet(np.zeros_like(images.matrix), 20.0, images.vectors, images.right, images.weights)
    ridge = 0.3
    rival = LogisticRegression(C=20.0**2 / (80 * ridge), fit_intercept=False, tol=1e-8, max_iter=5_000)
    rival.fit(images.vectors.astype(np.float64), images.right)
    ours = 20.0 * fit_probe(blank, ridge)
    difference = lambda rows: rows - rows.mean(axis=0)  # noqa: E731 (a softmax sees differences alone)
    np.testing.assert_allclose(difference(ours), difference(rival.coef_), atol=0.02)


def test_a_heavy_ridge_leaves_the_text_as_it_is_and_weights_count_images() -> None:
    images = training_set(5, misled=0.6)
    assert np.abs(fit_probe(images, 1e6)).max() < 1e-4
    assert np.abs(fit_probe(images, 0.1)).max() > 0.05
    twice = images.join(images)
    weighted = TrainingSet(images.matrix, 20.0, images.vectors, images.right, 2 * images.weights)
    np.testing.assert_allclose(fit_probe(twice, 0.3), fit_probe(weighted, 0.3), atol=1e-3)


def test_a_gain_is_measured_where_the_text_misleads_and_not_claimed_where_it_does_not() -> None:
    helped = fit_head(training_set(10, misled=0.7), NAMES, **ENCODER)
    measured = helped.head.measured
    assert helped.is_gain
    assert measured.gain_low > 0
    fresh = training_set(200, misled=0.7, seed=1)
    texts = fresh.text_logits(fresh.vectors)
    before, after = (
        (logits.argmax(axis=1) == fresh.right).mean()
        for logits in (texts, texts + helped.head.logits(fresh.vectors, NAMES))
    )
    assert after > before + 0.5
    assert measured.zero_shot == pytest.approx(before, abs=0.15)
    assert measured.accuracy == pytest.approx(after, abs=0.1)
    unhelped = fit_head(training_set(10, misled=0.0, noise=0.2), NAMES, **ENCODER)
    assert unhelped.head.measured.zero_shot == 1.0
    assert not unhelped.is_gain


def test_the_luckiest_of_many_candidates_is_not_called_a_gain() -> None:
    claims = []
    for seed in range(8):
        images = training_set(8, misled=0.0, noise=3.0, seed=seed)
        shuffled = np.random.default_rng(seed).permutation(images.right)
        guessed = TrainingSet(images.matrix, 20.0, images.vectors, shuffled, images.weights)
        claims.append(fit_head(guessed, NAMES, **ENCODER).head.measured.gain_low > 0)
    assert sum(claims) <= 1


def test_one_image_per_label_is_used_with_care_and_nothing_is_claimed() -> None:
    found = fit_head(training_set(1, misled=0.0), NAMES, **ENCODER)
    assert found.head.measured is None
    assert found.temperature == 1.0
    assert len(found.head.keys) == 4
    assert not found.head.weights.any()


def test_what_nothing_can_be_learnt_from_is_refused() -> None:
    images = training_set(5, misled=0.0)
    with pytest.raises(LearningError, match="no images of 'd'"):
        fit_head(images.take(np.flatnonzero(images.right < 3)), NAMES, **ENCODER)
    with pytest.raises(LearningError, match="show 1 of the labels"):
        fit_head(images.take(np.flatnonzero(images.right == 2)), NAMES, partial=True, **ENCODER)
    broken = images.vectors.copy()
    broken[3, 3] = np.nan
    with pytest.raises(LearningError, match="not finite"):
        fit_head(TrainingSet(images.matrix, 20.0, broken, images.right, images.weights), NAMES, **ENCODER)
    with pytest.raises(LearningError, match="not finite"):
        fit_head(images, NAMES, unlabelled=broken, **ENCODER)


def test_labels_without_images_keep_what_their_text_says_when_allowed() -> None:
    images = training_set(10, misled=0.7)
    found = fit_head(images.take(np.flatnonzero(images.right < 3)), NAMES, partial=True, **ENCODER)
    assert found.head.labels == ("a", "b", "c")
    text = images.text_logits(images.vectors)
    fitted = found.head.apply(text, images.vectors, NAMES)
    np.testing.assert_allclose(softmax(fitted)[:, 3], softmax(text)[:, 3], atol=1e-12)
    assert np.abs(softmax(fitted) - softmax(text))[:, :3].max() > 0.1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_label_without_images_is_not_lost_to_those_that_have_some(
    classifier: ZeroShotClassifier, photos: dict[str, Path], tmp_path: Path, count: int
) -> None:
    names = sorted(photos)
    for name in names[:3]:
        (tmp_path / "data" / name).mkdir(parents=True)
        with Image.open(photos[name]) as image:
            for number in range(count):
                image.crop((number, number, image.width, image.height)).save(tmp_path / "data" / name / f"{number}.png")
    labels = as_label_set(names)
    fitted, report = fit(open_dataset(str(tmp_path / "data")), labels, classifier, partial=True)
    assert report.is_kept == (count < 4)  # all are right already; few are not measured
    for name in names[3:]:
        before = {one.label: one.score for one in classifier.classify(photos[name], labels).predictions}
        after = {one.label: one.score for one in classifier.classify(photos[name], fitted).predictions}
        for other in names[3:]:
            assert after[other] == pytest.approx(before[other], abs=1e-6)


def test_copies_of_an_image_are_left_out_together() -> None:
    images = training_set(2, misled=0.7, noise=2.0)
    rows = np.repeat(np.arange(8), 6)
    once, copied = (fit_head(images.take(rows), NAMES, **ENCODER).head.measured for rows in (rows, np.tile(rows, 2)))
    assert copied.accuracy <= once.accuracy + 0.2  # leaking copies would make it 1
    assert copied.accuracy < 0.9


def test_labels_spread_as_the_closed_form_says() -> None:
    vectors = clustered(60, 16, clusters=3)
    graph = neighbour_graph(vectors)
    assert abs(graph - graph.T).max() < 1e-12
    assert not graph.diagonal().any()
    belief = np.random.default_rng(0).dirichlet(np.ones(3), size=60)
    labelled, right = np.array([4, 9, 33]), np.array([0, 1, 2])
    known = 0.3 * belief
    known[labelled] = np.eye(3)[right]
    exact = 0.5 * np.linalg.solve(np.eye(60) - 0.5 * graph.toarray(), known)
    np.testing.assert_allclose(
        propagate(graph, labelled, right, belief), exact / exact.sum(axis=1, keepdims=True), atol=1e-6
    )


def test_few_labels_reach_the_many_images_that_are_like_them() -> None:
    images = training_set(50, misled=0.0, noise=1.2)
    labelled = np.arange(8)
    spread = propagate(neighbour_graph(images.vectors), labelled, images.right[labelled], np.full((200, 4), 0.25))
    assert (spread.argmax(axis=1) == images.right)[8:].mean() > 0.9
    assert spread[8:].max(axis=1).min() < 0.9  # and it says where it is not sure


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A folder per label with crops of four real photos; beside it more of them, unlabelled."""
    photos = seven_photos(tmp_path)
    for name in ("cat", "rocket", "a motorcycle", "flower"):
        image = Image.open(photos[name]).convert("RGB")
        for number in range(8):
            chance = np.random.default_rng(number)
            side = int(min(image.size) * chance.uniform(0.5, 0.9))
            left, top = (int(chance.integers(length - side + 1)) for length in image.size)
            folder = tmp_path / ("labelled" if number < 4 else "more") / (name if number < 4 else "")
            folder.mkdir(parents=True, exist_ok=True)
            image.crop((left, top, left + side, top + side)).save(folder / f"{name}-{number}.jpg")
    return tmp_path


def test_a_fitted_set_answers_better_and_says_how_it_was_made(run: Run, crops: Path, tmp_path: Path) -> None:
    def zeroshot(*arguments: object, code: int = 0) -> str:
        finished = run(*arguments)
        assert finished.returncode == code, finished.stderr
        assert "Traceback" not in finished.stderr
        return finished.stdout if code == 0 else finished.stderr

    # names that say nothing: only the images can tell
    zeroshot("labels", "create", "s", "--labels", "kind one,kind two,kind three,kind four")
    for old, new in (("cat", "one"), ("rocket", "two"), ("a motorcycle", "three"), ("flower", "four")):
        (crops / "labelled" / old).rename(crops / "labelled" / f"kind {new}")
    (crops / "labelled" / "kind four" / "broken.jpg").write_bytes(b"no image")
    wrong = zeroshot("fit", "--label-set", "s", "--data", crops / "labelled", "--pseudo-labels", "x.csv", code=2)
    assert "Without --unlabelled" in wrong
    given = ("--label-set", "s", "--data", crops / "labelled", "--unlabelled", crops / "more")
    given += ("--pseudo-labels", "p.csv")
    said = zeroshot("fit", *given)
    assert "16 images, each left out in turn" in said
    assert "more than chance" in said
    assert "s@2: " in said
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert [float(row["confidence"]) for row in rows] == sorted(
        (float(row["confidence"]) for row in rows), reverse=True
    )
    truth = {"cat": "kind one", "rocket": "kind two", "a motorcycle": "kind three", "flower": "kind four"}
    right = [truth[Path(row["file"]).name.rpartition("-")[0]] == row["label"] for row in rows]
    assert np.mean(right) > 0.8
    assert "fitted for tiny" in zeroshot("labels", "show", "s", "--history")
    store = LabelSetStore(tmp_path / "home")
    assert store.get("s@1").heads == ()
    head = store.get("s").heads[0]
    classifier = ZeroShotClassifier("tiny")
    images = sorted((crops / "more").iterdir())
    answers = classifier.classify(images, store.get("s"))
    names = [truth[path.name.rpartition("-")[0]] for path in images]
    assert np.mean([answer.label == name for answer, name in zip(answers, names, strict=True)]) > 0.9
    before = classifier.classify(images, store.get("s@1"))
    assert np.mean([answer.label == name for answer, name in zip(before, names, strict=True)]) < 0.6
    assert head.measured.images == 16
    assert "is too sure of them" in zeroshot("calibrate", "--label-set", "s", "--data", crops / "labelled", code=2)
    exists = zeroshot("fit", *given, code=2)
    assert "p.csv exists" in exists
    assert store.get("s").version == 2


def test_in_python_a_label_set_and_a_report_come_back(classifier: ZeroShotClassifier, crops: Path) -> None:
    files = {path: path.parent.name for path in sorted((crops / "labelled").rglob("*.jpg"))}
    kinds = dict(zip(sorted(set(files.values())), ("one", "two", "three", "four"), strict=True))
    more = sorted((crops / "more").iterdir())
    for names, is_kept in ((kinds, True), ({name: name for name in kinds}, False)):
        samples = [Sample(str(path), path, (names[label],)) for path, label in files.items()]
        dataset = Dataset("d", lambda samples=samples: iter(samples), tuple(names.values()))
        plain = LabelSet("s", parse_labels(names.values()))
        fitted, report = fit(dataset, plain, classifier, unlabelled=[b"no image", *more])
        assert report.is_kept == is_kept
        assert ("more often than" in report.reason, "no better than" in report.reason) == (is_kept, not is_kept)
        assert report.pseudo_labels is not None
        assert report.pseudo_labels.shape == (16, 4)
        assert report.unlabelled == list(range(1, 17))
        assert [one.key for one in report.problems] == ["<8 bytes>"]
        assert plain.heads == plain.calibrations == ()
        assert (fitted is plain) == (not is_kept)
        if is_kept:
            assert (fitted.heads, fitted.calibrations) == ((report.head,), (report.calibration,))


def test_a_stored_head_keeps_the_names_of_its_fields() -> None:
    content = fit_head(training_set(10, misled=0.7), NAMES, **ENCODER).head.to_bytes()
    with np.load(io.BytesIO(content)) as archive:
        assert set(archive.files) == {"facts", "weights", "keys", "owners"}
        facts = json.loads(archive["facts"].tobytes())
    assert set(facts) == {"model", "fingerprint", "labels", "alpha", "beta", "measured", "made_of"}


def test_what_cannot_be_fitted_is_said_and_changes_nothing(run: Run, crops: Path, tmp_path: Path) -> None:
    store = LabelSetStore(tmp_path / "home")
    store.create(LabelSet("s", parse_labels(["cat", "rocket", "a motorcycle", "flower", "ship"])))
    store.create(LabelSet("many", parse_labels(["cat", "rocket"]), mode="multilabel"))
    for name, data, message in (
        ("s", crops / "labelled", "There are no images of 'ship'"),
        ("many", crops / "labelled", "do not exclude each other"),
        ("s", crops / "more", "more has 0 folders"),
        ("s", crops / "nowhere", "nowhere' is no folder"),
        ("none", crops / "labelled", "no stored label set 'none'"),
        ("cifar10", crops / "labelled", "zeroshot labels copy cifar10 NEW"),
    ):
        finished = run("fit", "--label-set", name, "--data", data)
        assert finished.returncode == 2
        assert message in finished.stderr, finished.stderr
    nothing = run("fit", "--label-set", "s", "--data", crops / "labelled", "--unlabelled", crops / "nowhere")
    assert nothing.returncode == 2
    assert re.search("There is no image that can be used: .*nowhere does not exist", nothing.stderr)
    # words that tiny knows, and images it is right about: nothing to gain, so nothing is kept
    finished = run("fit", "--label-set", "s", "--data", crops / "labelled", "--partial")
    assert finished.returncode == 0, finished.stderr
    assert "s stays as it is" in finished.stdout
    assert store.get("s").version == 1
