"""Templates and descriptions chosen on one part of a dataset, and what they gain on another, held out from the choice.

What makes the right labels of the validation part likelier is added, one text at a time, as long as that helps (greedy
forward selection, as Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004, do with models). All
texts are embedded once; a choice of them is a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.errors import DatasetError, OptionError
from zeroshot.evaluate.records import rank
from zeroshot.evaluate.run import Run
from zeroshot.labels import Label, LabelSet, class_matrix
from zeroshot.labels.exporting import export_label_set, to_yaml
from zeroshot.learning.calibrate import fit_temperature
from zeroshot.output import write_new_files
from zeroshot.prompts import TemplateSet, load_templates
from zeroshot.scoring import Scores, softmax
from zeroshot.statistics import BoolArray, IntArray, interval_of_mean, log_likelihoods

MIN_IMAGES = 20  # of each part
_MAX_LOGITS = 2 * 10**8  # that are kept at once, in single precision
_MIN_GAIN = 1e-4  # nats per image


@dataclass(frozen=True, eq=False)
class Parts:
    """Two parts of some images, with every label in the same shares."""

    validation: IntArray
    held_out: IntArray


@dataclass(frozen=True)
class Gain:
    """Accuracy before and after on both parts, and the 95 % interval of the difference on the part held out."""

    validation: tuple[float, float]
    held_out: tuple[float, float]
    low: float
    high: float
    images: tuple[int, int]

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the gain on the part held out is more than chance."""
        return self.low > 0


@dataclass(frozen=True, eq=False)
class Embedded:
    """A dataset's images as vectors, each with the column of its label, in two parts."""

    vectors: FloatArray
    right: IntArray
    parts: Parts
    unusable: int


@dataclass(frozen=True)
class Tuned:
    """What was chosen: templates, or a label set with descriptions."""

    templates: TemplateSet | None
    label_set: LabelSet | None
    baseline: TemplateSet
    gain: Gain

    def write(self, output: Path, dataset: str) -> None:
        """Write a template set, which says what it was chosen on, or a label set."""
        if self.label_set is not None:
            export_label_set(self.label_set, output)
        if self.templates is not None:
            (before, after), gain = self.gain.held_out, self.gain
            description = (
                f"Chosen on {gain.images[0]} images of {dataset}; on {gain.images[1]} others accuracy went from "
                f"{before:.4f} to {after:.4f} (95 % of the gain: {gain.low:+.4f} to {gain.high:+.4f})."
            )
            content = {"name": output.stem, "description": description, "templates": list(self.templates.templates)}
            write_new_files({output: to_yaml(content).encode()})


def embed_dataset(
    run: Run, *, validation_fraction: float, seed: int, on_progress: Callable[[], object] | None = None
) -> Embedded:
    """Embed a dataset and split it; of a tree of labels the leaves are its classes."""
    vectors, right, unusable = [], [], 0
    for one in run.embed(on_progress):
        if isinstance(one, tuple) and (column := run.column(one[0])) is not None:
            vectors.append(one[1])
            right.append(column)
        else:
            unusable += 1
    if not vectors:
        raise DatasetError(
            f"{run.dataset.name} has no image with one label of {run.label_set.name}.",
            f"The labels are {', '.join(run.scorer.names[:5])}...; give --label-set, or aliases.",
        )
    found = np.array(right, dtype=np.int64)
    return Embedded(
        np.stack(vectors), found, split(found, validation_fraction=validation_fraction, seed=seed), unusable
    )


def tune_templates(run: Run, embedded: Embedded, candidates: Sequence[str], *, max_templates: int) -> Tuned:
    """Choose templates."""
    labels = [replace(label, descriptions=()) for label in _classes(run)]
    rows = embedded.parts.validation
    chosen = select_templates(
        np.stack([_matrix(run, labels, load_templates(one)) for one in candidates]),
        embedded.vectors[rows],
        embedded.right[rows],
        logit_scale=run.classifier.encoder.logit_scale,
        max_templates=max_templates,
    )
    templates = TemplateSet("tuned", tuple(candidates[one] for one in chosen))
    before, after = (_matrix(run, labels, one) for one in (run.template_set, templates))
    return Tuned(templates, None, run.template_set, _measure(run, embedded, before, after))


def tune_descriptions(run: Run, embedded: Embedded) -> Tuned:
    """Choose descriptions."""
    label_set, labels = run.label_set, _classes(run)
    texts = [text for label in labels for text in label.descriptions]
    if not texts:
        raise OptionError(f"No label of {label_set.name} has a description.", "Give --label-set one whose labels have.")
    encoder = run.classifier.encoder
    before = _matrix(run, [replace(label, descriptions=()) for label in labels], run.template_set)
    ends = np.cumsum([len(label.descriptions) for label in labels])
    rows = embedded.parts.validation
    chosen = select_descriptions(
        before,
        np.split(encoder.encode_texts(texts), ends[:-1]),
        embedded.vectors[rows],
        embedded.right[rows],
        logit_scale=encoder.logit_scale,
    )
    kept = {
        label.name: replace(label, descriptions=tuple(label.descriptions[row] for row in rows))
        for label, rows in zip(labels, chosen, strict=True)
    }
    after = _matrix(run, list(kept.values()), run.template_set)
    tuned = replace(  # without what was fitted to other texts
        label_set,
        labels=tuple(kept.get(label.name, label) for label in label_set.labels),
        calibrations=(),
        heads=(),
        version=None,
    )
    return Tuned(None, tuned, run.template_set, _measure(run, embedded, before, after))


