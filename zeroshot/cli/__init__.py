"""The command line: each command does one thing and prints something that can be piped.

Exit codes: 0 all went well; 1 some images could not be classified; 2 wrong usage, or nothing could be done.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

from zeroshot import __version__
from zeroshot.cli.calibrate import calibrate
from zeroshot.cli.classify import classify
from zeroshot.cli.cluster import cluster
from zeroshot.cli.evaluate import compare, evaluate
from zeroshot.cli.export import export
from zeroshot.cli.fit import fit
from zeroshot.cli.gallery import gallery_app
from zeroshot.cli.keys import keys_app
from zeroshot.cli.labels import labels_app
from zeroshot.cli.models import models
from zeroshot.cli.options import EnvFileOption, share_options, use_env_file
from zeroshot.cli.prompts import prompts_app
from zeroshot.cli.search import index, search
from zeroshot.cli.serve import serve
from zeroshot.errors import ZeroshotError, ZeroshotWarning

__all__ = ["app", "main"]

app = typer.Typer(
    name="zeroshot",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(classify)
app.command()(index)
app.command()(search)
app.add_typer(gallery_app, name="gallery")
app.add_typer(labels_app, name="labels")
app.command()(calibrate)
app.command()(fit)
app.command()(cluster)
app.command()(evaluate)
app.command()(compare)
app.add_typer(prompts_app, name="prompts")
app.command()(export)
app.command()(models)
app.command()(serve)
app.add_typer(keys_app, name="keys")
share_options(app)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Our own warnings in one line, as errors are, and once each; everybody else's as Python shows them."""
    if issubclass(category, ZeroshotWarning):
        if str(message) not in _SHOWN:
            _SHOWN.add(str(message))
            print(f"zeroshot: warning: {message}", file=sys.stderr)  # noqa: T201
    else:
        _python_shows(message, category, *where, **more)


_python_shows = warnings.showwarning
_SHOWN: set[str] = set()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"zeroshot {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001 (its callback does it)
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    env_file: EnvFileOption = None,
) -> None:
    """Zero-shot image classification: images ranked under labels given as text."""
    use_env_file(env_file)


def main() -> None:
    """Run the program: arguments from ``sys.argv``, one line on stderr for an error, exit codes as above."""
    warnings.filterwarnings("ignore", module="PIL")  # on damaged metadata, which is not the image
    warnings.filterwarnings("always", category=ZeroshotWarning)
    warnings.showwarning = _show_warning
    try:
        app()
    except ZeroshotError as error:
        print(f"zeroshot: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
