"""From a model spec to what is built and loaded: configuration, preprocessing, weights, tokenizer.

Every form of spec becomes one ``Checkpoint`` that says all of it before anything is built, so that a model is what its
publisher says it is, whichever way it was named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zeroshot.encoders import hub, hugging_face_clip, openai_archive, openclip_api
from zeroshot.encoders.model_config import (
    TokenizerConfig,
    check_model_config,
    contained,
    path_exists,
    read_json,
    tokenizer_config,
)
from zeroshot.encoders.published import Definition, define, no_tag
from zeroshot.encoders.tokenizer_files import has_auto_map
from zeroshot.errors import MissingDependency, ModelCorrupt, ModelError, ModelUnavailable, UnknownModel, quote

OPEN_CLIP_CONFIG = "open_clip_config.json"
_MODEL_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".json", ".txt", ".model", ".py")
_OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth",
)  # fmt: skip
_TOKENIZER = "tokenizer (tokenizer.json, or vocab.json and merges.txt)"
_WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")


@dataclass(frozen=True)
class Checkpoint:
    """What is built, and what is loaded into it."""

    spec: str
    name: str
    model_config: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: tuple[Path, ...]
    tokenizer: TokenizerConfig
    tokenizer_folder: Path | None = None
    text_tower: dict[str, Any] | None = None
    is_hugging_face: bool = False
    trust_remote_code: bool = False
    notes: tuple[str, ...] = ()

    @property
    def public_name(self) -> str:
        """What an export may say of where it is from: no path of this machine."""
        scheme, _, rest = self.spec.partition(":")
        if scheme == "local-dir":
            return f"local-dir:{Path(rest).resolve().name}"
        return self.spec if scheme == "hf-hub" or not is_path(rest) else self.name


def of_definition(
    spec: str,
    definition: Definition,
    weights: tuple[Path, ...],
    *,
    tokenizer_folder: Path | None = None,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Put a definition and its weights together; nothing in a configuration names another place or runs code."""
    where = f"The configuration of {definition.name}"
    check_model_config(definition.model_config, where)
    text_config = definition.model_config["text_cfg"]
    tokenizer, notes = tokenizer_config(
        text_config, where, openclip_api.CLIP_CONTEXT_LENGTH, trust_remote_code=trust_remote_code
    )
    text_tower = None
    if text_config.get("hf_model_name"):
        text_tower = read_json(_text_tower(spec, text_config["hf_model_name"]))
    return Checkpoint(
        spec,
        definition.name,
        definition.model_config,
        definition.preprocessing,
        weights,
        tokenizer,
        tokenizer_folder=tokenizer_folder,
        text_tower=text_tower,
        trust_remote_code=trust_remote_code,
        notes=(*definition.notes, *notes),
    )


def _text_tower(spec: str, repository: str) -> Path:
    """The configuration of a text tower of ``transformers``; one that needs code of its own is not built."""
    try:
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            f"The text tower of {spec} needs transformers, which is not installed.",
            "Run: pip install transformers",
            field="model",
        ) from error
    path = hub.file(spec, repository, "config.json")
    if has_auto_map(read_json(path)):
        raise ModelError(
            f"{path} needs Python code of its own; open_clip builds no text tower of that kind.",
            "Use another model.",
            field="model",
        )
    return path


def of_clip_model(spec: str, folder: Path, weights: tuple[Path, ...], *, name: str | None = None) -> Checkpoint:
    """Read a ``CLIPModel`` of transformers; what its folder does not say is CLIP's own, and is told."""
    config = hugging_face_clip.model_config(read_json(folder / hugging_face_clip.CONFIG), str(folder / "config.json"))
    for path in weights:
        weights_file(path, spec)
    preprocessor = folder / hugging_face_clip.PREPROCESSOR
    has_preprocessor, has_tokenizer = preprocessor.is_file(), hugging_face_clip.has_tokenizer(folder)
    vocabulary = config["text_cfg"]["vocab_size"]
    if not has_tokenizer and vocabulary != openclip_api.CLIP_VOCABULARY:
        raise ModelUnavailable(
            f"{folder} has no {_TOKENIZER}, and its vocabulary of {vocabulary:,} is not CLIP's.",
            "Put the checkpoint's tokenizer.json beside the weights.",
            field="model",
        )
    missing = ([] if has_preprocessor else [preprocessor.name]) + ([] if has_tokenizer else [_TOKENIZER])
    notes = (f"{folder} has no {' and no '.join(missing)}; CLIP's own is taken.",) if missing else ()
    preprocessing = hugging_face_clip.preprocessing(
        preprocessor if has_preprocessor else None, config["vision_cfg"]["image_size"]
    )
    return Checkpoint(
        spec,
        name or str(folder),
        config,
        preprocessing,
        weights,
        TokenizerConfig(config["text_cfg"]["context_length"]),
        tokenizer_folder=folder if has_tokenizer else None,
        is_hugging_face=True,
        notes=notes,
    )


