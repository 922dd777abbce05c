"""A rival in a process of its own, asked line by line, so that sides can take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.rivals import python_of

_ROOT = Path(__file__).parent.parent.parent


class Side:
    """A rival's process.

    Parameters
    ----------
    rival : str
        Of `RIVALS`.
    script : str
        In this folder; it prints a line when it is ready, and one for each that it reads.
    arguments : str
        For it.
    """

    def __init__(self, rival: str, script: str, *arguments: str) -> None:
        command = [str(python_of(rival)), "-W", "ignore", str(Path(__file__).parent / script), *arguments]
        variables = {**os.environ, "PYTHONPATH": str(_ROOT), "TRANSFORMERS_VERBOSITY": "error"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=variables
        )
        self._in, self._out = self._process.stdin, self._process.stdout
        self.about = self._read()

    def ask(self, **question: Any) -> str:
        """Put a question, and wait for its answer."""
        self._in.write(json.dumps(question) + "\n")
        self._in.flush()
        return self._read()

    def asking(self, **question: Any) -> Callable[[], str]:
        """The same question again and again, to be timed."""
        return lambda: self.ask(**question)

    def close(self) -> None:
        """End it."""
        self._in.close()
        self._process.wait(timeout=60)

    def _read(self) -> str:
        line = self._out.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return line.strip()


def answer(reply: Callable[[dict[str, Any]], str], about: str) -> None:
    """What a script does with its standard input."""
    print(about, flush=True)
    for line in sys.stdin:
        print(reply(json.loads(line)), flush=True)
