"""Memory that images took is given back."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

PROGRAM = """
import ctypes, sys, threading
if sys.argv[1] == "bound":
    from zeroshot.service.server import bound_memory
    bound_memory()
held, all_have = [], threading.Barrier(9)
def work():
    held.append(bytes(100_000))
    all_have.wait()
    all_have.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
all_have.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
all_have.wait()
for thread in threads: thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is told")
def test_threads_share_two_arenas_where_each_would_have_its_own(tmp_path: Path) -> None:
    arenas = {}
    for how in ("bound", "as it comes"):
        command = [sys.executable, "-c", PROGRAM, how, str(tmp_path / "info.xml")]
        subprocess.run(command, check=True, env=environment(tmp_path), timeout=60)
        arenas[how] = (tmp_path / "info.xml").read_text().count("<heap nr=")
    assert arenas["bound"] <= 2 < arenas["as it comes"]
