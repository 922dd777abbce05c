"""``zeroshot calibrate``: temperatures and thresholds from labelled pictures, kept in a stored label set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.labels import LabelSet
    from zeroshot.learning.examples import Examples
    from zeroshot.scoring import Scores
    from zeroshot.statistics import BoolArray, IntArray


def calibrate(
    label_set: Annotated[str, typer.Option(help="A stored label set's name; what is fitted is kept in it.")],
    data: Annotated[
        Path, typer.Option(help="A folder with a folder per label, or a CSV file with the columns file and label.")
    ],
    precision: Annotated[
        float | None, typer.Option(help="Multilabel: the precision wanted of every label. [default: the best F1]")
    ] = None,
    diagram: Annotated[
        Path | None, typer.Option(help="A new PNG file: how often answers of each confidence are right.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny]")] = None,
    device: Annotated[str | None, typer.Option(help="For open_clip models: auto, cpu, cuda, mps.")] = None,
) -> None:
    """Fit a label set's temperature, or in the mode multilabel its thresholds, and say what that changes.

    The figures are of pictures that were not fitted on: each half is measured with what the other half gives. What is
    kept is fitted on all of them.
    """
    from zeroshot.cli.inputs import build_classifier
    from zeroshot.cli.rendering import working
    from zeroshot.errors import OptionError
    from zeroshot.labels import Calibration, LabelSetStore, Mode
    from zeroshot.learning.calibration import fit_temperature, fit_thresholds
    from zeroshot.learning.diagram import reliability_diagram
    from zeroshot.learning.examples import check_unseen, read_examples
    from zeroshot.output import check_new_files, write_new_files
    from zeroshot.scoring import ScoringOptions

    settings = load_settings()
    if diagram is not None:
        check_new_files([diagram])
    store = LabelSetStore(settings.home)
    chosen = store.get(label_set)
    multilabel = chosen.effective_mode is Mode.MULTILABEL
    if precision is not None and not multilabel:
        raise OptionError(
            f"--precision is for labels on their own, and those of {chosen.name} are {chosen.effective_mode}.",
            f"Leave it out, or: zeroshot labels set {chosen.name} --mode multilabel",
        )
    classifier = build_classifier(settings, model=model, device=device, precision=None)
    with working("embedding the pictures"):
        examples = read_examples(data, chosen, classifier)
    for path, reason in examples.unreadable:
        print(f"{path}: {reason}", file=sys.stderr)  # noqa: T201
    encoder = classifier.encoder
    fitted = Calibration(
        model=encoder.spec, fingerprint=encoder.fingerprint, pictures=len(examples.paths), fitted_on=data.name
    )
    head = chosen.head_for(encoder.fingerprint)
    if multilabel:
        scores = classifier.scorer(chosen).scores(examples.vectors)
        right = _with_ancestors(chosen, examples)
        thresholds = fit_thresholds(scores, right, precision=precision)
        _compare_thresholds(scores, right, precision)
        panels = [("every label of every picture", scores.ravel(), right.ravel())]
        found = {name: float(thresholds[row]) for row, name in enumerate(chosen.names) if right[:, row].any()}
        fitted = fitted.model_copy(update={"thresholds": found})
        said = f"{len(fitted.thresholds)} thresholds"
    else:
        scorer = classifier.scorer(chosen, options=ScoringOptions(Mode.MULTICLASS, temperature=1.0))
        answers = examples.single(chosen, scorer.names)
        if head is not None:
            check_unseen(examples, head, chosen.calibration_for(encoder.fingerprint), data.name)
        logits = scorer.logits(scorer.similarities(examples.vectors), examples.vectors)
        temperature = fit_temperature(logits, answers)
        panels = _compare_temperatures(logits, answers)
        fitted = fitted.model_copy(update={"temperature": temperature})
        said = f"temperature {temperature:.3g}"
    if diagram is not None:
        write_new_files({diagram: reliability_diagram(panels)})
        sys.stdout.write(f"{diagram}: how often answers of each confidence are right\n")
    kept = store.update(
        label_set.partition("@")[0],
        lambda newest: newest.with_fitted(encoder.fingerprint, fitted, head),
        what=f"calibrated for {encoder.spec} on {len(examples.paths)} pictures: {said}",
    )
    sys.stdout.write(f"{kept.name}@{kept.version}: {said}, for {encoder.spec}\n")


def _halves(count: int) -> list[tuple[IntArray, IntArray]]:
    import numpy as np

    order = np.random.default_rng(0).permutation(count)
    return [(order[::2], order[1::2]), (order[1::2], order[::2])]


def _compare_temperatures(logits: Scores, right: IntArray) -> list[tuple[str, Scores, BoolArray]]:
    """Print what the temperature changes on pictures not fitted on; give both readings' confidences and hits."""
    import numpy as np

    from zeroshot.errors import LearningError
    from zeroshot.learning.calibration import fit_temperature, measure
    from zeroshot.scoring import softmax

    before, after = softmax(logits), np.empty_like(logits)
    panels = [("untuned", before.max(axis=1), before.argmax(axis=1) == right)]
    try:
        for fit, held_out in _halves(len(right)):
            after[held_out] = softmax(logits[held_out] / fit_temperature(logits[fit], right[fit]))
    except LearningError:
        sys.stdout.write("Too few pictures to measure what this changes.\n")
        return panels
    old, new = measure(before, right), measure(after, right)
    sys.stdout.write(f"{old.pictures} pictures, accuracy {old.accuracy:.3f}   untuned   fitted\n")
    sys.stdout.write(
        f"ECE (calibration error)    {old.ece:14.3f} {new.ece:8.3f}    by chance alone {new.ece_floor:.3f}\n"
    )
    sys.stdout.write(f"NLL                        {old.nll:14.3f} {new.nll:8.3f}\n")
    sys.stdout.write(f"Brier                      {old.brier:14.3f} {new.brier:8.3f}\n")
    return [*panels, ("fitted", after.max(axis=1), after.argmax(axis=1) == right)]


def _compare_thresholds(scores: Scores, right: BoolArray, precision: float | None) -> None:
    import numpy as np

    from zeroshot.errors import LearningError
    from zeroshot.learning.calibration import fit_thresholds
    from zeroshot.statistics import f1_scores

    chosen = np.zeros_like(right)
    try:
        for fit, held_out in _halves(len(right)):
            chosen[held_out] = scores[held_out] >= fit_thresholds(scores[fit], right[fit], precision=precision)
    except LearningError:
        sys.stdout.write("Too few pictures to measure what this changes.\n")
        return
    there = right.any(axis=0)
    for what, answer in (("untuned", scores >= 0.5), ("fitted", chosen)):
        hits = (answer & right).sum(axis=0)
        f1 = f1_scores(hits, answer.sum(axis=0), right.sum(axis=0))
        share = hits.sum() / max(1, int(answer.sum()))
        sys.stdout.write(f"{what:7}  macro-F1 {f1[there].mean():.3f}  precision {share:.3f}\n")


def _with_ancestors(label_set: LabelSet, examples: Examples) -> BoolArray:
    """What is a cat is an animal too."""
    right = examples.right.copy()
    for row in range(len(label_set.labels)):
        for above in label_set.hierarchy.path(row):
            right[:, above] |= examples.right[:, row]
    return right
