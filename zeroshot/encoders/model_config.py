"""What a model's configuration may ask for. It is data from strangers: none of it runs code or names another place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zeroshot.encoders.hub import is_repository
from zeroshot.errors import ModelCorrupt, quote

_MAX_CONFIG_BYTES = 2**20
_CLIP_TOKENIZER_OPTIONS = frozenset(["additional_special_tokens", "clean", "reduction_mask"])
_HF_TOKENIZER_OPTIONS = frozenset(
    [
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "clean",
        "do_lower_case",
        "extra_ids",
        "language",
        "legacy",
        "padding_side",
        "strip_accents",
        "strip_sep_token",
        "truncation_side",
        "use_fast",
    ]
)
_TOKENIZER_CONFIGS = ("tokenizer_config.json", "config.json")
_TOKENIZERS = frozenset(
    [
        "Albert", "Bart", "BartPho", "Bert", "Bertweet", "BigBird", "CLIP", "Camembert", "Deberta", "DebertaV2",
        "DistilBert", "Electra", "Funnel", "GPT2", "GPTNeoX", "Gemma", "Herbert", "Llama", "M2M100", "MBart", "MBart50",
        "MPNet", "MT5", "MobileBert", "Nllb", "Pegasus", "PreTrained", "Qwen2", "Roberta", "Siglip", "Siglip2",
        "SqueezeBert", "T5", "TokenizersBackend", "XLMRoberta", "XLNet",
    ]
)  # fmt: skip
"""Classes of ``transformers``, less "Tokenizer" and "TokenizerFast", that read a vocabulary and nothing else."""

_TOKENIZED_MODELS = frozenset(
    [
        "albert", "bart", "bert", "big_bird", "camembert", "clip", "clip_text_model", "deberta", "deberta-v2",
        "distilbert", "electra", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "gpt_neox", "llama", "m2m_100",
        "mbart", "mpnet", "mt5", "nllb", "nllb-moe", "pegasus", "qwen2", "qwen3", "roberta", "siglip", "siglip2",
        "siglip_text_model", "t5", "umt5", "xlm-roberta", "xlm-roberta-xl", "xlnet",
    ]
)  # fmt: skip
"""Types of models whose tokenizer, where none is named, is one of those."""

_COMPOSED = frozenset(["encoder-decoder", "rag", "speech-encoder-decoder", "vision-encoder-decoder"])
_CLEANINGS = ("canonicalize", "lower", "whitespace")


@dataclass(frozen=True)
class TokenizerConfig:
    """How a model's texts become tokens.

    Parameters
    ----------
    context_length : int
        Most tokens of a text, special ones included.
    name : str or None
        Repository of a ``transformers`` tokenizer; None for open_clip's own, CLIP's.
    mode : str or None
        open_clip's ``tokenizer_mode``.
    options : dict
        Of the tokenizer.
    """

    context_length: int
    name: str | None = None
    mode: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict
        What it holds.

    Raises
    ------
    ModelCorrupt
        If it is not a JSON object, or larger than 1 MB.
    """
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelCorrupt(
            f"{path} is not a configuration: {error}.", "Download or export it again.", field="model"
        ) from error
    return content


def check_model_config(config: dict[str, Any], where: str) -> None:
    """Refuse a configuration that names another place than a model's own files.

    Parameters
    ----------
    config : dict
        With ``embed_dim``, ``vision_cfg`` and ``text_cfg``.
    where : str
        For messages.

    Raises
    ------
    ModelCorrupt
        If a part is missing, or a name in it is a path or an address.
    """
    for part in ("vision_cfg", "text_cfg"):
        if not isinstance(config.get(part), dict):
            raise ModelCorrupt(f"{where} has no {part}.", "Download or export the model again.", field="model")
    if not isinstance(config.get("embed_dim"), int):
        raise ModelCorrupt(f"{where} has no embed_dim.", "Download or export the model again.", field="model")
    timm_name = config["vision_cfg"].get("timm_model_name")
    if timm_name is not None and (not isinstance(timm_name, str) or "/" in timm_name or ":" in timm_name):
        raise ModelCorrupt(
            f"{where} names the image tower {quote(timm_name)}, which is a place and not an architecture of timm.",
            "Use a model whose configuration names the architecture.",
            field="model",
        )
    for name in ("hf_model_name", "hf_tokenizer_name"):
        value = config["text_cfg"].get(name)
        if value and not is_repository(value):
            raise ModelCorrupt(
                f"{where} has {name}={quote(value)}, which is not of the form ORG/NAME.",
                "Use a model whose configuration names a repository.",
                field="model",
            )


