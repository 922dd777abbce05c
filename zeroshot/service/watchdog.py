"""The thread that watches the encoder's: a dead one is started again, a stalled one ends the process.

Native code that hangs cannot be ended from Python, so a process with a stalled encoder will never answer again; what
runs it (systemd, a container runtime) starts another. Readiness is red as soon as the encoder's health is not "ok".
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from zeroshot.service.batching import Batcher

_LOG = logging.getLogger(__name__)

_EVERY_S = 0.5
_RESTARTS = 5  # in a row, without a batch between: then it will not help
EXIT_CODE = 70  # EX_SOFTWARE


def end_process() -> None:
    """End the process at once: its requests hang on a thread that will not come back."""
    logging.shutdown()
    os._exit(EXIT_CODE)


class Watchdog:
    """Watch a batcher."""

    def __init__(self, batcher: Batcher, *, grace_s: float = 5.0, end: Callable[[], None] = end_process) -> None:
        self._batcher = batcher
        self._grace_s = grace_s
        self._end = end
        self._closed = threading.Event()
        self._restarts_in_row = 0
        self._thread = threading.Thread(target=self._watch, name="zeroshot-watchdog", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        stalled_s = 0.0
        batches = self._batcher.batches
        while not self._closed.wait(_EVERY_S):
            health = self._batcher.health
            if self._batcher.batches != batches:
                batches, self._restarts_in_row = self._batcher.batches, 0
            stalled_s = stalled_s + _EVERY_S if health == "stalled" else 0.0
            if health == "dead":
                self._restarts_in_row += 1
                _LOG.error("the encoder's thread has died and is started again (%d in a row)", self._restarts_in_row)
                self._batcher.restart()
            if stalled_s > self._grace_s or self._restarts_in_row > _RESTARTS:
                _LOG.critical("the encoder is %s and does not recover; the process ends", health)
                self._batcher.abandon()
                self._end()
                return
