"""A head's candidates: the text, a logistic probe that starts from the text, a Tip-Adapter cache, and their blends.

The probe is softmax regression on frozen features. The class matrix is where its weights begin and what the ridge pulls
them back to, so that with little to learn from little changes (CLIP's own linear probe, Radford et al., ICML 2021,
section 3; starting from the text: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.labels import Head
from zeroshot.labels.head import keep_shares
from zeroshot.optional import require
from zeroshot.scoring import Scores
from zeroshot.statistics import IntArray

SHARES = (0.0, 0.3, 1.0)  # of a propagated label, over a given one

_RIDGES = (3.0, 1.0, 0.3, 0.1)
_BETAS = (3.0, 5.0)
_STRENGTHS = (0.5, 1.0, 2.0)  # of the cache's differences between labels, over those of the text's logits
_SCALED_BY = 1_000  # images that a cache's strength is scaled by
_STEPS = 200
_SMALL = 2**26  # multiplications of a step; where there are fewer, threads cost more than they save


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images whose labels are known, and the text they are known under."""

    matrix: FloatArray
    logit_scale: float
    vectors: FloatArray
    right: IntArray
    weights: Scores

    @property
    def seen(self) -> IntArray:
        """The labels that have images."""
        return np.unique(self.right)

    def text_logits(self, vectors: FloatArray) -> Scores:
        """Give the logits of the text alone."""
        return self.logit_scale * (vectors @ self.matrix.T).astype(np.float64)

    def take(self, rows: IntArray) -> TrainingSet:
        """Keep some of the images."""
        return TrainingSet(self.matrix, self.logit_scale, self.vectors[rows], self.right[rows], self.weights[rows])

    def join(self, other: TrainingSet) -> TrainingSet:
        """Add the images of another training set under the same text."""
        return TrainingSet(
            self.matrix,
            self.logit_scale,
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.right, other.right]),
            np.concatenate([self.weights, other.weights]),
        )


def threads_for(multiplications: int) -> Any:
    """Compute steps of this size in one thread where more would cost more than they save: a context manager."""
    return require("threadpoolctl").threadpool_limits(1 if multiplications < _SMALL else None)


def fit_probe(training: TrainingSet, ridge: float, start: Scores | None = None) -> Scores:
    """Find the correction to the class matrix under which the right labels are likeliest.

    Minimised, with L-BFGS, is the weighted mean of -log softmax(logit_scale x (T + D)')[right] among the labels that
    have images, plus ridge / 2 ||D||^2; D is 0 for the others.
    """
    minimize = require("scipy.optimize").minimize
    scale, seen = training.logit_scale, training.seen
    text = training.text_logits(training.vectors)[:, seen]
    own = np.searchsorted(seen, training.right)
    share = training.weights / training.weights.sum()
    rows = np.arange(len(training.right))
    shape = (len(seen), training.matrix.shape[1])

    def loss(flat: Scores) -> tuple[float, Scores]:
        correction = flat.reshape(shape)
        logits = text + scale * (training.vectors @ correction.T.astype(np.float32))
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        total = chances.sum(axis=1)
        missed = share @ (np.log(total) - logits[rows, own])
        chances /= total[:, None]
        chances[rows, own] -= 1.0
        gradient = (chances * (share * scale)[:, None]).astype(np.float32)
        correction_gradient = (gradient.T @ training.vectors).astype(np.float64) + ridge * correction
        return float(missed + ridge / 2 * (flat @ flat)), correction_gradient.ravel()

    first = np.zeros(shape) if start is None else start[seen]
    with threads_for(training.vectors.size * len(seen)):
        found = minimize(loss, first.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "ftol": 1e-7})
    result = np.zeros(training.matrix.shape)
    result[seen] = found.x.reshape(shape)
    return result


@dataclass(frozen=True)
class Choice:
    """One candidate."""

    ridge: float | None
    beta: float
    strength: float
    share: float = 0.0


class Blender:
    """Logits of every candidate for some images, from parts computed once."""

    def __init__(self, training: TrainingSet, vectors: FloatArray, added: TrainingSet | None) -> None:
        self._text = training.text_logits(vectors)
        self._known = np.isin(np.arange(len(training.matrix)), training.seen)
        self._caches = {beta: _cache(training, beta).logits(vectors, _rows(training)) for beta in _BETAS}
        self._probes: dict[tuple[float, float], Scores] = {}
        for share in SHARES if added is not None else (0.0,):
            joined = training if added is None else _with(training, added, share)
            correction: Scores | None = None
            for ridge in _RIDGES:
                correction = fit_probe(joined, ridge, correction)
                self._probes[ridge, share] = _added(training, correction, vectors)

    def logits(self, choice: Choice) -> Scores:
        """Blend."""
        logits = self._text
        if choice.ridge is not None:
            logits = logits + self._probes[choice.ridge, choice.share]
        if choice.strength:
            logits = logits + choice.strength * self._caches[choice.beta]
        return keep_shares(self._text, logits, self._known)