def weights_file(path: Path, spec: str) -> Path:
    """Refuse what cannot be a checkpoint; what a failed download leaves behind is named."""
    if not path_exists(path):
        found = "is not a file" if path_exists(path, folder=None) else "does not exist"
        raise ModelUnavailable(f"{path} {found}.", f"Check the path in {quote(spec)}.", field="model")
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise ModelCorrupt(f"{path} is a Git LFS pointer, not weights.", "Run 'git lfs pull'.", field="model")
    if len(head) < 64 or head.lstrip()[:1] == b"<":
        raise ModelCorrupt(f"{path} is not weights: it begins with {head[:16]!r}.", "Download it again.", field="model")
    return path


def is_path(text: str) -> bool:
    """Whether what stands after ``ARCH:`` is a path rather than a tag."""
    return "/" in text or "\\" in text or text.endswith(_WEIGHT_SUFFIXES)


def user_path(text: str) -> Path:
    """A path as typed, with ``~`` for a home that there is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no such user
        return Path(text)


def resolve(spec: str, *, trust_remote_code: bool = False) -> Checkpoint:
    """Find out what a spec names, and have its weights on this machine."""
    scheme, _, rest = spec.partition(":")
    if scheme == "local-dir":
        return _local_directory(spec, rest, trust_remote_code=trust_remote_code)
    if scheme == "hf-hub":
        return _hub_repository(spec, rest, trust_remote_code=trust_remote_code)
    tag, path = _split(rest)
    if rest.endswith("@") and not path:
        raise UnknownModel(f"{quote(spec)} has no path after '@'.", "Write ARCH:TAG@/path/to/weights.", field="model")
    definition = define(spec, scheme, tag or None)
    if path:
        return _with_file(spec, definition, user_path(path), trust_remote_code=trust_remote_code)
    if definition.tag is None:
        raise no_tag(spec, definition.name, rest)
    weights = (Path(_download(spec, definition.name, definition.tag)),)
    return of_definition(spec, definition, weights, trust_remote_code=trust_remote_code)


def _split(rest: str) -> tuple[str, str]:
    """Tag and path, either of which may be empty, of TAG, /path or TAG@/path."""
    tag, at, path = rest.partition("@")
    if at and not is_path(tag) and not path_exists(user_path(rest)):
        return tag, path
    return ("", rest) if is_path(rest) else (rest, "")


def _with_file(spec: str, definition: Definition, path: Path, *, trust_remote_code: bool) -> Checkpoint:
    """An architecture with a file of weights, whichever library wrote it."""
    weights_file(path, spec)
    if openai_archive.is_archive(path):
        quick_gelu = openai_archive.uses_quick_gelu(path)
        notes = (f"{path} is a TorchScript archive, trained with {'QuickGELU' if quick_gelu else 'GELU'}.",)
        config = {**definition.model_config, "quick_gelu": quick_gelu}
        return of_definition(spec, replace(definition, model_config=config, notes=notes), (path,))
    beside = path.parent / hugging_face_clip.CONFIG
    if hugging_face_clip.is_checkpoint(path):
        if not beside.is_file():
            raise ModelUnavailable(
                f"{path} is a CLIPModel of transformers, and {beside}, which says how it was trained, is missing.",
                "Put the checkpoint's config.json beside it.",
                field="model",
            )
        found = of_clip_model(spec, path.parent, (path,))
        ours, theirs = _shape(definition.model_config), _shape(found.model_config)
        if ours != theirs:
            raise ModelCorrupt(
                f"{path} is not a {definition.name}: {beside} has {theirs}, {definition.name} has {ours}.",
                f"Load it as 'local-dir:{path.parent}'.",
                field="model",
            )
        return found
    return of_definition(spec, definition, (path,), trust_remote_code=trust_remote_code)


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    vision, text = config["vision_cfg"], config["text_cfg"]
    return {
        "embed_dim": config["embed_dim"],
        **{f"image {name}": vision.get(name) for name in ("width", "layers", "patch_size", "image_size")},
        **{f"text {name}": text.get(name) for name in ("width", "layers")},
    }


def _local_directory(spec: str, rest: str, *, trust_remote_code: bool) -> Checkpoint:
    folder = user_path(rest)
    if not path_exists(folder, folder=True):
        raise ModelUnavailable(
            f"{quote(str(folder))} is not a folder.", "Check the path after 'local-dir:'.", field="model"
        )
    config = folder / OPEN_CLIP_CONFIG
    for path in folder.iterdir():
        if path.suffix in _MODEL_FILES:
            contained(folder, path)
    if not config.is_file():
        if (folder / hugging_face_clip.CONFIG).is_file():
            return of_clip_model(spec, folder, _parts(folder))
        raise ModelUnavailable(
            f"{folder} has no {OPEN_CLIP_CONFIG}.",
            f"A local-dir holds {OPEN_CLIP_CONFIG}, open_clip_model.safetensors and, for some, tokenizer files; or "
            "config.json and model.safetensors of transformers' CLIPModel.",
            field="model",
        )
    names = [name for name in _OPEN_CLIP_WEIGHTS if (folder / name).is_file()]
    others = sorted(path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin", ".pth"))
    if not names and len(others) != 1:
        raise ModelUnavailable(
            f"{folder} has {'no weights' if not others else 'several files of weights: ' + ', '.join(others)}.",
            "Add open_clip_model.safetensors (or .bin, .pth).",
            field="model",
        )
    weights = weights_file(folder / (names or others)[0], spec)
    definition = _read_definition(config, str(folder))
    return of_definition(spec, definition, (weights,), tokenizer_folder=folder, trust_remote_code=trust_remote_code)


def _read_definition(path: Path, name: str) -> Definition:
    content = read_json(path)
    model_config, overrides = content.get("model_cfg"), content.get("preprocess_cfg") or {}
    if not isinstance(model_config, dict) or not isinstance(overrides, dict):
        raise ModelCorrupt(f"{path} has no model_cfg.", "Download or export the model again.", field="model")
    return Definition(name, model_config, openclip_api.preprocess_config(overrides))


def _hub_repository(spec: str, rest: str, *, trust_remote_code: bool) -> Checkpoint:
    if rest.count("/") != 1 or not hub.is_repository(rest):
        raise UnknownModel(f"{quote(spec)} is not of the form hf-hub:ORG/NAME.", "Check the name.", field="model")
    try:
        config = hub.optional_file(spec, rest, OPEN_CLIP_CONFIG)
    except ModelUnavailable:
        if hub.cached(rest, [hugging_face_clip.CONFIG]) is None:
            raise
        config = None
    if config is not None:
        weights = Path(_fetch(spec, {"hf_hub": f"{rest}/"}, f"{OPEN_CLIP_CONFIG} and weights of {rest}"))
        return of_definition(spec, _read_definition(config, rest), (weights,), trust_remote_code=trust_remote_code)
    config = hub.file(spec, rest, hugging_face_clip.CONFIG)
    hugging_face_clip.model_config(read_json(config), str(config))  # or no weights are fetched
    whole = hugging_face_clip.has_tokenizer(config.parent)
    for name in (hugging_face_clip.PREPROCESSOR, *(() if whole else hugging_face_clip.TOKENIZER_FILES)):
        hub.optional_file(spec, rest, name)
    return of_clip_model(spec, config.parent, _hub_parts(spec, rest), name=rest)


def _hub_parts(spec: str, repository: str) -> tuple[Path, ...]:
    """A repository's weights, in one file or in parts; what the cache has comes first."""
    names = (*hugging_face_clip.WEIGHTS, *hugging_face_clip.INDEXES)
    for name in sorted(names, key=lambda one: hub.cached(repository, [one]) is None):
        path = hub.optional_file(spec, repository, name)
        if path is not None and name in hugging_face_clip.INDEXES:
            return tuple(hub.file(spec, repository, part) for part in hugging_face_clip.part_names(path))
        if path is not None:
            return (path,)
    raise hub.unavailable(spec, f"model.safetensors of {repository}", "the repository has no such file")


