"""Whether labels and texts are told apart as they were meant to be: ends that are cut, names that look alike."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from zeroshot.encoders import Encoder
from zeroshot.encoders.truncation import TextLimits, truncation_warning
from zeroshot.errors import LabelWarning, quote
from zeroshot.labels.label import Label
from zeroshot.prompts import TemplateSet

_NAMED = 3  # examples in one message
_TEXTS_AT_ONCE = 4096


def label_warnings(encoder: Encoder, labels: Sequence[Label], templates: TemplateSet) -> tuple[str, ...]:
    """Say what a person should know of labels before trusting their scores."""
    return (
        *name_warnings(labels),
        *_cut(encoder, ((one.name, text) for one in labels for text in one.prompts(templates))),
    )


def text_warnings(encoder: Encoder, texts: Sequence[str]) -> tuple[str, ...]:
    """Say which texts the model does not read to their end."""
    return tuple(_cut(encoder, ((text, text) for text in texts)))


def emit_warnings(messages: Iterable[str], on_warning: Callable[[str], object] | None = None) -> None:
    """Pass messages on."""
    for message in messages:
        if on_warning is None:
            warnings.warn(message, LabelWarning, stacklevel=3)
        else:
            on_warning(message)


def folded(name: str) -> str:
    """Reduce a name to what one sees: without Unicode composition, case, spacing and invisible characters.

    >>> folded("Hot\\u00a0 Dog") == folded("hot dog")
    True
    """
    composed = unicodedata.normalize("NFC", name).casefold()
    visible = "".join(character for character in composed if unicodedata.category(character) != "Cf")
    return unicodedata.normalize("NFC", " ".join(visible.split()))


def name_warnings(labels: Sequence[Label]) -> tuple[str, ...]:
    """Say which names differ only in case, spaces or Unicode form; no encoder is needed."""
    groups: dict[str, list[tuple[int, str]]] = {}
    for row, label in enumerate(labels):
        for name in (label.name, *label.aliases):
            groups.setdefault(folded(name), []).append((row, name))
    alike = [[name for _, name in group] for group in groups.values() if len({row for row, _ in group}) > 1]
    if not alike:
        return ()
    shown = "; ".join(" and ".join(quote(name) for name in group[:_NAMED]) for group in alike[:_NAMED])
    more = f", and {len(alike) - _NAMED} more" if len(alike) > _NAMED else ""
    return (f"Labels that differ only in case, spaces or Unicode form count as different labels: {shown}{more}.",)


def _cut(encoder: Encoder, prompts: Iterable[tuple[str, str]]) -> list[str]:
    if not isinstance(encoder, TextLimits):
        return []
    names: dict[str, None] = {}
    rest = iter(prompts)
    while part := list(islice(rest, _TEXTS_AT_ONCE)):
        texts = list(dict.fromkeys(text for _, text in part))
        cut = {text for text, is_cut in zip(texts, encoder.cuts(texts), strict=True) if is_cut}
        names.update((name, None) for name, text in part if text in cut)
    return [truncation_warning(encoder, list(names))] if names else []
