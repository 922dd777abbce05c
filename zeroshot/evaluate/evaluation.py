"""Everything that is measured on one dataset: labels, captions, robustness, and whether it is as published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from zeroshot.errors import DatasetError
from zeroshot.evaluate.published import check_published
from zeroshot.evaluate.result import Result
from zeroshot.evaluate.robustness import choose_changes, measure_robustness
from zeroshot.evaluate.run import Progress, Run

ProgressBar = Callable[[int | None], AbstractContextManager[Progress]]


def _no_bar(count: int | None) -> AbstractContextManager[Progress]:  # noqa: ARG001
    return nullcontext(lambda: None)


def evaluate_dataset(
    run: Run,
    *,
    changes: Sequence[str] = (),
    published: tuple[float, str] | None = None,
    progress: ProgressBar = _no_bar,
) -> Result:
    """Measure all that a dataset's labels and captions allow.

    Parameters
    ----------
    run : Run
        A classifier and a dataset.
    changes : sequence of str
        Kinds of changes that robustness is measured under; "all" for those that suit the model.
    published : (float, str) or None
        The accuracy to compare with, and its source.
    progress : callable
        Given the number of images of a pass, or None where that is not known, opens a progress bar.

    Returns
    -------
    Result
        Figures, and every answer.

    Raises
    ------
    DatasetError
        If the dataset has neither labels nor captions, or nothing in it could be used.
    OptionError
        If a change does not suit the labels or the model.
    """
    kinds = choose_changes(run, changes)
    result = None
    if run.has_labels:
        with progress(run.count) as advance:
            result = run.evaluate(advance)
        if kinds:
            with progress(None) as advance:
                result.evaluation.robustness = measure_robustness(run, kinds, result.evaluation, advance)
    if run.dataset.captioned:
        with progress(run.count) as advance:
            found = run.retrieve(advance)
        if result is None:
            result = found
        else:
            result.evaluation.retrieval = found.evaluation.retrieval
    if result is None:
        raise DatasetError(f"{run.dataset.name} has neither labels nor captions.", "Give --label-set.")
    if published is not None:
        result.evaluation.published = check_published(result.evaluation, *published)
    return result
