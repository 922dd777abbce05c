"""OpenAI's archives and Hugging Face's CLIP checkpoints with random weights, written by their own libraries."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import open_clip
import torch

SIZES = {"width": 64, "layers": 2, "heads": 2, "image_size": 64, "patch_size": 16, "dim": 32}


def openai_model(*, resnet: bool = False) -> Any:
    """A small model of OpenAI's own class (the package ``clip``), in fp16 as OpenAI's are."""
    from clip.model import CLIP, convert_weights

    torch.manual_seed(3)
    model = CLIP(
        embed_dim=64, image_resolution=64, vision_layers=(1, 1, 1, 1) if resnet else 2,
        vision_width=64, vision_patch_size=None if resnet else 16,
        context_length=77, vocab_size=49408, transformer_width=64, transformer_heads=1, transformer_layers=2,
    )  # fmt: skip
    convert_weights(_enlarged(model))  # to fp16, all but the norms
    return model.eval()


def save_archive(model: Any, path: Path) -> Path:
    """Write a model as OpenAI publishes its own: a TorchScript archive, half of it fp16."""

    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, module in model.named_children():
                setattr(self, name, module)
            for name, parameter in model.named_parameters(recurse=False):
                self.register_parameter(name, parameter)
            for name, size in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408)):
                self.register_buffer(name, torch.tensor(size))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.visual(image)  # type: ignore[no-any-return]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of the asserts in the model
        torch.jit.save(torch.jit.trace(Scripted(), torch.zeros(1, 3, 64, 64).half(), check_trace=False), path)
    return path


def hugging_face_model(activation: str = "quick_gelu", **text: Any) -> Any:
    """A small ``CLIPModel`` of ``transformers``."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(5)
    shape = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        vision_config={**shape, "image_size": 64, "patch_size": 16, "hidden_act": activation},
        text_config={**shape, "hidden_act": activation, **text},
        projection_dim=32,
    )
    return _enlarged(CLIPModel(config)).eval()


def save_vocabulary(folder: Path) -> None:
    """CLIP's vocabulary as Hugging Face has it: vocab.json and merges.txt."""
    tokenizer = open_clip.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in tokenizer.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    with gzip.open(Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz"), "rt") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))


def _enlarged(model: Any) -> Any:
    """Different inputs are to give different vectors."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embedding" in name:
                parameter.mul_(20)
            elif parameter.ndim > 1:
                parameter.mul_(2)
    return model