def _parts(folder: Path) -> tuple[Path, ...]:
    """A folder's weights, in one file or in parts."""
    for name in hugging_face_clip.WEIGHTS:
        if (folder / name).is_file():
            return (folder / name,)
    for name in hugging_face_clip.INDEXES:
        if (folder / name).is_file():
            return tuple(folder / part for part in hugging_face_clip.part_names(folder / name))
    raise ModelUnavailable(f"{folder} has no weights.", "Add model.safetensors.", field="model")


def _download(spec: str, architecture: str, tag: str) -> str:
    """Path of a published checkpoint's weights; open_clip and the hub's client show their progress on stderr."""
    entry = openclip_api.published(architecture, tag)
    repository = (entry.get("hf_hub") or "").rstrip("/")
    return _fetch(spec, entry, f"the weights of {spec} ({repository or entry.get('url')})")


def _fetch(spec: str, entry: dict[str, Any], looked_for: str) -> str:
    repository, filename = (entry.get("hf_hub") or "").rpartition("/")[::2]
    if not repository:
        hub.require_host(spec, looked_for, entry.get("url", ""))
    elif (known := hub.cached(repository, _file_names(filename))) is not None:
        return str(known)
    else:
        hub.require_hub(spec, looked_for)
    try:
        return openclip_api.download(entry)
    except Exception as error:  # hub clients raise many kinds
        raise hub.unavailable(spec, looked_for, str(error)) from error


def _file_names(filename: str) -> list[str]:
    """Under which names open_clip looks for a repository's weights."""
    if not filename:
        return ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    return [f"{filename[:-4]}.safetensors", filename] if filename.endswith((".bin", ".pth")) else [filename]
