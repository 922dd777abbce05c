"""Turn any open_clip model into a model directory, and prove on real images that it is the same model."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch

from zeroshot.encoders.base import FloatArray
from zeroshot.encoders.causal_text import pooling
from zeroshot.encoders.model_directory import ModelConfig, write_config
from zeroshot.encoders.onnx import OnnxEncoder
from zeroshot.encoders.openclip import OpenClipEncoder
from zeroshot.encoders.openclip_api import HFTokenizer, SimpleTokenizer
from zeroshot.encoders.text_packing import pack
from zeroshot.encoders.tokenization import HuggingFaceClipTokenizer, OpenClipTokenizer
from zeroshot.encoders.truncation import truncation_warnings_off
from zeroshot.errors import MissingDependency, ModelError, OptionError, quote
from zeroshot.images import load

FLOOR = {"fp32": 0.9999, "int8": 0.99}
"""The lowest cosine between exported and original, of any image or text, at which an export is kept."""

_PROTOBUF_LIMIT = 1_800_000_000  # bytes; above it weights go into a file beside the graph (protobuf ends at 2 GiB)
_MADE_WITH = ("open_clip_torch", "torch", "onnx", "onnxruntime", "tokenizers")
_TEXTS = (
    "a photo of a cat.", "a photo of a dog.", "a cup of coffee", "It's 5 o'clock &amp; the café is closed!",
    "東京タワーの写真", "satellite photo of a river", "🐈 on a mat", "x",
    "the quick brown fox jumps over the lazy dog " * 12,
)  # fmt: skip


@dataclass(frozen=True)
class ExportReport:
    """How close an exported model is to its original."""

    directory: Path
    precision: str
    bytes: int
    image_cosines: FloatArray
    text_cosines: FloatArray


def export(
    encoder: OpenClipEncoder,
    directory: str | Path,
    *,
    images: Sequence[str | Path],
    precision: str = "fp32",
    on_progress: Callable[[str], object] = lambda _: None,
) -> ExportReport:
    """Write a model directory and compare it with the original.

    The directory appears whole or not at all.
    """
    target = Path(directory)
    _check(encoder, target, precision, images)
    staging = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        on_progress("tokenizer")
        tokenizer_facts = write_tokenizer(encoder, staging / "tokenizer.json")
        on_progress("text tower")
        _export_text_tower(encoder, staging / "text.onnx")
        on_progress("image tower")
        _export_image_tower(encoder, staging / "image.onnx", precision)
        config = ModelConfig(
            name=encoder.checkpoint.public_name,
            dim=encoder.dim,
            logit_scale=encoder.logit_scale,
            logit_bias=encoder.logit_bias,
            template_set=encoder.template_set,
            preprocessing=encoder.preprocessing,
            precision=precision,
            one_image_at_a_time=precision == "int8",
            made_with={name: version(name) for name in _MADE_WITH},
            **tokenizer_facts,
        )
        write_config(staging, config)
        on_progress("comparison")
        report = _compare(encoder, staging, precision, images)
        if target.exists():
            target.rmdir()
        staging.replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return replace(report, directory=target)


def _check(encoder: OpenClipEncoder, target: Path, precision: str, images: Sequence[str | Path]) -> None:
    if precision not in FLOOR:
        raise OptionError(f"precision={precision!r} is not known.", f"Use {' or '.join(FLOOR)}.", field="precision")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OptionError(f"{target} exists and is not empty.", "Name a new folder, or empty it.", field="directory")
    if not images:
        raise OptionError("There are no images to compare on.", "Give a folder of real images.", field="images")
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(f"Exporting needs {' and '.join(missing)}.", "Run: pip install 'zeroshot[export]'")
    if encoder.device.type != "cpu" or encoder.precision != "fp32":
        raise OptionError(
            f"The model is loaded on {encoder.device} in {encoder.precision}.",
            "Load it with device='cpu', precision='fp32'.",
        )


class _ImageTower(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode_image(pixels)  # type: ignore[no-any-return]


class _TextTower(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(input_ids)  # type: ignore[no-any-return]


def _export_image_tower(encoder: OpenClipEncoder, path: Path, precision: str) -> None:
    pixels = torch.randn(2, 3, *encoder.preprocessing.size)
    _to_onnx(_ImageTower(encoder.model), {"pixels": pixels}, {"pixels": {0: "n"}}, path)
    if precision == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        full = path.rename(path.with_name("full.onnx"))
        quantize_dynamic(
            full,
            path,
            op_types_to_quantize=["MatMul", "Gemm"],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # with eight bits, sums of two products saturate on processors without VNNI
        )
        for leftover in path.parent.glob("full.onnx*"):
            leftover.unlink()


def _export_text_tower(encoder: OpenClipEncoder, path: Path) -> None:
    if not encoder.causal_texts:
        ids = torch.zeros(2, int(encoder.model.context_length), dtype=torch.long)
        _to_onnx(_TextTower(encoder.model), {"input_ids": ids}, {"input_ids": {0: "n"}}, path)
        return
    (packed,) = pack([[3, 4, 5], [3, 4, 6, 7]], 16)
    inputs = {name: torch.from_numpy(getattr(packed, name)) for name in ("tokens", "positions", "visible", "leaves")}
    axes = {"tokens": {0: "n"}, "positions": {0: "n"}, "visible": {0: "n", 1: "n"}, "leaves": {0: "m"}}
    _to_onnx(encoder.packed_tower, inputs, axes, path)


def _to_onnx(
    module: torch.nn.Module, inputs: dict[str, torch.Tensor], axes: dict[str, dict[int, str]], path: Path
) -> None:
    import onnx

    sizes = {
        name: torch.export.Dim(name, min=1, max=1 << 16)
        for name in {n for axis in axes.values() for n in axis.values()}
    }
    shapes = tuple({axis: sizes[name] for axis, name in axes[argument].items()} for argument in inputs)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(value=False)  # its fused operator has no ONNX form
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=["embeddings"],
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
            weights = sum(tensor.nbytes for tensor in module.state_dict().values())
            if program is None:
                raise RuntimeError("the exporter gave nothing")
            program.save(str(path), external_data=weights > _PROTOBUF_LIMIT)
    except Exception as error:  # the exporter raises many kinds
        raise ModelError(
            f"The {path.stem} tower cannot be exported to ONNX: {quote(str(error), limit=300)}.",
            "Serve this model with torch instead.",
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    model = onnx.load(path, load_external_data=False)
    _strip(model)
    onnx.save(model, path)


def _strip(model: Any) -> None:
    """Remove the traces the exporter leaves of the machine it ran on."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    for part in (
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
        *model.functions,
    ):
        part.doc_string = ""
        del part.metadata_props[:]


