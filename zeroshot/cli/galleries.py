"""What the gallery commands share."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zeroshot.cli.options import build_encoder, load_settings
from zeroshot.errors import OptionError, quote

if TYPE_CHECKING:
    from zeroshot.gallery import Gallery

ModelOption = Annotated[
    str | None, typer.Option(help="Model spec. [default: the gallery's own; for a new one ZEROSHOT_MODEL, else tiny]")
]
NameArgument = Annotated[str, typer.Argument(help="The gallery's name.")]
NameOption = Annotated[str, typer.Option("--gallery", help="The gallery's name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]


def open_gallery(name: str, model: str | None, *, create: bool = False) -> Gallery:
    """Open a gallery with the encoder it was made with.

    Parameters
    ----------
    name : str
        Which.
    model : str or None
        Another encoder's spec, which the gallery refuses unless it is the same model.
    create : bool
        Whether to make it when there is none.

    Returns
    -------
    Gallery
        To be closed.
    """
    from zeroshot.cli.inputs import build_cache, limits_from
    from zeroshot.gallery import Gallery, gallery_names, summarise

    settings = load_settings()
    if model is None and (not create or name in gallery_names(settings.home)):
        model = summarise(settings.home, name).model
    encoder = build_encoder(settings, model=model)
    return Gallery(
        settings.home, name, encoder, create=create, limits=limits_from(settings), cache=build_cache(settings)
    )


def read_filter(text: str | None) -> Any:
    """Read ``--where``.

    Parameters
    ----------
    text : str or None
        JSON.

    Returns
    -------
    object
        What it says; None without.

    Raises
    ------
    OptionError
        If it is not JSON.
    """
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise OptionError(
            f"--where {quote(text)} is not JSON: {error}.", 'For example: {"colour": "red"}.', field="where"
        ) from error


def print_json(value: dict[str, Any]) -> None:
    """Print one line.

    Parameters
    ----------
    value : dict
        Anything JSON can say.
    """
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
