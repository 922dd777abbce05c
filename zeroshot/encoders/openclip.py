"""Any open_clip model, through torch: its own weights and numbers, with the work that changes nothing left out."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import open_clip
import torch

from zeroshot.encoders.base import FloatArray, TwoTowerEncoder
from zeroshot.encoders.causal_text import PackedTextTower, causal_text_tower, pooled_position
from zeroshot.encoders.checkpoints import Checkpoint, resolve
from zeroshot.encoders.prefix_tree import Packed
from zeroshot.errors import ModelCorrupt, ModelUnavailable, OptionError, quote
from zeroshot.images import Preprocessing

PRECISIONS = ("auto", "fp32", "fp16", "bf16")

Tokens = list[list[int]]


class OpenClipEncoder(TwoTowerEncoder):
    """Serve an open_clip architecture and its weights.

    Safe to call from several threads at once.

    Parameters
    ----------
    spec : str
        ``ARCH:TAG``, ``ARCH:/path/to/weights``, ``hf-hub:ORG/NAME`` or ``local-dir:/path``.
    device : str
        "auto" (cuda, else mps, else cpu), or any torch device.
    precision : {"auto", "fp32", "fp16", "bf16"}
        "auto" is fp32 on a CPU; on a GPU bf16 where it is native, else fp16.
    threads : int
        CPU threads; 0 leaves torch's own choice.
    batch_size : int
        Pictures given to the tower at once.

    Raises
    ------
    UnknownModel
        If the spec names no architecture or tag of open_clip.
    ModelUnavailable
        If the weights, or the tokenizer, are not on this machine and cannot be downloaded.
    ModelCorrupt
        If the weights are damaged or of another architecture.
    OptionError
        If `device` or `precision` is not usable here.
    """

    def __init__(
        self,
        spec: str,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        batch_size: int = 16,
    ) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
        self.device = _choose_device(device)
        self.precision = _choose_precision(precision, self.device)
        self.checkpoint = resolve(spec)
        self.model = _load(self.checkpoint, self.precision, self.device)
        tower = causal_text_tower(self.model)
        self.causal_texts = tower is not None
        self.packed_tower = PackedTextTower(tower)
        super().__init__(
            spec=spec,
            dim=_embed_dim(self.model),
            logit_scale=float(self.model.logit_scale.detach().float().exp().mean()),
            logit_bias=None if self.model.logit_bias is None else float(self.model.logit_bias.detach().float().mean()),
            preprocessing=preprocessing_of(self.model),
            template_set="simple",
            batch_size=batch_size,
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hex, of weights, architecture, preprocessing and precision; computed when first asked for."""
        digest = hashlib.sha256(json.dumps([self.preprocessing.to_dict(), self.precision]).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], torch.Tensor]:
        """open_clip's tokenizer of this model: texts to an int64 tensor of shape (n, context_length)."""
        try:
            tokenizer: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(self.checkpoint.tokenizer_name)
        except Exception as error:  # transformers and hub clients raise many kinds
            raise ModelUnavailable(
                f"The tokenizer of {self.spec} is not on this machine and cannot be downloaded: "
                f"{quote(str(error), limit=200)}.",
                "It lives on the Hugging Face hub: set HF_HOME to a cache that has it, or HF_ENDPOINT to a mirror; or "
                "use 'local-dir:/path' with open_clip_config.json, weights and tokenizer files.",
                field="model",
            ) from error
        return tokenizer

    def encode_tokens(self, token_ids: Sequence[Sequence[int]]) -> FloatArray:
        """Embed texts that are token ids already.

        Parameters
        ----------
        token_ids : sequence of sequence of int
            Rows as open_clip's tokenizer gives them: special tokens included, padded to the context length.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Unit rows.

        Raises
        ------
        ModelCorrupt
            If the tower answers with NaN, infinity or a zero vector.
        """
        return self._encode_token_ids(self._cut([list(row) for row in token_ids]))

    def _tokenize(self, texts: Sequence[str]) -> Tokens:
        rows: Tokens = self.tokenizer(list(texts)).tolist() if texts else []
        return self._cut(rows)

    def _cut(self, rows: Tokens) -> Tokens:
        """Drop what follows the end-of-text token, where the tower cannot see it."""
        if not self.causal_texts:
            return rows
        return [row[: pooled_position(row, self.packed_tower.tower) + 1] for row in rows]

    @torch.inference_mode()
    def _image_tower(self, pixels: FloatArray) -> FloatArray:
        dtype = _input_dtype(self.precision)
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device, dtype)
        features: FloatArray = self.model.encode_image(images).float().cpu().numpy()
        return features

    @torch.inference_mode()
    def _text_tower(self, token_ids: Sequence[list[int]]) -> FloatArray:
        features: FloatArray = self.model.encode_text(torch.tensor(token_ids, device=self.device)).float().cpu().numpy()
        return features

    @torch.inference_mode()
    def _packed_text_tower(self, packed: Packed) -> FloatArray:
        arrays = (packed.tokens, packed.positions, packed.visible, packed.leaves)
        features = self.packed_tower(*(torch.from_numpy(array).to(self.device) for array in arrays))
        rows: FloatArray = features.float().cpu().numpy()
        return rows


