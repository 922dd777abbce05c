"""Temperatures and thresholds: against known truths, scikit-learn's figures, and the program on real images."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.special import log_softmax, softmax
from sklearn.metrics import brier_score_loss, f1_score, log_loss, precision_score

from tests.conftest import Run
from tests.images import PHOTOS, seven_photos
from zeroshot import LabelSet, ZeroShotClassifier
from zeroshot.datasets import Dataset, Sample, open_dataset
from zeroshot.errors import LearningError, OptionError
from zeroshot.labels import LabelSetStore, Mode, parse_labels
from zeroshot.learning import Quality, ThresholdQuality, calibrate
from zeroshot.learning.calibrate import fit_temperature, fit_thresholds, measure
from zeroshot.learning.diagram import reliability_diagram
from zeroshot.learning.examples import Examples, read_examples


@pytest.fixture
def run(run_here: Run) -> Run:
    """The program, in this process."""
    return run_here


def sample(count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and answers drawn from their softmax at a temperature."""
    chance = np.random.default_rng(0)
    logits = 6 * chance.standard_normal((count, 5))
    chances = softmax(logits / temperature, axis=1).cumsum(axis=1)
    return logits, (chance.random((count, 1)) > chances).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_answers_is_found(temperature: float) -> None:
    logits, right = sample(20_000, temperature)
    found = fit_temperature(logits, right)
    assert found == pytest.approx(temperature, rel=0.05)
    likelihood = lambda t: log_softmax(logits / t, axis=1)[np.arange(len(right)), right].mean()  # noqa: E731
    assert likelihood(found) > max(likelihood(found * 1.01), likelihood(found / 1.01))


def test_where_three_of_four_are_right_the_temperature_is_in_closed_form() -> None:
    logits = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [0.0, 4.0]])
    right = np.array([0, 1, 0, 0])
    many = [fit_temperature(np.tile(logits, (n, 1)), np.tile(right, n)) for n in (1, 10, 1_000, 100_000)]
    assert many[-1] == pytest.approx(4 / np.log(3), rel=1e-4)
    assert many == sorted(many)
    assert 1 < many[0] < 2  # four images say little


