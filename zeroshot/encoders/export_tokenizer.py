"""Write any open_clip tokenizer as a tokenizer.json that gives the same tokens without torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers

from zeroshot.encoders.causal_text import pooling
from zeroshot.encoders.openclip import OpenClipEncoder
from zeroshot.encoders.openclip_api import HFTokenizer, SimpleTokenizer
from zeroshot.encoders.tokenization import HuggingFaceClipTokenizer, OpenClipTokenizer
from zeroshot.errors import ModelError


def write_tokenizer(encoder: OpenClipEncoder, path: Path) -> dict[str, Any]:
    """Write tokenizer.json."""
    facts: dict[str, Any] = {"context_length": encoder.context_length, "pad_to_context": not encoder.causal_texts}
    if isinstance(encoder.tokenizer, HuggingFaceClipTokenizer):
        encoder.tokenizer.save(path)
        return facts | {"pad_id": 0, "end_id": _end_id(encoder)}
    original = encoder.tokenizer.original if isinstance(encoder.tokenizer, OpenClipTokenizer) else None
    if isinstance(original, SimpleTokenizer):
        if original.reduction_fn is not None:
            raise ModelError("The tokenizer drops words at random, as in training.", "Export a model for inference.")
        tokenizer = _from_simple(original)
        facts |= {"pad_id": 0, "end_id": _end_id(encoder)}
    elif isinstance(original, HFTokenizer) and not original.strip_sep_token and not original.tokenizer_mode:
        if not hasattr(original.tokenizer, "backend_tokenizer"):
            raise ModelError("The model's tokenizer has no tokenizers-library form.", "It cannot be exported.")
        tokenizer = tokenizers.Tokenizer.from_str(original.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        facts |= {"pad_id": int(original.tokenizer.pad_token_id or 0), "end_id": _end_id(encoder)}
    else:
        raise ModelError(f"{type(original).__name__} in this mode cannot be exported.", "Serve the model with torch.")
    cleaning: Any = original.clean_fn
    facts["text_cleaning"] = {
        "_clean_lower": "lower", "_clean_whitespace": "whitespace", "_clean_canonicalize": "canonicalize"
    }[cleaning.__name__]  # fmt: skip
    tokenizer.save(str(path), pretty=False)
    return facts


def _end_id(encoder: OpenClipEncoder) -> int | None:
    if not encoder.causal_texts:
        return None
    kind, end = pooling(encoder.packed_tower.tower)
    if kind == "eos":
        return end
    (ids,) = encoder.tokenizer.ids(["x"])
    return max(ids)  # the tower reads where the highest token is


def _from_simple(original: Any) -> tokenizers.Tokenizer:
    """open_clip's byte-pair tokenizer in the tokenizers library's terms."""
    from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors

    start, end = original.decoder[original.sot_token_id], original.decoder[original.eot_token_id]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab=dict(original.encoder),
            merges=list(original.bpe_ranks),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_word_pattern()), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(start, special=True), AddedToken(end, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $0 {end}",
        special_tokens=[(start, original.sot_token_id), (end, original.eot_token_id)],
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@cache
def _word_pattern() -> str:
    """open_clip's pattern with its character classes spelled out.

    Python's regex module and the tokenizers library's engine know different versions of Unicode, and differ on what
    ignoring case does to a class; ranges leave nothing to differ on.
    """
    import regex

    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    letter, number, other = (
        _ranges([character for character in characters if regex.match(one, character, regex.IGNORECASE)])
        for one in (r"[\p{L}]", r"[\p{N}]", r"[^\s\p{L}\p{N}]")
    )
    return f"'s|'t|'re|'ve|'m|'ll|'d|[{letter}]+|[{number}]|[{other}]+"


def _ranges(characters: Sequence[str]) -> str:
    """The body of a character class that holds just these, given in order."""
    codes = [ord(character) for character in characters]
    starts = [code for code, before in zip(codes, [-2, *codes], strict=False) if code != before + 1]
    ends = [code for code, after in zip(codes, [*codes[1:], -2], strict=True) if code + 1 != after]
    return "".join(f"\\x{{{start:X}}}-\\x{{{end:X}}}" for start, end in zip(starts, ends, strict=True))
