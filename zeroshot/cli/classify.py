"""``zeroshot classify``: images and labels in, ranked labels out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.cli.inputs import ImageInput
    from zeroshot.errors import ImageError
    from zeroshot.explanation import Explanation
    from zeroshot.labels import LabelSet
    from zeroshot.scoring import Classification


def classify(
    paths: Annotated[
        list[str], typer.Argument(help="Images: files, folders, globs, URLs, or - for one on standard input.")
    ],
    labels: options.LabelsOption = None,
    labels_file: options.LabelsFileOption = None,
    label_set: options.LabelSetOption = None,
    templates: options.TemplatesOption = None,
    mode: options.ModeOption = None,
    threshold: options.ThresholdOption = None,
    temperature: options.TemperatureOption = None,
    unknown: options.UnknownOption = False,
    explained: Annotated[
        bool, typer.Option("--explain", help="Say which prompts are nearest, what comes next, and by how much.")
    ] = False,
    heat_map: Annotated[
        Path | None, typer.Option(help="A new PNG file, for one image: where in it the answer is seen.")
    ] = None,
    top: options.TopKOption = 5,
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
    precision: options.PrecisionOption = None,
    threads: options.ThreadsOption = None,
    json_lines: options.JsonOption = False,
) -> None:
    """Classify images under labels given as text.

    Exit code 0; 1 when some images could not be classified; 2 for wrong usage.
    """
    from zeroshot.cli.inputs import build_classifier, choose_labels, find_images, limits_from
    from zeroshot.cli.rendering import Renderer, progress, working
    from zeroshot.errors import OptionError
    from zeroshot.output import check_new_files
    from zeroshot.prompts import load_templates

    settings = load_settings()
    chosen = choose_labels(labels, labels_file, label_set, settings.home)
    images = find_images(paths, limits_from(settings))
    if heat_map is not None:
        check_new_files([heat_map])
        if len(images) != 1:
            raise OptionError(f"A heat map is of one image; {len(images)} were given.", "Name one image file.")
    with working(f"loading {model or settings.model}"):
        classifier = build_classifier(settings, model=model, device=device, precision=precision, threads=threads)
    asked: dict[str, Any] = {
        "templates": None if templates is None else load_templates(templates),
        "top_k": top,
        "mode": mode,
        "threshold": threshold,
        "temperature": temperature,
        "unknown": unknown,
    }
    outcomes: Iterator[Classification | Explanation | ImageError]
    with working(f"embedding {len(chosen.labels):,} labels"):
        if explained or heat_map is not None:
            outcomes = _explained(classifier, images, chosen, asked, heat_map)
        else:
            sources = (image.source for image in images)
            stream = classifier.classify_stream(sources, chosen, batch_size=settings.batch_size, **asked)
            outcomes = (outcome for _, outcome in stream)
    renderer = Renderer()
    failures = 0
    with progress(len(images)) as advance:
        for image, outcome in zip(images, outcomes, strict=True):
            failures += isinstance(outcome, Exception)
            if json_lines:
                print_json(_record(image.path, outcome, chosen, classifier.encoder.spec))
            else:
                renderer.show(image.path, outcome)
            advance()
    if failures:
        if len(images) > 1 and not json_lines:
            print(f"{failures} of {len(images)} images could not be classified.", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1)


def _explained(
    classifier: ZeroShotClassifier,
    images: list[ImageInput],
    chosen: LabelSet,
    asked: dict[str, Any],
    heat_map: Path | None,
) -> Iterator[Explanation | ImageError]:
    """Explain one image after the other; write the heat map, if there is to be one."""
    import io

    from zeroshot.errors import ImageError
    from zeroshot.explanation import explain
    from zeroshot.output import write_new_files

    for image in images:
        if isinstance(image.source, ImageError):
            yield image.source
            continue
        try:
            found = explain(classifier, image.source, chosen, heat_map=heat_map is not None, **asked)
        except ImageError as error:
            yield error
            continue
        if heat_map is not None and found.heat_map is not None:
            content = io.BytesIO()
            found.heat_map.overlay().save(content, "PNG")
            write_new_files({heat_map: content.getvalue()})
        yield found


def _record(
    path: str, outcome: Classification | Explanation | ImageError, label_set: LabelSet, model: str
) -> dict[str, Any]:
    from zeroshot.scoring import Classification

    if isinstance(outcome, Exception):
        return {"path": path, "error": {"type": outcome.type, "message": str(outcome)}}
    answer = outcome if isinstance(outcome, Classification) else outcome.answer
    record: dict[str, Any] = {
        "path": path,
        "mode": answer.mode.value,
        "labels": list(answer.labels),
        "predictions": [asdict(p) for p in answer.predictions],
    }
    if answer.mode.value == "hierarchical":
        record["levels"] = [asdict(level) for level in answer.levels]
    if not isinstance(outcome, Classification):
        record["explanation"] = {
            "chosen": [asdict(reasons) for reasons in outcome.chosen],
            "runner_up": None if outcome.runner_up is None else asdict(outcome.runner_up),
            "margin": outcome.margin,
        }
        if outcome.heat_map is not None:
            record["explanation"]["heat_map"] = outcome.heat_map.drops.round(4).tolist()
    if label_set.version is not None:
        record["label_set"] = f"{label_set.name}@{label_set.version}"
    return {**record, "model": model}