def preprocessing_of(model: torch.nn.Module) -> Preprocessing:
    """Read a model's own preprocessing.

    Parameters
    ----------
    model : torch.nn.Module
        An open_clip model.

    Returns
    -------
    Preprocessing
        As open_clip's inference transform would do it.
    """
    config: dict[str, Any] = open_clip.get_model_preprocess_cfg(model)
    size = config["size"]
    return Preprocessing.from_dict(
        {
            "size": [size, size] if isinstance(size, int) else list(size),
            "mean": _three(config["mean"]),
            "std": _three(config["std"]),
            "interpolation": "bilinear" if config["interpolation"] == "bilinear" else "bicubic",
            "resize_mode": config["resize_mode"],
            "fill_color": config["fill_color"],
        }
    )


def _three(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)] * 3


def _embed_dim(model: Any) -> int:
    """Length of a vector, asked of the text tower, which is the cheaper to run."""
    with torch.inference_mode():
        device = next(model.parameters()).device
        tokens = torch.zeros(1, model.context_length, dtype=torch.long, device=device)
        return int(model.encode_text(tokens).shape[-1])


def _load(checkpoint: Checkpoint, precision: str, device: torch.device) -> Any:
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        model = open_clip.create_model(
            checkpoint.model_name,
            pretrained=checkpoint.pretrained,
            precision=precision,
            device=device,
            require_pretrained=True,
            weights_only=True,
        )
    except Exception as error:  # torch, safetensors, pickle and open_clip raise many kinds
        raise ModelCorrupt(
            f"{checkpoint.spec}: {checkpoint.where} cannot be loaded as {checkpoint.model_name}: "
            f"{quote(str(error), limit=300)}",
            "Check that the file is whole and of that architecture ('zeroshot models' lists them); download it again.",
            field="model",
        ) from error
    finally:
        root.handlers[:] = before  # open_clip logs through the root logger, which installs a handler
    model.eval()
    model.requires_grad_(requires_grad=False)
    if not hasattr(model, "logit_bias"):
        model.logit_bias = None
    return model


def _choose_device(device: str) -> torch.device:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except Exception as error:  # torch's backends raise many kinds
        raise OptionError(
            f"device={device!r} is not usable here: {quote(str(error), limit=160)}.",
            "Use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps', as this machine has.",
            field="device",
        ) from error
    return chosen


def _choose_precision(precision: str, device: torch.device) -> str:
    if precision not in PRECISIONS:
        raise OptionError(
            f"precision={precision!r} is not known.", f"Use one of {', '.join(PRECISIONS)}.", field="precision"
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp16" if device.type == "mps" else "fp32"


def _input_dtype(precision: str) -> torch.dtype:
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
