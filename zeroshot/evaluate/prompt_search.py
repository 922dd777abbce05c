"""Templates and descriptions chosen on one part of a dataset, and what they gain on another that had no say.

What makes the right labels of the validation part likelier is added, one text at a time, as long as that helps (greedy
forward selection, as Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004, do with models). All
texts are embedded once; a choice of them is a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zeroshot.encoders import FloatArray
from zeroshot.errors import DatasetError, OptionError
from zeroshot.evaluate.bootstrap import interval_of_mean
from zeroshot.evaluate.records import IntArray
from zeroshot.learning.calibrate import fit_temperature
from zeroshot.scoring import Scores, softmax

LEAST = 20  # pictures of each part
_ROOM = 2 * 10**8  # logits that are kept at once, in single precision
_HELPS = 1e-4  # nats per picture


@dataclass(frozen=True, eq=False)
class Parts:
    """Two parts of some pictures, with every label in the same shares."""

    validation: IntArray
    held_out: IntArray


@dataclass(frozen=True)
class Gain:
    """What one class matrix gains over another."""

    validation: tuple[float, float]
    held_out: tuple[float, float]
    low: float
    high: float
    pictures: tuple[int, int]

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the gain on the part that had no say is more than chance."""
        return self.low > 0


def split(right: IntArray, *, share: float = 0.5, seed: int = 0) -> Parts:
    """Split pictures."""
    if not 0 < share < 1:
        raise OptionError(f"share is {share}.", "Use a number between 0 and 1.", field="share")
    chance = np.random.default_rng(seed)
    parts: tuple[list[int], list[int]] = ([], [])
    for label in np.unique(right):
        rows = chance.permutation(np.flatnonzero(right == label))
        cut = round(share * len(rows))
        parts[0].extend(rows[:cut].tolist())
        parts[1].extend(rows[cut:].tolist())
    validation, held_out = (np.sort(np.array(part, dtype=np.int64)) for part in parts)
    if min(len(validation), len(held_out)) < LEAST:
        raise DatasetError(
            f"The parts have {len(validation)} and {len(held_out)} pictures.", f"{LEAST} of each are the fewest."
        )
    return Parts(validation, held_out)


def select_templates(
    embedded: FloatArray, vectors: FloatArray, right: IntArray, *, logit_scale: float, most: int = 8
) -> list[int]:
    """Choose templates."""
    seen = slice(0, None)
    room = max(LEAST, _ROOM // (embedded.shape[0] * embedded.shape[1]))
    if len(vectors) > room:
        seen = slice(0, None, -(-len(vectors) // room))
    vectors, right = vectors[seen], right[seen]
    logits = [(logit_scale * (vectors @ matrix.T)).astype(np.float32) for matrix in embedded]
    chosen: list[int] = []
    best = -np.inf
    while len(chosen) < min(most, len(embedded)):
        trials = {}
        for one in set(range(len(embedded))) - set(chosen):
            trials[one] = likelihood(_mean_logits(embedded, [*chosen, one], logits), right)
        winner = max(trials, key=lambda one: (trials[one], -one))
        if trials[winner] <= best + _HELPS:
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
    matrix = baseline.astype(np.float64)
    logits = logit_scale * (vectors @ matrix.T)
    temperature = fit_temperature(logits, right) if len(np.unique(right)) > 1 else 1.0
    best = _likelihood_at(logits, right, temperature)
    result: list[list[int]] = []
    for label, rows in enumerate(embedded):
        chosen: list[int] = []
        while len(chosen) < len(rows):
            trials = {}
            for one in set(range(len(rows))) - set(chosen):
                column = logit_scale * (vectors @ mean_matrix(rows[[*chosen, one]][:, None])[0])
                trials[one] = (_likelihood_with(logits, label, column, right, temperature), column)
            winner = max(trials, key=lambda one: (trials[one][0], -one))
            if trials[winner][0] <= best + _HELPS:
                break
            chosen.append(winner)
            best, logits[:, label] = trials[winner]
        result.append(sorted(chosen))
    return result


def measure_gain(before: FloatArray, after: FloatArray, vectors: FloatArray, right: IntArray, parts: Parts) -> Gain:
    """Compare two class matrices."""
    hits = [(vectors @ matrix.T).argmax(axis=1) == right for matrix in (before, after)]
    gains = hits[1][parts.held_out].astype(np.float64) - hits[0][parts.held_out]
    low, high = interval_of_mean(gains)
    first, second = (
        (float(hits[0][rows].mean()), float(hits[1][rows].mean())) for rows in (parts.validation, parts.held_out)
    )
    return Gain(first, second, low, high, (len(parts.validation), len(parts.held_out)))


def mean_matrix(embedded: FloatArray) -> FloatArray:
    """The class matrix of several texts per label: the mean of their embeddings, (t, k, dim) to (k, dim) unit rows."""
    mean = embedded.mean(axis=0)
    matrix: FloatArray = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    return matrix


def likelihood(logits: Scores, right: IntArray) -> float:
    """Mean log-likelihood at the temperature that suits it, so that texts are not chosen for being bold."""
    if len(np.unique(right)) < 2:
        return 0.0
    return _likelihood_at(logits, right, fit_temperature(logits, right))


def _likelihood_at(logits: Scores, right: IntArray, temperature: float) -> float:
    chances = softmax(logits / temperature)[np.arange(len(right)), right]
    return float(np.log(np.maximum(chances, 1e-12)).mean())


def _likelihood_with(logits: Scores, label: int, column: Scores, right: IntArray, temperature: float) -> float:
    kept = logits[:, label].copy()
    logits[:, label] = column
    found = _likelihood_at(logits, right, temperature)
    logits[:, label] = kept
    return found


def _mean_logits(embedded: FloatArray, chosen: Sequence[int], logits: Sequence[FloatArray]) -> Scores:
    """Logits under the normalised mean of the chosen templates' embeddings, from products made once."""
    norms = np.linalg.norm(embedded[list(chosen)].mean(axis=0), axis=1)
    total = np.sum([logits[one] for one in chosen], axis=0, dtype=np.float64)
    return np.asarray(total / len(chosen) / np.maximum(norms, 1e-9))
