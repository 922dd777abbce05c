"""Options that several commands have, each declared once; and what they set up: the settings and the encoder."""

from __future__ import annotations

import functools
import inspect
import json
import sys
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

# which model, and how it computes
ModelOption = Annotated[
    str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny; for a gallery, its own]")
]
DeviceOption = Annotated[str | None, typer.Option(help="For open_clip models: auto, cpu, cuda, mps.")]
PrecisionOption = Annotated[str | None, typer.Option(help="For open_clip models: auto, fp32, fp16, bf16.")]
ThreadsOption = Annotated[int | None, typer.Option(min=0, help="CPU threads; 0 is every core.")]

# labels, and what is asked about them
LabelsOption = Annotated[
    str | None, typer.Option(help='Comma-separated: "cat,dog,cup of coffee". Quote a name that has a comma.')
]
LabelsFileOption = Annotated[Path | None, typer.Option(help="A text file with one label per line.")]
LabelSetOption = Annotated[
    str | None,
    typer.Option(
        help="A stored or shipped label set's name, or a YAML or JSON file. [default for a dataset: its own classes]"
    ),
]
TemplatesOption = Annotated[
    str | None,
    typer.Option(
        help="A template set's name or file, or one template: 'a photo of a {}.'. [default: what suits labels and "
        "model; for a dataset, its own]"
    ),
]
ModeOption = Annotated[
    str | None, typer.Option(help="multiclass, binary, multilabel or hierarchical. [default: the label set's own]")
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Score a label needs to be the answer; below it the answer is unknown."),
]
TemperatureOption = Annotated[float | None, typer.Option(help="Divides the logits: above 1, scores are less extreme.")]
UnknownOption = Annotated[
    bool, typer.Option("--unknown", help="Answer unknown where an image shows none of the labels.")
]

# datasets
StoredSetOption = Annotated[
    str, typer.Option("--label-set", help="A stored label set's name; what is fitted is kept in it.")
]
_DATASET = (
    "A folder with a folder per class, WebDataset shards, a CSV, JSON Lines or Parquet file (file, label, group, "
    "caption), a name (cifar10, food101, imagenet, digits...), or hf:org/name."
)
DatasetArgument = Annotated[str, typer.Argument(help=_DATASET)]
DataOption = Annotated[str, typer.Option(help=f"Labelled images. {_DATASET}")]
SplitOption = Annotated[str | None, typer.Option(help="Which part of a dataset. [default: its own for testing]")]
RootOption = Annotated[
    Path | None, typer.Option(help="Where a named dataset's files are. [default: ZEROSHOT_HOME/datasets/NAME]")
]
DownloadOption = Annotated[bool, typer.Option("--download", help="Let torchvision download a named dataset to there.")]
ColumnsOption = Annotated[
    str | None, typer.Option(help="What a table calls its columns: label=species,group=site,file=path.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Most images of a dataset.")]

# galleries and stored label sets
GalleryArgument = Annotated[str, typer.Argument(help="The gallery's name.")]
GalleryOption = Annotated[str, typer.Option("--gallery", help="The gallery's name.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

# what is printed
TopKOption = Annotated[int, typer.Option(min=1, help="How many to show: labels of an image, images of a search.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]

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
    """Give ``--env-file`` and ``--trust-remote-code`` to every command of a program and of the programs below it."""
    for info in app.registered_commands:
        if info.callback is not None:
            info.callback = _with_shared_options(info.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            share_options(group.typer_instance)


def use_env_file(path: Path | None) -> None:
    """Take settings from a file, too, from here on; None is no file."""
    if path is not None and not path.is_file():
        raise OptionError(
            f"--env-file {path} is not a file.", "Give a text file of ZEROSHOT_NAME=value lines.", field="env_file"
        )
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


def print_json(value: dict[str, Any]) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def load_settings(*, or_dotenv: bool = False) -> Settings:
    """Read the settings from the environment and the file that ``--env-file`` names."""
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
    """Load the encoder that the settings, and the flags that override them, name."""
    from zeroshot.encoders import load_encoder

    return load_encoder(
        model or settings.model,
        device=device or settings.device,
        precision=precision or settings.precision,
        threads=settings.threads if threads is None else threads,
        batch_size=settings.batch_size,
        trust_remote_code=_TRUST.get(),
    )
