"""From a dataset and candidate texts to a template set or a label set that was chosen on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.errors import DatasetError, OptionError
from zeroshot.evaluate.prompt_search import (
    Gain,
    Parts,
    mean_matrix,
    measure_gain,
    select_descriptions,
    select_templates,
    split,
)
from zeroshot.evaluate.records import IntArray
from zeroshot.evaluate.running import Run
from zeroshot.labels import LabelSet, class_matrix
from zeroshot.prompts import TemplateSet, load_templates


@dataclass(frozen=True, eq=False)
class Material:
    """A dataset's pictures as vectors, in two parts."""

    vectors: FloatArray
    right: IntArray
    parts: Parts
    unusable: int


@dataclass(frozen=True)
class Tuned:
    """What was chosen."""

    templates: TemplateSet | None
    label_set: LabelSet | None
    baseline: TemplateSet
    gain: Gain


def gather(run: Run, *, share: float, seed: int, on_progress: Callable[[], object] | None = None) -> Material:
    """Embed a dataset and split it."""
    vectors, right, unusable = [], [], 0
    for one in run.answers(on_progress):
        rows = [] if not isinstance(one, tuple) else [run.label_set.find(label) for label in one[0].labels]
        if isinstance(one, tuple) and len(rows) == 1 and rows[0] is not None:
            vectors.append(one[1])
            right.append(rows[0])
        else:
            unusable += 1
    if not vectors:
        raise DatasetError(f"{run.dataset.name} has no picture with one label of {run.label_set.name}.", "Check both.")
    found = np.array(right, dtype=np.int64)
    return Material(np.stack(vectors), found, split(found, share=share, seed=seed), unusable)


def tune_templates(run: Run, material: Material, candidates: Sequence[str], *, most: int) -> Tuned:
    """Choose templates."""
    encoder, cache, labels = run.classifier.encoder, run.classifier.cache, _bare(run.label_set).labels
    embedded = np.stack([class_matrix(encoder, labels, load_templates(one), cache) for one in candidates])
    rows = material.parts.validation
    chosen = select_templates(
        embedded, material.vectors[rows], material.right[rows], logit_scale=encoder.logit_scale, most=most
    )
    before = class_matrix(encoder, labels, run.template_set, cache)
    gain = measure_gain(before, mean_matrix(embedded[chosen]), material.vectors, material.right, material.parts)
    templates = TemplateSet("tuned", tuple(candidates[one] for one in chosen))
    return Tuned(templates, None, run.template_set, gain)


def tune_descriptions(run: Run, material: Material) -> Tuned:
    """Choose descriptions."""
    label_set = run.label_set
    if not any(label.descriptions for label in label_set.labels):
        raise OptionError(f"No label of {label_set.name} has a description.", "Give --label-set one whose labels have.")
    encoder, cache = run.classifier.encoder, run.classifier.cache
    before = class_matrix(encoder, _bare(label_set).labels, run.template_set, cache)
    texts = [text for label in label_set.labels for text in label.descriptions]
    ends = np.cumsum([len(label.descriptions) for label in label_set.labels])
    embedded = np.split(encoder.encode_texts(texts), ends[:-1])
    rows = material.parts.validation
    chosen = select_descriptions(
        before, embedded, material.vectors[rows], material.right[rows], logit_scale=encoder.logit_scale
    )
    labels = tuple(
        replace(label, descriptions=tuple(label.descriptions[row] for row in kept))
        for label, kept in zip(label_set.labels, chosen, strict=True)
    )
    tuned = replace(label_set, labels=labels, calibrations=(), heads=(), version=None)  # those suit other texts
    after = class_matrix(encoder, labels, run.template_set, cache)
    gain = measure_gain(before, after, material.vectors, material.right, material.parts)
    return Tuned(None, tuned, run.template_set, gain)


def _bare(label_set: LabelSet) -> LabelSet:
    """The set with its labels' names alone."""
    return replace(label_set, labels=tuple(replace(label, descriptions=()) for label in label_set.labels))
