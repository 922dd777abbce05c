"""From the labels of a request to what scores pictures under them; what was asked before is ready at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from anyio.to_thread import run_sync

from zeroshot.labels import (
    LabelEntry,
    LabelSet,
    LabelSetStore,
    as_label_set,
    find_label_set,
    label_set_names,
    load_label_set,
)
from zeroshot.prompts import TemplateSet, load_templates
from zeroshot.scoring import Scorer, ScoringOptions
from zeroshot.service.pipeline import Pipeline
from zeroshot.service.problems import RequestError
from zeroshot.service.schemas import Question

_FEW_LABELS = 500  # more are read off the event loop


class Questions:
    """Label sets and scorers for requests."""

    def __init__(self, store: LabelSetStore, pipeline: Pipeline) -> None:
        self.store = store
        self._pipeline = pipeline

    async def ask(self, question: Question) -> tuple[LabelSet, Scorer]:
        """Prepare a question."""
        labels = await self.label_set(question.labels, question.label_set)
        templates = None if question.templates is None else _templates(question.templates)
        options = ScoringOptions(question.mode, question.threshold, question.temperature)
        return labels, await self._pipeline.scorer(labels, templates, options)

    async def label_set(self, labels: Sequence[str | LabelEntry] | None, label_set: str | None) -> LabelSet:
        """Take the labels from whichever of the two fields was given."""
        if (labels is None) == (label_set is None):
            given = "neither" if labels is None else "both"
            raise RequestError(
                422,
                "invalid-request",
                f"'labels' or 'label_set' is needed; {given} was given.",
                "Give one of them.",
                "labels",
            )
        if label_set is not None:
            if label_set in _shipped_names():
                return _shipped(label_set)
            return await run_sync(lambda: find_label_set(label_set, self.store, files=False))
        inline = labels or ()
        return _inline(inline) if len(inline) <= _FEW_LABELS else await run_sync(_inline, inline)


def _inline(labels: Sequence[str | LabelEntry]) -> LabelSet:
    return as_label_set(one for item in labels for one in ([item] if isinstance(item, str) else item.to_labels()))


@lru_cache(maxsize=1)
def _shipped_names() -> frozenset[str]:
    return frozenset(label_set_names())


@lru_cache(maxsize=32)
def _shipped(name: str) -> LabelSet:
    return load_label_set(name, files=False)


def _templates(given: str | list[str]) -> TemplateSet:
    return _named_templates(given) if isinstance(given, str) else load_templates(given, files=False)


@lru_cache(maxsize=64)
def _named_templates(given: str) -> TemplateSet:
    return load_templates(given, files=False)
