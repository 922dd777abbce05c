"""What a benchmark ran on, and how it times: both sides interleaved, medians."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median


def describe_machine(*packages: str) -> str:
    """One line: processor, cores, Python and the versions of packages."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not installed")
    cores = len(os.sched_getaffinity(0))
    return f"{cpu}, {cores} cores, Python {platform.python_version()}, {', '.join(versions)}"


def interleave(
    sides: dict[str, Callable[[], object]], *, rounds: int = 7, warmup: int = 1, pause_s: float = 0.05
) -> dict[str, float]:
    """Median seconds of each side, run in turn so that the machine's mood strikes all alike.

    The pause lets one side's worker threads, which spin for a while, go to sleep before the next is timed.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(warmup + rounds):
        for name, run in sides.items():
            time.sleep(pause_s)
            start = time.perf_counter()
            run()
            if turn >= warmup:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}
