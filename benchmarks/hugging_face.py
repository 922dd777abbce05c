"""The same weights as a Hugging Face ``CLIPModel``, so that a comparison compares code alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import SimpleTokenizer


def to_clip_model(model: Any) -> Any:
    """A ``transformers.CLIPModel`` with the weights of an open_clip ViT CLIP."""
    import transformers

    visual, text = model.visual, model.transformer
    quick = type(text.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    config = transformers.CLIPConfig(
        projection_dim=model.text_projection.shape[1],
        text_config={
            "vocab_size": model.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": text.resblocks[0].mlp.c_fc.out_features,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.resblocks[0].attn.num_heads,
            "max_position_embeddings": model.context_length,
            "hidden_act": "quick_gelu" if quick else "gelu",
            "eos_token_id": 49407,
            "bos_token_id": 49406,
            "pad_token_id": 49407,
        },
        vision_config={
            "hidden_size": visual.transformer.width,
            "intermediate_size": visual.transformer.resblocks[0].mlp.c_fc.out_features,
            "num_hidden_layers": visual.transformer.layers,
            "num_attention_heads": visual.transformer.resblocks[0].attn.num_heads,
            "image_size": visual.image_size[0],
            "patch_size": visual.patch_size[0],
            "hidden_act": "quick_gelu" if quick else "gelu",
        },
    )
    result = transformers.CLIPModel(config).eval()
    state = model.state_dict()
    renamed = {
        "logit_scale": state["logit_scale"],
        "text_projection.weight": state["text_projection"].T,
        "visual_projection.weight": state["visual.proj"].T,
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    norms = {"text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre"}
    norms["vision_model.post_layernorm"] = "visual.ln_post"
    for theirs, ours in norms.items():
        renamed |= {f"{theirs}.{part}": state[f"{ours}.{part}"] for part in ("weight", "bias")}
    for side, prefix in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
        layers = 1 + max(
            int(k.split("resblocks.")[1].split(".")[0]) for k in state if k.startswith(f"{prefix}.resblocks.")
        )
        for layer in range(layers):
            renamed |= _layer(state, f"{prefix}.resblocks.{layer}.", f"{side}.encoder.layers.{layer}.")
    missing, unexpected = result.load_state_dict({k: v.contiguous() for k, v in renamed.items()}, strict=False)
    if unexpected or [name for name in missing if "position_ids" not in name]:
        raise RuntimeError(f"the weights do not line up: missing {missing}, unexpected {unexpected}")
    return result


def _layer(state: dict[str, torch.Tensor], ours: str, theirs: str) -> dict[str, torch.Tensor]:
    names = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    result = {}
    for part in ("weight", "bias"):
        result |= {f"{theirs}{new}.{part}": state[f"{ours}{old}.{part}"] for new, old in names.items()}
        for name, chunk in zip("qkv", state[f"{ours}attn.in_proj_{part}"].chunk(3), strict=True):
            result[f"{theirs}self_attn.{name}_proj.{part}"] = chunk
    return result


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer in transformers' form, from the vocabulary that open_clip ships."""
    import transformers

    simple = SimpleTokenizer()
    rename = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {rename.get(token, token): index for token, index in simple.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in simple.bpe_ranks) + "\n"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"})
    )
    return transformers.CLIPTokenizer.from_pretrained(folder)


def save(model: Any, folder: Path) -> Path:
    """Save an open_clip model's weights as transformers and those who build on it load them."""
    import transformers

    folder.mkdir()
    to_clip_model(model).save_pretrained(folder)
    tokenizer(folder)
    transformers.CLIPImageProcessor().save_pretrained(folder)
    return folder


def pipeline(model: Any, folder: Path) -> Any:
    """transformers' zero-shot-image-classification pipeline over an open_clip model's weights."""
    import transformers

    return transformers.pipeline(
        "zero-shot-image-classification",
        model=to_clip_model(model),
        tokenizer=tokenizer(folder),
        image_processor=transformers.CLIPImageProcessor(),
        device="cpu",
    )
