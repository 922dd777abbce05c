"""The class matrix: one unit vector per label."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np

from zeroshot.encoders import Encoder, FloatArray, TextCache
from zeroshot.encoders.truncation import truncation_warnings_off
from zeroshot.errors import LabelError, ModelError, quote
from zeroshot.labels.distinct import label_warnings
from zeroshot.labels.files import load_label_set
from zeroshot.labels.label import Label
from zeroshot.labels.label_set import LabelSet
from zeroshot.prompts import TemplateSet, load_templates

MAX_PROMPTS = 1_000_000
"""Most texts that one list of labels may be embedded by: ten thousand labels under ImageNet's eighty templates fit."""

_MATRICES_KEPT = 32
_OVERHEAD, _READ = 12, 2_000  # characters: what a text costs beside its own, and how many of them at most
_PROMPTS_AT_ONCE = 4096  # in memory, and between two looks at whether there is time for the rest


@runtime_checkable
class Admitting(Protocol):
    """An encoder that may refuse texts beforehand."""

    def admit(self, characters: float) -> None:
        """Refuse texts of such a ``text_cost``."""
        ...


def text_cost(texts: Iterable[str]) -> int:
    """Say what embedding texts costs, in characters.

    Parameters
    ----------
    texts : iterable of str
        Prompts, or texts as they are.

    Returns
    -------
    int
        A model reads no more than the beginning of a long text.
    """
    return sum(min(len(text), _READ) + _OVERHEAD for text in texts)


class ClassMatrices:
    """The class matrices of the label sets last used; safe for several threads."""

    def __init__(self, encoder: Encoder, cache: TextCache | None) -> None:
        self._encoder = encoder
        self._cache = cache
        self._kept: OrderedDict[tuple[str, tuple[str, ...]], tuple[tuple[Label, ...], FloatArray]] = OrderedDict()
        self._warnings: OrderedDict[tuple[str, tuple[str, ...]], tuple[str, ...]] = OrderedDict()
        self._reference: FloatArray | None = None
        self._lock = threading.Lock()

    def get(self, label_set: LabelSet, templates: TemplateSet) -> FloatArray:
        """Embed labels, or give what was embedded before."""
        key = (label_set.digest, templates.templates)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
            like = next((kept for (_, used), kept in reversed(self._kept.items()) if used == templates.templates), None)
        matrix = self._embed(label_set.labels, templates, like)
        matrix.flags.writeable = False
        with self._lock:
            self._kept[key] = (label_set.labels, matrix)
            while len(self._kept) > _MATRICES_KEPT:
                self._kept.popitem(last=False)
        return matrix

    def warnings(self, label_set: LabelSet, templates: TemplateSet) -> tuple[str, ...]:
        """Give what is to be known of labels: see ``label_warnings``; worked out once."""
        key = (label_set.digest, templates.templates)
        with self._lock:
            if key in self._warnings:
                self._warnings.move_to_end(key)
                return self._warnings[key]
        found = label_warnings(self._encoder, label_set.labels, templates)
        with self._lock:
            self._warnings[key] = found
            while len(self._warnings) > _MATRICES_KEPT:
                self._warnings.popitem(last=False)
        return found

    def has(self, label_set: LabelSet, templates: TemplateSet) -> bool:
        """Whether these labels were embedded before under these templates."""
        with self._lock:
            return (label_set.digest, templates.templates) in self._kept

    @property
    def has_reference(self) -> bool:
        """Whether the reference vocabulary was embedded before."""
        return self._reference is not None

    def reference(self) -> FloatArray:
        """Give the reference vocabulary's class matrix."""
        if self._reference is None:
            self._reference = embed_reference(self._encoder, self._cache)
        return self._reference

    def _embed(
        self, labels: Sequence[Label], templates: TemplateSet, like: tuple[tuple[Label, ...], FloatArray] | None
    ) -> FloatArray:
        """Embed what the matrix last made under these templates has not: usually the one label that is new."""
        if like is None:
            return class_matrix(self._encoder, labels, templates, self._cache)
        known = dict(zip(like[0], like[1], strict=True))
        new = [label for label in labels if label not in known]
        if new:
            known.update(zip(new, class_matrix(self._encoder, new, templates, self._cache), strict=True))
        return np.stack([known[label] for label in labels])


