"""What a tokenizer's files may ask for: to be read as data. Code of their own, or other tokenizers, they do not get."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zeroshot.encoders.model_config import read_json

_TOKENIZER_CONFIGS = ("tokenizer_config.json", "config.json")
_TOKENIZER_DATA = (
    "added_tokens.json", "merges.txt", "sentencepiece.bpe.model", "special_tokens_map.json", "spiece.model",
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt",
)  # fmt: skip
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


def unsupported_tokenizer(folder: Path) -> str | None:
    """Find a kind of tokenizer that is none of the plain ones: some load others by themselves, with their own code."""
    files = [read_json(path) for name in _TOKENIZER_CONFIGS if (path := folder / name).is_file()]
    named = [str(content["tokenizer_class"]) for content in files if content.get("tokenizer_class")]
    kind = next((str(content["model_type"]) for content in reversed(files) if content.get("model_type")), None)
    for name in named:
        if name.removesuffix("Fast").removesuffix("Tokenizer") not in _TOKENIZERS:
            return name
    composed = kind is not None and kind.replace("_", "-") in _COMPOSED
    return kind if composed or (not named and kind is not None and kind not in _TOKENIZED_MODELS) else None


@contextmanager
def tokenizer_data(folder: Path) -> Iterator[Path]:
    """Copy a tokenizer's data, and none of its code, into a folder of its own.

    Whatever its files ask for, there is nothing to be run and nothing else to be read.
    """
    with TemporaryDirectory(prefix="zeroshot-") as copy:
        for name in _TOKENIZER_DATA:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(copy) / name)
        for name, kept in (("tokenizer_config.json", None), ("config.json", ("model_type", "tokenizer_class"))):
            if (folder / name).is_file():
                content = {
                    key: value
                    for key, value in read_json(folder / name).items()
                    if (kept is None or key in kept) and key != "auto_map" and not key.endswith(("_file", "_files"))
                }
                (Path(copy) / name).write_text(json.dumps(content), encoding="utf-8")
        yield Path(copy)


def custom_code_file(folder: Path) -> Path | None:
    """Find the file by which a model says that it needs Python code of its own."""
    for path in (folder / name for name in _TOKENIZER_CONFIGS):
        if path.is_file() and has_auto_map(read_json(path)):
            return path
    return None


def has_auto_map(config: dict[str, Any]) -> bool:
    """Whether a configuration, anywhere in it, names code of its own."""
    return any(name == "auto_map" and value for name, value in _members(config))


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
