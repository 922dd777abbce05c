"""Any open_clip model, through torch: its own weights and numbers, with the work that changes nothing left out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from zeroshot.encoders import hugging_face_clip, openai_archive, openclip_api
from zeroshot.encoders.base import FloatArray, TwoTowerEncoder
from zeroshot.encoders.causal_text import PackedTextTower, causal_text_tower, pooled_position
from zeroshot.encoders.checkpoints import Checkpoint, resolve
from zeroshot.encoders.text_packing import Packed
from zeroshot.encoders.tokenization import Tokenizer, load_clip_tokenizer, load_tokenizer
from zeroshot.errors import MissingDependency, ModelCorrupt, ModelError, ModelWarning, OptionError, quote
from zeroshot.images import Preprocessing

Tokens = list[list[int]]

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
_CLIPS_TOKENS = 3  # what open_clip's tokenizer mode "clips" keeps free
_FINGERPRINT = 2
"""What is hashed, and how; vectors kept under another number's fingerprints are not found again."""


class OpenClipEncoder(TwoTowerEncoder):
    """Serve an open_clip architecture and its weights.

    Safe to call from several threads at once.
    """

    def __init__(
        self,
        spec: str,
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        batch_size: int = 16,
        trust_remote_code: bool = False,
    ) -> None:
        if threads > 0:
            torch.set_num_threads(threads)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.checkpoint = resolve(spec, trust_remote_code=trust_remote_code)
        self.model = _load(self.checkpoint, self.precision, self.device)
        dim = _embed_dim(self.model, self.checkpoint)
        tower = causal_text_tower(self.model)
        self.causal_texts = tower is not None
        self.packed_tower = PackedTextTower(tower)
        super().__init__(
            spec=spec,
            dim=dim,
            logit_scale=float(self.model.logit_scale.detach().float().exp().mean()),
            logit_bias=None if self.model.logit_bias is None else float(self.model.logit_bias.detach().float().mean()),
            preprocessing=preprocessing_of(self.model, self.checkpoint),
            template_set="simple",
            context_length=self.checkpoint.tokenizer.context_length,
            batch_size=batch_size,
        )
        for note in self.checkpoint.notes:
            warnings.warn(note, ModelWarning, stacklevel=3)

    @cached_property
    def fingerprint(self) -> str:
        """sha256, in hex, of all that decides a vector; computed when first asked for.

        Weights and precision, the configuration (activation, heads, pooling, context length...), preprocessing, and
        the tokenizer.
        """
        decisive = {
            "fingerprint": _FINGERPRINT,
            "model": openclip_api.decisive(self.checkpoint.model_config),
            "text_tower": {
                name: value
                for name, value in (self.checkpoint.text_tower or {}).items()
                if name not in ("_name_or_path", "architectures", "torch_dtype", "dtype", "transformers_version")
            },
            "preprocessing": self.preprocessing.to_dict(),
            "precision": self.precision,
            "context_length": self.context_length,
            "tokenizer": self.tokenizer.digest,
        }
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """This model's tokenizer, loaded when first asked for: images need none."""
        found = self.checkpoint
        if found.is_hugging_face and found.tokenizer_folder is not None:
            return load_clip_tokenizer(found.tokenizer_folder, found.tokenizer.context_length)
        return load_tokenizer(
            self.spec, found.tokenizer, found.tokenizer_folder, trust_remote_code=found.trust_remote_code
        )

    def encode_tokens(self, token_ids: Sequence[Sequence[int]]) -> FloatArray:
        """Embed texts that are token ids already."""
        return self._encode_token_ids(self._cut([list(row) for row in token_ids]))

    def _tokenize(self, texts: Sequence[str]) -> Tokens:
        return self._cut(self.tokenizer.ids(texts) if texts else [])

    def _cuts(self, text: str) -> bool:
        ids = self.tokenizer.whole(text)
        most = self.context_length - (_CLIPS_TOKENS if self.checkpoint.tokenizer.mode == "clips" else 0)
        return len(ids) > most or len(self._cut([ids])[0]) < len(ids)

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


