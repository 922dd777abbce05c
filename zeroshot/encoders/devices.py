"""On which device, and in which precision, a torch model runs."""

from __future__ import annotations

import torch

from zeroshot.errors import OptionError, quote

PRECISIONS = ("auto", "fp32", "fp16", "bf16")


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
