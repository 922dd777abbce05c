"""The harness itself: it sees a server that is fine, and one that is not."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.hostile.harness import hostile_server, watched

pytestmark = pytest.mark.slow


def test_the_harness_sees_what_is_well_and_what_is_not(tmp_path: Path) -> None:
    with hostile_server(tmp_path) as server:
        with watched(server) as watch:
            assert server.ask("GET", "/v1/models")[0] == 200
        assert len(watch.waits_s) >= 1
        with pytest.raises(AssertionError, match="worst"), watched(server, wait_s=0.0):
            server.ask("GET", "/healthz")
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            server.ask("GET", "/healthz", timeout_s=0.5)
        server.process.send_signal(signal.SIGCONT)
        assert server.stop() <= server.drain_s + 2
