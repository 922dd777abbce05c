"""What benchmarks keep: a JSON file each, from which docs/benchmarks.md is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine

FOLDER = Path(__file__).parent / "results"
_RATES = ("1/s", "images/s", "requests/s")  # units of which more is better


@dataclass
class Results:
    """One benchmark's rows, printed as they come and kept in the place of older ones of the same name.

    Parameters
    ----------
    name : str
        The benchmark's.
    packages : tuple of str
        Whose versions matter.
    """

    name: str
    packages: tuple[str, ...]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = describe_machine(*self.packages)
        print(self.machine, flush=True)

    def row(self, what: str, unit: str, sides: Mapping[str, float], *, rival: str = "", note: str = "") -> None:
        """Print and keep a row.

        Parameters
        ----------
        what : str
            What was measured.
        unit : str
            Of the figures: "ms", "s", "1/s", "MB"; "" for plain numbers.
        sides : mapping of str to float
            A figure for each side.
        rival : str
            The side that the others are compared with, if any.
        note : str
            What else has to be known.
        """
        made = datetime.now(UTC).date().isoformat()
        row = {"what": what, "unit": unit, "sides": dict(sides), "rival": rival, "note": note}
        self.rows.append({**row, "made": made, "machine": self.machine})
        print(f"{what}: {measured(row)}" + (f" ({note})" if note else ""), flush=True)

    def save(self) -> None:
        """Write the JSON file."""
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.name}.json"
        fresh = {row["what"] for row in self.rows}
        kept = [] if not path.exists() else [r for r in json.loads(path.read_text()) if r["what"] not in fresh]
        path.write_text(json.dumps(kept + self.rows, indent=1, ensure_ascii=False) + "\n")
        print(f"kept in {path}", flush=True)


def measured(row: Mapping[str, Any]) -> str:
    """A row's figures with what they are against the rival's: "open_clip 12.1 ms; zeroshot 3.5 ms: 3.4x"."""
    unit, rival = row["unit"], row["rival"]
    parts = []
    for side, value in row["sides"].items():
        shown = f"{side} {_figure(value)}{f' {unit}' if unit else ''}"
        if rival and side != rival:
            base = row["sides"][rival]
            ratio = value / base if unit in _RATES else base / value
            shown += f": **{ratio:.3g}x**" if ratio < 10 else f": **{ratio:.0f}x**"
        parts.append(shown)
    return "; ".join(parts)


def _figure(value: float) -> str:
    """Three or more digits."""
    if isinstance(value, int) or value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
