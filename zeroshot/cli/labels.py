"""``zeroshot labels``: label sets that are kept, versioned, under a name."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings, print_json

if TYPE_CHECKING:
    from zeroshot.labels import LabelSet, LabelSetStore

labels_app = typer.Typer(no_args_is_help=True, help="Label sets: check files, keep sets under a name, change them.")

NameArgument = Annotated[str, typer.Argument(help="The label set's name.")]


@labels_app.command()
def validate(file: Annotated[Path, typer.Argument(help="A label set in YAML or JSON.")]) -> None:
    """Check a file; what is wrong is shown with its line and column."""
    from zeroshot.labels import load_label_set

    found = load_label_set(file)
    sys.stdout.write(f"{file}: {found.name}, {len(found.labels):,} labels, {found.effective_mode}\n")


@labels_app.command()
def schema() -> None:
    """Print the JSON Schema of label-set files, for editors that check while typing."""
    import json

    from zeroshot.labels import LabelSetFile

    sys.stdout.write(json.dumps(LabelSetFile.model_json_schema(), indent=2) + "\n")


@labels_app.command()
def create(
    name: NameArgument,
    labels: options.LabelsOption = None,
    labels_file: options.LabelsFileOption = None,
    mode: options.ModeOption = None,
    threshold: options.ThresholdOption = None,
    templates: options.TemplatesOption = None,
) -> None:
    """Keep labels under a name; --label-set NAME then uses them."""
    from zeroshot.cli.inputs import choose_labels

    chosen = choose_labels(labels, labels_file, None, load_settings().home)
    _done(_store().create(_changed(replace(chosen, name=name), mode, threshold, templates)))


@labels_app.command("list")
def list_sets(json_lines: options.JsonOption = False) -> None:
    """List the stored and the shipped label sets."""
    from zeroshot.labels import label_set_names

    for found in _store().summaries():
        if json_lines:
            print_json(asdict(found))
        else:
            sys.stdout.write(f"{found.count:8,}  {found.name}@{found.version}  {_when(found.changed)}\n")
    for shipped in label_set_names():
        if json_lines:
            print_json({"name": shipped, "shipped": True})
        else:
            sys.stdout.write(f"          {shipped}  shipped\n")


@labels_app.command()
def show(
    name: Annotated[str, typer.Argument(help="A stored set, 'pets' or 'pets@3', a shipped one, or a file.")],
    history: Annotated[bool, typer.Option("--history", help="Show what was done to a stored set instead.")] = False,
    json_output: options.JsonOption = False,
) -> None:
    """Show a label set in the form of a file."""
    from zeroshot.labels import LabelSetFile, find_label_set
    from zeroshot.labels.exporting import to_yaml

    store = _store()
    if history:
        for line in store.history(name):
            if json_output:
                print_json(asdict(line))
            else:
                sys.stdout.write(f"{line.version:6}  {_when(line.changed)}  {line.change}\n")
        return
    data = LabelSetFile.of(find_label_set(name, store)).as_data()
    if json_output:
        print_json(data)
    else:
        sys.stdout.write(to_yaml(data))


@labels_app.command()
def rename(name: NameArgument, new: Annotated[str, typer.Argument(help="A free name.")]) -> None:
    """Give a stored set another name; its versions stay."""
    store = _store()
    store.rename(name, new)
    _done(store.get(new))


@labels_app.command()
def copy(
    source: Annotated[str, typer.Argument(help="A stored set, 'pets' or 'pets@3', or a shipped one.")],
    new: Annotated[str, typer.Argument(help="A free name.")],
) -> None:
    """Store a copy of a set under another name."""
    from zeroshot.labels import find_label_set

    store = _store()
    _done(store.create(replace(find_label_set(source, store, files=False), name=new), change=f"copied from {source}"))


@labels_app.command()
def add(
    name: NameArgument,
    labels: Annotated[list[str], typer.Argument(help="New labels.")],
    parent: Annotated[str | None, typer.Option(help="The label that they are kinds of.")] = None,
) -> None:
    """Add labels to a stored set; the next answer knows them."""
    from zeroshot.labels import Label

    _done(_store().add(name, [Label(label, parent=parent) for label in labels]))


@labels_app.command()
def remove(name: NameArgument, labels: Annotated[list[str], typer.Argument(help="Names or aliases.")]) -> None:
    """Take labels out of a stored set."""
    _done(_store().remove(name, labels))


@labels_app.command("set")
def set_options(
    name: NameArgument,
    mode: options.ModeOption = None,
    threshold: options.ThresholdOption = None,
    templates: options.TemplatesOption = None,
) -> None:
    """Change how a stored set is asked about."""
    _done(_store().update(name, lambda old: _changed(old, mode, threshold, templates), what="options changed"))


@labels_app.command()
def delete(name: NameArgument, yes: options.YesOption = False) -> None:
    """Delete a stored set with all its versions."""
    store = _store()
    if name in store and not yes:
        typer.confirm(f"Delete the label set {name!r} and all its versions?", abort=True)
    store.delete(name)


@labels_app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="A label set in YAML or JSON.")],
    name: Annotated[str | None, typer.Option(help="Another name than the file's.")] = None,
    replace_it: Annotated[bool, typer.Option("--replace", help="Make it the next version of a stored set.")] = False,
) -> None:
    """Store the label set of a file."""
    from zeroshot.labels import load_label_set

    found = load_label_set(file)
    found = replace(found, name=name or found.name)
    store, what = _store(), f"imported from {file.name}"
    if replace_it and found.name in store:
        _done(store.update(found.name, lambda _: found, what=what))
    else:
        _done(store.create(found, change=what))


@labels_app.command("export")
def export_command(
    name: Annotated[str, typer.Argument(help="A stored set, 'pets' or 'pets@3', or a shipped one.")],
    file: Annotated[Path, typer.Argument(help="A new YAML file.")],
) -> None:
    """Write a label set to a file; what was fitted goes into .npz files beside it."""
    from zeroshot.labels import find_label_set
    from zeroshot.labels.exporting import export_label_set

    for path in export_label_set(find_label_set(name, _store(), files=False), file):
        sys.stdout.write(f"{path}\n")


def _store() -> LabelSetStore:
    from zeroshot.labels import LabelSetStore

    return LabelSetStore(load_settings().home)


def _changed(label_set: LabelSet, mode: str | None, threshold: float | None, templates: str | None) -> LabelSet:
    """The set with what was given; None leaves it as it is."""
    from zeroshot.prompts import load_templates
    from zeroshot.scoring.options import to_mode

    return replace(
        label_set,
        mode=to_mode(mode) or label_set.mode,
        threshold=label_set.threshold if threshold is None else threshold,
        templates=label_set.templates if templates is None else load_templates(templates),
    )


def _done(label_set: LabelSet) -> None:
    from zeroshot.labels.distinct import emit_warnings, name_warnings

    emit_warnings(name_warnings(label_set.labels))
    sys.stdout.write(f"{label_set.name}@{label_set.version}: {len(label_set.labels):,} labels\n")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
