"""Templates and descriptions are chosen on one part, and only a gain on the other is claimed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import Run as Program
from tests.test_evaluate import NAMES
from zeroshot import Label, LabelSet, ZeroShotClassifier, load_label_set
from zeroshot.datasets import open_dataset
from zeroshot.errors import DatasetError, OptionError
from zeroshot.evaluate.prompt_tuning import (
    embed_dataset,
    measure_gain,
    select_descriptions,
    select_templates,
    split,
    tune_descriptions,
    tune_templates,
)
from zeroshot.evaluate.run import Run
from zeroshot.evaluate.vector_cache import VectorCache
from zeroshot.labels import Mode
from zeroshot.prompts import load_templates
from zeroshot.scoring import ScoringOptions


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def world(count: int = 400, labels: int = 5, dim: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images around their labels' true directions: vectors (n, dim), right (n,), directions (k, dim)."""
    chance = np.random.default_rng(seed)
    directions = unit(chance.normal(size=(labels, dim)))
    right = chance.integers(labels, size=count)
    return unit(directions[right] + 0.25 * chance.normal(size=(count, dim))), right, directions


def test_the_templates_that_point_the_right_way_are_chosen_first() -> None:
    vectors, right, directions = world()
    chance = np.random.default_rng(1)
    good = [unit(directions + 0.2 * chance.normal(size=directions.shape)) for _ in range(2)]
    bad = [unit(chance.normal(size=directions.shape)) for _ in range(6)]
    embedded = np.stack([*bad[:3], *good, *bad[3:]])
    chosen = select_templates(embedded, vectors, right, logit_scale=20, max_templates=8)
    assert set(chosen[:2]) == {3, 4}
    assert len(chosen) < 8
    assert select_templates(embedded, vectors, right, logit_scale=20, max_templates=1) == chosen[:1]


def test_a_label_takes_the_descriptions_that_help_and_no_others() -> None:
    vectors, right, directions = world()
    chance = np.random.default_rng(2)
    baseline = directions.copy()
    baseline[1] = unit(chance.normal(size=32))  # a label whose templates are off
    none = np.empty((0, 32), dtype=np.float32)
    good = unit(directions[1] + 0.1 * chance.normal(size=32))
    embedded = [none, np.stack([unit(chance.normal(size=32)), good]), np.stack([-directions[2]]), none, none]
    assert select_descriptions(baseline, embedded, vectors, right, logit_scale=20) == [[], [1], [], [], []]


def test_the_parts_share_no_image_and_every_label() -> None:
    right = np.repeat(np.arange(4), [10, 20, 30, 41])
    parts = split(right, validation_fraction=0.4, seed=3)
    assert not set(parts.validation) & set(parts.held_out)
    assert len(parts.validation) + len(parts.held_out) == len(right)
    assert np.bincount(right[parts.validation]).tolist() == [4, 8, 12, 16]
    assert split(right, validation_fraction=0.4, seed=4).validation.tolist() != parts.validation.tolist()
    with pytest.raises(OptionError, match="to choose on is 1"):
        split(right, validation_fraction=1)
    with pytest.raises(DatasetError, match="The parts have 4 and 5 images"):
        split(right[:9], validation_fraction=0.4)


def test_what_is_no_gain_is_not_claimed() -> None:
    vectors, right, directions = world()
    parts = split(right)
    hits = (vectors @ directions.T).argmax(axis=1) == right
    same = measure_gain(hits, hits, parts)
    assert (same.low, same.high) == (0, 0)
    assert not same.is_beyond_chance
    turned = unit(directions + 0.9 * np.random.default_rng(5).normal(size=directions.shape) / np.sqrt(32) * 3)
    gain = measure_gain((vectors @ turned.T).argmax(axis=1) == right, hits, parts)
    assert gain.is_beyond_chance
    assert gain.low <= gain.held_out[1] - gain.held_out[0] <= gain.high


