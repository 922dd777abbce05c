"""Whether an image shows any of the labels: `--unknown`'s rule beside a cut through the highest score.

For numbers of labels k, sixty draws: k classes of the dataset are the labels, images of the other classes show none.
Both sides keep the same share of the images that show a label; what differs is how many of the others get one.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.results import Results
from zeroshot import LabelSet, ZeroShotClassifier, load_encoder
from zeroshot.datasets import open_dataset
from zeroshot.labels import parse_labels
from zeroshot.learning.examples import read_examples
from zeroshot.scoring import ScoringOptions

_DRAWS, _STRANGERS = 60, 100
_COUNTS = (2, 3, 5, 10, 20, 100)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", nargs="+", help="labelled images, as zeroshot evaluate takes them")
    parser.add_argument("--model", default="tiny")
    arguments = parser.parse_args()
    classifier = ZeroShotClassifier(load_encoder(arguments.model))
    results = Results("unknown", ("zeroshot", "onnxruntime", "numpy"))
    for name in arguments.datasets:
        dataset = open_dataset(name)
        label_set = LabelSet("classes", parse_labels(dataset.classes))
        examples = read_examples(dataset, label_set, classifier, exclusive=True)
        truth = examples.single(label_set, label_set.names)
        for count in _COUNTS:
            if 2 * count <= len(dataset.classes):
                kept, named, cut = measure(classifier, dataset.classes, examples.vectors, truth, count)
                what = f"{dataset.name}: {count} of {len(dataset.classes)} classes as labels: others named all the same"
                note = f"{kept:.2f} of those that show a label keep theirs, on both sides"
                results.row(what, "", {"cut through the highest score": cut, "zeroshot --unknown": named}, note=note)
    results.save()


def measure(
    classifier: ZeroShotClassifier, classes: tuple[str, ...], vectors: np.ndarray, truth: np.ndarray, count: int
) -> tuple[float, float, float]:
    """Give the share kept, and of others the shares named by the rule and by a cut that keeps as many."""
    chance = np.random.default_rng(0)
    shown, scores, named = [], [], []
    for _ in range(_DRAWS):
        chosen = chance.choice(len(classes), count, replace=False)
        is_shown = np.isin(truth, chosen)
        others = np.flatnonzero(~is_shown)
        rows = np.r_[np.flatnonzero(is_shown), chance.choice(others, min(_STRANGERS, len(others)), replace=False)]
        scorer = classifier.scorer([classes[one] for one in chosen], options=ScoringOptions(unknown=True))
        found = scorer.scores(vectors[rows])
        shown.append(is_shown[rows])
        scores.append(found.max(axis=1))
        named.append(scorer.decide(found, vectors[rows]).any(axis=1))
    known, highest, answered = (np.concatenate(one) for one in (shown, scores, named))
    kept = float(answered[known].mean())
    cut = np.quantile(highest[known], 1 - kept)
    return kept, float(answered[~known].mean()), float((highest[~known] >= cut).mean())


if __name__ == "__main__":
    main()