def preprocessing_of(model: torch.nn.Module, checkpoint: Checkpoint) -> Preprocessing:
    """Read a model's own preprocessing."""
    if checkpoint.is_hugging_face:
        return Preprocessing.from_dict(checkpoint.preprocessing)
    config = openclip_api.preprocessing_of(model)
    size, interpolation = config["size"], config["interpolation"]
    try:
        return Preprocessing.from_dict(
            {
                "size": [size, size] if isinstance(size, int) else list(size),
                "mean": _three(config["mean"]),
                "std": _three(config["std"]),
                "interpolation": "bicubic" if interpolation == "random" else interpolation,  # as open_clip takes it
                "resize_mode": config["resize_mode"],
                "fill_color": config["fill_color"],
            }
        )
    except (TypeError, ValueError, OverflowError, ModelCorrupt) as error:
        raise ModelCorrupt(
            f"The preprocessing of {checkpoint.name} is not usable: {quote(config, limit=200)}.",
            "Download or export the model again.",
            field="model",
        ) from error


def _three(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, (list, tuple)) else [float(value)] * 3


def _embed_dim(model: Any, checkpoint: Checkpoint) -> int:
    """Length of a vector, asked of the text tower, which is the cheaper to run; one that cannot be run is named."""
    try:
        with torch.inference_mode():
            device = next(model.parameters()).device
            tokens = torch.zeros(1, checkpoint.tokenizer.context_length, dtype=torch.long, device=device)
            _, dim = model.encode_text(tokens).shape
            return int(dim)
    except Exception as error:  # torch raises many kinds
        raise ModelCorrupt(
            f"{checkpoint.spec}: the text tower of {checkpoint.name} cannot be run: "
            f"{quote(str(error) or type(error).__name__, limit=200)}.",
            "Its configuration is not that of a CLIP model, or this precision is not for it.",
            field="model",
        ) from error


def _load(checkpoint: Checkpoint, precision: str, device: torch.device) -> Any:
    preprocessing = openclip_api.preprocess_config() if checkpoint.is_hugging_face else checkpoint.preprocessing
    try:
        model = openclip_api.build(
            checkpoint.model_config,
            preprocessing,
            precision=precision,
            device=device,
            text_tower=checkpoint.text_tower,
        )
    except ImportError as error:
        raise MissingDependency(
            f"{checkpoint.spec} needs {error.name or error}, which is not installed.",
            f"Run: pip install {error.name or 'it'}",
            field="model",
        ) from error
    except Exception as error:  # torch, timm and open_clip raise many kinds
        raise ModelCorrupt(
            f"{checkpoint.spec}: the configuration of {checkpoint.name} cannot be built: "
            f"{quote(str(error), limit=300)}",
            "Download or export it again, or upgrade open_clip_torch and timm.",
            field="model",
        ) from error
    try:
        _fill(model, checkpoint)
    except ModelError:
        raise
    except Exception as error:  # torch, safetensors, pickle and open_clip raise many kinds
        raise ModelCorrupt(
            f"{checkpoint.spec}: {', '.join(map(str, checkpoint.weights))} cannot be loaded as {checkpoint.name}: "
            f"{quote(str(error), limit=300)}",
            "Check that the file is whole and of that architecture ('zeroshot models' lists them); download it again.",
            field="model",
        ) from error
    model.eval()
    model.requires_grad_(requires_grad=False)
    if not hasattr(model, "logit_bias"):
        model.logit_bias = None
    return model


def _fill(model: Any, checkpoint: Checkpoint) -> None:
    """Load the weights, every one of which must fit."""
    first, *more = checkpoint.weights
    if checkpoint.is_hugging_face:
        tensors = hugging_face_clip.to_open_clip(hugging_face_clip.read_weights([first, *more]))
        model.load_state_dict(tensors, strict=True)
    elif openai_archive.is_archive(first):
        model.load_state_dict(openai_archive.read_archive(first), strict=True)
    else:
        openclip_api.load_weights(model, first)


def _input_dtype(precision: str) -> torch.dtype:
    return {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)


def choose_device(device: str) -> torch.device:
    """Choose a device."""
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


def choose_precision(precision: str, device: torch.device) -> str:
    """Choose a precision."""
    if precision not in PRECISIONS:
        raise OptionError(
            f"precision={precision!r} is not known.", f"Use one of {', '.join(PRECISIONS)}.", field="precision"
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp16" if device.type == "mps" else "fp32"