def split(right: IntArray, *, validation_fraction: float = 0.5, seed: int = 0) -> Parts:
    """Split images, label by label."""
    if not 0 < validation_fraction < 1:
        raise OptionError(
            f"The fraction to choose on is {validation_fraction}.",
            "Use a number between 0 and 1, such as 0.5.",
            field="validation_fraction",
        )
    chance = np.random.default_rng(seed)
    parts: tuple[list[int], list[int]] = ([], [])
    for label in np.unique(right):
        rows = chance.permutation(np.flatnonzero(right == label))
        cut = round(validation_fraction * len(rows))
        parts[0].extend(rows[:cut].tolist())
        parts[1].extend(rows[cut:].tolist())
    validation, held_out = (np.sort(np.array(part, dtype=np.int64)) for part in parts)
    if min(len(validation), len(held_out)) < MIN_IMAGES:
        raise DatasetError(
            f"The parts have {len(validation)} and {len(held_out)} images.",
            f"Give a dataset, and a fraction, that leave {MIN_IMAGES} to each.",
        )
    return Parts(validation, held_out)


def select_templates(
    embedded: FloatArray, vectors: FloatArray, right: IntArray, *, logit_scale: float, max_templates: int = 8
) -> list[int]:
    """Choose templates: those of (t, k, dim) class matrices under whose mean the right labels are likeliest."""
    room = max(MIN_IMAGES, _MAX_LOGITS // (embedded.shape[0] * embedded.shape[1]))
    if len(vectors) > room:
        every = slice(0, None, -(-len(vectors) // room))
        vectors, right = vectors[every], right[every]
    logits = [(logit_scale * (vectors @ matrix.T)).astype(np.float32) for matrix in embedded]
    chosen: list[int] = []
    best = -np.inf
    while len(chosen) < min(max_templates, len(embedded)):
        trials = {}
        for one in set(range(len(embedded))) - set(chosen):
            trials[one] = _best_likelihood(_mean_logits(embedded, [*chosen, one], logits), right)
        winner = max(trials, key=lambda one: (trials[one], -one))
        if trials[winner] <= best + _MIN_GAIN:
            break
        chosen.append(winner)
        best = trials[winner]
    return chosen


def select_descriptions(
    baseline: FloatArray,
    embedded: Sequence[FloatArray],
    vectors: FloatArray,
    right: IntArray,
    *,
    logit_scale: float,
) -> list[list[int]]:
    """Choose, label by label, which descriptions take the templates' place, if any."""
    logits = logit_scale * (vectors @ baseline.astype(np.float64).T)
    temperature = fit_temperature(logits, right) if len(np.unique(right)) > 1 else 1.0
    best = _likelihood(logits, right, temperature)
    result: list[list[int]] = []
    for label, rows in enumerate(embedded):
        chosen: list[int] = []
        while len(chosen) < len(rows):
            trials = {}
            for one in set(range(len(rows))) - set(chosen):
                mean = rows[[*chosen, one]].mean(axis=0)
                column = logit_scale * (vectors @ (mean / np.linalg.norm(mean)))
                tried = logits.copy()
                tried[:, label] = column
                trials[one] = _likelihood(tried, right, temperature), column
            winner = max(trials, key=lambda one: (trials[one][0], -one))
            if trials[winner][0] <= best + _MIN_GAIN:
                break
            chosen.append(winner)
            best, logits[:, label] = trials[winner]
        result.append(sorted(chosen))
    return result


def measure_gain(before: BoolArray, after: BoolArray, parts: Parts) -> Gain:
    """Compare which images were right before and after."""
    gains = after[parts.held_out].astype(np.float64) - before[parts.held_out]
    low, high = interval_of_mean(gains)
    validation, held_out = (
        (float(before[rows].mean()), float(after[rows].mean())) for rows in (parts.validation, parts.held_out)
    )
    return Gain(validation, held_out, low, high, (len(parts.validation), len(parts.held_out)))


def _classes(run: Run) -> list[Label]:
    """The labels of the scorer's columns."""
    known = dict(zip(run.label_set.names, run.label_set.labels, strict=True))
    return [known[name] for name in run.scorer.names]


def _matrix(run: Run, labels: Sequence[Label], templates: TemplateSet) -> FloatArray:
    return class_matrix(run.classifier.encoder, labels, templates, run.classifier.cache)


def _measure(run: Run, embedded: Embedded, *matrices: FloatArray) -> Gain:
    hits = []
    for matrix in matrices:
        scorer = type(run.scorer)(replace(run.scorer.inputs, matrix=matrix, head=None))  # a head suits other texts
        scores = scorer.scores(embedded.vectors)
        hits.append(rank(scores, scorer.decide(scores, embedded.vectors))[:, 0] == embedded.right)
    return measure_gain(hits[0], hits[1], embedded.parts)


def _best_likelihood(logits: Scores, right: IntArray) -> float:
    """Mean log-likelihood at the temperature that suits it, so that texts are not chosen for being bold."""
    return _likelihood(logits, right, fit_temperature(logits, right)) if len(np.unique(right)) > 1 else 0.0


def _likelihood(logits: Scores, right: IntArray, temperature: float) -> float:
    chances = softmax(logits / temperature)[np.arange(len(right)), right]
    return float(log_likelihoods(chances).mean())


def _mean_logits(embedded: FloatArray, chosen: Sequence[int], logits: Sequence[FloatArray]) -> Scores:
    """Logits under the normalised mean of the chosen templates' embeddings, from products made once."""
    norms = np.linalg.norm(embedded[list(chosen)].mean(axis=0), axis=1)
    total = np.sum([logits[one] for one in chosen], axis=0, dtype=np.float64)
    return np.asarray(total / len(chosen) / np.maximum(norms, 1e-9))
