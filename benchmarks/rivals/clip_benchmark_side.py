"""CLIP_benchmark's own evaluation of a model on a dataset, as JSON: run by the rival's interpreter.

MODEL is tiny, wrapped as a torch model, or ARCH:CHECKPOINT, loaded by open_clip itself. DATASET is a folder per class,
or shards in CLIP_benchmark's own layout. Results: the metrics, seconds, and the class weights in OUTPUT.npy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clip_benchmark.datasets.builder import build_dataset, get_dataset_collate_fn
from clip_benchmark.metrics import zeroshot_classification


class Wrapped(torch.nn.Module):
    """An encoder of ours in the form that CLIP_benchmark evaluates."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.texts: list[str] = []

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Number the texts."""
        start = len(self.texts)
        self.texts += texts
        return torch.arange(start, len(self.texts))

    def encode_text(self, numbers: torch.Tensor) -> torch.Tensor:
        """Embed texts by their numbers."""
        return torch.from_numpy(self.encoder.encode_texts([self.texts[int(one)] for one in numbers]))

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed preprocessed images."""
        return torch.from_numpy(self.encoder.encode_pixels(pixels.numpy()))


def open_model(name: str) -> tuple[Any, Callable[[Any], Any], Callable[[Sequence[str]], torch.Tensor]]:
    """The model, its transform and its tokenizer."""
    if name == "tiny":
        from zeroshot import load_encoder

        model = Wrapped(load_encoder("tiny"))
        preprocessing = model.encoder.preprocessing
        return model, lambda image: torch.from_numpy(preprocessing(image.convert("RGB"))), model.tokenize
    import open_clip

    arch, _, checkpoint = name.partition(":")
    model, _, transform = open_clip.create_model_and_transforms(arch, pretrained=checkpoint)
    return model.eval(), transform, open_clip.get_tokenizer(arch)


def open_data(folder: Path, transform: Callable[[Any], Any], batch: int) -> tuple[Any, list[str], list[str]]:
    """A loader, class names and templates."""
    if (folder / "classnames.txt").exists():
        dataset = build_dataset("wds/own", root=str(folder), transform=transform, split="test")
        loader = torch.utils.data.DataLoader(dataset.batched(batch), batch_size=None, shuffle=False)
        # CLIP_benchmark's own command says the same of the loader's dataset
        loader.dataset.classes = dataset.classes
        return loader, dataset.classes, dataset.templates
    from torchvision.datasets import ImageFolder

    found = ImageFolder(str(folder), transform)
    loader = torch.utils.data.DataLoader(found, batch_size=batch, collate_fn=get_dataset_collate_fn("folder"))
    return loader, found.classes, []


def main() -> None:
    """Evaluate, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path, help="OUTPUT.json and OUTPUT.npy")
    parser.add_argument("--templates", nargs="+", default=[], help="with {} for the label")
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    model, transform, tokenizer = open_model(arguments.model)
    loader, names, templates = open_data(arguments.dataset, transform, arguments.batch)
    if arguments.templates:
        templates = [one.replace("{}", "{c}") for one in arguments.templates]
    weights = arguments.output.with_suffix(".pt")
    start = time.perf_counter()
    found = zeroshot_classification.evaluate(
        model, loader, tokenizer, names, templates, "cpu", amp=False, save_clf=str(weights)
    )
    found["seconds"] = time.perf_counter() - start
    np.save(arguments.output.with_suffix(".npy"), torch.load(weights).numpy())
    weights.unlink()
    arguments.output.with_suffix(".json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
