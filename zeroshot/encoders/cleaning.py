"""What open_clip does to a text before it tokenises it (``open_clip.tokenizer.get_clean_fn``), without torch."""

from __future__ import annotations

import html
import string
from collections.abc import Callable

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def cleaner(name: str) -> Callable[[str], str]:
    """Find a cleaning function.

    >>> cleaner("lower")("  A &amp; B ")
    'a & b'
    >>> cleaner("canonicalize")("A_cat, sitting!")
    'a cat sitting'
    """
    return {
        "none": lambda text: text,
        "whitespace": _whitespace,
        "lower": lambda text: _whitespace(text).lower(),
        "canonicalize": _canonicalize,
    }[name]


def _basic(text: str) -> str:
    """Mend mojibake and HTML entities, twice escaped ones too."""
    import ftfy  # 40 ms that tiny need not pay

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _whitespace(text: str) -> str:
    return " ".join(_basic(text).split())


def _canonicalize(text: str) -> str:
    words = _basic(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split()
    return " ".join(words)
