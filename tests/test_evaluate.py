"""``zeroshot evaluate`` and ``compare``: figures, what is kept, what is passed over, reports."""

from __future__ import annotations

import csv
import html.parser
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.conftest import Run as Program
from tests.conftest import environment
from tests.images import PHOTOS
from zeroshot import Label, LabelSet, ZeroShotClassifier
from zeroshot.datasets import Dataset, Sample, open_dataset
from zeroshot.errors import DatasetError, OptionError
from zeroshot.evaluate import Evaluation, Result, compare, evaluate_dataset, write_report
from zeroshot.evaluate.compare import read_evaluation
from zeroshot.evaluate.published import check_published, find_published, published_accuracies
from zeroshot.evaluate.reports import FILES, check_folder
from zeroshot.evaluate.run import Run
from zeroshot.evaluate.vector_cache import VectorCache
from zeroshot.images import ImageLimits
from zeroshot.labels import Mode
from zeroshot.scoring import ScoringOptions

NAMES = ("astronaut", "camera", "cat", "coffee", "motorcycle", "rocket")


def evaluated(classifier: ZeroShotClassifier, dataset: Dataset, home: Path, **options: object) -> Result:
    cache = VectorCache(home)
    try:
        return Run(classifier, dataset, cache, **options).evaluate()  # type: ignore[arg-type]
    finally:
        cache.close()


def table(folder: Path, *rows: str, head: str = "file,label") -> Dataset:
    (folder / "t.csv").write_text("\n".join([head, *rows]) + "\n")
    return open_dataset(str(folder / "t.csv"), home=folder)


def test_the_figures_are_those_of_the_answers(classifier: ZeroShotClassifier, crops: Path, home: Path) -> None:
    result = evaluated(classifier, open_dataset(str(crops), home=home), home)
    answers = classifier.classify(
        sorted(crops.glob("*/*.png")),
        labels=NAMES,
        templates=result.evaluation.scoring.templates,  # type: ignore[union-attr]
    )
    right = [path.parent.name for path in sorted(crops.glob("*/*.png"))]
    hits = sum(answer.predictions[0].label == name for answer, name in zip(answers, right, strict=True))
    single = result.evaluation.single
    assert single is not None
    assert (single.images, single.hits) == (120, hits)
    assert single.top_1.value == hits / 120
    assert single.top_1.low < single.top_1.value < single.top_1.high
    assert 0.5 < single.top_1.value < 1
    assert single.top_5 is not None
    assert single.top_5 >= single.top_1.value
    assert {one.label: one.images for one in single.labels} == dict.fromkeys(NAMES, 20)
    assert result.evaluation.confusion is not None
    assert sum(count for _, _, count in result.evaluation.confusion.pairs) == 120


@pytest.mark.parametrize("threshold", [None, 0.999999, 1e-6])
def test_one_label_is_decided_as_classify_decides_it(
    classifier: ZeroShotClassifier, crops: Path, tmp_path: Path, threshold: float | None, home: Path
) -> None:
    rockets = LabelSet("rockets", (Label("rocket"),), mode=Mode.BINARY, threshold=threshold)
    some = {path: path.parent.name for path in sorted(crops.glob("*/*.png"))[::4]}
    dataset = table(tmp_path, *(f"{path},{name}" for path, name in some.items()))
    evaluation = evaluated(classifier, dataset, home, labels=rockets).evaluation
    answers = {path: classifier.classify(path, rockets).label for path in some}
    expected = sum((some[path] == "rocket") == (label == "rocket") for path, label in answers.items())
    assert evaluation.single is not None
    assert (evaluation.single.images, evaluation.single.hits) == (30, expected)
    mistakes = {Path(mistake.key): mistake.answer for mistake in evaluation.mistakes}
    assert mistakes == {path: [answers[path]] for path in mistakes}
    assert all((answers[path] == "rocket") != (some[path] == "rocket") for path in mistakes)
    if threshold == 1e-6:
        assert set(answers.values()) == {"rocket"}


