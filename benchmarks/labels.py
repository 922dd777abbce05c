"""Kinds of answer, measured on a folder of images with a labels.csv.

labels.csv has the columns file, name and category, a path such as animals/mammals/bears. Each figure says what, if
anything, was fitted.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.machine import interleave
from benchmarks.results import Results
from benchmarks.tiny_accuracy import ANIMALS, FOOD, MAMMALS, TOP
from zeroshot import Label, LabelSet, ZeroShotClassifier, load_encoder, load_label_set
from zeroshot.encoders.streaming import encode_stream
from zeroshot.labels import LabelSetStore, parse_labels
from zeroshot.learning.calibrate import fit_temperature, fit_thresholds, measure
from zeroshot.scoring import ScoringOptions, softmax

_AT_LEAST = 8  # images of a top-level category
WORDS = {**TOP, **ANIMALS, **FOOD, **MAMMALS, "bears/toys": "toy bear"}
WORDS |= {
    "tools": "tool", "flowers": "flower", "trees": "tree", "planets": "planet", "auto": "car", "dishes": "dish",
    "hats": "hat", "nuts": "nut", "spices": "spice", "mushrooms": "mushroom", "emergency": "emergency vehicle",
    "race": "race car", "flight": "aircraft", "arttools": "art supplies", "utensils": "cutlery", "planes": "airplane",
    "percussion": "drum", "string": "string instrument", "brass": "brass instrument", "wind": "woodwind",
}  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="tiny")
    arguments = parser.parse_args()
    with (arguments.folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = Counter(row["category"].split("/")[0] for row in rows)
    rows = [row for row in rows if counts[row["category"].split("/")[0]] >= _AT_LEAST and _known(row)]
    classifier = ZeroShotClassifier(load_encoder(arguments.model))
    vectors = np.stack(
        [vector for _, vector in encode_stream(classifier.encoder, [arguments.folder / row["file"] for row in rows])]
    )
    paths = [tuple(row["category"].split("/")) for row in rows]
    results = Results("labels", ("zeroshot", "onnxruntime", "numpy"))
    print(f"{len(rows)} images, model {classifier.encoder.spec} ({classifier.encoder.fingerprint[:12]})\n")
    for least in (3, 5):
        multilabel(results, classifier, vectors, paths, least)
    for depth in (2, 3):
        hierarchical(results, classifier, vectors, [path[:depth] for path in paths])
    temperature(results, classifier, vectors, paths)
    thousand_labels(results, classifier, arguments.folder / rows[0]["file"])
    results.save()


def _known(row: dict[str, str]) -> bool:
    return row["category"].split("/")[0] in TOP


def multilabel(
    results: Results, classifier: ZeroShotClassifier, vectors: np.ndarray, paths: list[tuple[str, ...]], least: int
) -> None:
    """Top-level and second-level categories together, against the best cut of raw cosines chosen on these images."""
    truth: dict[str, np.ndarray] = {}
    for level in (0, 1):
        for folder, count in Counter(path[level] for path in paths if len(path) > level).items():
            name = WORDS.get(folder, folder)
            if count >= least and name not in truth and folder != "music":  # hobbies is already "musical instrument"
                truth[name] = np.array([len(path) > level and path[level] == folder for path in paths])
    right = np.stack(list(truth.values()), axis=1)
    scorer = classifier.scorer(list(truth), options=ScoringOptions("multilabel"))
    cosines = scorer.similarities(vectors)
    own = macro_f1(scorer.scores(vectors) >= scorer.thresholds, right)
    best = max(macro_f1(cosines >= cut, right) for cut in np.unique(cosines))
    what = f"multilabel, {right.shape[1]} labels of at least {least} of {len(vectors)} images, macro-F1"
    sides = {"the best cut of raw cosines, chosen on these images": best, "zeroshot, nothing fitted": own}
    results.row(what, "", sides, note=f"share {own / best:.3f}")

    gains, splits = [], 40
    scores = scorer.scores(vectors)
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(vectors))
        fit, held_out = order[::2], order[1::2]
        fitted = scores[held_out] >= fit_thresholds(scores[fit], right[fit])
        untuned = macro_f1(scores[held_out] >= 0.5, right[held_out])
        gains.append((untuned, macro_f1(fitted, right[held_out])))
    untuned, fitted = np.mean(gains, axis=0)
    low, high = np.quantile([after - before for before, after in gains], [0.025, 0.975])
    note = f"difference {low:+.3f} to {high:+.3f} in 95 % of {splits} draws"
    sides = {"untuned": float(untuned), "fitted": float(fitted)}
    results.row(
        f"the same {right.shape[1]}: thresholds fitted on a random half, macro-F1 on the other", "", sides, note=note
    )


def temperature(
    results: Results, classifier: ZeroShotClassifier, vectors: np.ndarray, paths: list[tuple[str, ...]]
) -> None:
    """Top-level categories: calibration error before and after, on the halves that were not fitted on."""
    folders = sorted({path[0] for path in paths})
    right = np.array([folders.index(path[0]) for path in paths])
    scorer = classifier.scorer([WORDS[folder] for folder in folders])
    logits = scorer.logits(scorer.similarities(vectors), vectors)
    found = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(vectors))
        fit, held_out = order[::2], order[1::2]
        warm = fit_temperature(logits[fit], right[fit])
        before, after = (measure(softmax(logits[held_out] / t), right[held_out]) for t in (1.0, warm))
        found.append((before.ece, after.ece, after.ece_floor, before.nll, after.nll, warm))
    ece, fitted, floor, nll, fitted_nll, warm = (float(one) for one in np.mean(found, axis=0))
    what = f"{len(folders)} categories, temperature fitted on a random half, on the other"
    note = f"temperature {warm:.2f}, mean of 20 draws"
    results.row(f"{what}: NLL", "", {"before": nll, "after": fitted_nll}, note=note)
    results.row(f"{what}: ECE", "", {"before": ece, "after": fitted, "by chance alone": floor})


def macro_f1(chosen: np.ndarray, right: np.ndarray) -> float:
    """Mean over labels of the harmonic mean of precision and recall."""
    hits = (chosen & right).sum(axis=0)
    return float((2 * hits / np.maximum(chosen.sum(axis=0) + right.sum(axis=0), 1)).mean())


def hierarchical(
    results: Results, classifier: ZeroShotClassifier, vectors: np.ndarray, paths: list[tuple[str, ...]]
) -> None:
    """The tree of categories, against the softmax over its leaves."""
    nodes = list(dict.fromkeys(path[:depth] for path in paths for depth in range(1, len(path) + 1)))
    wording = {node: WORDS.get(node[-1], node[-1]) for node in nodes}
    tree = LabelSet(
        "tree",
        parse_labels(
            Label("/".join(node), wording=wording[node], parent="/".join(node[:-1]) or None)
            for node in sorted(nodes, key=len)
        ),
    )
    row_of = {name: row for row, name in enumerate(tree.names)}
    right = np.array([row_of["/".join(path)] for path in paths])
    leaves = tree.hierarchy.leaves
    flat = leaves[classifier.scorer(tree, options=ScoringOptions("multiclass")).scores(vectors).argmax(axis=1)]
    scorer = classifier.scorer(tree)
    deepest = leaves[scorer.scores(vectors)[:, leaves].argmax(axis=1)]
    images, chosen, _ = scorer.choose(vectors)
    answers = np.full(len(vectors), -1)
    answers[images] = chosen
    error = {
        name: float(np.mean([tree.hierarchy.distance(int(a), int(b)) for a, b in zip(rows, right, strict=True)]))
        for name, rows in (("flat", flat), ("leaf", deepest), ("answer", answers))
    }
    above = np.array(
        [a < 0 or int(a) in tree.hierarchy.path(int(b)) for a, b in zip(answers, right, strict=True)], dtype=bool
    )
    what = f"hierarchical, {max(len(path) for path in paths)} levels, {len(leaves)} leaves, {len(paths)} images"
    accuracy = {"flat softmax": float(np.mean(flat == right)), "zeroshot": float(np.mean(deepest == right))}
    results.row(f"{what}: leaf accuracy", "", accuracy)
    steps = {"flat softmax": error["flat"], "zeroshot": error["answer"]}
    results.row(f"{what}: mean steps through the tree from the answer to the right node", "", steps)
    moved = {
        "wrong leaves": int(((flat != right) & above).sum()),
        "right leaves": int(((flat == right) & (answers != right)).sum()),
    }
    results.row(f"{what}: leaves that became a coarser answer which is right", "", moved)


def thousand_labels(results: Results, classifier: ZeroShotClassifier, image: Path) -> None:
    """A stored set of 1,000 labels: adding one, and what an answer costs."""
    names = [label.name for label in load_label_set("imagenet").labels]
    with tempfile.TemporaryDirectory() as home:
        store = LabelSetStore(Path(home))
        store.create(LabelSet("many", parse_labels(names)))
        store.create(LabelSet("few", parse_labels(names[:10])))
        sides = {
            size: lambda size=size: classifier.classify(image, store.get(size), top_k=5) for size in ("few", "many")
        }
        times = interleave(sides, rounds=101, warmup=5, pause_s=0.0)
        sides = {"under 10": times["few"] * 1e3, "under 1,000": times["many"] * 1e3}
        note = f"{times['many'] / times['few']:.3f}x"
        results.row("classify a photo under stored labels", "ms", sides, note=note)
        added = []
        for number in range(11):
            start = time.perf_counter()
            store.add("many", [f"thing number {number}"])
            classifier.class_matrix(store.get("many"))
            added.append(time.perf_counter() - start)
        results.row("adding a label to 1,000: stored on disk, and embedded", "ms", {"zeroshot": median(added) * 1e3})


if __name__ == "__main__":
    main()
