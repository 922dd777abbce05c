"""Read definition files (label sets, template sets) in YAML or JSON, with the file and line in every complaint.

It knows files, positions and the few lists that open_clip publishes; it does not know what a definition is used for.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zeroshot.errors import DefinitionError, DefinitionNotFound, MissingDependency, quote
from zeroshot.openclip_files import zero_shot_metadata

_PACKAGE = Path(__file__).parent
PROMPTS = next(p for p in (_PACKAGE / "data" / "prompts", _PACKAGE.parent / "prompts") if p.is_dir())
"""The shipped definitions: inside the installed package, or beside it in a checkout."""

_REFERENCES = {
    "open_clip:OPENAI_IMAGENET_TEMPLATES",
    "open_clip:SIMPLE_IMAGENET_TEMPLATES",
    "open_clip:IMAGENET_CLASSNAMES",
}
_CLIP_BENCHMARK = "clip_benchmark:"  # then classnames/NAME or templates/NAME
_SUFFIXES = (".yaml", ".yml", ".json")
_MAX_FILE_BYTES = 16 * 2**20

DefinitionT = TypeVar("DefinitionT", bound=BaseModel)
OtherT = TypeVar("OtherT", bound=BaseModel)


@dataclass(frozen=True)
class Fault:
    """What is wrong at one place of a definition, beyond its form."""

    place: tuple[str | int, ...]
    message: str


@runtime_checkable
class Checked(Protocol):
    """A form that has more to say about its values than their types."""

    def faults(self) -> Iterator[Fault]:
        """Say what is wrong."""
        ...


class Reference(BaseModel):
    """A list that open_clip or CLIP_benchmark publishes, used as it is installed rather than copied."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    source: str = Field(alias="from", description="For example 'open_clip:IMAGENET_CLASSNAMES'.")

    def resolve(self) -> list[str]:
        """Give the list; templates come with ``{}`` in the name's place."""
        if self.source.startswith(_CLIP_BENCHMARK):
            kind, _, name = self.source.removeprefix(_CLIP_BENCHMARK).partition("/")
            lists = _clip_benchmark_lists(kind)
            if name not in lists:
                raise DefinitionError(
                    f"{quote(self.source)} is not a known reference.", f"There are {', '.join(sorted(lists))}."
                )
            return [value.replace("{c}", "{}") for value in lists[name]]
        if self.source not in _REFERENCES:
            raise DefinitionError(
                f"{quote(self.source)} is not a known reference.", f"Use one of: {', '.join(sorted(_REFERENCES))}."
            )
        values: Sequence[str | Callable[[str], str]] = getattr(zero_shot_metadata(), self.source.partition(":")[2])
        return [value if isinstance(value, str) else value("{}") for value in values]


@lru_cache(maxsize=2)
def _clip_benchmark_lists(kind: str) -> dict[str, list[str]]:
    """Read one of CLIP_benchmark's files, without importing the package."""
    package = importlib.util.find_spec("clip_benchmark")
    if package is None or not package.submodule_search_locations:
        raise MissingDependency("clip_benchmark is not installed.", "Run: pip install clip-benchmark")
    names = {"classnames": "en_classnames.json", "templates": "en_zeroshot_classification_templates.json"}
    if kind not in names:
        raise DefinitionError(f"{quote(kind)} is not a list of clip_benchmark.", "Use classnames or templates.")
    path = Path(package.submodule_search_locations[0]) / "datasets" / names[kind]
    lists: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return lists


def shipped(kind: str) -> list[str]:
    """Names of the shipped definitions."""
    return sorted(path.stem for path in (PROMPTS / kind).glob("*.yaml"))


