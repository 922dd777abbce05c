"""The candidates among heads: the text, a logistic probe, a Tip-Adapter cache, and their blends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.labels import Head
from zeroshot.learning.probe import Lesson, fit_probe
from zeroshot.scoring import Scores

SHARES = (0.0, 0.3, 1.0)  # of a propagated label, over a given one

_RIDGES = (3.0, 1.0, 0.3, 0.1)
_BETAS = (3.0, 5.0)
_STRENGTHS = (0.5, 1.0, 2.0)  # of the cache's differences between labels, over those of the text's logits
_SCALED_BY = 1_000  # pictures that a cache's strength is scaled by


@dataclass(frozen=True)
class Choice:
    """One candidate."""

    ridge: float | None
    beta: float
    strength: float
    share: float = 0.0


class Blender:
    """Logits of every candidate for some pictures, from parts computed once."""

    def __init__(self, lesson: Lesson, vectors: FloatArray, added: Lesson | None) -> None:
        self._lesson, self._vectors = lesson, vectors
        self._text = lesson.text_logits(vectors)
        self._caches = {beta: _cache(lesson, beta).logits(vectors, _rows(lesson)) for beta in _BETAS}
        self._probes: dict[tuple[float, float], Scores] = {}
        for share in SHARES if added is not None else (0.0,):
            taught = lesson if added is None else _with(lesson, added, share)
            correction: Scores | None = None
            for ridge in _RIDGES:
                correction = fit_probe(taught, ridge, correction)
                self._probes[ridge, share] = _added(lesson, correction, vectors)

    def logits(self, choice: Choice) -> Scores:
        """Blend."""
        logits = self._text
        if choice.ridge is not None:
            logits = logits + self._probes[choice.ridge, choice.share]
        if choice.strength:
            logits = logits + choice.strength * self._caches[choice.beta]
        return logits


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
    lesson: Lesson, choice: Choice, names: Sequence[str], *, model: str, fingerprint: str, added: Lesson | None = None
) -> Head:
    """Learn one candidate's head."""
    seen = lesson.seen
    weights = np.zeros((len(seen), lesson.matrix.shape[1]), dtype=np.float32)
    if choice.ridge is not None:
        taught = lesson if added is None else _with(lesson, added, choice.share)
        correction: Scores | None = None
        for ridge in _RIDGES[: _RIDGES.index(choice.ridge) + 1]:
            correction = fit_probe(taught, ridge, correction)
        if correction is not None:
            weights = (lesson.logit_scale * correction[seen]).astype(np.float32)
    cache = _cache(lesson, choice.beta)
    with_cache = choice.strength > 0
    return Head(
        model=model,
        fingerprint=fingerprint,
        labels=tuple(names[row] for row in seen),
        weights=weights,
        keys=lesson.vectors if with_cache else np.empty((0, weights.shape[1]), np.float32),
        owners=np.searchsorted(seen, lesson.right) if with_cache else np.empty(0, np.int64),
        alpha=choice.strength * cache.alpha if with_cache else 0.0,
        beta=choice.beta if with_cache else 0.0,
        made_of=_in_words(choice, len(lesson.right), 0 if added is None else len(added.right)),
    )


def _cache(lesson: Lesson, beta: float) -> Head:
    """A cache whose logits differ between labels as much as the text's do, each picture judged without itself."""
    rows = np.random.default_rng(0).permutation(len(lesson.right))[:_SCALED_BY]
    near = np.exp(-beta * (1.0 - (lesson.vectors[rows] @ lesson.vectors.T).astype(np.float64)))
    near[np.arange(len(rows)), rows] = 0.0
    seen, owners = np.unique(lesson.right, return_inverse=True)
    order = np.argsort(owners, kind="stable")
    sums = np.add.reduceat(near[:, order], np.searchsorted(owners[order], np.arange(len(seen))), axis=1)
    counts = np.bincount(owners) - (owners[rows][:, None] == np.arange(len(seen)))
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    spread = float(np.nanmean(np.nanstd(means, axis=1)))
    text = float(lesson.text_logits(lesson.vectors[rows])[:, seen].std(axis=1).mean())
    width = lesson.vectors.shape[1]
    return Head(
        model="",
        fingerprint="",
        labels=tuple(str(row) for row in seen),
        weights=np.zeros((len(seen), width), np.float32),
        keys=lesson.vectors,
        owners=owners.astype(np.int64),
        alpha=text / spread if spread > 1e-9 else 0.0,
        beta=beta,
    )


def _added(lesson: Lesson, correction: Scores, vectors: FloatArray) -> Scores:
    return lesson.logit_scale * (vectors @ correction.T.astype(np.float32)).astype(np.float64)


def _rows(lesson: Lesson) -> tuple[str, ...]:
    return tuple(str(row) for row in range(len(lesson.matrix)))


def _with(lesson: Lesson, added: Lesson, share: float) -> Lesson:
    if not share:
        return lesson
    return lesson.join(replace(added, weights=share * added.weights))


def _in_words(choice: Choice, pictures: int, added: int) -> str:
    parts = []
    if choice.ridge is not None:
        parts.append(f"logistic probe from the text (ridge {choice.ridge:g})")
    if choice.strength:
        parts.append(f"Tip-Adapter cache (beta {choice.beta:g}, strength {choice.strength:g})")
    more = f" and {added} with propagated labels at {choice.share:g}" if added and choice.share else ""
    return f"{' and '.join(parts) or 'the text alone'}, {pictures} pictures{more}"
