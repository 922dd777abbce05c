"""What some commands need beyond the package's own dependencies."""

from __future__ import annotations

import importlib
from typing import Any

from zeroshot.errors import OptionError


def require(module: str, extra: str = "learn") -> Any:
    """Import a module of an extra.

    Parameters
    ----------
    module : str
        For example "scipy.optimize".
    extra : str
        Which brings it.

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
            f"This needs {module.partition('.')[0]}, which is not installed.", f"Run: pip install 'zeroshot[{extra}]'"
        ) from error
