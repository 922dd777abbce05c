"""``zeroshot keys``: API keys of the server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

keys_app = typer.Typer(no_args_is_help=True, help="API keys of the server.")


@keys_app.callback()
def _group() -> None:
    """API keys of the server."""


@keys_app.command()
def new(name: Annotated[str, typer.Argument(help="Whose it is: what logs and limits call the caller.")]) -> None:
    """Make a key: the key itself on standard error, for its owner, and on standard output the line that accepts it.

    zeroshot keys new alice >> keys.txt; then ZEROSHOT_API_KEYS_FILE=keys.txt zeroshot serve
    """
    from zeroshot.service.api_keys import key_line, new_key

    key = new_key()
    line = key_line(name, key)
    print(key, file=sys.stderr)  # noqa: T201
    sys.stdout.write(line + "\n")