def _compare(encoder: OpenClipEncoder, staging: Path, precision: str, images: Sequence[str | Path]) -> ExportReport:
    exported = OnnxEncoder(staging)
    loaded = [load(path) for path in images]
    ids = [list(ids) for ids in exported._tokenize(_TEXTS)]
    if ids != [list(row) for row in encoder._tokenize(_TEXTS)]:
        raise ModelError("The exported tokenizer gives other tokens than the original.", "Serve this model with torch.")
    report = ExportReport(
        directory=staging,
        precision=precision,
        bytes=sum(file.stat().st_size for file in staging.iterdir()),
        image_cosines=_cosines(exported.encode_images(loaded), encoder.encode_images(loaded)),
        text_cosines=_text_cosines(exported, encoder),
    )
    for what, cosines in (("an image", report.image_cosines), ("a text", report.text_cosines)):
        if not cosines.min() >= FLOOR[precision]:
            raise ModelError(
                f"The exported model differs from the original: {what}'s cosine is {cosines.min():.6f}, below "
                f"{FLOOR[precision]} for {precision}.",
                "Export it as fp32." if precision == "int8" else "Serve this model with torch.",
            )
    return report


def _text_cosines(exported: OnnxEncoder, encoder: OpenClipEncoder) -> FloatArray:
    with truncation_warnings_off():  # one of the texts is too long on purpose
        return _cosines(exported.encode_texts(_TEXTS), encoder.encode_texts(_TEXTS))


def _cosines(left: FloatArray, right: FloatArray) -> FloatArray:
    cosines: FloatArray = np.sum(left * right, axis=1, dtype=np.float32)
    return cosines


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
