"""The thread that watches the encoder's: a dead one is started again, a stalled one ends the process.

Native code that hangs cannot be ended from Python, so a process with a stalled encoder will never answer again; its
supervisor (systemd, a container runtime) starts another. /readyz fails as soon as the encoder's health is not "ok".
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zeroshot.service.config import ServiceConfig
from zeroshot.service.inference.batcher import Batcher
from zeroshot.service.inference.text_worker import TextWorker

_LOG = logging.getLogger(__name__)

EXIT_CODE = 70  # EX_SOFTWARE


def end_process() -> None:
    """End the process at once: its requests hang on a thread that will not come back."""
    logging.shutdown()
    os._exit(EXIT_CODE)


class Watchdog:
    """Watch the encoder's threads: of images, and of texts."""

    def __init__(self, workers: Sequence[Batcher | TextWorker], config: ServiceConfig) -> None:
        self._workers = workers
        self._config = config
        self._end: Callable[[], None] = config.end_process or end_process
        self._closed = threading.Event()
        self._seen = [_Seen(worker.batches) for worker in workers]
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
        while not self._closed.wait(self._config.watch_every_s):
            for worker, seen in zip(self._workers, self._seen, strict=True):
                if self._is_lost(worker, seen):
                    _LOG.critical("the encoder is %s and does not recover; the process ends", worker.health)
                    for one in self._workers:
                        one.fail_pending()
                    self._end()
                    return

    def _is_lost(self, worker: Batcher | TextWorker, seen: _Seen) -> bool:
        """Start a dead thread again; say whether that, or waiting, has been tried for long enough."""
        health = worker.health
        if worker.batches != seen.batches:
            seen.batches, seen.restarts_in_row = worker.batches, 0
        seen.stalled_s = seen.stalled_s + self._config.watch_every_s if health == "stalled" else 0.0
        if health == "dead":
            seen.restarts_in_row += 1
            _LOG.error("the encoder's thread has died and is started again (%d in a row)", seen.restarts_in_row)
            worker.restart()
        return seen.stalled_s > self._config.stall_grace_s or seen.restarts_in_row > self._config.max_restarts


@dataclass
class _Seen:
    """What was seen of a worker."""

    batches: int
    stalled_s: float = 0.0
    restarts_in_row: int = 0
