"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zeroshot
from tests.conftest import Run, environment
from tests.images import BAD, CATS, ODD, PHOTOS
from zeroshot.cli.rendering import PROGRESS_FROM

CAT = PHOTOS / "cat.jpg"
TWO = ("--labels", "cat,dog")


@pytest.fixture
def run(run_here: Run) -> Run:
    """The program, in this process."""
    return run_here


def lines(finished: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_people_see_a_table_with_bars(run: Run) -> None:
    shown = run("classify", CAT, "--labels", "cat,dog,cup of coffee", "--top", 2)
    assert shown.returncode == 0
    assert shown.stderr == ""
    title, first, second = shown.stdout.splitlines()
    assert title == str(CAT)
    assert first.split()[0] == "cat"
    assert "█" in first
    assert first.split()[-2].endswith("%")
    assert second.split()[0] == "dog"


def test_json_is_one_object_per_line(run: Run) -> None:
    shown = run("classify", CAT, PHOTOS / "coffee.jpg", "--labels", "cat,dog,cup of coffee", "--json", "--top", 2)
    first, second = lines(shown)
    assert first == {
        "path": str(CAT),
        "mode": "multiclass",
        "labels": ["cat"],
        "predictions": [
            {"label": "cat", "score": pytest.approx(0.99, abs=0.01), "similarity": pytest.approx(0.6, abs=0.05)},
            {"label": "dog", "score": pytest.approx(0, abs=0.01), "similarity": pytest.approx(0.4, abs=0.05)},
        ],
        "model": "tiny",
    }
    assert second["predictions"][0]["label"] == "cup of coffee"


def test_folders_globs_and_standard_input_are_taken(run: Run, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copy(CAT, tmp_path / "deep" / "er" / "b.JPG")
    shutil.copy(CAT, tmp_path / "deep" / "a.jpg")
    (tmp_path / "deep" / "notes.txt").write_text("not taken")
    (tmp_path / "deep" / ".hidden.jpg").write_text("not taken")
    shown = run("classify", "deep", "deep/*.jpg", "**/*.JPG", "-", *TWO, "--json", stdin=CAT.read_bytes())
    assert [line["path"] for line in lines(shown)] == [
        "deep/a.jpg", "deep/er/b.JPG", "deep/a.jpg", "deep/er/b.JPG", "-",
    ]  # fmt: skip
    assert {line["predictions"][0]["label"] for line in lines(shown)} == {"cat"}


def test_a_name_with_glob_characters_is_a_file_first(run: Run, tmp_path: Path) -> None:
    shutil.copy(CAT, tmp_path / "cat [1].jpg")
    assert lines(run("classify", "cat [1].jpg", *TWO, "--json"))[0]["path"] == "cat [1].jpg"


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_reported_and_the_others_unharmed(run: Run, tmp_path: Path, name: str) -> None:
    make, kind = BAD[name]
    (tmp_path / "bad.jpg").write_bytes(make())
    finished = run("classify", CAT, "bad.jpg", CAT, *TWO, "--json")
    assert finished.returncode == 1
    assert finished.stderr == ""
    good, bad, again = lines(finished)
    assert bad == {"path": "bad.jpg", "error": {"type": kind, "message": bad["error"]["message"]}}
    assert "bad.jpg" in bad["error"]["message"]
    assert good["predictions"][0]["score"] == pytest.approx(again["predictions"][0]["score"], abs=1e-6)


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["none.jpg"], "image-not-found", "none.jpg does not exist"),
        (["empty"], "image-not-found", "holds no images"),
        (["*.nothing"], "image-not-found", "matches no file"),
        (["https://example.com/cat.jpg"], "image-source-refused", "ZEROSHOT_ALLOW_URLS"),
        (["-"], "image-unreadable", "empty"),
        (["data:image/png;base64,***"], "image-unreadable", "not valid base64"),
    ],
)
def test_images_that_are_not_there_are_reported(
    run: Run, tmp_path: Path, words: list[str], kind: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    finished = run("classify", *words, *TWO, "--json")
    assert finished.returncode == 1
    (line,) = lines(finished)
    assert line["error"]["type"] == kind
    assert message in line["error"]["message"]
    plain = run("classify", *words, CAT, *TWO)
    assert plain.returncode == 1
    assert message in plain.stdout
    assert "1 of 2 images could not be classified" in plain.stderr


def test_odd_images_are_classified_and_cats_are_cats(run: Run, tmp_path: Path) -> None:
    for number, make in enumerate([*CATS.values(), *ODD.values()]):
        (tmp_path / f"{number:02}.bin").write_bytes(make())
    finished = run("classify", *sorted(tmp_path.glob("*.bin")), *TWO, "--json")
    assert finished.returncode == 0, finished.stdout
    assert finished.stderr == ""
    answers = [line["predictions"][0]["label"] for line in lines(finished)]
    assert len(answers) == len(CATS) + len(ODD)
    assert set(answers[: len(CATS)]) == {"cat"}


WRONG = {
    "no labels option": ([], "--labels"),
    "two labels options": ([*TWO, "--label-set", "cifar10"], "2 were given"),
    "empty labels": (["--labels", ""], "no labels"),
    "one label": (["--labels", "cat"], "one label, 'cat'"),
    "blank label": (["--labels", "cat,,dog"], "Label 2 is blank"),
    "duplicate labels": (["--labels", "cat,dog,cat"], "'cat' is given twice"),
    "long label": (["--labels", "cat," + "x" * 10_000], "10,000 characters"),
    "10,001 labels": (["--labels", ",".join(map(str, range(10_001)))], "more than 10,000"),
    "unknown label set": (["--label-set", "cifar11"], "Did you mean cifar10"),
    "missing labels file": (["--labels-file", "none.txt"], "none.txt cannot be read"),
    "template without slot": ([*TWO, "--templates", "a photo of a cat"], "no '{}'"),
    "unknown template set": ([*TWO, "--templates", "simpel"], "Did you mean simple"),
    "unknown model": ([*TWO, "--model", "tinny"], "'tinny' is not a known model"),
    "missing model directory": ([*TWO, "--model", "onnx:nowhere"], "not a model directory"),
    "top 0": ([*TWO, "--top", "0"], "--top"),
    "unknown option": ([*TWO, "--colour"], "--colour"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_exits_with_2_and_one_message(run: Run, name: str) -> None:
    options, message = WRONG[name]
    finished = run("classify", CAT, *options)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


def test_no_images_is_wrong_usage(run: Run) -> None:
    assert run("classify", *TWO).returncode == 2


def test_labels_may_be_quoted_in_any_script_or_in_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\ufeffcat\n\nHund, groß\n猫の写真\n", encoding="utf-8")
    from_file = lines(run("classify", CAT, "--labels-file", "labels.txt", "--json"))[0]
    from_option = lines(run("classify", CAT, "--labels", 'cat, "Hund, groß", 猫の写真', "--json"))[0]
    assert {p["label"] for p in from_file["predictions"]} == {"cat", "Hund, groß", "猫の写真"}
    assert from_file == from_option


def test_settings_come_from_the_environment_and_flags_win(run: Run) -> None:
    assert "'other' is not a known model" in run("classify", CAT, *TWO, ZEROSHOT_MODEL="other").stderr
    assert run("classify", CAT, *TWO, "--model", "tiny", ZEROSHOT_MODEL="other").returncode == 0
    refused = run("classify", CAT, *TWO, ZEROSHOT_THREADS="many")
    assert refused.returncode == 2
    assert "ZEROSHOT_THREADS=many" in refused.stderr
    limited = run("classify", CAT, *TWO, "--json", ZEROSHOT_MAX_IMAGE_PIXELS="1000")
    assert lines(limited)[0]["error"]["type"] == "image-too-large"


def test_torch_is_never_imported() -> None:
    program = (
        "import sys; sys.argv = ['zeroshot', 'classify', sys.argv[1], '--labels', 'cat,dog']\n"
        "from zeroshot.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'open_clip', 'faiss', 'fastapi', 'sklearn', 'transformers', 'ray'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program, str(CAT)], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_version_and_help(run: Run) -> None:
    assert run("--version").stdout == f"zeroshot {zeroshot.__version__}\n"
    assert "classify" in run("--help").stdout
    for command in ("classify", "models", "serve"):
        assert "Usage:" in run(command, "--help").stdout
    assert "tiny" in run("models").stdout


def test_a_progress_bar_on_the_terminal_leaves_standard_output_alone(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(PROGRESS_FROM):
        shutil.copy(CAT, folder / f"{number}.jpg")
    terminal, side = pty.openpty()
    arguments = [sys.executable, "-m", "zeroshot", "classify", folder, *TWO, "--json"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=side, env=environment(tmp_path)) as process:
        os.close(side)
        printed, _ = process.communicate(timeout=60)
    drawn = os.read(terminal, 1 << 16).decode(errors="replace")
    os.close(terminal)
    assert [json.loads(line)["predictions"][0]["label"] for line in printed.splitlines()] == ["cat"] * PROGRESS_FROM
    assert "images/s" in drawn
    assert "predictions" not in drawn


def test_a_shells_process_substitution_is_a_file_like_any_other(tmp_path: Path) -> None:
    command = f"{sys.executable} -m zeroshot classify <(cat {CAT}) --labels cat,dog --json"
    finished = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path)
    )
    assert json.loads(finished.stdout)["predictions"][0]["label"] == "cat"


def test_a_folder_is_indexed_searched_and_kept_in_step(run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PHOTOS, tmp_path / "images"))
    (folder / "broken.jpg").write_text("not an image")
    first = run("index", "images", "--gallery", "g")
    assert first.returncode == 1
    assert "g: 6 images (6 added, 0 replaced, 0 unchanged, 0 removed, 1 unreadable)" in first.stdout
    assert "broken.jpg" in first.stderr
    (folder / "broken.jpg").unlink()
    assert "0 added, 0 replaced, 6 unchanged" in run("index", "images", "--gallery", "g").stdout
    shutil.copy(folder / "coffee.jpg", folder / "rocket.jpg")
    (folder / "camera.jpg").unlink()
    second = run("index", "images", "--gallery", "g")
    assert "0 added, 1 replaced, 4 unchanged, 0 removed" in second.stdout
    assert "camera.jpg: no longer there" in second.stderr
    assert (
        "5 images (0 added, 0 replaced, 5 unchanged, 1 removed"
        in run("index", "images", "--gallery", "g", "--prune").stdout
    )
    assert json.loads(run("gallery", "info", "g", "--json").stdout)["count"] == 5
    found = lines(run("search", "a small furry pet", "--gallery", "g", "--json", "--top", 2))
    assert found[0]["id"] == str(folder / "cat.jpg")
    assert (found[0]["width"], found[0]["height"]) == (451, 300)
    like = run("search", "--image", PHOTOS / "coffee.jpg", "--gallery", "g", "--top", 2).stdout
    assert "coffee.jpg" in like
    assert "rocket.jpg" in like  # whose file now holds the coffee
    counts = {
        row["label"]: row["count"] for row in lines(run("gallery", "classify", "g", "--labels", "cat,coffee", "--json"))
    }
    assert sum(counts.values()) == 5
    assert counts["coffee"] >= 2
    worded = run("gallery", "classify", "g", "--labels", "cat,coffee", "--templates", "a photo of {}", "--json")
    assert sum(row["count"] for row in lines(worded)) == 5
    assert "5 images, all sound; the index has every one of them" in run("gallery", "verify", "g").stdout
    assert lines(run("gallery", "verify", "g", "--json"))[0]["repaired"] is False
    assert lines(run("gallery", "list", "--json")) == [{"name": "g", "count": 5, "model": "tiny"}]
    assert "g  (tiny)" in run("gallery", "list").stdout
    assert run("gallery", "delete", "g").returncode == 1  # asks, and nobody answers
    assert run("gallery", "delete", "g", "--yes").returncode == 0
    assert run("gallery", "list").stdout == ""


def test_a_gallery_is_moved_compacted_and_shown(run: Run, tmp_path: Path) -> None:
    run("index", PHOTOS, "--gallery", "g")
    assert "6 images written" in run("gallery", "export", "g", "out").stdout
    assert "h: 6 images imported" in run("gallery", "import", "h", "out").stdout
    queries = ("search", "cat", "--plus", "0.5:coffee", "--minus", "2:rocket", "--top", 3, "--json", "--gallery")
    assert lines(run(*queries, "g")) == lines(run(*queries, "h"))
    assert len(lines(run(*queries, "h"))) == 3
    assert "bytes before" in run("gallery", "compact", "h", "--quantization", "int8").stdout
    described = run("gallery", "info", "h").stdout
    assert "int8" in described
    assert lines(run(*queries, "g")) == lines(run(*queries, "h"))
    shutil.copy(PHOTOS / "cat.jpg", tmp_path / "copy.jpg")
    run("index", "copy.jpg", "--gallery", "g")
    assert lines(run("gallery", "duplicates", "g", "--json")) == [
        {"ids": [str(PHOTOS / "cat.jpg"), str(tmp_path / "copy.jpg")]}
    ]
    shown = run("search", "cat", "--gallery", "g", "--html", "sheet.html")
    assert "sheet.html" in shown.stderr
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image/jpeg") == 7
    assert page.index("cat.jpg") < page.index("rocket.jpg")


def test_gallery_commands_name_what_is_wrong(run: Run) -> None:
    assert run("index", PHOTOS, "--gallery", "g").returncode == 0
    for arguments, message in (
        (("search", "x", "--gallery", "other"), "There are: g"),
        (("search", "--gallery", "g"), "There is no query"),
        (("search", "x", "--gallery", "g", "--where", "{"), "is not JSON"),
        (("search", "x", "--gallery", "g", "--where", "[]"), "is not an object"),
        (("search", "--id", "nothing", "--gallery", "g"), "There is no item 'nothing'"),
        (("search", "--image", "nothing.jpg", "--gallery", "g"), "nothing.jpg does not exist"),
        (("index", PHOTOS, "--gallery", "../g"), "cannot be a gallery's name"),
        (("gallery", "delete", "other", "--yes"), "There is no gallery"),
        (("gallery", "export", "g", PHOTOS), "not empty"),
        (("gallery", "import", "g", PHOTOS), "has no img_emb"),
        (("gallery", "compact", "g", "--quantization", "int4"), "'int4'"),
        (("gallery", "duplicates", "g", "--min-similarity", 2), "min_similarity=2"),
        (("search", "x", "--minus=-1:y", "--gallery", "g"), "out of range"),
        (("search", "x", "--gallery", "g", "--html", "/nowhere/x.html"), "cannot be written"),
    ):
        finished = run(*arguments)
        assert finished.returncode == 2, arguments
        assert message in finished.stderr
        assert "Traceback" not in finished.stderr


def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m zeroshot classify {CAT} {CAT} {CAT} --labels cat,dog --json | head -n 1"
    finished = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path)
    )
    assert json.loads(finished.stdout)["model"] == "tiny"
    assert "Traceback" not in finished.stderr