@pytest.mark.parametrize("margin", [0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("images", [2, 5, 20])
def test_a_few_images_that_are_all_right_do_not_make_the_model_certain(images: int, margin: float) -> None:
    right = np.arange(images) % 2
    temperature = fit_temperature(margin * np.eye(2)[right], right)
    assert 0.05 < temperature <= 1
    assert softmax(np.array([margin, 0]) / temperature)[0] < 0.9999 or margin > 5


def test_what_is_no_better_on_held_out_images_is_not_kept(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    photos = seven_photos(tmp_path)
    names = ["cat", "camera", "rocket", "flower", "temple", "a motorcycle", "a cup of coffee"]
    right = [Sample(f"{n}", photo, (label,)) for n, (label, photo) in enumerate(list(photos.items()) * 2)]
    label_set = LabelSet("s", parse_labels(names))
    with pytest.raises(LearningError, match="d has 5 images that can be used, too few"):
        calibrate(Dataset("d", lambda: iter(right[:5]), tuple(names)), label_set, classifier)
    turned = [Sample(one.key, one.source, (names[n % 7],)) for n, one in enumerate(right)]
    kept = 0
    for samples in (right, turned, right[:7] + turned[7:]):
        fitted, report = calibrate(Dataset("d", lambda s=samples: iter(s), tuple(names)), label_set, classifier)
        assert report.is_kept == (report.after.nll < report.before.nll)
        assert (fitted is label_set) == (not report.is_kept)
        kept += report.is_kept
    assert kept > 0
    plain = LabelSet("s", parse_labels(names), mode=Mode.MULTILABEL)
    for samples in (right, turned):
        fitted, report = calibrate(Dataset("d", lambda s=samples: iter(s), tuple(names)), plain, classifier)
        assert report.is_kept == (report.after.macro_f1 > report.before.macro_f1)
        assert (fitted is plain) == (not report.is_kept)


def test_the_figures_are_scikit_learns() -> None:
    logits, right = sample(500, 2.0)
    probabilities = softmax(logits, axis=1)
    found = measure(probabilities, right)
    assert found.nll == pytest.approx(log_loss(right, np.clip(probabilities, 1e-12, 1)), rel=1e-6)
    brier = sum(brier_score_loss(right == k, probabilities[:, k]) for k in range(5))
    assert found.brier == pytest.approx(brier, rel=1e-9)
    assert found.accuracy == (probabilities.argmax(axis=1) == right).mean()


def test_an_overconfident_model_has_an_error_and_a_right_one_only_what_chance_makes() -> None:
    logits, right = sample(5_000, 3.0)
    over, calibrated = (measure(softmax(logits / t, axis=1), right) for t in (1.0, 3.0))
    assert over.ece > 5 * over.ece_floor
    assert calibrated.ece < 2 * calibrated.ece_floor < 0.04
    certain = measure(np.eye(2)[[0, 0, 0, 0]], np.array([0, 0, 0, 1]))
    assert certain.ece == pytest.approx(0.25)


def test_thresholds_reach_the_best_f1_or_the_precision_asked_for() -> None:
    chance = np.random.default_rng(1)
    right = chance.random((4_000, 2)) < [0.3, 0.1]
    scores = 1 / (1 + np.exp(-(2 * right + chance.standard_normal(right.shape) - [0.0, 3.0])))
    cuts = fit_thresholds(scores, right)
    for label in (0, 1):
        best = max(f1_score(right[:, label], scores[:, label] >= cut) for cut in np.unique(scores[:, label])[::20])
        assert f1_score(right[:, label], scores[:, label] >= cuts[label]) > best - 0.005
    for label, cut in enumerate(fit_thresholds(scores, right, precision=0.8)):
        assert precision_score(right[:, label], scores[:, label] >= cut) >= 0.8
        assert precision_score(right[:, label], scores[:, label] >= cut - 0.02) < 0.82


def test_of_thresholds_that_part_alike_the_nearest_to_a_half_is_taken() -> None:
    scores = np.array([[0.95], [0.02], [0.01]])
    one, many = (
        fit_thresholds(np.tile(scores, (n, 1)), np.tile([[True], [False], [False]], (n, 1)))[0] for n in (1, 100)
    )
    assert one == many == pytest.approx(0.485)
    none = np.zeros((3, 1), dtype=bool)
    both = np.hstack([scores, scores])
    assert fit_thresholds(both, np.hstack([none, scores > 0.5]))[0] == 0.5


def test_what_nothing_can_be_learnt_from_is_refused() -> None:
    with pytest.raises(LearningError, match="show 1 of the labels"):
        fit_temperature(np.zeros((3, 2)), np.zeros(3, int))
    with pytest.raises(LearningError, match="not finite"):
        fit_temperature(np.full((3, 2), np.nan), np.array([0, 1, 0]))
    with pytest.raises(LearningError, match="not finite"):
        fit_thresholds(np.full((3, 2), np.nan), np.ones((3, 2), bool))
    with pytest.raises(LearningError, match="No image has any"):
        fit_thresholds(np.zeros((3, 2)), np.zeros((3, 2), bool))
    with pytest.raises(OptionError, match="precision=0"):
        fit_thresholds(np.zeros((3, 2)), np.ones((3, 2), bool), precision=0)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A CSV file of the seven photos, and of these mirrored, with several labels."""
    more = {"cat": "animal|cat", "rocket": "vehicle", "a motorcycle": "vehicle"}
    path = tmp_path / "labelled.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        for name, photo in seven_photos(tmp_path).items():
            mirrored = tmp_path / f"mirrored-{photo.name}"
            ImageOps.mirror(Image.open(photo)).save(mirrored)
            writer.writerows([path, more.get(name, "thing")] for path in (photo, mirrored))
    return path


def test_labelled_images_are_read_and_bad_ones_named(
    classifier: ZeroShotClassifier, labelled: Path, tmp_path: Path
) -> None:
    def read(source: Path, labels: list[str]) -> Examples:
        return read_examples(
            open_dataset(str(source)), LabelSet("s", parse_labels(labels)), classifier, exclusive=False
        )

    names = ["animal", "cat", "vehicle", "thing"]
    found = read(labelled, names)
    assert found.right.sum(axis=0).tolist() == [2, 2, 4, 8]
    assert found.vectors.shape == (14, classifier.encoder.dim)
    with labelled.open("a") as file:
        file.write("missing.jpg,thing\n")
    again = read(labelled, names)
    assert (len(again.keys), [Path(one.key).name for one in again.problems]) == (14, ["missing.jpg"])
    with pytest.raises(LearningError, match="labels that s has not: 'cat', 'vehicle'"):
        read(labelled, ["animal", "thing"])
    (tmp_path / "nothing.csv").write_text("file,label\nnothing.jpg,cat\n")
    with pytest.raises(LearningError, match=r"no image that can be used: .*nothing.jpg does not exist"):
        read(tmp_path / "nothing.csv", names)


def test_what_is_fitted_is_kept_in_the_set_and_changes_its_answers(run: Run, labelled: Path, tmp_path: Path) -> None:
    def zeroshot(*arguments: object, code: int = 0) -> str:
        finished = run(*arguments)
        assert finished.returncode == code, finished.stderr
        assert "Traceback" not in finished.stderr
        return finished.stdout if code == 0 else finished.stderr

    zeroshot("labels", "create", "s", "--labels", "animal,cat,vehicle,thing", "--mode", "multilabel")
    said = zeroshot("calibrate", "--label-set", "s", "--data", labelled)
    assert "macro-F1" in said
    assert "s@2: 4 thresholds, for tiny" in said
    assert "calibrated for tiny on 14 images" in zeroshot("labels", "show", "s", "--history")
    store = LabelSetStore(tmp_path / "home")
    (fitted,) = store.get("s").calibrations
    assert set(fitted.thresholds) == {"animal", "cat", "vehicle", "thing"}
    assert store.get("s@1").calibrations == ()
    zeroshot("labels", "set", "s", "--mode", "multiclass")
    wished = zeroshot("calibrate", "--label-set", "s", "--data", labelled, "--precision", "0.9", code=2)
    assert "precision=0.9 is for labels on their own" in wished
    assert "has the labels 'animal', 'cat'" in zeroshot("calibrate", "--label-set", "s", "--data", labelled, code=2)
    folders = tmp_path / "folders"
    for name, photo in seven_photos(tmp_path).items():
        label = {"cat": "cat", "rocket": "vehicle", "a motorcycle": "vehicle"}.get(name, "thing")
        (folders / label).mkdir(parents=True, exist_ok=True)
        (folders / label / photo.name).write_bytes(photo.read_bytes())
        ImageOps.mirror(Image.open(photo)).save(folders / label / f"mirrored-{photo.name}")
    assert "temperature" in zeroshot("calibrate", "--label-set", "s", "--data", folders)
    newest = store.get("s")
    assert newest.calibrations[0].temperature != 1.0
    cat = folders / "cat" / "chelsea.png"
    warm = zeroshot("classify", cat, "--label-set", "s", "--json")
    assert warm != zeroshot("classify", cat, "--label-set", f"s@{newest.version - 1}", "--json")
    one = tmp_path / "one.csv"
    one.write_text(f"file,label\n{cat},cat\n")
    assert "one has 1 images" in zeroshot("calibrate", "--label-set", "s", "--data", one, code=2)
    (tmp_path / "one" / "cat").mkdir(parents=True)
    assert "has 1 folders" in zeroshot("calibrate", "--label-set", "s", "--data", tmp_path / "one", code=2)
    assert store.get("s").version == newest.version


def test_in_python_a_label_set_and_a_report_come_back(classifier: ZeroShotClassifier, labelled: Path) -> None:
    dataset = open_dataset(str(labelled))
    plain = LabelSet("s", parse_labels(["animal", "cat", "vehicle", "thing"]), mode=Mode.MULTILABEL)
    fitted, report = calibrate(dataset, plain, classifier)
    assert plain.calibrations == ()
    assert fitted.calibrations == (report.calibration,)
    assert report.summary == "4 thresholds"
    assert isinstance(report.before, ThresholdQuality)
    with labelled.open("a") as file:
        file.write(f"{PHOTOS / 'cat.jpg'},\n")  # none of the labels
    assert calibrate(open_dataset(str(labelled)), plain, classifier)[1].calibration.images == 15
    lines = [line for line in labelled.read_text().splitlines() if "|" not in line]
    labelled.write_text("\n".join(lines))
    single = LabelSet("s", parse_labels(["vehicle", "thing"]))
    fitted, report = calibrate(open_dataset(str(labelled)), single, classifier)
    assert fitted.calibrations[0].temperature == report.calibration.temperature != 1.0
    assert isinstance(report.before, Quality)
    assert report.before.images == 12
    assert [one.reason for one in report.problems] == ["It has no label."]


def test_the_diagram_shows_both_readings(run: Run, labelled: Path, tmp_path: Path) -> None:
    assert run("labels", "create", "s", "--labels", "animal,cat,vehicle,thing", "--mode", "multilabel").returncode == 0
    assert run("calibrate", "--label-set", "s", "--data", labelled, "--diagram", "d.png").returncode == 0
    one = Image.open(io.BytesIO((tmp_path / "d.png").read_bytes()))
    assert one.format == "PNG"
    logits, right = sample(2_000, 3.0)
    readings = [softmax(logits / t, axis=1) for t in (1.0, 3.0)]
    panels = [("x", p.max(axis=1), p.argmax(axis=1) == right) for p in readings]
    two = Image.open(io.BytesIO(reliability_diagram(panels)))
    assert two.size == (2 * one.width, one.height)
    left, again = (two.crop((x, 0, x + one.width, one.height)) for x in (0, one.width))
    assert left.tobytes() != again.tobytes()
    exists = run("calibrate", "--label-set", "s", "--data", labelled, "--diagram", "d.png")
    assert (exists.returncode, "d.png exists" in exists.stderr) == (2, True)
