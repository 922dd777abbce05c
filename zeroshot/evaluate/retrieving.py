"""Retrieval on a dataset with captions."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import Dataset, Problem
from zeroshot.encoders import FloatArray
from zeroshot.errors import DatasetError
from zeroshot.evaluate.describing import dataset_facts, model_facts, run_facts
from zeroshot.evaluate.evaluation import Evaluation
from zeroshot.evaluate.retrieval import measure_retrieval
from zeroshot.evaluate.tally import Result
from zeroshot.evaluate.vectors import VectorStore

_TEXTS_AT_ONCE = 256


def retrieve(
    classifier: ZeroShotClassifier,
    dataset: Dataset,
    store: VectorStore,
    *,
    batch_size: int = 16,
    limit: int | None = None,
    on_progress: Callable[[], object] | None = None,
) -> Result:
    """Find pictures by their captions and captions by their pictures.

    All vectors are in memory: 2 KB for each picture and caption at 512 dimensions.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Whose encoder is evaluated.
    dataset : Dataset
        With captions.
    store : VectorStore
        Keeps the pictures' vectors.
    batch_size : int
        Pictures encoded at once.
    limit : int or None
        Most pictures.
    on_progress : callable or None
        Called once per picture.

    Returns
    -------
    Result
        With figures of retrieval alone.

    Raises
    ------
    DatasetError
        If fewer than two pictures could be used.
    """
    start, encoded = time.monotonic(), store.encoded
    problems: list[Problem] = []
    vectors: list[FloatArray] = []
    captions: list[str] = []
    owners: list[int] = []
    samples = islice(dataset.samples(), limit)
    for one in store.stream(samples, classifier.encoder, limits=classifier.limits, batch_size=batch_size):
        if on_progress is not None:
            on_progress()
        if isinstance(one, Problem):
            problems.append(one)
            continue
        sample, vector = one
        if not sample.captions:
            problems.append(Problem(sample.key, "It has no caption."))
            continue
        captions += sample.captions
        owners += [len(vectors)] * len(sample.captions)
        vectors.append(vector)
    if len(vectors) < 2:
        raise DatasetError(
            f"{dataset.name} has {len(vectors)} pictures with captions that can be used.", "Two are the fewest."
        )
    parts = range(0, len(captions), _TEXTS_AT_ONCE)
    texts = [classifier.encoder.encode_texts(captions[part : part + _TEXTS_AT_ONCE]) for part in parts]
    figures = measure_retrieval(np.stack(vectors), np.concatenate(texts), np.array(owners, dtype=np.int64))
    evaluation = Evaluation(
        dataset=dataset_facts(dataset, len(vectors), problems, {}),
        model=model_facts(classifier.encoder),
        run=run_facts(len(vectors) + len(problems), time.monotonic() - start, store.encoded - encoded),
        retrieval=figures,
    )
    return Result(evaluation, (), None, [])