def candidates(*, with_unlabelled: bool) -> list[Choice]:
    """List what is tried."""

    def all_of() -> Iterator[Choice]:
        for ridge in (None, *_RIDGES):
            for share in SHARES if with_unlabelled and ridge is not None else (0.0,):
                yield Choice(ridge, _BETAS[0], 0.0, share)
                for beta in _BETAS:
                    for strength in _STRENGTHS:
                        yield Choice(ridge, beta, strength, share)

    return list(all_of())


def build_head(
    training: TrainingSet,
    choice: Choice,
    names: Sequence[str],
    *,
    model: str,
    fingerprint: str,
    added: TrainingSet | None = None,
) -> Head:
    """Learn one candidate's head."""
    seen = training.seen
    weights = np.zeros((len(seen), training.matrix.shape[1]), dtype=np.float32)
    if choice.ridge is not None:
        joined = training if added is None else _with(training, added, choice.share)
        correction: Scores | None = None
        for ridge in _RIDGES[: _RIDGES.index(choice.ridge) + 1]:
            correction = fit_probe(joined, ridge, correction)
        if correction is not None:
            weights = (training.logit_scale * correction[seen]).astype(np.float32)
    cache = _cache(training, choice.beta)
    with_cache = choice.strength > 0
    return Head(
        model=model,
        fingerprint=fingerprint,
        labels=tuple(names[row] for row in seen),
        weights=weights,
        keys=training.vectors if with_cache else np.empty((0, weights.shape[1]), np.float32),
        key_labels=np.searchsorted(seen, training.right) if with_cache else np.empty(0, np.int64),
        alpha=choice.strength * cache.alpha if with_cache else 0.0,
        beta=choice.beta if with_cache else 0.0,
        summary=_in_words(choice, len(training.right), 0 if added is None else len(added.right)),
    )


def _cache(training: TrainingSet, beta: float) -> Head:
    """A cache whose logits differ between labels as much as the text's do, each image judged without itself."""
    rows = np.random.default_rng(0).permutation(len(training.right))[:_SCALED_BY]
    near = np.exp(-beta * (1.0 - (training.vectors[rows] @ training.vectors.T).astype(np.float64)))
    near[np.arange(len(rows)), rows] = 0.0
    seen, key_labels = np.unique(training.right, return_inverse=True)
    order = np.argsort(key_labels, kind="stable")
    sums = np.add.reduceat(near[:, order], np.searchsorted(key_labels[order], np.arange(len(seen))), axis=1)
    counts = np.bincount(key_labels) - (key_labels[rows][:, None] == np.arange(len(seen)))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    spread = float(np.nanmean(np.nanstd(means, axis=1)))
    text = float(training.text_logits(training.vectors[rows])[:, seen].std(axis=1).mean())
    width = training.vectors.shape[1]
    return Head(
        model="",
        fingerprint="",
        labels=tuple(str(row) for row in seen),
        weights=np.zeros((len(seen), width), np.float32),
        keys=training.vectors,
        key_labels=key_labels.astype(np.int64),
        alpha=text / spread if spread > 1e-9 else 0.0,
        beta=beta,
    )


def _added(training: TrainingSet, correction: Scores, vectors: FloatArray) -> Scores:
    return training.logit_scale * (vectors @ correction.T.astype(np.float32)).astype(np.float64)


def _rows(training: TrainingSet) -> tuple[str, ...]:
    return tuple(str(row) for row in range(len(training.matrix)))


def _with(training: TrainingSet, added: TrainingSet, share: float) -> TrainingSet:
    if not share:
        return training
    known = added.take(np.flatnonzero(np.isin(added.right, training.seen)))  # a head has no others
    return training.join(replace(known, weights=share * known.weights))


def _in_words(choice: Choice, images: int, added: int) -> str:
    parts = []
    if choice.ridge is not None:
        parts.append(f"logistic probe from the text (ridge {choice.ridge:g})")
    if choice.strength:
        parts.append(f"Tip-Adapter cache (beta {choice.beta:g}, strength {choice.strength:g})")
    more = f" and {added} with propagated labels at {choice.share:g}" if added and choice.share else ""
    return f"{' and '.join(parts) or 'the text alone'}, {images} images{more}"
