"""The tokenizers of open_clip models: CLIP's own, those of ``transformers``, and Hugging Face CLIP's without it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import tokenizers
import torch

from zeroshot.encoders import hub, openclip_api
from zeroshot.encoders.model_config import TokenizerConfig, read_json
from zeroshot.encoders.tokenizer_files import custom_code_file, tokenizer_data, unsupported_tokenizer
from zeroshot.errors import MissingDependency, ModelCorrupt, ModelError, ModelUnavailable, quote

_HUB_FILES = ("*.json", "*.txt", "*.model")
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "merges.txt",
)
_PROBES = (
    "", "cat", "A photo of a CAT.", "  two\u00a0spaces\t", "don't we'll I'VE", "caf\u00e9 cafe\u0301",
    "\u6771\u4eac \u30bf\u30ef\u30fc", "&lt;b&gt; &amp;amp;", "sch\u00c3\u00b6n", "\U0001f408 on a mat",
    "x_y-z, 12.5%!", "\u0130stanbul \u1e9e \ufb01 \u2167", "<start_of_text> a",
    "the quick brown fox jumps over the lazy dog " * 40,
)  # fmt: skip
"""Texts whose tokens tell apart tokenizers of one vocabulary that clean, split, pad or cut differently."""


class Tokenizer(Protocol):
    """Texts to token ids; called as open_clip's tokenizers are, it gives a tensor."""

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """int64 token ids, shape (n, context length), padded."""
        ...

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special tokens included, cut to the context length; padded or not."""
        ...

    def whole(self, text: str) -> list[int]:
        """Token ids of a text, special tokens included, before anything is cut."""
        ...

    @property
    def digest(self) -> str:
        """sha256, in hex, of all that decides the tokens."""
        ...


class OpenClipTokenizer:
    """One of open_clip's tokenizers."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.whole = openclip_api.untruncated(original)

    def __call__(self, texts: list[str]) -> torch.Tensor:
        tensor: torch.Tensor = self.original(texts)
        return tensor

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return openclip_api.token_lists(self.original, texts)

    @property
    def digest(self) -> str:
        if isinstance(self.original, openclip_api.SimpleTokenizer):
            content = [sorted(self.original.encoder.items()), [" ".join(pair) for pair in self.original.bpe_ranks]]
        else:
            backend = getattr(self.original.tokenizer, "backend_tokenizer", None)
            content = [sorted(self.original.tokenizer.get_vocab().items()), _rules(backend)]
        return _digest(content, self.ids(_PROBES))


class HuggingFaceClipTokenizer:
    """``transformers``' CLIP tokenizer, by the library it is made of."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, context_length: int) -> None:
        self._uncut = tokenizer
        self._cutting = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._cutting.enable_truncation(context_length)
        self._context_length = context_length

    def __call__(self, texts: list[str]) -> torch.Tensor:
        rows = torch.zeros(len(texts), self._context_length, dtype=torch.long)
        for row, ids in zip(rows, self.ids(texts), strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._cutting.encode_batch(list(texts))]

    def whole(self, text: str) -> list[int]:
        return list(self._uncut.encode(text).ids)

    def save(self, path: Path) -> None:
        """Write it as tokenizer.json, without padding and truncation."""
        self._uncut.save(str(path), pretty=False)

    @property
    def digest(self) -> str:
        return _digest([sorted(self._uncut.get_vocab().items()), _rules(self._uncut)], self.ids(_PROBES))


def load_tokenizer(spec: str, config: TokenizerConfig, folder: Path | None, *, trust_remote_code: bool) -> Tokenizer:
    """Load the tokenizer that a model's configuration names."""
    if config.name is None:
        return OpenClipTokenizer(openclip_api.simple_tokenizer(config.context_length, config.options))
    if folder is None:
        folder = hub.folder(spec, config.name, _HUB_FILES, has_vocabulary)
    elif not has_vocabulary(folder):
        raise ModelUnavailable(
            f"The tokenizer of {spec} is missing: {folder} has no {', '.join(_VOCABULARIES[:3])} or the like.",
            "Put the tokenizer's files beside the weights.",
            field="model",
        )
    if not trust_remote_code and (odd := unsupported_tokenizer(folder)) is not None:
        raise _needs_code(custom_code_file(folder)) or ModelError(
            f"The tokenizer of {spec} in {folder} is of the kind {quote(odd)}, which is not loaded.",
            "If you trust its author, say --trust-remote-code (Python: trust_remote_code=True).",
            field="model",
        )
    source = nullcontext(folder) if trust_remote_code else tokenizer_data(folder)
    try:
        with source as files:
            return OpenClipTokenizer(
                openclip_api.hf_tokenizer(
                    files, config.context_length, config.mode, config.options, trust_remote_code=trust_remote_code
                )
            )
    except ImportError as error:
        missing = error.name or "a package"
        raise MissingDependency(
            f"The tokenizer of {spec} needs {missing}, which is not installed.",
            f"Run: pip install {missing}",
            field="model",
        ) from error
    except Exception as error:  # transformers raises many kinds
        if not trust_remote_code and (refusal := _needs_code(custom_code_file(folder))) is not None:
            raise refusal from error
        raise ModelCorrupt(
            f"The tokenizer of {spec} in {folder} cannot be loaded: {quote(str(error), limit=200)}.",
            "Download it again, or check that transformers is recent enough for it.",
            field="model",
        ) from error


