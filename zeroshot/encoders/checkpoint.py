"""A checkpoint: everything that is to be built and loaded, said before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeroshot.encoders import hub, hugging_face_clip, openclip_api
from zeroshot.encoders.model_config import (
    TokenizerConfig,
    check_model_config,
    path_exists,
    read_json,
    tokenizer_config,
)
from zeroshot.encoders.published import Definition
from zeroshot.encoders.tokenizer_files import has_auto_map
from zeroshot.errors import MissingDependency, ModelCorrupt, ModelError, ModelUnavailable, quote

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
