"""Why an answer is what it is: which prompts are nearest, what comes next, and where in the image it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.encoders import FloatArray
from zeroshot.images import ImageSource, load
from zeroshot.labels import Label, Labels, LabelSet, Mode, class_matrix
from zeroshot.prompts import Templates, TemplateSet
from zeroshot.scoring import Classification, Scorer, ScoringOptions

_CELLS = 14  # of the heat map, along each side
_REACH = 1  # cells that are hidden beside the one in the middle
_TOP_PROMPTS = 3
_HOT = np.array([220, 30, 30], dtype=np.float32)


@dataclass(frozen=True)
class PromptMatch:
    """One text of a label, and how near the image is to it."""

    prompt: str
    similarity: float


@dataclass(frozen=True)
class LabelReasons:
    """What speaks for one label."""

    label: str
    score: float
    similarity: float
    needed: float
    prompts: tuple[PromptMatch, ...]
    prompt_count: int
    learnt: float | None = None


@dataclass(frozen=True, eq=False)
class HeatMap:
    """How much hiding each part of an image takes from an answer."""

    label: str
    drops: FloatArray
    image: Image.Image

    def overlay(self) -> Image.Image:
        """Lay the map over the image."""
        heat = np.maximum(self.drops, 0.0)
        heat /= max(float(heat.max()), 1e-6)
        size = self.image.size
        shares = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC))[..., None].clip(0, 1)
        grey = np.asarray(self.image.convert("L"), dtype=np.float32)[..., None]
        dimmed = 0.4 * grey + 0.6 * 200
        mixed = dimmed + shares * (np.asarray(self.image, dtype=np.float32) - dimmed)
        return Image.fromarray((mixed + 0.35 * shares * (_HOT - mixed)).clip(0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Explanation:
    """Why one image got its answer.

    Parameters
    ----------
    answer : Classification
        What is explained.
    chosen : tuple of LabelReasons
        The answer's labels; the best guess where the answer is "unknown".
    runner_up : LabelReasons or None
        The likeliest label that is not the answer (in the mode hierarchical: of its siblings); None without one.
    margin : float or None
        The score of the chosen label that is nearest to it (of several, the last) minus the runner-up's.
    heat_map : HeatMap or None
        Where it was asked for.
    """

    answer: Classification
    chosen: tuple[LabelReasons, ...]
    runner_up: LabelReasons | None
    margin: float | None
    heat_map: HeatMap | None = None


def explain(
    classifier: ZeroShotClassifier,
    image: ImageSource,
    labels: Labels | None = None,
    *,
    templates: Templates | None = None,
    top_k: int | None = None,
    mode: Mode | str | None = None,
    threshold: float | None = None,
    temperature: float | None = None,
    unknown: bool = False,
    heat_map: bool = False,
) -> Explanation:
    """Classify an image and say why.

    Parameters
    ----------
    classifier : ZeroShotClassifier
        Answers.
    image : ImageSource
        One image.
    labels : sequence of str or Label, LabelSet, or None
        The classes; the classifier's own when None.
    templates : str, Path, sequence of str, TemplateSet, or None
        See ``ZeroShotClassifier.classify``.
    top_k : int or None
        How many labels the answer holds.
    mode : Mode, str or None
        See ``ZeroShotClassifier.classify``, as for the next two.
    threshold : float or None
        Score, in [0, 1], that a label needs to be the answer.
    temperature : float or None
        Divides the logits.
    unknown : bool
        See ``ZeroShotClassifier.classify``.
    heat_map : bool
        Whether to hide the image's parts one after the other and see what that takes from the first chosen label
        (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014): 196 more encodings.

    Returns
    -------
    Explanation
        With the answer itself.

    Raises
    ------
    InputError
        If the image, the labels or an option cannot be used.

    Examples
    --------
    >>> why = explain(ZeroShotClassifier("tiny"), "examples/photos/cat.jpg", ["cat", "dog", "rocket"])
    >>> why.runner_up.label, why.chosen[0].prompts[0].prompt
    ('dog', 'cat')
    """
    encoder = classifier.encoder
    label_set, template_set = classifier.chosen(labels, templates)
    scorer = classifier.scorer(
        label_set, templates=template_set, options=ScoringOptions(mode, threshold, temperature, unknown)
    )
    pixels = encoder.preprocessing(load(image, classifier.limits, enough=encoder.preprocessing.enough))
    vector = encoder.encode_pixels(pixels[None])[0]
    answer = scorer.answer(vector, top_k)
    similarities = scorer.similarities(vector[None])
    scores = scorer.from_similarities(similarities, vector[None])[0]
    rows = [scorer.names.index(name) for name in answer.labels] or [int(scores.argmax())]
    if answer.mode is Mode.HIERARCHICAL and not answer.labels:
        rows = [_best_of(scorer, scores, -1, without=())]
    reasons = _Reasons(classifier, label_set, template_set, scorer, vector, similarities[0], scores)
    chosen = tuple(reasons.of(row) for row in rows)
    parent = int(scorer.inputs.hierarchy.parents[rows[0]]) if answer.mode is Mode.HIERARCHICAL else None
    next_best = _best_of(scorer, scores, parent, without=rows)
    runner_up = None if next_best < 0 else reasons.of(next_best)
    return Explanation(
        answer,
        chosen,
        runner_up,
        None if runner_up is None else chosen[-1].score - runner_up.score,
        _heat_map(classifier, scorer, rows[0], pixels) if heat_map else None,
    )


def _best_of(scorer: Scorer, scores: np.ndarray, parent: int | None, *, without: Sequence[int]) -> int:
    """The likeliest label; in a tree, the likeliest below `parent`; -1 where there is none."""
    rows = np.arange(len(scores)) if parent is None else np.flatnonzero(scorer.inputs.hierarchy.parents == parent)
    rows = np.setdiff1d(rows, without)
    return int(rows[scores[rows].argmax()]) if len(rows) else -1


@dataclass(frozen=True, eq=False)
class _Reasons:
    classifier: ZeroShotClassifier
    label_set: LabelSet
    templates: TemplateSet
    scorer: Scorer
    vector: FloatArray
    similarities: FloatArray
    scores: np.ndarray

    def of(self, row: int) -> LabelReasons:
        name = self.scorer.names[row]
        own = self.label_set.find(name)  # "not x" is explained by x
        label = self.label_set.labels[self.label_set.hierarchy.leaves[0] if own is None else own]
        prompts = list(dict.fromkeys(label.prompts(self.templates)))
        singles = [Label(prompt, descriptions=(prompt,)) for prompt in prompts]
        cosines = class_matrix(self.classifier.encoder, singles, self.templates, self.classifier.cache) @ self.vector
        return LabelReasons(
            name,
            float(self.scores[row]),
            float(self.similarities[row]),
            float(self.scorer.thresholds[row]),
            tuple(PromptMatch(prompts[i], float(cosines[i])) for i in np.argsort(-cosines)[:_TOP_PROMPTS]),
            len(prompts),
            None if self._added is None else float(self._added[row]),
        )

    @cached_property
    def _added(self) -> np.ndarray | None:
        """What a head adds to each label's logit."""
        inputs = self.scorer.inputs
        if inputs.head is None:
            return None
        text = inputs.logit_scale * self.similarities[None].astype(np.float64)
        return np.asarray((inputs.head.apply(text, self.vector[None], inputs.names) - text)[0])