def test_tuning_reads_a_dataset_once(classifier: ZeroShotClassifier, crops: Path, home: Path) -> None:
    cache = VectorCache(home)
    labels = LabelSet("set", tuple(Label(name, descriptions=(f"{name} in a photo", "nothing")) for name in NAMES))
    run = Run(classifier, open_dataset(str(crops), home=home), cache, labels, None, ScoringOptions(Mode.MULTICLASS))
    embedded = embed_dataset(run, validation_fraction=0.5, seed=0)
    candidates = [*load_templates("simple").templates, "{}"]
    tuned = tune_templates(run, embedded, candidates, max_templates=3)
    assert tuned.templates is not None
    assert 1 <= len(tuned.templates.templates) <= 3
    assert set(tuned.templates.templates) <= set(candidates)
    assert tuned.gain.images == (60, 60)
    described = tune_descriptions(run, embedded)
    assert described.label_set is not None
    assert all(
        set(label.descriptions) <= {f"{label.name} in a photo", "nothing"} for label in described.label_set.labels
    )
    assert cache.found + cache.encoded == 120
    cache.close()


def test_of_a_tree_the_leaves_are_told_apart(classifier: ZeroShotClassifier, crops: Path, home: Path) -> None:
    parents = {"cat": "living being", "astronaut": "living being"}
    leaves = tuple(Label(name, parent=parents.get(name), descriptions=(f"a photo of a {name}",)) for name in NAMES)
    tree = LabelSet("tree", (Label("living being", descriptions=("a living being",)), *leaves))
    cache = VectorCache(home)
    run = Run(classifier, open_dataset(str(crops), home=home), cache, tree, options=ScoringOptions(Mode.MULTICLASS))
    embedded = embed_dataset(run, validation_fraction=0.5, seed=0)
    cache.close()
    assert embedded.unusable == 0
    assert np.bincount(embedded.right).tolist() == [20] * 6
    tuned = tune_descriptions(run, embedded)
    assert tuned.gain.validation[0] > 0.5
    assert tuned.label_set is not None
    assert tuned.label_set.names == tree.names
    assert tuned.label_set.labels[0] == tree.labels[0]  # it is no answer, so its descriptions stay


def test_the_command_writes_what_it_chose(invoke: Program, crops: Path, tmp_path: Path) -> None:
    (tmp_path / "crops").symlink_to(crops)
    done = invoke("prompts", "tune", "crops", "--output", "mine.yaml", "--max-templates", 2)
    assert done.returncode == 0, done.stderr
    assert "held out   60 images: " in done.stdout
    assert "over none" in done.stdout.splitlines()[-2]
    written = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert written["name"] == "mine"
    assert 1 <= len(written["templates"]) <= 2
    assert invoke("evaluate", "crops", "--templates", "mine.yaml").returncode == 0
    assert "exists" in invoke("prompts", "tune", "crops", "--output", "mine.yaml").stderr
    assert "has a description" in invoke("prompts", "tune", "crops", "--target", "descriptions").stderr
    assert "Use templates or descriptions" in invoke("prompts", "tune", "crops", "--target", "words").stderr


def test_the_command_keeps_the_descriptions_that_help(invoke: Program, crops: Path, tmp_path: Path) -> None:
    (tmp_path / "crops").symlink_to(crops)
    entries = [{"name": name, "descriptions": [f"a photo of a {name}", "a grey wall"]} for name in NAMES]
    (tmp_path / "set.yaml").write_text(yaml.safe_dump({"name": "set", "labels": entries}))
    done = invoke(
        "prompts", "tune", "crops", "--target", "descriptions", "--label-set", "set.yaml", "--output", "out.yaml"
    )
    assert done.returncode == 0, done.stderr
    kept = load_label_set(tmp_path / "out.yaml")
    assert kept.names == NAMES
    for label in kept.labels:
        assert set(label.descriptions) <= {f"a photo of a {label.name}", "a grey wall"}
        words = "; ".join(label.descriptions) or "templates (none)"
        assert f"  {label.name}: {words}\n" in done.stdout
