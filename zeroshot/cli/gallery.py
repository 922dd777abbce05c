"""``zeroshot index``, ``zeroshot search`` and ``zeroshot gallery``: collections of pictures."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.errors import OptionError, quote
from zeroshot.settings import load_settings

if TYPE_CHECKING:
    from zeroshot.gallery import Gallery

ModelOption = Annotated[str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny]")]
NameOption = Annotated[str, typer.Option("--gallery", help="The gallery's name.")]

gallery_app = typer.Typer(no_args_is_help=True, help="List, describe, verify, re-label and delete galleries.")


def index(
    paths: Annotated[list[str], typer.Argument(help="Folders, files or globs of pictures.")],
    name: NameOption,
    model: ModelOption = None,
    prune: Annotated[bool, typer.Option(help="Remove pictures whose files are gone from the folders named.")] = False,
) -> None:
    """Put pictures into a gallery; only new and changed files are read.

    Interrupt it whenever you like: what is done is kept, and the next call goes on. Exit code 1 when some pictures
    could not be read.
    """
    from zeroshot.cli.inputs import find_pictures, limits_from
    from zeroshot.cli.rendering import progress
    from zeroshot.errors import ImageError
    from zeroshot.gallery.indexing import index_files

    limits = limits_from(load_settings())
    found = find_pictures(paths, limits)
    files = [os.path.abspath(p.source) for p in found if isinstance(p.source, str)]  # noqa: PTH100 (links are kept)
    within = [os.path.abspath(path) for path in paths if Path(path).is_dir()]  # noqa: PTH100
    with _open(name, model, create=True) as gallery:
        with progress(len(files), shown=True) as advance:
            report = index_files(
                gallery, files, within=within, prune=prune, limits=limits, on_progress=advance,
                batch_size=load_settings().batch_size,
            )  # fmt: skip
        if gallery.needs_index:
            print(f"{name}: building the index of {len(gallery):,} pictures ...", file=sys.stderr)  # noqa: T201
        gallery.settle()
        unreadable = report.unreadable + [(p.path, p.source) for p in found if isinstance(p.source, ImageError)]
        for path, error in unreadable:
            print(f"{path}: {error}", file=sys.stderr)  # noqa: T201
        for path in report.missing if not prune else ():
            print(f"{path}: no longer there; --prune removes it from the gallery.", file=sys.stderr)  # noqa: T201
        sys.stdout.write(
            f"{name}: {len(gallery):,} pictures ({report.added:,} added, {report.replaced:,} replaced, "
            f"{report.unchanged:,} unchanged, {report.pruned:,} removed, {len(unreadable):,} unreadable)\n"
        )
    if unreadable:
        raise typer.Exit(1)


def search(
    text: Annotated[str | None, typer.Argument(help="A sentence: red sports car.")] = None,
    name: NameOption = "default",
    image: Annotated[list[str] | None, typer.Option(help="A picture that the results should look like.")] = None,
    id: Annotated[list[str] | None, typer.Option(help="A stored picture's id.")] = None,
    minus: Annotated[list[str] | None, typer.Option(help="A sentence to move away from.")] = None,
    where: Annotated[str | None, typer.Option(help='A filter on metadata, in JSON: {"year": {"gte": 2020}}.')] = None,
    top: Annotated[int, typer.Option(min=1, help="How many pictures to show.")] = 10,
    min_similarity: Annotated[float | None, typer.Option(help="Leave out what is less similar.")] = None,
    model: ModelOption = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object per picture and line.")] = False,
) -> None:
    """Find pictures in a gallery by sentence, by picture, by example, or by a sum of them."""
    from zeroshot.gallery import Query

    queries = [Query(text=text)] if text is not None else []
    queries += [Query(image=path) for path in image or []] + [Query(id=one) for one in id or []]
    queries += [Query(text=sentence, weight=-1.0) for sentence in minus or []]
    with _open(name, model) as gallery:
        hits = gallery.search(queries, top_k=top, min_similarity=min_similarity, where=_filter(where))
    for hit in hits:
        if json_lines:
            _print_json({"id": hit.item.id, "similarity": hit.similarity, **_facts(asdict(hit.item))})
        else:
            sys.stdout.write(f"{hit.similarity:+.3f}  {hit.item.id}\n")


@gallery_app.command("list")
def list_galleries() -> None:
    """List the galleries."""
    from zeroshot.gallery import gallery_names

    for name in gallery_names(load_settings().home):
        sys.stdout.write(f"{name}\n")


@gallery_app.command()
def info(
    name: Annotated[str, typer.Argument(help="The gallery's name.")],
    model: ModelOption = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a gallery holds."""
    with _open(name, model) as gallery:
        size = sum(path.stat().st_size for path in gallery.folder.iterdir())
        facts = {
            "name": name,
            "count": len(gallery),
            "model": gallery.encoder.spec,
            "fingerprint": gallery.encoder.fingerprint,
            "dim": gallery.encoder.dim,
            "bytes": size,
            "folder": str(gallery.folder),
        }
    if json_lines:
        _print_json(facts)
    else:
        sys.stdout.writelines(f"{key:12} {value}\n" for key, value in facts.items())


