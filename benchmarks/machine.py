"""What a benchmark ran on, and how it times: both sides interleaved, medians."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

_VECTORS = {"avx512_vnni": "AVX-512 with VNNI", "avx512f": "AVX-512", "avx2": "AVX2"}
"""What matrix products are computed with, best first; speeds on machines that differ in it do not compare."""


def describe_machine(*packages: str) -> str:
    """One line: processor, its vector instructions, cores, Python and the versions of packages."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    facts = {name.strip(): value.strip() for name, _, value in lines}
    flags = set(facts.get("flags", "").split())
    widest = next((name for flag, name in _VECTORS.items() if flag in flags), "no AVX2")
    cpu = f"{facts.get('model name', platform.processor())} ({widest})"
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
