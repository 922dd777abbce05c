"""Figures against scikit-learn's, on answers of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from zeroshot.evaluate.metrics import confusion, measure_multi, measure_single, measure_tree
from zeroshot.evaluate.records import MultiRecorder, SingleRecorder, SingleRecords
from zeroshot.evaluate.retrieval import measure_retrieval
from zeroshot.labels import Hierarchy, Label
from zeroshot.scoring import softmax


def records(count: int, labels: int, seed: int, skill: float = 1.0) -> tuple[SingleRecords, np.ndarray, np.ndarray]:
    """Answers that are right more often than chance, in uneven batches; with truth (n,) and scores (n, k)."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(labels, size=count)
    logits = chance.normal(size=(count, labels))
    logits[np.arange(count), truth] += skill
    scores = softmax(logits)
    chosen = scores == scores.max(axis=1, keepdims=True)
    recorder = SingleRecorder()
    for start in range(0, count, 7):
        rows = slice(start, start + 7)
        keys = [str(row) for row in range(count)[rows]]
        recorder.add(keys, [None] * len(keys), truth[rows], scores[rows], chosen[rows])
    return recorder.done(), truth, scores


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 60), st.integers(2, 8), st.integers(0, 10**6))
def test_single_labels_are_measured_as_scikit_learn_does(count: int, labels: int, seed: int) -> None:
    found, truth, scores = records(count, labels, seed)
    figures = measure_single(found, [str(row) for row in range(labels)])
    predicted, present = scores.argmax(axis=1), np.unique(truth)
    assert figures.top_1.value == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert figures.mean_per_class_recall.value == pytest.approx(
        metrics.recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
    )
    assert figures.macro_f1.value == pytest.approx(
        metrics.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    )
    assert figures.weighted_f1 == pytest.approx(metrics.f1_score(truth, predicted, average="weighted", zero_division=0))
    every = list(range(labels))
    assert figures.nll == pytest.approx(metrics.log_loss(truth, scores, labels=every))
    assert (figures.top_5 is None) == (labels < 5)
    if labels > 5:
        assert figures.top_5 == pytest.approx(metrics.top_k_accuracy_score(truth, scores, k=5, labels=every))
        assert figures.top_5_hits == round(count * figures.top_5)
    matrix = metrics.confusion_matrix(truth, predicted, labels=every)
    pairs = confusion(found.truth, found.prediction)
    assert sum(often for _, _, often in pairs) == count
    assert all(matrix[right, answer] == often for right, answer, often in pairs)
    assert figures.brier == pytest.approx(((scores - np.eye(labels)[truth]) ** 2).sum(axis=1).mean())
    if labels == 2 and len(present) == 2:
        assert figures.roc_auc == pytest.approx(metrics.roc_auc_score(truth, scores[:, 1]))
        assert figures.average_precision == pytest.approx(metrics.average_precision_score(truth, scores[:, 1]))


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 10**6))
def test_several_labels_are_measured_as_scikit_learn_does(count: int, labels: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    truth = chance.random((count, labels)) < 0.4
    truth[0, 0] = True
    scores = np.clip(0.3 * truth + 0.7 * chance.random((count, labels)), 0, 1)
    chosen = scores >= 0.5
    recorder = MultiRecorder()
    recorder.add([str(row) for row in range(count)], [None] * count, truth, scores, chosen)
    figures = measure_multi(recorder.done(), [str(row) for row in range(labels)])
    columns = [row for row in range(labels) if truth[:, row].any()]
    single = scores.astype(np.float32)
    areas = [metrics.average_precision_score(truth[:, row], single[:, row]) for row in columns]
    assert figures.mean_average_precision.value == pytest.approx(np.mean(areas))
    both = truth.ravel(), chosen.ravel()
    assert figures.micro_f1.value == pytest.approx(metrics.f1_score(*both, zero_division=0))
    assert figures.micro_precision == pytest.approx(metrics.precision_score(*both, zero_division=0))
    assert figures.micro_recall == pytest.approx(metrics.recall_score(*both))
    f1 = [metrics.f1_score(truth[:, row], chosen[:, row], zero_division=0) for row in columns]
    assert figures.macro_f1.value == pytest.approx(np.mean(f1))
    assert figures.exact_match == pytest.approx((truth == chosen).all(axis=1).mean())


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(60):
        found, _, _ = records(200, 4, seed, skill=1.0)
        interval = measure_single(found, list("abcd")).top_1
        held += interval.low <= 0.5532 <= interval.high  # what 400,000 of these answers give
    assert 52 <= held <= 60


def test_the_middle_of_those_intervals_is_right() -> None:
    found, _, _ = records(400_000, 4, 1)
    assert found.hits.mean() == pytest.approx(0.5532, abs=0.002)


def test_answers_that_stop_above_the_right_node_are_half_right() -> None:
    names = [("animal", None), ("cat", "animal"), ("dog", "animal"), ("thing", None), ("cup", "thing")]
    hierarchy = Hierarchy.of(tuple(Label(name, parent=parent) for name, parent in names))
    truth = np.array([1, 1, 1, 4])
    found = measure_tree(hierarchy, truth, np.array([1, 0, 2, -1]), np.array([1, 1, 2, 1]))
    assert found.answered == 0.75
    assert found.exact == 0.25
    assert found.right_or_coarser == 0.75
    # paths given: animal/cat, animal, animal/dog, none; shared: 2 + 1 + 1 + 0; wanted: 2 each
    assert found.hierarchical_precision == pytest.approx(4 / 5)
    assert found.hierarchical_recall == pytest.approx(4 / 8)
    assert found.hierarchical_f1 == pytest.approx(2 * 0.8 * 0.5 / 1.3)
    assert found.mean_steps == pytest.approx((0 + 1 + 2 + 2) / 4)
    assert found.flat_mean_steps == pytest.approx((0 + 0 + 2 + 4) / 4)


def test_recall_counts_any_of_an_images_captions() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[1, 0, 0], [0, 0.6, 0.8], [0, 1, 0], [0, 0.8, 0.6]], dtype=np.float32)
    found = measure_retrieval(images, texts, np.array([0, 1, 1, 2]))
    assert found.text_to_image["recall@1"] == pytest.approx(0.5)  # the second and the fourth find each other's image
    assert found.image_to_text["recall@1"] == pytest.approx(2 / 3)
    assert found.text_to_image["recall@5"] == 1.0
