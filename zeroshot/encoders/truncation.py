"""Texts whose end a model does not read: which they are, and that it is said once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

from zeroshot.errors import LabelWarning, quote

_NAMED = 3  # texts in one message
_IS_SAID: ContextVar[bool] = ContextVar("zeroshot_cuts_are_said", default=False)


@runtime_checkable
class TextLimits(Protocol):
    """What an encoder may say of how much of a text it reads."""

    spec: str
    context_length: int

    def cuts(self, texts: Sequence[str]) -> list[bool]:
        """Whether each of n texts has an end that is not read."""
        ...


def truncation_warning(encoder: TextLimits, names: Sequence[str]) -> str:
    """Name texts whose end is not read."""
    shown = ", ".join(quote(name) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"{encoder.spec} reads {encoder.context_length} tokens of a text; the end of {shown}{more} is not read. Texts "
        "that differ only there get the same vector."
    )


def warn_of_truncation(encoder: TextLimits, texts: Sequence[str]) -> None:
    """Warn of texts whose end is not read, unless who asked for them says so in another way."""
    if _IS_SAID.get():
        return
    names = [text for text, is_cut in zip(texts, encoder.cuts(texts), strict=True) if is_cut]
    if names:
        warnings.warn(truncation_warning(encoder, names), LabelWarning, stacklevel=3)


@contextmanager
def truncation_warnings_off() -> Iterator[None]:
    """Mark that who embeds texts here tells of cut ones itself: with their labels' names, or in an answer."""
    token = _IS_SAID.set(True)
    try:
        yield
    finally:
        _IS_SAID.reset(token)
