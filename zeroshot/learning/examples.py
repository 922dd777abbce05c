"""Images as vectors: those of a dataset with what is right of each, or images without labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import Dataset, Problem, Sample
from zeroshot.encoders import FloatArray
from zeroshot.encoders.streaming import encode_stream
from zeroshot.errors import ImageError, LearningError, quote
from zeroshot.images import ImageSource
from zeroshot.images.loading import describe
from zeroshot.labels import Calibration, Head, LabelSet
from zeroshot.statistics import BoolArray, IntArray

Progress = Callable[[], object]


@dataclass(frozen=True, eq=False)
class Examples:
    """n images whose labels are known: `right` is (n, k) for the k labels of a set, `vectors` (n, dim)."""

    keys: tuple[str, ...]
    right: BoolArray
    vectors: FloatArray
    problems: tuple[Problem, ...]

    def single(self, label_set: LabelSet, names: Sequence[str]) -> IntArray:
        """Give each image's one label, where labels exclude each other."""
        right = self.right[:, [label_set.names.index(name) for name in names]]
        wrong = np.flatnonzero(right.sum(axis=1) != 1)
        if len(wrong):
            has = [label_set.names[row] for row in np.flatnonzero(self.right[wrong[0]])]
            raise LearningError(
                f"{self.keys[wrong[0]]} has the labels {', '.join(map(quote, has))}.",
                "Where labels exclude each other, give an image one label, and none that is another's parent.",
            )
        return np.asarray(right.argmax(axis=1), dtype=np.int64)


def read_examples(
    dataset: Dataset,
    label_set: LabelSet,
    classifier: ZeroShotClassifier,
    *,
    exclusive: bool,
    limit: int | None = None,
    on_progress: Progress = lambda: None,
) -> Examples:
    """Read and embed labelled images; where labels are exclusive, one that has none is a problem."""
    classes = [name for name in dataset.classes if name not in set(dataset.empty_classes)]
    if unknown := sorted(name for name in classes if label_set.find(name) is None):
        raise LearningError(
            f"{dataset.name} has labels that {label_set.name} has not: {', '.join(map(quote, unknown[:5]))}.",
            f"Add them, or add them as aliases, to its labels {', '.join(map(quote, label_set.names[:8]))}...",
        )
    problems: list[Problem] = []
    reading: deque[Sample] = deque()

    def sources() -> Iterator[ImageSource]:
        for one in islice(dataset.samples(), limit):
            if isinstance(one, Sample) and (one.labels or not exclusive):
                reading.append(one)
                yield one.source
            else:
                problems.append(Problem(one.key, "It has no label.") if isinstance(one, Sample) else one)
                on_progress()

    keys, rows, vectors = [], [], []
    for _, outcome in encode_stream(classifier.encoder, sources(), limits=classifier.limits):
        sample = reading.popleft()
        on_progress()
        if isinstance(outcome, ImageError):
            problems.append(Problem(sample.key, str(outcome)))
            continue
        keys.append(sample.key)
        has = {label_set.find(label) for label in sample.labels}
        rows.append(np.array([row in has for row in range(len(label_set.labels))]))
        vectors.append(outcome)
    if not keys:
        raise LearningError(*_none_usable(f"{dataset.name} has no image that can be used", problems))
    return Examples(tuple(keys), np.stack(rows), np.stack(vectors), tuple(problems))


def embed_images(
    images: Iterable[ImageSource | ImageError], classifier: ZeroShotClassifier, on_progress: Progress = lambda: None
) -> tuple[list[int], FloatArray, tuple[Problem, ...]]:
    """Embed images without labels; give the positions of those that could be used, their vectors, and the problems."""
    used, vectors, problems = [], [], []
    for number, (source, outcome) in enumerate(encode_stream(classifier.encoder, images, limits=classifier.limits)):
        on_progress()
        if isinstance(outcome, ImageError):
            problems.append(Problem(describe(source), str(outcome)))
        else:
            used.append(number)
            vectors.append(outcome)
    if not used:
        raise LearningError(*_none_usable("There is no image that can be used", problems))
    return used, np.stack(vectors), tuple(problems)


def check_unseen(examples: Examples, head: Head, fitted: Calibration | None, name: str) -> None:
    """Refuse to calibrate a head on the images that it was fitted on: it is surer of them than of any other."""
    copies = int(((examples.vectors @ head.keys.T) > 1 - 1e-5).any(axis=1).sum()) if len(head.keys) else 0
    same = fitted is not None and (fitted.fitted_on, fitted.images) == (name, len(examples.keys))
    if copies or same:
        raise LearningError(
            f"The set's head was fitted on {copies or len(examples.keys)} of these images and is too sure of them.",
            "Give others; 'zeroshot fit' has fitted the temperature already, on images left out.",
        )


def _none_usable(what: str, problems: Sequence[Problem]) -> tuple[str, str]:
    """Message and remedy: the reason of the first says what to do."""
    return (f"{what}: {problems[0].reason}", "") if problems else (f"{what}: it is empty.", "Give images.")
