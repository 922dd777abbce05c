"""Datasets from wherever they are: what is read, what is refused, and what is passed over and said."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits

from tests.conftest import Run as Program
from tests.images import PHOTOS
from zeroshot import LabelSet, ZeroShotClassifier, load_label_set
from zeroshot.datasets import Dataset, Problem, Sample, dataset_names, open_dataset
from zeroshot.errors import DatasetError, MissingDependency
from zeroshot.evaluate import evaluate_dataset
from zeroshot.evaluate.run import Run
from zeroshot.evaluate.vector_cache import VectorCache
from zeroshot.images import load
from zeroshot.labels import parse_labels
from zeroshot.learning import calibrate, fit

CAT, COFFEE, ROCKET = (PHOTOS / f"{name}.jpg" for name in ("cat", "coffee", "rocket"))


def opened(source: Path | str, **options: object) -> Dataset:
    return open_dataset(str(source), home=Path("/nowhere"), **options)  # type: ignore[arg-type]


def samples(dataset: Dataset) -> list[Sample]:
    return [one for one in dataset.samples() if isinstance(one, Sample)]


def problems(dataset: Dataset) -> list[Problem]:
    return [one for one in dataset.samples() if isinstance(one, Problem)]


def write_shard(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of CLIP_benchmark's layout, two images each."""
    folder = tmp_path / "wds"
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("cat\ncup of coffee\nrocket\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\nmy {c}\n")
    (folder / "test/nshards.txt").write_text("2")
    cat, coffee, rocket = (path.read_bytes() for path in (CAT, COFFEE, ROCKET))
    write_shard(folder / "test/0.tar", {"s0.jpg": cat, "s0.cls": b"0", "s1.jpg": coffee, "s1.cls": b"1"})
    write_shard(folder / "test/1.tar", {"s2.jpg": rocket, "s2.cls": b"2", "s3.jpg": cat, "s3.cls": b"0"})
    return folder


def test_a_folder_per_class(tmp_path: Path) -> None:
    for name in ("cat", "traffic_light", "rocket"):
        (tmp_path / name / "deeper").mkdir(parents=True)
    shutil.copy(CAT, tmp_path / "cat/a.jpg")
    shutil.copy(CAT, tmp_path / "cat/deeper/b.jpg")
    shutil.copy(COFFEE, tmp_path / "traffic_light/c.jpg")
    (tmp_path / "cat/.hidden").write_text("")
    found = opened(tmp_path)
    assert found.classes == ("cat", "rocket", "traffic_light")
    assert found.empty_classes == ("rocket",)
    assert found.wordings == {"traffic_light": "traffic light"}
    assert found.count == 3
    assert [(one.key, one.labels) for one in samples(found)] == [
        ("cat/a.jpg", ("cat",)),
        ("cat/deeper/b.jpg", ("cat",)),
        ("traffic_light/c.jpg", ("traffic_light",)),
    ]


def test_a_split_is_a_folder_in_it(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "val" / name).mkdir(parents=True)
        shutil.copy(CAT, tmp_path / "val" / name / "a.jpg")
    assert opened(tmp_path, split="val").count == 2
    with pytest.raises(DatasetError, match=r"There is no folder .*/test"):
        opened(tmp_path, split="test")


def test_imagenets_thousand_folders_get_their_names(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"n{number:08}").mkdir()
    shutil.copy(CAT, tmp_path / "n00000281/a.jpg")
    found = opened(tmp_path)
    assert found.classes == load_label_set("imagenet").names
    assert samples(found)[0].labels == ("tabby cat",)


def test_imagenet_v2s_folders_are_the_same_classes_by_number(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / str(number)).mkdir()
    shutil.copy(CAT, tmp_path / "281/a.jpg")
    found = opened(tmp_path)
    assert found.classes == load_label_set("imagenet").names
    assert samples(found)[0].labels == ("tabby cat",)


def test_a_table_of_files_and_labels(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"file,label,group,caption\n{CAT},cat|pet,indoors,A cat.|Looking up.\n{COFFEE},coffee,,\n,x,,\n")
    found = opened(table)
    assert found.classes == ("cat", "pet", "coffee", "x")
    assert found.several
    assert found.captioned
    first, second = samples(found)
    assert first == Sample(str(CAT), CAT, ("cat", "pet"), "indoors", ("A cat.", "Looking up."))
    assert second.group is None
    assert problems(found) == [Problem("t.csv, line 4", "There is no file, or nothing is said of it.")]


