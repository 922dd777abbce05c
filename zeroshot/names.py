"""The names that stored things may have: label sets, galleries, API keys."""

from __future__ import annotations

import re

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
NAME_RULE = "Use letters, digits, dots, dashes and underscores, a letter or digit first, 100 at most."

_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether a stored thing may have this name; one that may is also a safe file name."""
    return _NAME.fullmatch(text) is not None
