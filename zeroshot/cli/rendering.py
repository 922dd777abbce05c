"""What people see in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from zeroshot.datasets import Problem
from zeroshot.errors import ImageError
from zeroshot.explanation import Explanation, LabelReasons
from zeroshot.labels import Mode
from zeroshot.scoring import Classification, Prediction

_BAR_CELLS = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LABEL_CELLS = 32
PROGRESS_FROM = 32  # images; fewer are done before a bar is worth drawing
_SURE = 0.5  # below it no label has most of the probability, and the best is shown in yellow


class Renderer:
    """Print one image's answer after the other."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def show(self, path: str, outcome: Classification | Explanation | ImageError) -> None:
        """Print an image's path and, below it, a bar per label, or why it could not be classified.

        An explanation is printed below the bars.
        """
        self.console.print(Text(path, style="bold"))
        if isinstance(outcome, ImageError):
            self.console.print(Text(f"  {outcome}", style="red"))
            return
        if isinstance(outcome, Explanation):
            self._show_answer(outcome.answer)
            self._show_reasons(outcome)
            return
        self._show_answer(outcome)

    def _show_answer(self, outcome: Classification) -> None:
        if outcome.mode is Mode.HIERARCHICAL:
            self._show_levels(outcome)
            return
        if not outcome.labels:
            self.console.print(Text("  unknown: no label is sure enough", style="yellow"))
        for prediction in outcome.predictions:
            chosen = prediction.label in outcome.labels
            self._line(prediction, ("green" if prediction.score >= _SURE else "yellow") if chosen else "")

    def _show_reasons(self, why: Explanation) -> None:
        for reasons in why.chosen:
            self._reasons("because", reasons)
        if why.runner_up is not None and why.margin is not None:
            self._reasons(f"next, {100 * why.margin:.1f} points behind", why.runner_up)
        if why.heat_map is not None:
            change = float(why.heat_map.drops.max())
            self.console.print(
                f"  hiding its reddest part takes {change:.2f} from the log-odds of {why.heat_map.label}"
            )

    def _reasons(self, what: str, reasons: LabelReasons) -> None:
        nearest = ", ".join(f"{prompt.prompt!r} {prompt.similarity:+.3f}" for prompt in reasons.prompts)
        of = f" (of {reasons.prompt_count} prompts)" if reasons.prompt_count > len(reasons.prompts) else ""
        needed = f", {reasons.needed:.1%} needed" if reasons.needed else ""
        learnt = "" if reasons.learnt is None else f"; labelled images add {reasons.learnt:+.2f} to its logit"
        self.console.print(Text(f"  {what}: {reasons.label} {reasons.score:.1%}{needed}: {nearest}{of}{learnt}"))

    def _show_levels(self, outcome: Classification) -> None:
        for depth, level in enumerate(outcome.levels):
            self._line(level, "green" if level is outcome.levels[-1] else "", indent=depth)
        if not outcome.levels or outcome.levels[-1].label != outcome.predictions[0].label:
            found = "not sure which" if outcome.levels else "unknown"
            best = ", ".join(f"{p.label} {p.score:.0%}" for p in outcome.predictions[:3])
            self.console.print(Text(f"  {'  ' * len(outcome.levels)}{found}: {best}", style="yellow"))

    def _line(self, prediction: Prediction, style: str, indent: int = 0) -> None:
        line = Text("  ")
        label = Text("  " * indent + prediction.label, style=f"bold {style}" if style else "")
        label.truncate(_LABEL_CELLS, overflow="ellipsis", pad=True)
        line.append_text(label)
        line.append(f" {_bar(prediction.score)} ", style=style or "dim")
        line.append(f"{prediction.score:6.1%}")
        line.append(f"  {prediction.similarity:+.3f}", style="dim")
        self.console.print(line)


@contextmanager
def progress(total: int | None) -> Iterator[Callable[..., object]]:
    """Draw a progress bar on standard error, if that is a terminal and there is enough to do; None is unknown.

    What it gives is called once per image done, or with the number of images done.
    """
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), _SpeedColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,  # standard output is for answers, whatever is drawn on standard error
        redirect_stderr=False,
        disable=not ((total is None or total >= PROGRESS_FROM) and sys.stderr.isatty()),
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda count=1: bar.advance(task, count)


def progress_over(count: int | None, limit: int | None, more: int = 0) -> AbstractContextManager[Callable[..., object]]:
    """Draw a progress bar for a dataset's images, at most `limit`, and further ones."""
    return progress(None if count is None else min(count, count if limit is None else limit) + more)


def show_problems(problems: Sequence[Problem]) -> None:
    """Say on standard error which images could not be used, naming each once."""
    for problem in problems:
        named = problem.key in problem.reason
        print(problem.reason if named else f"{problem.key}: {problem.reason}", file=sys.stderr)  # noqa: T201


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say on standard error, if that is a terminal, what is being waited for."""
    if sys.stderr.isatty():
        with Console(stderr=True).status(what):
            yield
    else:
        yield


class _SpeedColumn(ProgressColumn):
    """Images per second, once there is something to divide."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.0f} images/s")


def _bar(share: float) -> str:
    eighths = round(share * _BAR_CELLS * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(_BAR_CELLS)
