"""Save an architecture's random weights, large enough for different inputs to give different vectors."""

from __future__ import annotations

import json
import logging
import sys
import warnings

import open_clip
import torch
from safetensors.torch import save_file

LARGE = 500_000_000  # parameters; above it weights are kept as fp16

if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    name, path = sys.argv[1:]
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained_text=False)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith(("token_embedding.weight", "positional_embedding", "class_embedding", "pos_embed")):
                parameter.mul_(20)
    count = sum(parameter.numel() for parameter in model.parameters())
    state = {k: v.half() if count > LARGE and v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file({k: v.contiguous().clone() for k, v in state.items()}, path)
    sys.stdout.write(json.dumps({"parameters": count}) + "\n")
