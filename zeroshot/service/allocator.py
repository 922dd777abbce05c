"""Have the C library's allocator give memory back: pictures are large, short-lived, and made by several threads."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # of glibc's malloc.h
_ARENAS = 2
_TRIM_BYTES = 8 * 2**20


def bound_memory() -> None:
    """Keep glibc to two arenas that are trimmed.

    By itself it gives every thread an arena, and each of those keeps what its largest pictures took. A few megabytes at
    the top are left, so that not every picture goes to the kernel and back. Call it before there are threads. Whoever
    has set MALLOC_ARENA_MAX has decided; other C libraries are left as they are.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return
    with suppress(OSError, AttributeError, TypeError):  # no such function: musl, macOS, Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