def test_parquet_is_read_as_csv_is_lists_included(tmp_path: Path) -> None:
    table = pa.table({"file": ["a.jpg", "b.jpg"], "label": [["cat", "pet"], ["dog"]], "unused": [1, 2]})
    parquet.write_table(table, tmp_path / "t.parquet")
    found = opened(tmp_path / "t.parquet")
    assert [one.labels for one in samples(found)] == [("cat", "pet"), ("dog",)]
    assert samples(found)[0].source == tmp_path / "a.jpg"


def test_columns_may_be_called_otherwise(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("path,species,site\na.jpg,cat,north\nb.jpg,dog,south\n")
    found = opened(table, columns={"file": "path", "label": "species", "group": "site"})
    assert [(one.labels, one.group) for one in samples(found)] == [(("cat",), "north"), (("dog",), "south")]
    with pytest.raises(DatasetError, match="no column 'kind'; it has 'path', 'species', 'site'"):
        opened(table, columns={"file": "path", "label": "kind"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,label\na,b\n", "no column 'file'; it has 'path', 'label'"),
        ("file,class\na,b\n", "no column 'label'"),
        ("file,label\n", "has no rows"),
        ("", "has no rows"),
        (b"file,label\n\xff\xfe,b\n", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DatasetError, match=said):
        opened(table)


def test_json_lines_are_read_as_csv_is_lists_included(tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    table.write_text('{"file": "a.jpg", "label": ["cat", "pet"]}\n\n{"file": "b.jpg", "label": "dog", "group": 1}\n')
    assert [(one.labels, one.group) for one in samples(opened(table))] == [(("cat", "pet"), None), (("dog",), "1")]
    for content in ("{", "[1]", '"file"'):
        table.write_text(content)
        with pytest.raises(DatasetError, match="cannot be read"):
            opened(table)


def test_a_row_without_a_label_has_none(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,label\na.jpg,cat|pet\nb.jpg,\n")
    assert [one.labels for one in samples(opened(tmp_path / "t.csv"))] == [("cat", "pet"), ()]


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DatasetError, match="cannot be read"):
        opened(tmp_path / "t.parquet")


def test_shards_in_clip_benchmarks_layout(shards: Path) -> None:
    found = opened(shards)
    assert found.classes == ("cat", "cup of coffee", "rocket")
    assert found.templates is not None
    assert found.templates.templates == ("a photo of a {}.", "my {}")
    assert [(one.key, one.labels) for one in samples(found)] == [
        ("test/0.tar/s0", ("cat",)),
        ("test/0.tar/s1", ("cup of coffee",)),
        ("test/1.tar/s2", ("rocket",)),
        ("test/1.tar/s3", ("cat",)),
    ]
    assert samples(found)[0].source == CAT.read_bytes()
    assert len(samples(found)) == 4  # a second time


def test_a_damaged_shard_ends_early_and_the_next_goes_on(shards: Path) -> None:
    first = shards / "test/0.tar"
    first.write_bytes(first.read_bytes()[: CAT.stat().st_size + 3000])
    found = opened(shards)
    assert [one.key for one in samples(found)] == ["test/0.tar/s0", "test/1.tar/s2", "test/1.tar/s3"]
    (problem,) = problems(found)
    assert problem.key == "test/0.tar"
    assert problem.reason.startswith("The shard is damaged, what comes after s0 is lost")


def test_a_shard_that_is_no_archive_or_is_missing_is_named(shards: Path) -> None:
    (shards / "test/0.tar").write_bytes(b"\0" * 100 + b"not an archive" * 100)
    (shards / "test/1.tar").unlink()
    found = opened(shards)
    assert samples(found) == []
    assert [one.key for one in problems(found)] == ["test/0.tar", "test/1.tar"]


def test_samples_of_a_shard_that_make_no_sense_are_named(shards: Path) -> None:
    cat = CAT.read_bytes()
    write_shard(
        shards / "test/0.tar",
        {"a.jpg": cat, "a.cls": b"3", "b.cls": b"0", "c.jpg": cat, "c.cls": b"zero", "d.jpg": cat, "e.jpg": cat}
        | {"e.cls": b"1"},
    )
    found = opened(shards)
    assert next(one.key for one in samples(found)) == "test/0.tar/e"
    assert {one.key.rpartition("/")[2]: one.reason.split(":")[0] for one in problems(found)} == {
        "a": "Its class is 3, and there are 3 names.",
        "b": "There is no image, only cls.",
        "c": "Its label cannot be read",
        "d": "Its label cannot be read",
    }


def test_shards_may_have_several_labels_or_captions(shards: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.array([1, 0, 1]))
    cat = CAT.read_bytes()
    write_shard(shards / "test/0.tar", {"a.jpg": cat, "a.npy": array.getvalue()})
    found = opened(shards)
    assert found.several
    assert samples(found)[0].labels == ("cat", "rocket")
    (shards / "dataset_type.txt").write_text("retrieval\n")
    write_shard(shards / "test/0.tar", {"a.jpg": cat, "a.txt": b"A cat.\nA cat looking up."})
    found = opened(shards)
    assert found.captioned
    assert samples(found)[0].captions == ("A cat.", "A cat looking up.")


def test_a_layout_that_is_not_whole_is_refused(shards: Path) -> None:
    with pytest.raises(DatasetError, match=r"val/nshards.txt cannot be read.*\n?.*Choose a split that there is: test"):
        opened(shards, split="val")
    (shards / "classnames.txt").write_text("cat\n")
    with pytest.raises(DatasetError, match=r"classnames.txt has 1 names"):
        opened(shards)


def write_mnist(root: Path) -> np.ndarray:
    """Scikit-learn's digits in MNIST's own files."""
    found = load_digits()
    pixels = np.stack(
        [
            np.asarray(Image.fromarray(np.round(255 * one / 16).astype(np.uint8)).resize((28, 28)))
            for one in found.images[:50]
        ]
    )
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        with gzip.open(raw / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">IIII", 0x803, *pixels.shape) + pixels.tobytes())
        with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">II", 0x801, 50) + found.target[:50].astype(np.uint8).tobytes())
        for kind in ("images-idx3", "labels-idx1"):
            packed = raw / f"{part}-{kind}-ubyte.gz"
            (raw / f"{part}-{kind}-ubyte").write_bytes(gzip.decompress(packed.read_bytes()))
    return np.asarray(found.target[:50])


def test_torchvisions_datasets_by_name(tmp_path: Path) -> None:
    targets = write_mnist(tmp_path)
    found = opened("mnist", root=tmp_path)
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    assert found.classes == names
    assert found.count == 50
    assert [one.labels[0] for one in samples(found)] == [names[target] for target in targets]
    assert load(samples(found)[0].source).mode == "RGB"
    assert found.templates is not None


def test_cifar10_gets_the_published_labels_and_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    image = np.asarray(Image.open(CAT).convert("RGB").resize((32, 32)))
    batch = {"data": image.transpose(2, 0, 1).reshape(1, -1), "labels": [3]}
    (folder / "test_batch").write_bytes(pickle.dumps(batch))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    monkeypatch.setattr("torchvision.datasets.CIFAR10._check_integrity", lambda *_: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    found = opened("cifar10", root=tmp_path)
    assert found.classes == load_label_set("cifar10").names
    assert samples(found)[0].labels == ("cat",)
    assert found.templates is not None
    assert len(found.templates.templates) == 18


def test_a_named_dataset_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"food101 cannot be opened in .*--root.*--download"):
        opened("food101", root=tmp_path)
    with pytest.raises(DatasetError, match=r"mnist has no split 'valid'.*It has test, train"):
        opened("mnist", root=tmp_path, split="valid")


def test_digits_come_with_scikit_learn() -> None:
    found = opened("digits")
    assert found.count == 1797
    first = samples(found)[0]
    assert first.labels == ("zero",)
    assert load(first.source).size == (64, 64)


def test_hugging_faces_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    for name, photo in (("cat", CAT), ("coffee_cup", COFFEE)):
        (tmp_path / "data/test" / name).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "data/test" / name / "a.jpg")
    found = opened(f"hf:{tmp_path / 'data'}", split="test")
    assert found.classes == ("cat", "coffee cup")
    assert [one.labels for one in samples(found)] == [("cat",), ("coffee cup",)]
    with pytest.raises(DatasetError, match="It needs one of images and one of class labels"):
        opened(f"hf:{tmp_path / 'data'}", split="test", columns={"label": "kind"})
    with pytest.raises(DatasetError, match="cannot be loaded"):
        opened(f"hf:{tmp_path / 'elsewhere'}", split="test")


