"""``zeroshot index`` and ``zeroshot search``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings, print_json
from zeroshot.errors import ImageError, OptionError, quote

if TYPE_CHECKING:
    from zeroshot.gallery import Hit


def index(
    paths: Annotated[list[str], typer.Argument(help="Folders, files or globs of images.")],
    name: options.GalleryOption,
    model: options.ModelOption = None,
    prune: Annotated[bool, typer.Option(help="Remove images whose files are gone from the folders named.")] = False,
) -> None:
    """Put images into a gallery; only new and changed files are read.

    Interrupt it whenever you like: what is done is kept, and the next call goes on. Exit code 1 when some images
    could not be read.
    """
    from zeroshot.cli.inputs import find_images, limits_from, open_gallery
    from zeroshot.cli.rendering import progress, show_problems
    from zeroshot.datasets import Problem
    from zeroshot.gallery.ingest import index_files

    settings = load_settings()
    found = find_images(paths, limits_from(settings))
    files = [os.path.abspath(p.source) for p in found if isinstance(p.source, str)]  # noqa: PTH100 (links are kept)
    within = [os.path.abspath(path) for path in paths if Path(path).is_dir()]  # noqa: PTH100
    with open_gallery(name, model, create=True) as gallery:
        with progress(len(files)) as advance:
            report = index_files(
                gallery, files, within=within, prune=prune, limits=limits_from(settings), on_progress=advance,
                batch_size=settings.batch_size,
            )  # fmt: skip
        if gallery.needs_index:
            print(f"{name}: building the index of {len(gallery):,} images ...", file=sys.stderr)  # noqa: T201
        gallery.wait_for_index()
        unreadable = report.unreadable + [(p.path, p.source) for p in found if isinstance(p.source, ImageError)]
        show_problems([Problem(path, str(error)) for path, error in unreadable])
        for path in report.missing if not prune else ():
            print(f"{path}: no longer there; --prune removes it from the gallery.", file=sys.stderr)  # noqa: T201
        sys.stdout.write(
            f"{name}: {len(gallery):,} images ({report.added:,} added, {report.replaced:,} replaced, "
            f"{report.unchanged:,} unchanged, {report.pruned:,} removed, {len(unreadable):,} unreadable)\n"
        )
    if unreadable:
        raise typer.Exit(1)


def search(
    text: Annotated[str | None, typer.Argument(help="A sentence: red sports car.")] = None,
    name: options.GalleryOption = "default",
    image: Annotated[list[str] | None, typer.Option(help="An image that the results should look like.")] = None,
    id: Annotated[list[str] | None, typer.Option(help="A stored image's id.")] = None,
    minus: Annotated[list[str] | None, typer.Option(help="A sentence to move away from.")] = None,
    plus: Annotated[
        list[str] | None, typer.Option(help="A further sentence; as every other, '2:snow' counts twice.")
    ] = None,
    where: Annotated[str | None, typer.Option(help='A filter on metadata, in JSON: {"year": {"gte": 2020}}.')] = None,
    top: options.TopKOption = 10,
    min_similarity: Annotated[float | None, typer.Option(help="Leave out what is less similar.")] = None,
    exact: Annotated[bool, typer.Option(help="Compare with every image, however many there are.")] = False,
    open_html: Annotated[bool, typer.Option("--open", help="Show the images in the browser.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the images into this HTML file.")] = None,
    model: options.ModelOption = None,
    json_lines: options.JsonOption = False,
) -> None:
    """Find images in a gallery by sentence, by image, by example, or by a weighted sum of them.

    A weight stands before a colon: --plus "0.5:at night". Without one it is 1, and -1 for --minus.
    """
    from zeroshot.cli.inputs import open_gallery, read_filter
    from zeroshot.gallery import Query

    queries, words_used = ([Query(text=text)], [text]) if text is not None else ([], [])
    for key, words, sign in (("text", plus, 1), ("image", image, 1), ("id", id, 1), ("text", minus, -1)):
        for word in words or []:
            weight, what = _weighted(word)
            queries.append(Query(**{key: what}, weight=sign * weight))  # type: ignore[arg-type]
            words_used.append(("- " if sign < 0 else "+ ") + word)
    with open_gallery(name, model) as gallery:
        hits = gallery.search(queries, top_k=top, min_similarity=min_similarity, where=read_filter(where), exact=exact)
    for hit in hits:
        if json_lines:
            item = hit.item
            print_json({
                "id": item.id, "similarity": hit.similarity, "uri": item.uri, "sha256": item.sha256,
                "width": item.width, "height": item.height, "metadata": item.metadata,
            })  # fmt: skip
        else:
            sys.stdout.write(f"{hit.similarity:+.3f}  {hit.item.id}\n")
    if open_html or html is not None:
        _show(f"{name}: {' '.join(words_used)}", hits, html, open_html)


def _weighted(word: str) -> tuple[float, str]:
    """A number and a colon before the rest; a Windows drive, a URL or an id with a colon is no weight."""
    before, colon, rest = word.partition(":")
    try:
        weight = float(before)
    except ValueError:
        return 1.0, word
    if not colon:
        return 1.0, word
    if not 0 < weight < 1e6 or not rest:
        raise OptionError(f"The weight of {quote(word)} is out of range.", "Write for example 0.5:at night.")
    return weight, rest


def _show(title: str, hits: Sequence[Hit], html: Path | None, open_html: bool) -> None:
    import tempfile

    from zeroshot.cli.inputs import limits_from
    from zeroshot.contact_sheet import Entry, contact_sheet

    entries = [Entry(hit.item.uri, f"{hit.similarity:+.3f}", hit.item.id, _link(hit.item.uri)) for hit in hits]
    if html is None:
        handle, name = tempfile.mkstemp(prefix="zeroshot-", suffix=".html")
        os.close(handle)
        html = Path(name)
    try:
        html.write_text(contact_sheet(title, [("", entries)], limits_from(load_settings())), encoding="utf-8")
    except OSError as error:
        raise OptionError(
            f"{html} cannot be written: {error.strerror}.",
            "Give a file in a folder that can be written to.",
            field="html",
        ) from error
    print(f"contact sheet: {html}", file=sys.stderr)  # noqa: T201
    if open_html:
        typer.launch(html.absolute().as_uri())


def _link(uri: str | None) -> str | None:
    if uri is None or not Path(uri).is_absolute():
        return uri if uri is not None and uri.startswith(("http://", "https://")) else None
    return Path(uri).as_uri()
