"""``zeroshot gallery``: what is done to a whole collection of images."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings, print_json
from zeroshot.errors import GalleryCorrupt

gallery_app = typer.Typer(no_args_is_help=True, help="Collections of images: describe, check, re-label, move, delete.")


@gallery_app.command("list")
def list_galleries(json_lines: options.JsonOption = False) -> None:
    """List the galleries."""
    from zeroshot.gallery import gallery_names, summarise

    home = load_settings().home
    for name in gallery_names(home):
        try:
            found = summarise(home, name)
        except GalleryCorrupt as error:  # one that is damaged hides no other
            print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
            continue
        if json_lines:
            print_json(asdict(found))
        else:
            sys.stdout.write(f"{found.count:12,}  {name}  ({found.model})\n")


@gallery_app.command()
def info(
    name: options.GalleryArgument, model: options.ModelOption = None, json_lines: options.JsonOption = False
) -> None:
    """Say what a gallery holds, and how it is indexed."""
    from zeroshot.cli.inputs import open_gallery

    with open_gallery(name, model) as gallery:
        facts = {"name": name, **asdict(gallery.statistics()), "folder": str(gallery.folder)}
    if json_lines:
        print_json(facts)
        return
    for key, value in facts.items():
        if value is not None and value != {}:
            sys.stdout.write(f"{key:12} {_readable(key, value)}\n")


def _readable(key: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{field} ({count:,})" for field, count in value.items())
    if key.endswith("_added") and isinstance(value, float):
        return datetime.fromtimestamp(value).astimezone().isoformat(" ", "seconds")
    return f"{value:,}" if isinstance(value, int) else str(value)


@gallery_app.command()
def verify(
    name: options.GalleryArgument, model: options.ModelOption = None, json_lines: options.JsonOption = False
) -> None:
    """Check every page, row and vector of a gallery against its index; rebuild the index if they differ."""
    from zeroshot.cli.inputs import open_gallery

    with open_gallery(name, model) as gallery:
        found = gallery.verify()
    if json_lines:
        print_json({"name": name, **asdict(found), "repaired": found.repaired})
        return
    state = (
        f"the index lacked {found.missing:,}, had {found.surplus:,} too many and {found.different:,} wrong; repaired"
        if found.repaired
        else "the index has every one of them"
    )
    sys.stdout.write(f"{name}: {found.count:,} images, all sound; {state}; recall {found.recall:.3f}\n")


@gallery_app.command()
def compact(
    name: options.GalleryArgument,
    quantization: Annotated[
        str | None, typer.Option(help="float16 or int8: build the index, with so much memory per number.")
    ] = None,
    model: options.ModelOption = None,
) -> None:
    """Reclaim the disk space of deleted images, and build the index of a large gallery anew."""
    from zeroshot.cli.inputs import open_gallery

    with open_gallery(name, model) as gallery:
        before = gallery.statistics().bytes
        gallery.compact(quantization=quantization)
        after = gallery.statistics().bytes
    sys.stdout.write(f"{name}: {before:,} bytes before, {after:,} after\n")


@gallery_app.command()
def duplicates(
    name: options.GalleryArgument,
    min_similarity: Annotated[float, typer.Option(help="How similar two images of a group are at least.")] = 0.95,
    model: options.ModelOption = None,
    json_lines: options.JsonOption = False,
) -> None:
    """Find near-duplicates, in groups."""
    from zeroshot.cli.inputs import open_gallery

    with open_gallery(name, model) as gallery:
        groups = gallery.duplicates(min_similarity=min_similarity)
    for number, group in enumerate(groups, start=1):
        if json_lines:
            print_json({"ids": group})
        else:
            sys.stdout.writelines(f"{number}  {id_}\n" for id_ in group)


@gallery_app.command()
def classify(
    name: options.GalleryArgument,
    labels: options.LabelsOption = None,
    labels_file: options.LabelsFileOption = None,
    label_set: options.LabelSetOption = None,
    templates: options.TemplatesOption = None,
    mode: options.ModeOption = None,
    threshold: options.ThresholdOption = None,
    temperature: options.TemperatureOption = None,
    unknown: options.UnknownOption = False,
    model: options.ModelOption = None,
    json_lines: options.JsonOption = False,
) -> None:
    """Re-label a whole gallery: how many images each label gets, from stored vectors alone."""
    from zeroshot.cli.inputs import choose_labels, open_gallery
    from zeroshot.prompts import load_templates

    chosen = choose_labels(labels, labels_file, label_set, load_settings().home)
    with open_gallery(name, model) as gallery:
        counts = gallery.classify(
            chosen,
            templates=None if templates is None else load_templates(templates),
            mode=mode,
            threshold=threshold,
            temperature=temperature,
            unknown=unknown,
        )
    for row in counts:
        if json_lines:
            examples = [{"id": one, "score": score} for one, score in row.examples]
            print_json({"label": row.label, "count": row.count, "examples": examples})
        else:
            best = f"  {row.examples[0][0]}" if row.examples else ""
            sys.stdout.write(f"{row.count:8,}  {row.label}{best}\n")


@gallery_app.command("export")
def export_command(
    name: options.GalleryArgument,
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    model: options.ModelOption = None,
) -> None:
    """Write items and vectors as Parquet and NumPy files, which clip-retrieval reads too."""
    from zeroshot.cli.inputs import open_gallery
    from zeroshot.cli.rendering import progress
    from zeroshot.gallery.transfer import export_gallery

    with open_gallery(name, model) as gallery, progress(len(gallery)) as advance:
        count = export_gallery(gallery, folder, on_progress=advance)
    sys.stdout.write(f"{name}: {count:,} images written to {folder}\n")


@gallery_app.command("import")
def import_command(
    name: options.GalleryArgument,
    folder: Annotated[Path, typer.Argument(help="What zeroshot gallery export or clip-retrieval inference wrote.")],
    replace: Annotated[bool, typer.Option(help="Replace images whose ids are known.")] = False,
    model: options.ModelOption = None,
) -> None:
    """Add exported items and vectors to a gallery, made if there is none; the model must be the same."""
    from zeroshot.cli.inputs import open_gallery
    from zeroshot.cli.rendering import progress
    from zeroshot.gallery.transfer import count_rows, import_gallery

    with open_gallery(name, model, create=True) as gallery:
        with progress(count_rows(folder)) as advance:
            count = import_gallery(gallery, folder, replace=replace, on_progress=advance)
        gallery.wait_for_index()
    sys.stdout.write(f"{name}: {count:,} images imported\n")


@gallery_app.command()
def delete(
    name: options.GalleryArgument,
    yes: options.YesOption = False,
) -> None:
    """Delete a gallery; the images' files stay where they are."""
    from zeroshot.gallery import delete_gallery, gallery_names

    home = load_settings().home
    if name in gallery_names(home) and not yes:
        typer.confirm(f"Delete the gallery {name!r} and all its vectors?", abort=True)
    delete_gallery(home, name)
