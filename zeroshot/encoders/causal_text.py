"""Causal text towers of open_clip: which models have one, and its forward over packed texts."""

from __future__ import annotations

from typing import Any

import torch

from zeroshot.encoders.openclip_api import TextTransformer


def causal_text_tower(model: Any) -> Any:
    """Find the module with the text tower's parts, if a text's vector depends on nothing after its end-of-text token.

    That holds for causal towers pooled there; not for those that attend both ways (SigLIP, MobileCLIP), append a class
    token (CoCa), pool elsewhere, or are not open_clip's own (Hugging Face encoders).
    """
    tower = getattr(model, "text", None)
    if tower is None:
        pool, mask = getattr(model, "text_pool_type", None), getattr(model, "attn_mask", None)
        return model if mask is not None and pool in ("argmax", "eos") else None
    if not isinstance(tower, TextTransformer):
        return None
    causal = tower.attn_mask is not None and tower.cls_emb is None and not tower.use_pad_mask
    return tower if causal and tower.pool_type in ("argmax", "eos") else None


def pooled_position(row: list[int], tower: Any) -> int:
    """Find where ``open_clip.transformer.text_global_pool`` reads a text's vector."""
    kind, end = pooling(tower)
    if kind == "eos":
        return row.index(end) if end in row else 0
    return row.index(max(row))


def pooling(tower: Any) -> tuple[str, int | None]:
    """Say how a causal tower finds the position that it reads."""
    whole = hasattr(tower, "text_pool_type")  # a CLIP whose text tower has no module of its own
    kind = tower.text_pool_type if whole else tower.pool_type
    return ("eos", int(tower.text_eos_id if whole else tower.eos_id)) if kind == "eos" else ("argmax", None)


class PackedTextTower(torch.nn.Module):
    """A causal text tower's forward over packed texts: ``CLIP.encode_text`` with any positions and any mask."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, visible: torch.Tensor, leaves: torch.Tensor
    ) -> torch.Tensor:
        """Embed packed texts."""
        tower: Any = self.tower
        dtype = tower.transformer.get_cast_dtype()
        mask = torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, float("-inf"))
        states = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[positions].to(dtype)
        states = tower.transformer(states.unsqueeze(0), attn_mask=mask)[0]
        pooled = tower.ln_final(states)[leaves]
        projection = tower.text_projection
        if isinstance(projection, torch.nn.Linear):
            pooled = projection(pooled)
        elif projection is not None:
            pooled = pooled @ projection
        return pooled  # type: ignore[no-any-return]
