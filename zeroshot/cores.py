"""How many cores there are to use."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Count the cores this process may run on.

    Returns
    -------
    int
        At least 1; all of the machine's where the system does not say which are allowed (macOS).
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