def find_definition(kind: str, name_or_file: str | Path, *, files: bool = True) -> Path:
    """Find a shipped definition by name, or a user's own by path."""
    text = str(name_or_file)
    names = shipped(kind)
    if text in names:
        return PROMPTS / kind / f"{text}.yaml"
    if files and text.lower().endswith(_SUFFIXES):
        path = Path(text)
        if path.is_file():
            return path
        raise DefinitionNotFound(f"{quote(text)} does not exist.", "Check the path.")
    close = difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    what = "label set" if kind == "labels" else "template set"
    choice = f"Use one of {', '.join(names)}{', or the path of a YAML file' if files else ''}."
    raise DefinitionNotFound(
        f"There is no {what} named {quote(text)}.",
        f"Did you mean {' or '.join(close)}?" if close else choice,
        field="label_set" if kind == "labels" else "templates",
    )


def read_definition(
    path: Path, model: type[DefinitionT], *, instead: Mapping[str, type[OtherT]] | None = None
) -> DefinitionT | OtherT:
    """Read and validate one definition file."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise DefinitionError(f"{path} has more than {_MAX_FILE_BYTES:,} bytes.", "Split it.")
        text = path.read_text(encoding="utf-8-sig")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise DefinitionError(f"{where}: not valid YAML: {error.problem}.", "Fix that line.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DefinitionError(f"{path} cannot be read: {error}.", "Give a UTF-8 text file in YAML or JSON.") from error
    if not isinstance(values, dict):
        raise DefinitionError(
            f"{path}:1:1: the file holds {_kind_of(values)}, not a mapping.",
            "Begin with 'name: ...'; docs/prompts.md shows the form.",
        )
    try:
        form: type[DefinitionT] | type[OtherT] = next(
            (other for key, other in (instead or {}).items() if key in values), model
        )
        definition = form.model_validate(values)
    except ValidationError as error:
        raise DefinitionError(
            "\n".join(_complaint(path, root, problem) for problem in _outermost(error)),
            "docs/prompts.md shows the form.",
        ) from error
    faults: list[Fault] = [] if not isinstance(definition, Checked) else list(definition.faults())
    if faults:
        raise DefinitionError("\n".join(f"{_where(path, root, fault.place)}: {fault.message}" for fault in faults))
    return definition


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe subset, which refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _complaint(path: Path, root: yaml.Node | None, problem: Any) -> str:
    location = [part for part in problem["loc"] if isinstance(part, int) or not _is_branch(part)]
    value = f" (found {quote(problem['input'])})" if problem["type"] != "missing" else ""
    return f"{_where(path, root, location)}: {problem['msg']}{value}."


def _where(path: Path, root: yaml.Node | None, location: Sequence[Any]) -> str:
    mark = _mark(root, location)
    return f"{path}:{mark.line + 1}:{mark.column + 1}: {'.'.join(map(str, location)) or 'the file'}"


def _is_branch(part: object) -> bool:
    """Whether a step of pydantic's location names a branch of a union rather than a key."""
    return isinstance(part, str) and (part in ("str", "Reference", "LabelEntry") or "[" in part)


def _outermost(error: ValidationError) -> list[Any]:
    """One complaint per place: a union reports every branch it tried, of which the most specific says most."""
    best: dict[tuple[Any, ...], Any] = {}
    for problem in error.errors():
        key = tuple(part for part in problem["loc"] if isinstance(part, int) or not _is_branch(part))
        if any(len(other) > len(key) and other[: len(key)] == key for other in best):
            continue
        for shorter in [other for other in best if len(other) < len(key) and key[: len(other)] == other]:
            del best[shorter]
        best.setdefault(key, problem)
    return list(best.values())


def _mark(node: yaml.Node | None, location: Sequence[Any]) -> yaml.Mark:
    """Position of the deepest node on the way to a location."""
    for part in location:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            child = next((value for key, value in node.value if key.value == part), None)
            if child is None:
                break
            node = child
    mark = node.start_mark if node is not None else None
    return mark if isinstance(mark, yaml.Mark) else yaml.Mark("", 0, 0, 0, "", 0)


def _kind_of(value: object) -> str:
    if value is None:
        return "nothing"
    return "a list" if isinstance(value, list) else f"one {type(value).__name__}"