def test_a_second_run_encodes_nothing_whatever_the_prompts(
    classifier: ZeroShotClassifier, crops: Path, tmp_path: Path
) -> None:
    dataset = open_dataset(str(crops), home=tmp_path)
    first = evaluated(classifier, dataset, tmp_path, limit=30).evaluation
    second = evaluated(classifier, dataset, tmp_path, limit=30).evaluation
    assert (first.run.encoded, second.run.encoded) == (30, 0)
    assert first.single == second.single
    labels = LabelSet("other", (Label("pet", aliases=("cat",)), *map(Label, NAMES[:2] + NAMES[3:])))
    assert evaluated(classifier, dataset, tmp_path, labels=labels, limit=30).evaluation.run.encoded == 0
    shutil.copytree(crops, tmp_path / "moved")  # the same content elsewhere
    moved = open_dataset(str(tmp_path / "moved"), home=tmp_path)
    assert evaluated(classifier, moved, tmp_path, limit=30).evaluation.run.encoded == 0
    Image.new("RGB", (80, 80), "red").save(tmp_path / "moved/astronaut/00.png")  # another content of the same name
    assert evaluated(classifier, moved, tmp_path, limit=30).evaluation.run.encoded == 1


def test_what_cannot_be_used_is_counted_and_listed(
    classifier: ZeroShotClassifier, tmp_path: Path, crops: Path, home: Path
) -> None:
    (tmp_path / "broken.jpg").write_bytes((PHOTOS / "cat.jpg").read_bytes()[:500])
    cat, coffee = crops / "cat/00.png", crops / "coffee/00.png"
    rows = [f"{cat},cat", f"{coffee},coffee", "broken.jpg,cat", "gone.jpg,cat", f"{cat},dragon", f"{cat},cat|coffee"]
    labels = LabelSet("two", (Label("cat"), Label("coffee")))
    dataset = table(tmp_path, *rows)
    found = evaluated(classifier, dataset, home, labels=labels, options=ScoringOptions(Mode.MULTICLASS)).evaluation
    assert found.dataset.images == 2
    assert found.dataset.unknown_labels == {"dragon": 1}
    reasons = dict(found.dataset.problems)
    assert set(reasons) == {"broken.jpg", "gone.jpg", str(cat)}
    assert "cannot be read" in reasons["gone.jpg"]
    assert reasons[str(cat)].startswith("It has 2 labels")


def test_nothing_to_evaluate_is_an_error_that_says_why(
    classifier: ZeroShotClassifier, crops: Path, tmp_path: Path, home: Path
) -> None:
    labels = LabelSet("others", (Label("dog"), Label("boat")))
    with pytest.raises(DatasetError, match=r"the labels of the others are not in others: 'cat'.*'dog', 'boat'"):
        evaluated(classifier, table(tmp_path, f"{crops / 'cat/00.png'},cat"), home, labels=labels)


def test_groups_are_told_apart_and_the_worst_gap_is_named(
    classifier: ZeroShotClassifier, crops: Path, tmp_path: Path, home: Path
) -> None:
    rows = [f"{crops / name}/{number:02}.png,{name},good" for name in NAMES for number in range(4)]
    for name, other in pairwise(NAMES):
        rows += [f"{crops / name}/{number:02}.png,{other},bad" for number in range(2)]
    found = evaluated(classifier, table(tmp_path, *rows, head="file,label,group"), home).evaluation.single
    assert found is not None
    bad, good = found.groups
    assert (bad.group, good.group, bad.images, good.images) == ("bad", "good", 10, 24)
    assert good.accuracy > bad.accuracy
    assert found.worst_gap == good.accuracy - bad.accuracy


def test_several_labels_an_image(classifier: ZeroShotClassifier, crops: Path, tmp_path: Path, home: Path) -> None:
    rows = [f"{crops / name}/{number:02}.png,{name}|{'machine' if name in ('camera', 'motorcycle') else 'thing'}"
            for name in NAMES for number in range(5)]  # fmt: skip
    result = evaluated(classifier, table(tmp_path, *rows), home)
    found = result.evaluation.multi
    assert found is not None
    assert result.evaluation.single is None
    assert found.images == 30
    assert {one.label: one.images for one in found.labels}["machine"] == 10
    assert found.mean_average_precision.value > 0.5
    assert 0 < found.micro_f1.value < 1


