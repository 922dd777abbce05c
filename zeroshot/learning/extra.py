"""What the modules here need beyond the package's own dependencies."""

from __future__ import annotations

import importlib
from typing import Any

from zeroshot.errors import OptionError


def require(module: str) -> Any:
    """Import a module of the extra ``learn``.

    Parameters
    ----------
    module : str
        For example "scipy.optimize".

    Returns
    -------
    module
        It.

    Raises
    ------
    OptionError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise OptionError(
            f"Learning from pictures needs {module.partition('.')[0]}, which is not installed.",
            "Run: pip install 'zeroshot[learn]'",
        ) from error
