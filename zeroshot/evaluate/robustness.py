"""Accuracy under changes of the pictures, and relative to the same pictures unchanged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from zeroshot.datasets import Sample
from zeroshot.errors import OptionError, quote
from zeroshot.evaluate.adversarial import LEVELS, attack, has_gradients
from zeroshot.evaluate.changes import CORRUPTIONS, WrittenLabel, all_corruptions
from zeroshot.evaluate.evaluation import Evaluation, RobustnessRow
from zeroshot.evaluate.running import Run
from zeroshot.evaluate.vectors import Change
from zeroshot.images import load
from zeroshot.labels import Mode
from zeroshot.scoring import PresenceScorer

KINDS = (*CORRUPTIONS, "typographic", "adversarial")
_ATTACKED_AT_ONCE = 16


def measure_robustness(
    run: Run, kinds: Sequence[str], unchanged: Evaluation, on_progress: Callable[[], object] | None = None
) -> list[RobustnessRow]:
    """Evaluate on changed pictures.

    Parameters
    ----------
    run : Run
        In a mode in which labels exclude each other, or multilabel.
    kinds : sequence of str
        Of `KINDS`.
    unchanged : Evaluation
        Of the same run on the pictures unchanged.
    on_progress : callable or None
        Called once per changed picture.

    Returns
    -------
    list of RobustnessRow
        One per kind and severity.

    Raises
    ------
    OptionError
        If there is no such kind, or the mode or the encoder does not suit it.
    """
    check_changes(run, kinds)
    clean = _figure(unchanged)
    rows = []
    for corruption in all_corruptions():
        if corruption.name in kinds:
            found = _accuracy(run, corruption, on_progress)
            rows.append(_row(corruption.name, corruption.severity, found, clean))
    if "typographic" in kinds:
        rows.append(_typographic(run, clean, on_progress))
    if "adversarial" in kinds:
        rows += _adversarial(run, clean, on_progress)
    return rows


def check_changes(run: Run, kinds: Sequence[str]) -> None:
    """Refuse, before any work is done, changes that cannot be measured."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise OptionError(f"There is no change {quote(unknown[0])}.", f"Use {', '.join(KINDS)}, or all.")
    alone = isinstance(run.scorer, PresenceScorer) or len(run.scorer.names) < 2
    if kinds and (run.scorer.mode not in (Mode.MULTICLASS, Mode.BINARY, Mode.MULTILABEL) or alone):
        raise OptionError(
            f"Robustness is not measured in the mode {run.scorer.mode} of {'one label' if alone else 'a tree'}.",
            "Use --mode multiclass, or multilabel.",
        )
    if "adversarial" in kinds:
        if run.scorer.mode is Mode.MULTILABEL:
            raise OptionError(
                "An attack is on one right label, and here there may be several.", "Leave adversarial out."
            )
        if not has_gradients(run.classifier.encoder):
            raise OptionError(
                f"{run.classifier.encoder.spec} has no gradients here, which an attack follows.",
                "Leave adversarial out, or use an open_clip model on torch in precision fp32.",
            )


def _accuracy(run: Run, change: Change, on_progress: Callable[[], object] | None) -> tuple[int, float]:
    found = replace(run, change=change).evaluate(on_progress).evaluation
    return found.dataset.pictures, _figure(found)


def _figure(found: Evaluation) -> float:
    """Accuracy; micro-F1 where pictures may have several labels."""
    if found.multi is not None:
        return found.multi.micro_f1.value
    return found.single.top_1.value if found.single is not None else 0.0


def _row(name: str, level: float, found: tuple[int, float], clean: float, note: str = "") -> RobustnessRow:
    pictures, accuracy = found
    relative = accuracy / clean if clean else 0.0
    return RobustnessRow(change=name, level=level, pictures=pictures, accuracy=accuracy, relative=relative, note=note)


def _typographic(run: Run, clean: float, on_progress: Callable[[], object] | None) -> RobustnessRow:
    """Also how often the label that was written is the answer."""
    change = WrittenLabel(run.label_set)
    found = _accuracy(run, change, on_progress)
    fooled = total = 0
    for one in replace(run, change=change).answers():
        if isinstance(one, tuple):
            sample, vector = one
            fooled += run.scorer.names[int(run.scorer.scores(vector[None])[0].argmax())] == change.wrong(sample)
            total += 1
    return _row("typographic", 1, found, clean, f"{fooled / max(1, total):.1%} are taken for what is written on them")


def _adversarial(run: Run, clean: float, on_progress: Callable[[], object] | None) -> list[RobustnessRow]:
    encoder, scorer = run.classifier.encoder, run.scorer
    hits = dict.fromkeys(LEVELS, 0)
    total = 0
    known = (one for one in run.answers() if isinstance(one, tuple))
    single = ((sample, row) for sample, _ in known if (row := _right(run, sample)) is not None)
    while part := list(islice(single, _ATTACKED_AT_ONCE)):
        pixels = np.stack([encoder.preprocessing(load(sample.source, run.classifier.limits)) for sample, _ in part])
        right = np.array([row for _, row in part])
        for level in LEVELS:
            rows = attack(encoder, pixels, scorer.inputs.matrix, right, level)
            hits[level] += int((scorer.scores(rows).argmax(axis=1) == right).sum())
        total += len(part)
        for _ in part:
            if on_progress is not None:
                on_progress()
    return [
        _row("adversarial", level, (total, hits[level] / max(1, total)), clean, f"PGD, {level:g}/255")
        for level in LEVELS
    ]


def _right(run: Run, sample: Sample) -> int | None:
    """The row of a picture's one label."""
    rows = [row for label in sample.labels if (row := run.label_set.find(label)) is not None]
    return rows[0] if len(rows) == 1 else None