def test_a_tree_of_labels(classifier: ZeroShotClassifier, crops: Path, home: Path) -> None:
    labels = LabelSet("tree", (
        Label("living being"), Label("cat", parent="living being"), Label("astronaut", parent="living being"),
        Label("machine"), Label("camera", parent="machine"), Label("motorcycle", parent="machine"),
        Label("rocket", parent="machine"), Label("coffee"),
    ))  # fmt: skip
    found = evaluated(classifier, open_dataset(str(crops), home=home), home, labels=labels).evaluation
    assert found.tree is not None
    assert found.single is not None  # the flat reading of the same set
    assert found.tree.right_or_coarser >= found.tree.exact
    assert 0.5 < found.tree.hierarchical_f1 <= 1
    assert found.tree.mean_steps <= found.tree.flat_mean_steps + 0.2


def test_a_flat_reading_takes_no_image_of_a_label_with_labels_below_it(
    classifier: ZeroShotClassifier, crops: Path, tmp_path: Path, home: Path
) -> None:
    labels = LabelSet("tree", (Label("animal"), Label("cat", parent="animal"), Label("coffee")))
    dataset = table(tmp_path, f"{crops / 'cat/00.png'},cat", f"{crops / 'cat/01.png'},animal")
    found = evaluated(classifier, dataset, home, labels=labels, options=ScoringOptions(Mode.MULTICLASS)).evaluation
    assert found.dataset.images == 1
    assert found.dataset.problems[0][1].startswith("'animal' has labels below it")


def test_an_images_column_is_that_of_its_leaf(classifier: ZeroShotClassifier, tmp_path: Path) -> None:
    labels = LabelSet("tree", (Label("animal"), Label("cat", parent="animal"), Label("coffee", aliases=("cup",))))
    options = ScoringOptions(Mode.MULTICLASS)
    run = Run(classifier, table(tmp_path, "x.jpg,cat"), VectorCache(tmp_path), labels, options=options)
    given = [("cat",), ("cup",), ("cup", "coffee"), ("cat", "cup"), ("animal",), ("car",), ()]
    assert [run.column(Sample("x", b"", names)) for names in given] == [0, 1, 1, None, None, None, None]


def test_a_label_and_its_absence(classifier: ZeroShotClassifier, crops: Path, home: Path) -> None:
    dataset = open_dataset(str(crops), home=home)
    labels = LabelSet("one", (Label("cat"),))
    found = evaluated(classifier, dataset, home, labels=labels, options=ScoringOptions(Mode.BINARY)).evaluation.single
    assert found is not None
    assert found.images == 120
    assert {one.label: one.images for one in found.labels} == {"not cat": 100, "cat": 20}
    assert found.roc_auc is not None
    assert found.roc_auc > 0.9


def test_of_equally_confident_mistakes_the_first_are_shown(
    classifier: ZeroShotClassifier, tmp_path: Path, home: Path
) -> None:
    cat = (PHOTOS / "cat.jpg").read_bytes()
    for number in range(300):
        (tmp_path / f"{number:03}.jpg").write_bytes(cat)
    dataset = table(tmp_path, *(f"{number:03}.jpg,coffee" for number in range(300)), f"{PHOTOS / 'coffee.jpg'},cat")
    found = evaluated(classifier, dataset, home).evaluation
    assert found.dataset.images == 301
    cats = [mistake.key for mistake in found.mistakes if mistake.answer == ["cat"]]
    assert len(cats) >= 23
    assert cats == [f"{number:03}.jpg" for number in range(len(cats))]


def test_robustness_needs_labels(classifier: ZeroShotClassifier, tmp_path: Path, home: Path) -> None:
    rows = [f"{PHOTOS / name}.jpg,a {name}" for name in NAMES[:2]]
    cache = VectorCache(home)
    run = Run(classifier, table(tmp_path, *rows, head="file,caption"), cache)
    with pytest.raises(OptionError, match="t has no labels"):
        evaluate_dataset(run, changes=["blur"])
    found = evaluate_dataset(run).evaluation
    cache.close()
    assert found.retrieval is not None
    assert found.scoring is None


def test_captions_find_their_images_and_images_their_captions(
    classifier: ZeroShotClassifier, tmp_path: Path, home: Path
) -> None:
    said = {"cat": "a cat|a tabby cat looking up", "coffee": "a cup of coffee", "rocket": "a rocket taking off"}
    rows = [f"{PHOTOS / name}.jpg,{captions}" for name, captions in said.items()]
    dataset = table(tmp_path, *rows, f"{PHOTOS / 'camera.jpg'},", head="file,caption")
    cache = VectorCache(home)
    found = Run(classifier, dataset, cache).retrieve().evaluation
    cache.close()
    assert found.retrieval is not None
    assert (found.retrieval.images, found.retrieval.captions) == (3, 4)
    assert found.retrieval.text_to_image == {"recall@1": 1.0, "recall@5": 1.0, "recall@10": 1.0}
    assert found.retrieval.image_to_text["recall@1"] == 1.0
    assert [key for key, _ in found.dataset.problems] == ["t.csv, line 5"]


