"""Packages that only some commands need."""

from __future__ import annotations

import importlib
from typing import Any

from zeroshot.errors import MissingDependency


def require(module: str, extra: str = "learn") -> Any:
    """Import a module, or raise MissingDependency, which names the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"This needs {module.partition('.')[0]}, which is not installed.", f"Run: pip install 'zeroshot[{extra}]'"
        ) from error
