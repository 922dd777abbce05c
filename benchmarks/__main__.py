"""Run a benchmark by name: python -m benchmarks NAME [OPTION ...]; without a name, say which there are."""

from __future__ import annotations

import importlib
import sys

from benchmarks.report import BENCHMARKS


def main() -> None:
    """Hand the rest of the command line to the benchmark."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        print("python -m benchmarks NAME [--help], with NAME one of:\n")
        for known, (_, about) in BENCHMARKS.items():
            print(f"  {known:15}{about}")
        sys.exit(0 if name in ("", "-h", "--help", "list") else f"\nThere is no benchmark {name!r}.")
    module, _, function = BENCHMARKS[name][0].partition(":")
    sys.argv = [f"python -m benchmarks {name}", *sys.argv[2:]]
    getattr(importlib.import_module(f"benchmarks.{module}"), function)()


if __name__ == "__main__":
    main()