class Links(html.parser.HTMLParser):
    """What a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value is not None]


def test_a_report_is_whole_and_says_what_was_run(
    classifier: ZeroShotClassifier, crops: Path, tmp_path: Path, home: Path
) -> None:
    result = evaluated(classifier, open_dataset(str(crops), home=tmp_path), home)
    folder = tmp_path / "report"
    write_report(result, folder, ImageLimits())
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    page = (folder / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert all(link.startswith("data:") for link in links.found)
    wrong = [one for one in result.evaluation.mistakes if one.answer != one.truth]
    assert len(links.found) == 1 + len(wrong)  # the diagram, and a thumbnail for each mistake
    for text in (page, (folder / "report.md").read_text()):
        assert classifier.encoder.fingerprint[:12] in text
        assert f"{result.evaluation.single.top_1.value:.4f}" in text  # type: ignore[union-attr]
    assert Evaluation.model_validate_json((folder / "report.json").read_bytes()) == result.evaluation
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    assert sum(int(row["hit"]) for row in rows) == result.evaluation.single.hits  # type: ignore[union-attr]
    write_report(result, folder, None)  # an earlier report is replaced; without images this time
    assert "image/jpeg" not in (folder / "report.html").read_text()


def test_a_report_overwrites_nothing_but_reports(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"holds notes\.txt"):
        check_folder(tmp_path)
    with pytest.raises(OptionError, match="is a file"):
        check_folder(tmp_path / "notes.txt")


def test_what_two_runs_differ_in_and_whether_it_is_chance(
    classifier: ZeroShotClassifier, crops: Path, tmp_path: Path, home: Path
) -> None:
    dataset = open_dataset(str(crops), home=tmp_path)
    for name, options in {"a": {}, "same": {}, "b": {"labels": wrong_way_round()}}.items():
        write_report(evaluated(classifier, dataset, home, **options), tmp_path / name, None)
    same = compare(tmp_path / "a", tmp_path / "same/report.json")
    assert (same.lost, same.won, same.p_value, same.changed) == (0, 0, 1.0, [])
    assert not same.is_beyond_chance
    other = compare(tmp_path / "a", tmp_path / "b")
    assert other.is_beyond_chance
    assert other.lost > 20
    assert other.high < 0
    assert other.images == 120
    assert any(line.startswith("label set: crops -> wrong") for line in other.changed)
    assert {label for label, _, _ in other.labels} >= {"cat"}


def wrong_way_round() -> LabelSet:
    """Labels whose words are each other's."""
    return LabelSet("wrong", tuple(Label(n, wording=w) for n, w in zip(NAMES, NAMES[3:] + NAMES[:3], strict=True)))


def test_reports_that_cannot_be_compared_are_refused(
    classifier: ZeroShotClassifier, crops: Path, tmp_path: Path, home: Path
) -> None:
    write_report(evaluated(classifier, open_dataset(str(crops), home=tmp_path), home), tmp_path / "a", None)
    other = table(tmp_path, f"{PHOTOS / 'cat.jpg'},cat", f"{PHOTOS / 'coffee.jpg'},coffee")
    write_report(evaluated(classifier, other, home), tmp_path / "b", None)
    with pytest.raises(DatasetError, match="have no image in common"):
        compare(tmp_path / "a", tmp_path / "b")
    with (tmp_path / "b/predictions.csv").open("a") as file:
        file.write("x,cat,cat,1,1\n")
    with pytest.raises(DatasetError, match=r"is not the file that .* was written with"):
        compare(tmp_path / "b", tmp_path / "a")
    (tmp_path / "b/report.json").write_text('{"format": 1}')
    with pytest.raises(DatasetError, match="is not a report: dataset"):
        read_evaluation(tmp_path / "b")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_evaluation(tmp_path / "c.json")


