"""The thread that watches the encoder's: a dead one is started again, a stalled one ends the process.

Native code that hangs cannot be ended from Python, so a process with a stalled encoder will never answer again; its
supervisor (systemd, a container runtime) starts another. /readyz fails as soon as the encoder's health is not "ok".
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from zeroshot.service.config import ServiceConfig
from zeroshot.service.inference.batcher import Batcher

_LOG = logging.getLogger(__name__)

EXIT_CODE = 70  # EX_SOFTWARE


def end_process() -> None:
    """End the process at once: its requests hang on a thread that will not come back."""
    logging.shutdown()
    os._exit(EXIT_CODE)


class Watchdog:
    """Watch a batcher."""

    def __init__(self, batcher: Batcher, config: ServiceConfig) -> None:
        self._batcher = batcher
        self._config = config
        self._end: Callable[[], None] = config.end_process or end_process
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
        stalled_s, every_s = 0.0, self._config.watch_every_s
        batches = self._batcher.batches
        while not self._closed.wait(every_s):
            health = self._batcher.health
            if self._batcher.batches != batches:
                batches, self._restarts_in_row = self._batcher.batches, 0
            stalled_s = stalled_s + every_s if health == "stalled" else 0.0
            if health == "dead":
                self._restarts_in_row += 1
                _LOG.error("the encoder's thread has died and is started again (%d in a row)", self._restarts_in_row)
                self._batcher.restart()
            if stalled_s > self._config.stall_grace_s or self._restarts_in_row > self._config.max_restarts:
                _LOG.critical("the encoder is %s and does not recover; the process ends", health)
                self._batcher.fail_pending()
                self._end()
                return