def _needs_code(path: Path | None) -> ModelError | None:
    if path is None:
        return None
    return ModelError(
        f"{path} needs Python code that comes with the model, which is not run.",
        "If you trust its author, say --trust-remote-code (Python: trust_remote_code=True).",
        field="model",
    )


def load_clip_tokenizer(folder: Path, context_length: int) -> HuggingFaceClipTokenizer:
    """Load a Hugging Face CLIP checkpoint's tokenizer."""
    try:
        if (path := folder / "tokenizer.json").is_file():
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        else:
            tokenizer = _from_vocabulary(folder)
    except Exception as error:  # the library raises bare Exception
        raise ModelCorrupt(
            f"The tokenizer in {folder} cannot be read: {error}.", "Download it again.", field="model"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    _check_clip_tokenizer(tokenizer, folder)
    return HuggingFaceClipTokenizer(tokenizer, context_length)


def _check_clip_tokenizer(tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """Refuse what ``transformers`` would read otherwise: it adds tokens of other files, and its own ends and case."""
    vocabulary = tokenizer.get_vocab()
    missing = sorted(_added_tokens(folder) - vocabulary.keys())
    ids, around = tokenizer.encode("A").ids, [vocabulary.get(name) for name in ("<|startoftext|>", "<|endoftext|>")]
    usual = len(ids) > 2 and [ids[0], ids[-1]] == around and ids == tokenizer.encode("a").ids
    if missing or not usual:
        what = (
            f"it has added tokens, {quote(missing)}" if missing else "it has other tokens around a text, or keeps case"
        )
        raise ModelCorrupt(
            f"The tokenizer in {folder} is not CLIP's: {what}.",
            "Save it again with transformers' CLIPTokenizer.save_pretrained, which puts all of it into tokenizer.json.",
            field="model",
        )


def _added_tokens(folder: Path) -> set[str]:
    """Tokens that a tokenizer's other files add to its vocabulary."""
    found: set[str] = set()
    if (folder / "added_tokens.json").is_file():
        found |= read_json(folder / "added_tokens.json").keys()
    if (folder / "tokenizer_config.json").is_file():
        listed = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder")
        entries = listed.values() if isinstance(listed, dict) else []
        found |= {str(entry["content"]) for entry in entries if isinstance(entry, dict) and "content" in entry}
    return found


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder has a tokenizer's vocabulary."""
    return any((folder / name).is_file() for name in _VOCABULARIES)


def _from_vocabulary(folder: Path) -> tokenizers.Tokenizer:
    """As ``transformers`` puts a CLIP tokenizer together from its two oldest files."""
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

    start, end = "<|startoftext|>", "<|endoftext|>"
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#version")]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[(left, right) for left, right in pairs],
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            unk_token=end,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(start, special=True), AddedToken(end, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocabulary[end]), (start, vocabulary[start]), add_prefix_space=False, trim_offsets=False
    )
    return tokenizer


def _rules(tokenizer: tokenizers.Tokenizer | None) -> list[Any]:
    """All that decides tokens beside the vocabulary: merges or scores, and what is done before and after."""
    if tokenizer is None:
        return []
    whole = json.loads(tokenizer.to_str())
    model, steps = whole["model"], ("added_tokens", "normalizer", "pre_tokenizer", "post_processor")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", ())]
    scores = model["vocab"] if isinstance(model.get("vocab"), list) else []
    return [merges, scores, {step: whole.get(step) for step in steps}]


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()