KINDS = ("folder", "csv", "jsonl", "parquet", "shards")
NAMES = ("a motorcycle", "cat", "flower", "rocket")
JUNK = ("Thumbs.db", ".DS_Store", "desktop.ini", ".hidden.jpg", ".thumbnails/small.jpg", "notes.txt")


@pytest.fixture(scope="module")
def same_images(tmp_path_factory: pytest.TempPathFactory, photos: dict[str, Path]) -> dict[str, Path]:
    """The same sixteen labelled images as each kind of dataset; the folder has other files in it, too."""
    root = tmp_path_factory.mktemp("same")
    files, parts = [], {}
    for label in NAMES:
        image = Image.open(photos[label]).convert("RGB")
        side = min(image.size)
        for number in range(4):
            file = root / "folder" / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image.crop((20 * number, 0, 20 * number + side // (1 + number), side)).resize((64, 64)).save(file)
            parts |= {f"{len(files)}.png": file.read_bytes(), f"{len(files)}.cls": str(NAMES.index(label)).encode()}
            files.append((file, label))
        add_junk(file.parent)
    rows = [{"image": str(file), "species": label} for file, label in files]
    lines = "\n".join(f"{row['image']},{row['species']}" for row in rows)
    (root / "csv.csv").write_text(f"image,species\n{lines}\n")
    (root / "jsonl.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(pa.Table.from_pylist(rows), root / "parquet.parquet")
    (root / "shards" / "test").mkdir(parents=True)
    (root / "shards" / "classnames.txt").write_text("\n".join(NAMES))
    (root / "shards" / "test" / "nshards.txt").write_text("1")
    write_shard(root / "shards" / "test" / "0.tar", parts)
    return {kind: next(root.glob(f"{kind}*")) for kind in KINDS}


def add_junk(folder: Path) -> None:
    """What systems and people leave in folders of images."""
    (folder / ".thumbnails").mkdir()
    for name in JUNK:
        (folder / name).write_bytes(b"not an image")


def test_the_same_images_are_the_same_examples_for_evaluate_calibrate_and_fit(
    same_images: dict[str, Path], classifier: ZeroShotClassifier, tmp_path: Path
) -> None:
    label_set = LabelSet("s", parse_labels(NAMES))
    found = {}
    for kind, source in same_images.items():
        dataset = opened(source, columns={"file": "image", "label": "species"})
        evaluated = evaluate_dataset(Run(classifier, dataset, VectorCache(tmp_path), labels=label_set)).evaluation
        calibrated, fitted = (learn(dataset, label_set, classifier)[1] for learn in (calibrate, fit))
        assert (evaluated.dataset.problems, calibrated.problems, fitted.problems) == ([], (), ())
        counts = (evaluated.dataset.images, calibrated.calibration.images, fitted.calibration.images)
        assert counts == (16, 16, 16)
        assert calibrate(dataset, label_set, classifier, limit=12)[1].calibration.images == 12
        temperatures = (calibrated.calibration.temperature, fitted.calibration.temperature)
        found[kind] = (evaluated.single, temperatures, calibrated.after, fitted.head.measured)
    for kind in KINDS:
        assert found[kind] == found["folder"], kind


def test_every_command_takes_the_same_files_from_a_folder(
    same_images: dict[str, Path], run_here: Program, tmp_path: Path
) -> None:
    def said(*arguments: object) -> str:
        finished = run_here(*arguments)
        assert finished.returncode == 0, finished.stderr
        assert not [name for name in JUNK if Path(name).name in finished.stdout + finished.stderr]
        assert finished.stderr == ""
        return finished.stdout

    folder = same_images["folder"]
    said("labels", "create", "s", "--labels", ",".join(NAMES))
    assert len(said("classify", folder, "--label-set", "s", "--json").splitlines()) == 16
    assert "images 16" in " ".join(said("evaluate", folder, "--label-set", "s").split())
    assert "16 images" in said("calibrate", "--label-set", "s", "--data", folder)
    fitted = said("fit", "--label-set", "s", "--data", folder, "--unlabelled", folder, "--pseudo-labels", "p.csv")
    assert "16 images" in fitted
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 17
    said("cluster", folder, "--count", 4, "--vocabulary", "s")
    assert len((tmp_path / "clusters.csv").read_text().splitlines()) == 17
    assert "16 added" in said("index", folder, "--gallery", "g")
    assert len(said("search", "cat", "--gallery", "g", "--top", 99, "--json").splitlines()) == 16


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'cifra10' is no folder.*cifar10"):
        opened("cifra10")
    with pytest.raises(DatasetError, match="has 0 folders"):
        opened(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(DatasetError, match="hold no images"):
        opened(tmp_path)
    with pytest.raises(DatasetError, match="There is no file"):
        opened(tmp_path / "t.csv")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingDependency, match=r"datasets, which is not installed.*zeroshot\[datasets\]"):
        opened("hf:org/name")


def test_the_names_are_those_that_can_be_opened() -> None:
    names = dataset_names()
    assert {"cifar10", "cifar100", "food101", "oxford-pets", "eurosat", "dtd", "flowers102", "stl10"} <= set(names)
    assert {"svhn", "mnist", "fashion-mnist", "gtsrb", "country211", "sun397", "caltech101", "imagenet"} <= set(names)
    assert json.dumps(names) == json.dumps(sorted(names))
