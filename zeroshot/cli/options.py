"""Options that every command shares, declared once: where settings come from, whether a model's own code may run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from zeroshot import settings as _settings
from zeroshot.errors import OptionError

if TYPE_CHECKING:
    from zeroshot.encoders import Encoder
    from zeroshot.settings import Settings

_DOTENV = Path(".env")
_ENV_FILE: ContextVar[Path | None] = ContextVar("zeroshot_env_file", default=None)
_TRUST: ContextVar[bool] = ContextVar("zeroshot_trust_remote_code", default=False)

EnvFileOption = Annotated[
    Path | None, typer.Option(help="A file of ZEROSHOT_* settings; the environment's own win. 'serve' looks for .env.")
]
_TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code that comes with a model's tokenizer. No file and no variable can say this.",
    ),
]


def share_options(app: typer.Typer) -> None:
    """Give the shared options to every command of a program and of the programs below it.

    Parameters
    ----------
    app : typer.Typer
        Its commands are registered.
    """
    for info in app.registered_commands:
        if info.callback is not None:
            info.callback = _with_shared_options(info.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            share_options(group.typer_instance)


def use_env_file(path: Path | None) -> None:
    """Take settings from a file, too, from here on.

    Parameters
    ----------
    path : Path or None
        As typed; None for no file.

    Raises
    ------
    OptionError
        If there is no such file.
    """
    if path is not None and not path.is_file():
        raise OptionError(f"--env-file {path} is not a file.", "Check the path.", field="env_file")
    _ENV_FILE.set(path)


def _with_shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    own = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    added: dict[str, tuple[Any, Any]] = {"env_file": (EnvFileOption, None)}
    if {"model", "spec"} & set(own.parameters):
        added["trust_remote_code"] = (_TrustRemoteCode, False)

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        env_file = options.pop("env_file", None)
        if env_file is not None:
            use_env_file(env_file)
        _TRUST.set(options.pop("trust_remote_code", False))
        return command(*arguments, **options)

    parameters = [parameter.replace(annotation=hints[name]) for name, parameter in own.parameters.items()]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in added.items()
    ]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = hints | {name: annotation for name, (annotation, _) in added.items()}
    return run


def load_settings(*, or_dotenv: bool = False) -> Settings:
    """Read the settings from the environment and the file that ``--env-file`` names.

    Parameters
    ----------
    or_dotenv : bool
        Whether ``.env`` in the working directory is read where no file is named.

    Returns
    -------
    Settings
        Validated, immutable settings.

    Raises
    ------
    OptionError
        If the file cannot be read, or a setting is out of its range.
    """
    named = _ENV_FILE.get()
    if named is None and or_dotenv and _DOTENV.is_file():
        named = _DOTENV
    return _settings.load_settings(named)


def build_encoder(
    settings: Settings,
    *,
    model: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Encoder:
    """Load the encoder that the settings, and the flags that override them, name.

    Parameters
    ----------
    settings : Settings
        The program's settings.
    model : str or None
        Flag; None leaves the setting.
    device : str or None
        Flag; None leaves the setting.
    precision : str or None
        Flag; None leaves the setting.
    threads : int or None
        Flag; None leaves the setting.

    Returns
    -------
    Encoder
        Ready to encode.
    """
    from zeroshot.encoders import load_encoder

    return load_encoder(
        model or settings.model,
        device=device or settings.device,
        precision=precision or settings.precision,
        threads=settings.threads if threads is None else threads,
        batch_size=settings.batch_size,
        trust_remote_code=_TRUST.get(),
    )
