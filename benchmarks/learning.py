"""What pictures add to the text, measured on a folder with a labels.csv: python -m benchmarks.learning FOLDER

labels.csv is as in benchmarks.labels. Few labelled pictures, few labelled and many unlabelled ones, and none labelled.
Every accuracy is of pictures that nothing was fitted on.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from benchmarks.labels import WORDS
from benchmarks.machine import describe_machine
from zeroshot import LabelSet, ZeroShotClassifier, load_encoder, load_label_set
from zeroshot.encoders.streaming import encode_stream
from zeroshot.labels import parse_labels
from zeroshot.learning.clusters import centroid_head, cluster_pictures, suggest_names
from zeroshot.learning.fitting import fit_head
from zeroshot.learning.probe import Lesson

_AT_LEAST = 8  # pictures of a top-level category
_DRAWS = 20


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="tiny")
    arguments = parser.parse_args()
    with (arguments.folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classifier = ZeroShotClassifier(load_encoder(arguments.model))
    vectors = np.stack(
        [vector for _, vector in encode_stream(classifier.encoder, [arguments.folder / row["file"] for row in rows])]
    )
    print(describe_machine("zeroshot", "onnxruntime", "numpy", "scipy", "scikit-learn", "faiss-cpu"))
    print(f"{len(rows)} pictures, model {classifier.encoder.spec} ({classifier.encoder.fingerprint[:12]})\n")
    few_shot(classifier, vectors, [row["category"].split("/")[0] for row in rows])
    clusters(classifier, vectors, rows)


def few_shot(classifier: ZeroShotClassifier, vectors: np.ndarray, folders: list[str]) -> None:
    """Top-level categories with enough pictures: 1, 2 and 5 labelled per category, 20 draws."""
    counts = Counter(folders)
    known = sorted(folder for folder, count in counts.items() if count >= _AT_LEAST and folder in WORDS)
    inside = [row for row, folder in enumerate(folders) if folder in known]
    vectors, right = vectors[inside], np.array([known.index(folders[row]) for row in inside])
    names = [WORDS[folder] for folder in known]
    encoder = classifier.encoder
    matrix = classifier.class_matrix(names)
    print(f"{len(inside)} pictures, {len(names)} categories; the head that is kept, {_DRAWS} draws")
    for shots in (1, 2, 5):
        found = []
        for draw in range(_DRAWS):
            chance = np.random.default_rng(draw)
            taught = np.concatenate(
                [chance.permutation(np.flatnonzero(right == label))[:shots] for label in range(len(names))]
            )
            rest = chance.permutation(np.setdiff1d(np.arange(len(right)), taught))
            pool, tested = rest[::2], rest[1::2]
            lesson = Lesson(matrix, encoder.logit_scale, vectors[taught], right[taught], np.ones(len(taught)))
            text = lesson.text_logits(vectors)
            line = []
            for unlabelled, asked in ((None, rest), (None, tested), (vectors[pool], tested)):
                fit = fit_head(lesson, names, model="", fingerprint="", unlabelled=unlabelled)
                added = fit.head.logits(vectors[asked], names) if fit.is_gain else 0.0
                line += [
                    (logits.argmax(axis=1) == right[asked]).mean() for logits in (text[asked], text[asked] + added)
                ]
            measured = fit.head.measured
            line.append(np.nan if measured is None else measured.accuracy - measured.zero_shot)
            found.append(line)
        mean = np.mean(found, axis=0)
        print(
            f"  {shots} a category: text {mean[0]:.3f}, fitted {mean[1]:.3f} ({100 * (mean[1] - mean[0]):+.1f} points)"
        )
        print(
            f"    on half of the rest: text {mean[2]:.3f}, fitted {mean[3]:.3f}, "
            f"with the other half unlabelled {mean[5]:.3f}"
        )
        if shots > 1:
            print(f"    gain claimed by its own cross-validation, mean of draws: {100 * mean[6]:+.1f} points")
    print()


def clusters(classifier: ZeroShotClassifier, vectors: np.ndarray, rows: list[dict[str, str]]) -> None:
    """All pictures: how far groups found without labels are the categories, and how many are named rightly."""
    vocabulary = load_label_set("nouns")
    matrix = classifier.class_matrix(vocabulary)
    paths = [row["category"].split("/") for row in rows]
    true = [
        {WORDS.get(folder, folder) for folder in path} | {row["name"].lower()}
        for path, row in zip(paths, rows, strict=True)
    ]
    for title, options in (
        ("k-means, number by silhouette", {}),
        ("k-means, 15", {"count": 15}),
        ("k-means, 42", {"count": 42}),
        ("HDBSCAN", {"method": "hdbscan"}),
    ):
        found = cluster_pictures(vectors, **options)
        inside = found.members >= 0
        agreement = [
            normalized_mutual_info_score(
                np.array(["/".join(path[:depth]) for path in paths])[inside], found.members[inside]
            )
            for depth in (1, 2)
        ]
        suggested = suggest_names(found.centroids, matrix, vocabulary.names)
        named = [
            [np.mean([word in true[row] for row in np.flatnonzero(found.members == number)]) > 0.5 for word in words]
            for number, words in enumerate(suggested)
        ]
        first, any_of_five = np.mean([row[0] for row in named]), np.mean([any(row) for row in named])
        print(
            f"{title}: {len(found.centroids)} clusters, {inside.mean():.0%} of the pictures\n"
            f"  NMI {agreement[0]:.3f} with top-level folders, {agreement[1]:.3f} with two levels\n"
            f"  name right for {first:.0%}, one of five right for {any_of_five:.0%}"
        )
        head = centroid_head(found, vectors, matrix, classifier.encoder.logit_scale, model="", fingerprint="f")
        for what, words in (
            ("suggested", [words[0] for words in suggested]),
            ("meaningless", _numbers(len(suggested))),
        ):
            labels = list(dict.fromkeys(words))
            owners = np.array([labels.index(word) for word in words])
            if len(labels) < 2:
                continue
            label_set = LabelSet("clusters", parse_labels(labels))
            fitted = replace(
                head, fingerprint=classifier.encoder.fingerprint, labels=tuple(labels), owners=owners,
                weights=head.weights[: len(labels)],
            )  # fmt: skip
            scorer = classifier.scorer(replace(label_set, heads=(fitted,)))
            same = scorer.scores(vectors[inside]).argmax(axis=1) == owners[found.members[inside]]
            print(f"  under {what} names {same.mean():.1%} are classified as their own cluster")


def _numbers(count: int) -> list[str]:
    return [f"batch {number}" for number in range(count)]


if __name__ == "__main__":
    main()
