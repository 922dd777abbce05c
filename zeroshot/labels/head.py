"""A head: what a few labelled images add to the text of the labels, on frozen features.

logits = logit_scale x T'  +  x W'  +  alpha exp(-beta (1 - x K')) Y

T is the class matrix; W corrects it (a logistic probe that starts from the text); K are the example images
themselves and Y says whose they are (Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot
Classification", ECCV 2022), each label's column summing to 1, so that a label is not likelier for having more
examples. Labels that the head has not seen keep what their text says: those it has seen are shifted so that together
they are as likely as their texts make them, and the head tells them apart.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeroshot.encoders import FloatArray
from zeroshot.errors import DefinitionError
from zeroshot.similarity import cosine_similarities

IntArray = npt.NDArray[np.int64]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same head gives the same bytes


@dataclass(frozen=True)
class Measured:
    """What was found out about a head on images it had not seen.

    Parameters
    ----------
    images : int
        How many there were.
    zero_shot : float
        Accuracy of the text alone.
    accuracy : float
        Accuracy of the head.
    gain_low, gain_high : float
        95 % interval of the difference (paired bootstrap).
    """

    images: int
    zero_shot: float
    accuracy: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True, eq=False)
class Head:
    """Corrections to the logits of some labels, for one encoder.

    Parameters
    ----------
    model : str
        The encoder's spec.
    fingerprint : str
        The encoder's.
    labels : tuple of str
        h names.
    weights : ndarray of float32, shape (h, dim)
        W; zeros where there is no probe.
    keys : ndarray of float32, shape (m, dim)
        K, unit rows; none where there is no cache.
    key_labels : ndarray of int64, shape (m,)
        Index into `labels` of each key.
    alpha : float
        Weight of the cache.
    beta : float
        Sharpness of the cache.
    measured : Measured or None
        None where there were too few images to measure anything.
    summary : str
        In words: the method, and how many images.
    """

    model: str
    fingerprint: str
    labels: tuple[str, ...]
    weights: FloatArray
    keys: FloatArray
    key_labels: IntArray
    alpha: float = 0.0
    beta: float = 0.0
    measured: Measured | None = None
    summary: str = field(default="", compare=False)

    @cached_property
    def digest(self) -> str:
        """sha256, in hex, of everything in it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def logits(self, vectors: FloatArray, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Give what is added to the text's logits.

        Parameters
        ----------
        vectors : ndarray of float32, shape (n, dim)
            Images.
        names : sequence of str
            k labels.

        Returns
        -------
        ndarray of float64, shape (n, k)
            0 for labels the head does not know.
        """
        own = cosine_similarities(vectors, self.weights).astype(np.float64)
        if len(self.keys):
            keys, labels, starts, counts = self._cache
            near = np.exp(-self.beta * (1.0 - cosine_similarities(vectors, keys).astype(np.float64)))
            own[:, labels] += self.alpha * np.add.reduceat(near, starts, axis=1) / counts
        row_of = {name: row for row, name in enumerate(self.labels)}
        result = np.zeros((len(vectors), len(names)))
        known = [column for column, name in enumerate(names) if name in row_of]
        result[:, known] = own[:, [row_of[names[column]] for column in known]]
        return result

    def apply(
        self, text: npt.NDArray[np.float64], vectors: FloatArray, names: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Add the head to the text's logits; labels that it does not know keep what their text says.

        Parameters
        ----------
        text : ndarray of float64, shape (n, k)
            Logits of the text.
        vectors : ndarray of float32, shape (n, dim)
            Images.
        names : sequence of str
            k labels.

        Returns
        -------
        ndarray of float64, shape (n, k)
            Logits.
        """
        own = set(self.labels)
        return keep_shares(text, text + self.logits(vectors, names), np.array([name in own for name in names]))

    @cached_property
    def _cache(self) -> tuple[FloatArray, IntArray, IntArray, IntArray]:
        """Keys sorted by label; the labels that have keys; where each one's begin, and how many they are."""
        order = np.argsort(self.key_labels, kind="stable")
        labels, starts, counts = np.unique(self.key_labels[order], return_index=True, return_counts=True)
        return self.keys[order], labels, starts, counts

    def to_bytes(self) -> bytes:
        """Write the head as a NumPy archive (.npz) that ``numpy.load`` reads.

        Returns
        -------
        bytes
            The same for the same head.
        """
        facts = {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "labels": self.labels,
            "alpha": self.alpha,
            "beta": self.beta,
            "measured": None if self.measured is None else asdict(self.measured),
            "made_of": self.summary,
        }
        arrays = {
            "facts": np.frombuffer(json.dumps(facts, sort_keys=True).encode(), dtype=np.uint8),
            "weights": self.weights.astype("<f4"),
            "keys": self.keys.astype("<f4"),
            "owners": self.key_labels.astype("<i8"),
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in arrays.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), content.getvalue())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Head:
        """Read what ``to_bytes`` wrote.

        Parameters
        ----------
        content : bytes
            A NumPy archive.

        Returns
        -------
        Head
            As it was.

        Raises
        ------
        DefinitionError
            If the bytes are not a whole head, or its numbers are not finite.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                facts = json.loads(archive["facts"].tobytes())
                weights, keys, key_labels = (archive[name] for name in ("weights", "keys", "owners"))
            measured, summary = facts.pop("measured"), facts.pop("made_of")
            labels = tuple(str(name) for name in facts.pop("labels"))
            head = cls(
                **facts,
                labels=labels,
                weights=weights.astype(np.float32),
                keys=keys.astype(np.float32),
                key_labels=key_labels.astype(np.int64),
                measured=None if measured is None else Measured(**measured),
                summary=summary,
            )
            _check_shapes(head)
        except (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise DefinitionError(f"The vectors cannot be read: {error}.", "Export the label set again.") from error
        return head


def keep_shares(
    text: npt.NDArray[np.float64], logits: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Shift the known labels' logits, so that together they are as likely as the text says.

    Parameters
    ----------
    text : ndarray of float64, shape (n, k)
        Logits of the text.
    logits : ndarray of float64, shape (n, k)
        The same after something was added to those of the known labels.
    known : ndarray of bool, shape (k,)
        Which labels those are; where all are, or none, there is nothing to shift.

    Returns
    -------
    ndarray of float64, shape (n, k)
        The other labels' softmax is as it was.
    """
    if known.all() or not known.any():
        return logits
    shifted = logits.copy()
    before, after = (np.logaddexp.reduce(one[:, known], axis=1) for one in (text, logits))
    shifted[:, known] += (before - after)[:, None]
    return shifted


def _check_shapes(head: Head) -> None:
    rows, dim = head.weights.shape
    if rows != len(head.labels) or head.keys.shape != (len(head.key_labels), dim):
        raise ValueError(f"{len(head.labels)} labels, weights {head.weights.shape}, keys {head.keys.shape}")
    if len(head.key_labels) and not 0 <= head.key_labels.min() <= head.key_labels.max() < rows:
        raise ValueError("a key belongs to no label")
    numbers = (head.weights, head.keys, np.array([head.alpha, head.beta], dtype=np.float64))
    if not all(np.isfinite(array).all() for array in numbers):
        raise ValueError("there are numbers that are not finite")
