"""``zeroshot fit``: a head from a few labelled pictures, kept in a stored label set."""

from __future__ import annotations

import csv
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.learning.fitting import Fit
    from zeroshot.scoring import Scores


def fit(
    label_set: Annotated[str, typer.Option(help="A stored label set's name; what is learnt is kept in it.")],
    data: Annotated[
        Path, typer.Option(help="A folder with a folder per label, or a CSV file with the columns file and label.")
    ],
    unlabelled: Annotated[
        Path | None, typer.Option(help="A folder of pictures without labels; the labels are spread to them.")
    ] = None,
    propagated: Annotated[
        Path | None,
        typer.Option(help="A new CSV file for what the unlabelled pictures were taken for, and how surely."),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Let labels without pictures keep what their text says.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny]")] = None,
    device: Annotated[str | None, typer.Option(help="For open_clip models: auto, cpu, cuda, mps.")] = None,
) -> None:
    """Learn from a few labelled pictures, and say what that gains on pictures left out.

    One to twenty pictures per label are enough. A head that is no better than the text alone on pictures left out is
    not kept.
    """
    import numpy as np

    from zeroshot.cli.inputs import build_classifier, embed_pictures
    from zeroshot.cli.rendering import working
    from zeroshot.errors import LearningError, OptionError
    from zeroshot.labels import Calibration, LabelSetStore, Mode
    from zeroshot.learning.examples import read_examples
    from zeroshot.learning.fitting import fit_head
    from zeroshot.learning.probe import Lesson
    from zeroshot.output import check_new_files, write_new_files
    from zeroshot.scoring import ScoringOptions

    settings = load_settings()
    if propagated is not None:
        if unlabelled is None:
            raise OptionError("Without --unlabelled nothing is propagated.", "Add it, or leave --propagated out.")
        check_new_files([propagated])
    store = LabelSetStore(settings.home)
    chosen = store.get(label_set)
    if chosen.effective_mode is Mode.MULTILABEL or len(chosen.labels) < 2:
        raise LearningError(
            f"The labels of {chosen.name} do not exclude each other, and a head tells labels apart.",
            "Fit their thresholds instead: zeroshot calibrate.",
        )
    classifier = build_classifier(settings, model=model, device=device, precision=None)
    with working("embedding the pictures"):
        examples = read_examples(data, chosen, classifier)
    paths, vectors = ([], None) if unlabelled is None else embed_pictures([str(unlabelled)], classifier)
    if unlabelled is not None and vectors is None:
        raise LearningError(f"{unlabelled} holds no picture that can be used.", "Give a folder of pictures.")
    for path, reason in examples.unreadable:
        print(f"{path}: {reason}", file=sys.stderr)  # noqa: T201
    encoder = classifier.encoder
    inputs = classifier.scorer(chosen, options=ScoringOptions(Mode.MULTICLASS)).inputs
    right = examples.single(chosen, inputs.names)
    lesson = Lesson(inputs.matrix, encoder.logit_scale, examples.vectors, right, np.ones(len(right)))
    with working("fitting"):
        fitted = fit_head(
            lesson,
            inputs.names,
            model=encoder.spec,
            fingerprint=encoder.fingerprint,
            unlabelled=vectors,
            partial=partial,
        )
    _report(fitted, len(paths))
    if propagated is not None and fitted.propagated is not None:
        table = _table(propagated.absolute().parent, paths, fitted.propagated, inputs.names)
        write_new_files({propagated: table.encode()})
        sys.stdout.write(f"{propagated}: what the unlabelled pictures were taken for\n")
    if not fitted.is_gain:
        sys.stdout.write(f"On pictures left out it is no better than the text alone: {chosen.name} stays as it is.\n")
        return
    old = chosen.calibration_for(encoder.fingerprint)
    tempered = Calibration(
        model=encoder.spec,
        fingerprint=encoder.fingerprint,
        temperature=fitted.temperature,
        thresholds={} if old is None else old.thresholds,
        pictures=len(right),
        fitted_on=data.name,
    )
    kept = store.update(
        label_set.partition("@")[0],
        lambda newest: newest.with_fitted(encoder.fingerprint, tempered, fitted.head),
        what=f"fitted for {encoder.spec}: {fitted.head.made_of}",
    )
    sys.stdout.write(f"{kept.name}@{kept.version}: {fitted.head.made_of}, for {encoder.spec}\n")


def _report(fitted: Fit, unlabelled: int) -> None:
    measured = fitted.head.measured
    if measured is None:
        sys.stdout.write("Too few pictures to measure anything: a cautious blend is used, and no gain is claimed.\n")
        if unlabelled:
            sys.stdout.write("The unlabelled pictures were not used: what they add could not be measured either.\n")
        return
    low, high = (100 * share for share in (measured.gain_low, measured.gain_high))
    gain = 100 * (measured.accuracy - measured.zero_shot)
    beyond = "more than chance" if low > 0 else "chance alone could give that"
    sys.stdout.write(
        f"{measured.pictures} pictures, each left out in turn   text alone   fitted\n"
        f"accuracy {measured.zero_shot:39.3f} {measured.accuracy:8.3f}\n"
        f"gain {gain:+.1f} points, 95 % between {low:+.1f} and {high:+.1f}: {beyond}\n"
    )


def _table(folder: Path, paths: list[str], confidence: Scores, names: tuple[str, ...]) -> str:
    """Surest first."""
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["file", "label", "confidence"])
    for row in (-confidence.max(axis=1)).argsort(kind="stable"):
        best = int(confidence[row].argmax())
        writer.writerow([os.path.relpath(paths[row], folder), names[best], f"{confidence[row, best]:.4f}"])
    return content.getvalue()