def tokenizer_config(
    text_config: dict[str, Any], where: str, default_length: int, *, trust_remote_code: bool
) -> tuple[TokenizerConfig, list[str]]:
    """Read how texts become tokens; a wish to run code is not granted by a configuration.

    Parameters
    ----------
    text_config : dict
        A model configuration's ``text_cfg``.
    where : str
        For messages.
    default_length : int
        Context length where none is named.
    trust_remote_code : bool
        Whether the user, not the configuration, allows a model's own code.

    Returns
    -------
    (TokenizerConfig, list of str)
        And what the user is to be told.

    Raises
    ------
    ModelCorrupt
        If an option is not one of a tokenizer's.
    """
    options = text_config.get("tokenizer_kwargs") or {}
    if not isinstance(options, dict):
        raise ModelCorrupt(
            f"{where} has tokenizer_kwargs={quote(options)}.", "Download or export the model again.", field="model"
        )
    options = dict(options)
    name, mode = text_config.get("hf_tokenizer_name") or None, text_config.get("tokenizer_mode")
    notes = []
    if options.pop("trust_remote_code", False) and not trust_remote_code:
        notes.append(
            f"{where} asks for trust_remote_code; its code was not run. If you trust it, say --trust-remote-code "
            f"(Python: trust_remote_code=True)."
        )
    allowed = _HF_TOKENIZER_OPTIONS if name else _CLIP_TOKENIZER_OPTIONS
    unknown = sorted(set(options) - allowed)
    length = text_config.get("context_length", default_length)
    if unknown or options.get("clean", "lower") not in _CLEANINGS or mode not in (None, "", "clips"):
        raise ModelCorrupt(
            f"{where} has tokenizer options that are not accepted: {quote(unknown or options.get('clean') or mode)}.",
            f"Accepted are {', '.join(sorted(allowed))}.",
            field="model",
        )
    if not isinstance(length, int) or not 1 <= length <= 100_000:
        raise ModelCorrupt(
            f"{where} has context_length={quote(length)}.", "Download or export the model again.", field="model"
        )
    return TokenizerConfig(length, name, mode or None, options), notes


def odd_tokenizer(folder: Path) -> str | None:
    """Find a kind of tokenizer that is none of the plain ones: some load others by themselves, with their own code.

    Parameters
    ----------
    folder : Path
        Where the tokenizer's files are.

    Returns
    -------
    str or None
        The class, or the type of model, that is named and not known; None where all is well.

    Raises
    ------
    ModelCorrupt
        If a file cannot be read.
    """
    files = [read_json(path) for name in _TOKENIZER_CONFIGS if (path := folder / name).is_file()]
    named = [str(content["tokenizer_class"]) for content in files if content.get("tokenizer_class")]
    kind = next((str(content["model_type"]) for content in reversed(files) if content.get("model_type")), None)
    for name in named:
        if name.removesuffix("Fast").removesuffix("Tokenizer") not in _TOKENIZERS:
            return name
    composed = kind is not None and kind.replace("_", "-") in _COMPOSED
    return kind if composed or (not named and kind is not None and kind not in _TOKENIZED_MODELS) else None


def own_code(folder: Path) -> Path | None:
    """Find the file by which a model says that it needs Python code of its own.

    Parameters
    ----------
    folder : Path
        Where its files are.

    Returns
    -------
    Path or None
        None where it needs none.

    Raises
    ------
    ModelCorrupt
        If such a file cannot be read.
    """
    for path in (folder / name for name in _TOKENIZER_CONFIGS):
        if path.is_file() and any(name == "auto_map" and value for name, value in _members(read_json(path))):
            return path
    return None


def contained(folder: Path, path: Path) -> Path:
    """A file of a model's folder, which no link leads out of; in the hub's cache, links to its own blobs are the rule.

    Parameters
    ----------
    folder : Path
        The model's.
    path : Path
        A file in it.

    Returns
    -------
    Path
        `path` as it is.

    Raises
    ------
    ModelCorrupt
        If it leads elsewhere.
    """
    home, target = folder.resolve(), path.resolve()
    homes = [home]
    if home.parent.name == "snapshots":  # <repository>/snapshots/<revision>, with links to <repository>/blobs
        homes.append(home.parent.parent / "blobs")
    if not any(target.is_relative_to(one) for one in homes):
        raise ModelCorrupt(
            f"{path} is a link to {target}, outside its folder.",
            "Put the file itself there, or give the path of the real folder.",
            field="model",
        )
    return path


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Every name and value in a JSON value, however deep."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from part.items()
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