@gallery_app.command()
def verify(name: Annotated[str, typer.Argument(help="The gallery's name.")], model: ModelOption = None) -> None:
    """Read every page and every vector of a gallery and check them."""
    with _open(name, model) as gallery:
        found = gallery.verify()
    sys.stdout.write(f"{name}: {found.count:,} pictures, every vector's checksum holds\n")


@gallery_app.command()
def classify(
    name: Annotated[str, typer.Argument(help="The gallery's name.")],
    labels: Annotated[str | None, typer.Option(help='Comma-separated: "cat,dog,cup of coffee".')] = None,
    labels_file: Annotated[Path | None, typer.Option(help="A text file with one label per line.")] = None,
    label_set: Annotated[str | None, typer.Option(help="A shipped label set's name, or a YAML or JSON file.")] = None,
    model: ModelOption = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object per label and line.")] = False,
) -> None:
    """Re-label a whole gallery: how many pictures each label gets, from stored vectors alone."""
    from zeroshot.cli.inputs import choose_labels

    chosen = choose_labels(labels, labels_file, label_set)
    with _open(name, model) as gallery:
        counts = gallery.classify(chosen)
    for row in counts:
        if json_lines:
            examples = [{"id": one, "score": score} for one, score in row.examples]
            _print_json({"label": row.label, "count": row.count, "examples": examples})
        else:
            best = f"  {row.examples[0][0]}" if row.examples else ""
            sys.stdout.write(f"{row.count:8,}  {row.label}{best}\n")


@gallery_app.command()
def delete(
    name: Annotated[str, typer.Argument(help="The gallery's name.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a gallery; the pictures' files stay where they are."""
    from zeroshot.gallery import delete_gallery, gallery_names

    home = load_settings().home
    if name in gallery_names(home) and not yes:
        typer.confirm(f"Delete the gallery {name!r} and all its vectors?", abort=True)
    delete_gallery(home, name)


def _open(name: str, model: str | None, *, create: bool = False) -> Gallery:
    from zeroshot.cli.inputs import build_cache, limits_from
    from zeroshot.encoders import load_encoder
    from zeroshot.gallery import Gallery

    settings = load_settings()
    encoder = load_encoder(
        model or settings.model,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        batch_size=settings.batch_size,
    )
    return Gallery(
        settings.home, name, encoder, create=create, limits=limits_from(settings), cache=build_cache(settings)
    )


def _filter(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise OptionError(
            f"--where {quote(text)} is not JSON: {error}.", 'For example: {"colour": "red"}.', field="where"
        ) from error


def _facts(item: dict[str, Any]) -> dict[str, Any]:
    return {key: item[key] for key in ("uri", "sha256", "width", "height", "metadata")}


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
