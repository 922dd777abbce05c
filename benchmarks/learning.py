"""What images add to the text, measured on a folder with a labels.csv.

labels.csv is as in benchmarks.labels. Few labelled images, few labelled and many unlabelled ones, and none labelled.
Every accuracy is of images that nothing was fitted on.
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
from benchmarks.results import Results
from zeroshot import LabelSet, ZeroShotClassifier, load_encoder, load_label_set
from zeroshot.encoders.streaming import encode_stream
from zeroshot.labels import parse_labels
from zeroshot.learning.cluster import centroid_head, cluster_images, suggest_names
from zeroshot.learning.fit import fit_head
from zeroshot.learning.probe import TrainingSet

_AT_LEAST = 8  # images of a top-level category
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
    results = Results("learning", ("zeroshot", "onnxruntime", "numpy", "scipy", "scikit-learn", "faiss-cpu"))
    print(f"{len(rows)} images, model {classifier.encoder.spec} ({classifier.encoder.fingerprint[:12]})\n")
    few_shot(results, classifier, vectors, [row["category"].split("/")[0] for row in rows])
    clusters(results, classifier, vectors, rows)
    results.save()


def few_shot(results: Results, classifier: ZeroShotClassifier, vectors: np.ndarray, folders: list[str]) -> None:
    """Top-level categories with enough images: 1, 2 and 5 labelled per category, 20 draws."""
    counts = Counter(folders)
    known = sorted(folder for folder, count in counts.items() if count >= _AT_LEAST and folder in WORDS)
    inside = [row for row, folder in enumerate(folders) if folder in known]
    vectors, right = vectors[inside], np.array([known.index(folders[row]) for row in inside])
    names = [WORDS[folder] for folder in known]
    encoder = classifier.encoder
    matrix = classifier.class_matrix(names)
    for shots in (1, 2, 5):
        found = []
        for draw in range(_DRAWS):
            chance = np.random.default_rng(draw)
            taught = np.concatenate(
                [chance.permutation(np.flatnonzero(right == label))[:shots] for label in range(len(names))]
            )
            rest = chance.permutation(np.setdiff1d(np.arange(len(right)), taught))
            pool, tested = rest[::2], rest[1::2]
            training = TrainingSet(matrix, encoder.logit_scale, vectors[taught], right[taught], np.ones(len(taught)))
            text = training.text_logits(vectors)
            line = []
            for unlabelled, asked in ((None, rest), (None, tested), (vectors[pool], tested)):
                fit = fit_head(training, names, model="", fingerprint="", unlabelled=unlabelled)
                added = fit.head.logits(vectors[asked], names) if fit.is_gain else 0.0
                line += [
                    (logits.argmax(axis=1) == right[asked]).mean() for logits in (text[asked], text[asked] + added)
                ]
            measured = fit.head.measured
            line.append(np.nan if measured is None else measured.accuracy - measured.zero_shot)
            found.append(line)
        mean = [float(one) for one in np.mean(found, axis=0)]
        what = f"{shots} labelled in each of {len(names)} categories, {len(inside)} images: accuracy on the others"
        note = f"{100 * (mean[1] - mean[0]):+.1f} points, mean of {_DRAWS} draws"
        if shots > 1:
            note += f"; its own cross-validation claims {100 * mean[6]:+.1f}"
        results.row(what, "", {"text alone": mean[0], "fitted": mean[1]}, note=note)
        sides = {"text alone": mean[2], "fitted": mean[3], "and the rest as unlabelled images": mean[5]}
        results.row(f"{shots} labelled: accuracy on half of the others", "", sides)


def clusters(results: Results, classifier: ZeroShotClassifier, vectors: np.ndarray, rows: list[dict[str, str]]) -> None:
    """All images: how far groups found without labels are the categories, and how many are named rightly."""
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
        found = cluster_images(vectors, **options)
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
        what = f"{title}: {len(found.centroids)} groups of {inside.mean():.0%} of {len(vectors)} images"
        shared = {"with top-level folders": float(agreement[0]), "with two levels": float(agreement[1])}
        results.row(f"{what}: normalised mutual information", "", shared)
        shares = {"the first": float(first), "one of five": float(any_of_five)}
        results.row(f"{title}: share of groups whose suggested name is right", "", shares)
        kept: dict[str, float] = {}
        head = centroid_head(found, vectors, matrix, classifier.encoder.logit_scale, model="", fingerprint="f")
        for words_are, words in (
            ("suggested", [words[0] for words in suggested]),
            ("meaningless", _numbers(len(suggested))),
        ):
            labels = list(dict.fromkeys(words))
            owners = np.array([labels.index(word) for word in words])
            if len(labels) < 2:
                continue
            label_set = LabelSet("clusters", parse_labels(labels))
            fitted = replace(
                head, fingerprint=classifier.encoder.fingerprint, labels=tuple(labels), key_labels=owners,
                weights=head.weights[: len(labels)],
            )  # fmt: skip
            scorer = classifier.scorer(replace(label_set, heads=(fitted,)))
            same = scorer.scores(vectors[inside]).argmax(axis=1) == owners[found.members[inside]]
            kept[f"under {words_are} names"] = float(same.mean())
        results.row(f"{title}: as a label set, images classified as their own group", "", kept)


def _numbers(count: int) -> list[str]:
    return [f"batch {number}" for number in range(count)]


if __name__ == "__main__":
    main()