def test_published_figures_are_those_of_open_clips_table() -> None:
    known = published_accuracies()
    assert known["ViT-B-32:laion2b_s34b_b79k", "imagenet"][0] == 0.6656
    assert known["ViT-B-32:laion2b_s34b_b79k", "mnist"][0] == 0.6996
    assert known["ViT-B-32:openai", "cifar10"][0] == 0.8983
    assert known["ViT-B-32:openai", "oxford-pets"][0] == 0.8700
    assert len(known) == 16
    with pytest.raises(OptionError, match=r"No accuracy of tiny on digits is known here.*ViT-B-32:openai"):
        find_published("tiny", "digits")


def test_an_installation_is_held_to_them(classifier: ZeroShotClassifier, crops: Path, home: Path) -> None:
    found = evaluated(classifier, open_dataset(str(crops), home=home), home).evaluation
    assert check_published(found, found.accuracy + 0.0029, "somewhere").agrees
    assert not check_published(found, found.accuracy - 0.0031, "somewhere").agrees


def test_the_command_evaluates_reports_and_compares(run: Program, invoke: Program, crops: Path, tmp_path: Path) -> None:
    (tmp_path / "crops").symlink_to(crops)
    first = run("evaluate", "crops", "--report", "one")
    assert first.returncode == 0, first.stderr
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in first.stdout.splitlines()}
    assert said["images"] == "120"
    assert said["labels"] == "6 of crops, multiclass"
    assert "120 encoded" in said["speed"]
    assert first.stdout.endswith("one/report.html\n")
    other = ("--report", "two", "--templates", "a blurred photo of a {}.", "--no-thumbnails")
    second = invoke("evaluate", "crops", *other, home=tmp_path / "home")
    assert "0 encoded" in second.stdout
    compared = invoke("compare", "one", "two/report.json")
    assert compared.returncode == 0
    assert "changed: template set: none -> custom" in compared.stdout
    assert "images 120\n" in compared.stdout
    assert "McNemar p = " in compared.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "'nowhere' is no folder"),
        (("crops", "--label-set", "missing"), "'missing'"),
        (("crops", "--mode", "ranking"), "'ranking'"),
        (("crops", "--check-published"), "No accuracy of tiny on crops is known here."),
        (("crops", "--robustness", "fog"), "There is no change 'fog'."),
        (("crops", "--robustness", "adversarial"), "tiny has no gradients here"),
        (("crops", "--columns", "kind=x"), "--columns has 'kind'."),
        (("crops", "--report", "crops"), "which is no part of a report."),
        (("crops", "--templates", "no slot here"), "no slot here"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(
    invoke: Program, crops: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "crops").symlink_to(crops)
    shown = invoke("evaluate", *words)
    assert shown.returncode == 2
    assert shown.stderr.startswith("zeroshot: ")
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr


def many(folder: Path, count: int, crops: Path) -> Path:
    """Images that all differ."""
    sources = sorted(crops.glob("*/*.png"))
    for number in range(count):
        source = sources[number % len(sources)]
        target = folder / source.parent.name / f"{number:05}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as image:
            turned = image.rotate(number // len(sources) + 1).resize((640, 480))
        turned.save(target, quality=90)
    return folder


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path: Path, crops: Path) -> None:
    folder = many(tmp_path / "many", 1200, crops)
    command = [sys.executable, "-m", "zeroshot", "evaluate", str(folder), "--report", str(tmp_path / "r")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path))
    file = tmp_path / "image-embeddings.sqlite3"
    deadline = time.monotonic() + 60
    while not file.exists() or file.stat().st_size < 2**20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "r").exists()
    done = subprocess.run(command, capture_output=True, env=environment(tmp_path), check=True, text=True)
    encoded = json.loads((tmp_path / "r/report.json").read_text())["run"]["encoded"]
    assert 0 < encoded < 1200, done.stdout
    assert json.loads((tmp_path / "r/report.json").read_text())["dataset"]["images"] == 1200


@pytest.mark.slow
def test_memory_hardly_grows_with_the_number_of_images(tmp_path: Path, crops: Path) -> None:
    folder = many(tmp_path / "many", 3000, crops)
    peaks = {}
    for count in (300, 3000):
        command = [sys.executable, "-m", "zeroshot", "evaluate", str(folder), "--limit", str(count)]
        process = psutil.Popen(command, stdout=subprocess.DEVNULL, env=environment(tmp_path / str(count)))
        peak = 0
        while process.poll() is None:
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.02)
        assert process.wait() == 0
        peaks[count] = peak
    assert peaks[3000] < 1.1 * peaks[300]