def _heat_map(classifier: ZeroShotClassifier, scorer: Scorer, row: int, pixels: FloatArray) -> HeatMap:
    """Hide three by three cells around each cell in turn, behind the image's mean colour."""
    height, width = pixels.shape[1:]
    edges = [np.linspace(0, side, _CELLS + 1).round().astype(int) for side in (height, width)]
    colour = pixels.mean(axis=(1, 2), keepdims=True)
    odds = np.empty((_CELLS, _CELLS), dtype=np.float32)
    usual = _log_odds(scorer, classifier.encoder.encode_pixels(pixels[None]), row)[0]
    for y in range(_CELLS):
        hidden = np.repeat(pixels[None], _CELLS, axis=0)
        top, bottom = edges[0][max(0, y - _REACH)], edges[0][min(_CELLS, y + _REACH + 1)]
        for x in range(_CELLS):
            left, right = edges[1][max(0, x - _REACH)], edges[1][min(_CELLS, x + _REACH + 1)]
            hidden[x, :, top:bottom, left:right] = colour
        odds[y] = usual - _log_odds(scorer, classifier.encoder.encode_pixels(hidden), row)
    preprocessing = classifier.encoder.preprocessing
    levels = np.moveaxis(pixels, 0, -1) * np.array(preprocessing.std) + np.array(preprocessing.mean)
    image = Image.fromarray((levels * 255).round().clip(0, 255).astype(np.uint8))
    return HeatMap(scorer.names[row], odds, image)


def _log_odds(scorer: Scorer, vectors: FloatArray, row: int) -> np.ndarray:
    """log(p / (1 - p)) of a label's score, which moves where the score itself is at its end."""
    scores = scorer.scores(vectors)
    rest = np.delete(scores, row, axis=1)
    one_of_many = scorer.mode in (Mode.MULTICLASS, Mode.BINARY) and rest.shape[1] > 0
    against = rest.sum(axis=1) if one_of_many else 1 - scores[:, row]
    return np.asarray(np.log(np.maximum(scores[:, row], 1e-12)) - np.log(np.maximum(against, 1e-12)))
