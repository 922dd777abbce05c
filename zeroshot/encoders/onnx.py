"""An encoder from a model directory: ONNX Runtime, the tokenizers library and numpy; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers

from zeroshot.cpu import available_cpus
from zeroshot.encoders.base import FloatArray, TwoTowerEncoder
from zeroshot.encoders.cleaning import cleaner
from zeroshot.encoders.model_directory import read_config
from zeroshot.encoders.text_packing import Packed
from zeroshot.errors import ModelCorrupt, OptionError

_SMALL_TOWER_BYTES = 64 * 2**20
"""Sharing a run saves reading the weights for every image; below this they are near the cores already, and one
image's intermediate results fit there beside them, where those of sixteen do not."""


class OnnxEncoder(TwoTowerEncoder):
    """Serve a model directory on the CPU.

    Safe to call from several threads at once.
    """

    def __init__(
        self, directory: str | Path, *, spec: str | None = None, threads: int = 0, batch_size: int = 16
    ) -> None:
        if threads < 0:
            raise OptionError(f"threads={threads} is negative.", "Use 0 for every core, or a count.", field="threads")
        directory = Path(directory)
        config = read_config(directory)
        super().__init__(
            spec=spec or f"onnx:{directory}",
            dim=config.dim,
            logit_scale=config.logit_scale,
            logit_bias=config.logit_bias,
            preprocessing=config.preprocessing,
            template_set=config.template_set,
            context_length=config.context_length,
            batch_size=batch_size,
        )
        self._config = config
        self._fingerprint = config.fingerprint  # of a json document: computed once
        self._threads = threads or available_cpus()
        self._tokenizer = self._load_tokenizer(directory / "tokenizer.json")
        self._image_path = directory / "image.onnx"
        size = sum(path.stat().st_size for path in directory.glob("image.onnx*"))  # large weights are beside the graph
        self._one_by_one = config.one_image_at_a_time or size <= _SMALL_TOWER_BYTES
        self._image_session = self._load_session(self._image_path, self._threads, one_shape=self._one_by_one)
        self._text_session = self._load_session(directory / "text.onnx", self._threads, one_shape=False)
        self._text_inputs = {argument.name for argument in self._text_session.get_inputs()}
        self.causal_texts = "visible" in self._text_inputs
        self._clean = cleaner(config.text_cleaning)

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, of everything that decides the vectors."""
        return self._fingerprint

    def _load_tokenizer(self, path: Path) -> tokenizers.Tokenizer:
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelCorrupt(f"{path} cannot be read: {error}.", "Export the model again.") from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(self._config.context_length)
        return tokenizer

    @staticmethod
    def _load_session(path: Path, threads: int, *, one_shape: bool) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = one_shape  # it keeps a plan, and wants a block of memory, for every shape it meets
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's exceptions share no public base
            raise ModelCorrupt(f"{path} cannot be loaded: {error}.", "Export the model again.") from error

    def _image_tower(self, pixels: FloatArray) -> FloatArray:
        if self._one_by_one and len(pixels) > 1:
            session = self._side_by_side
            rows = self._pool.map(lambda i: session.run(None, {"pixels": pixels[i : i + 1]})[0], range(len(pixels)))
            return np.concatenate(list(rows)).astype(np.float32, copy=False)
        (features,) = self._image_session.run(None, {"pixels": pixels})
        return np.asarray(features, dtype=np.float32)

    @cached_property
    def _side_by_side(self) -> onnxruntime.InferenceSession:
        """For images that are encoded one by one: a core to each is a fifth faster than all cores to one."""
        return self._load_session(self._image_path, 1, one_shape=True)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, "zeroshot-onnx")

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch([self._clean(text) for text in texts])]
        end, length = self._config.end_id, self._config.context_length
        if end is not None:
            rows = [ids[: ids.index(end) + 1] if end in ids else ids for ids in rows]
        if self._config.pad_to_context:
            rows = [ids + [self._config.pad_id] * (length - len(ids)) for ids in rows]
        return rows

    def _cuts(self, text: str) -> bool:
        encoding, end = self._tokenizer.encode(self._clean(text)), self._config.end_id
        return bool(encoding.overflowing) or (end in encoding.ids and encoding.ids.index(end) + 1 < len(encoding.ids))

    def _text_tower(self, token_ids: Sequence[list[int]]) -> FloatArray:
        longest = max(len(ids) for ids in token_ids)
        input_ids = np.full((len(token_ids), longest), self._config.pad_id, dtype=np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(token_ids):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        return self._run_text({"input_ids": input_ids, "attention_mask": attention_mask})

    def _packed_text_tower(self, packed: Packed) -> FloatArray:
        return self._run_text(
            {
                "tokens": packed.tokens,
                "positions": packed.positions,
                "visible": packed.visible,
                "leaves": packed.leaves,
            }
        )

    def _run_text(self, inputs: dict[str, np.ndarray[Any, Any]]) -> FloatArray:
        (rows,) = self._text_session.run(None, {k: v for k, v in inputs.items() if k in self._text_inputs})
        return np.asarray(rows, dtype=np.float32)