def choose_templates(encoder: Encoder, label_set: LabelSet) -> TemplateSet:
    """Choose the templates where a caller names none."""
    recommended = _recommended(encoder.template_set)
    return recommended if recommended.is_bare else label_set.templates or recommended


def class_matrix(
    encoder: Encoder, labels: Sequence[Label], templates: TemplateSet, cache: TextCache | None = None
) -> FloatArray:
    """Embed labels: the mean of each label's prompt embeddings, back on the unit sphere.

    The same as ``open_clip.build_zero_shot_classifier``, transposed.

    Parameters
    ----------
    encoder : Encoder
        Whose text tower embeds the prompts.
    labels : sequence of Label
        k labels.
    templates : TemplateSet
        For labels without descriptions.
    cache : TextCache or None
        Labels found there are not embedded again; the others are kept there.

    Returns
    -------
    ndarray of float32, shape (k, encoder.dim)
        Unit rows, in the order of `labels`.

    Raises
    ------
    ModelError
        If a label's prompts cancel out, or the encoder fails.
    LabelError
        If there are more than ``MAX_PROMPTS`` prompts.
    """
    counts = [label.count_prompts(templates) for label in labels]
    if (total := sum(counts)) > MAX_PROMPTS:
        raise LabelError(
            f"{len(labels):,} labels under {len(templates.templates):,} templates are {total:,} prompts; "
            f"{MAX_PROMPTS:,} are allowed.",
            "Use fewer templates or labels.",
            field="templates",
        )
    matrix = np.empty((len(labels), encoder.dim), dtype=np.float32)
    looked_at = missing = 0
    for start, stop in _parts(counts):
        part = labels[start:stop]
        prompts = [label.prompts(templates) for label in part]
        keys = [json.dumps(texts, ensure_ascii=False) for texts in prompts]
        known = {} if cache is None else cache.get_many(encoder.fingerprint, keys)
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            looked_at += sum(counts[start:stop])
            missing += sum(len(prompts[i]) for i in new)
            if isinstance(encoder, Admitting):
                characters = text_cost(text for i in new for text in prompts[i])
                rest = sum(counts[stop:]) * missing / looked_at  # as many of them are new as of those before
                encoder.admit(characters * (1 + rest / sum(len(prompts[i]) for i in new)))
            rows = _ensembles(encoder, [part[i] for i in new], [prompts[i] for i in new])
            fresh = {keys[i]: row for i, row in zip(new, rows, strict=True)}
            if cache is not None:
                cache.put_many(encoder.fingerprint, fresh)
            known.update(fresh)
        else:
            looked_at += sum(counts[start:stop])
        for row, key in enumerate(keys, start=start):
            matrix[row] = known[key]
    return matrix


def _parts(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Split labels into runs of no more than some thousand prompts, or one label."""
    start, prompts = 0, 0
    for position, count in enumerate(counts):
        if prompts and prompts + count > _PROMPTS_AT_ONCE:
            yield start, position
            start, prompts = position, 0
        prompts += count
    if start < len(counts):
        yield start, len(counts)


@lru_cache(maxsize=16)
def _recommended(name: str) -> TemplateSet:
    return load_templates(name, files=False)  # a model names a shipped set, and opens no file of its own


def embed_reference(encoder: Encoder, cache: TextCache | None = None) -> FloatArray:
    """Embed the reference vocabulary, which labels on their own scale are compared with: ImageNet's thousand names."""
    return class_matrix(encoder, load_label_set("imagenet").labels, _recommended(encoder.template_set), cache)


def _ensembles(encoder: Encoder, labels: Sequence[Label], prompts: Sequence[Sequence[str]]) -> FloatArray:
    """One unit row per label: the normalised mean of its prompts' embeddings."""
    distinct = list(dict.fromkeys(text for texts in prompts for text in texts))
    row_of = {text: row for row, text in enumerate(distinct)}
    with truncation_warnings_off():  # by `label_warnings`, with the labels' names
        rows = encoder.encode_texts(distinct)
    means = np.stack([rows[[row_of[text] for text in texts]].mean(axis=0) for texts in prompts])
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if not (norms > 1e-6).all():
        worst = labels[int(norms.argmin())]
        raise ModelError(f"The prompts of {quote(worst.name)} cancel out.", "Use fewer or other templates.")
    matrix: FloatArray = (means / norms).astype(np.float32, copy=False)
    return matrix
