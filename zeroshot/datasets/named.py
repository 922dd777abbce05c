"""Datasets by name: torchvision's, Hugging Face's, scikit-learn's, with their labels and published prompts."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zeroshot.datasets.base import Dataset, Problem, Sample
from zeroshot.definitions import Reference
from zeroshot.errors import DatasetError, DefinitionError, MissingDependency, quote
from zeroshot.labels import load_label_set
from zeroshot.optional import require
from zeroshot.prompts import TemplateSet, check_templates, load_templates


@dataclass(frozen=True)
class Named:
    """How a dataset of torchvision is opened, and by which names and prompts it is known."""

    kind: str
    splits: tuple[str, ...] = ("test", "train")
    argument: str = "split"
    published: str = ""
    labels: str = ""
    templates: str = "photo"


NAMED = {
    "caltech101": Named("Caltech101", ("all",), "", "caltech101"),
    "cifar10": Named("CIFAR10", argument="train", published="cifar10", labels="cifar10", templates="cifar"),
    "cifar100": Named("CIFAR100", argument="train", published="cifar100", labels="cifar100", templates="cifar"),
    "country211": Named("Country211", ("test", "valid", "train"), published="country211"),
    "dtd": Named("DTD", ("test", "val", "train"), published="dtd", templates="texture"),
    "eurosat": Named("EuroSAT", ("all",), "", "eurosat", labels="eurosat", templates="satellite"),
    "fashion-mnist": Named("FashionMNIST", argument="train"),
    "fgvc-aircraft": Named("FGVCAircraft", ("test", "val", "train"), published="fgvc_aircraft"),
    "flowers102": Named("Flowers102", ("test", "val", "train"), published="flowers"),
    "food101": Named("Food101", published="food101", labels="food101", templates="food"),
    "gtsrb": Named("GTSRB", published="gtsrb"),
    "imagenet": Named("ImageNet", ("val", "train"), published="imagenet1k", labels="imagenet", templates="imagenet"),
    "mnist": Named("MNIST", argument="train", published="mnist"),
    "oxford-pets": Named(
        "OxfordIIITPet", ("test", "trainval"), published="pets", labels="oxford-pets", templates="pets"
    ),
    "pcam": Named("PCAM", ("test", "val", "train"), published="pcam"),
    "rendered-sst2": Named("RenderedSST2", ("test", "val", "train"), published="renderedsst2"),
    "stanford-cars": Named("StanfordCars", published="cars"),
    "stl10": Named("STL10", published="stl10"),
    "sun397": Named("SUN397", ("all",), "", "sun397"),
    "svhn": Named("SVHN", published="svhn"),
}
"""Datasets that torchvision knows; their files lie where ``--root`` says, or are downloaded to there."""


def open_named(name: str, split: str | None, root: Path, *, download: bool) -> Dataset:
    """Open one of torchvision's datasets."""
    facts = NAMED[name]
    split = split or facts.splits[0]
    if split not in facts.splits:
        raise DatasetError(f"{name} has no split {quote(split)}.", f"It has {', '.join(facts.splits)}.")
    kind = getattr(importlib.import_module("torchvision.datasets"), facts.kind)
    arguments: dict[str, Any] = {"root": str(root)}
    if facts.argument:
        arguments[facts.argument] = split == "train" if facts.argument == "train" else split
    if name != "imagenet":
        arguments["download"] = download
    try:
        found = kind(**arguments)
    except Exception as error:  # torchvision raises RuntimeError, OSError, and what its readers raise
        raise DatasetError(
            f"{name} cannot be opened in {root}: {error}.",
            "Give the folder with its files (--root), or let them be downloaded (--download).",
        ) from error
    classes = _classes(name, facts, found)

    def samples() -> Iterator[Sample | Problem]:
        for index in range(len(found)):
            try:
                image, target = found[index]
            except Exception as error:  # one damaged file must not end the rest
                yield Problem(str(index), f"{type(error).__name__}: {error}")
                continue
            target = target[0] if isinstance(target, tuple) else target
            yield Sample(str(index), image, (classes[int(target)],))

    return Dataset(name, samples, classes, len(found), published_templates(facts), f"torchvision, {split}, {root}")


def published_templates(facts: Named) -> TemplateSet | None:
    """Give the prompts published for a dataset: CLIP_benchmark's where it is installed, else a shipped set."""
    if facts.published:
        with suppress(MissingDependency, DefinitionError):
            values = Reference.model_validate({"from": f"clip_benchmark:templates/{facts.published}"}).resolve()
            return TemplateSet(f"clip_benchmark {facts.published}", check_templates(values))
    return load_templates(facts.templates)


def _classes(name: str, facts: Named, found: Any) -> tuple[str, ...]:
    own = getattr(found, "classes", None) or getattr(found, "categories", None)
    if facts.labels:
        names = load_label_set(facts.labels).names
        if own is None or len(own) == len(names):
            return names
    with suppress(MissingDependency, DefinitionError):
        published = Reference.model_validate({"from": f"clip_benchmark:classnames/{facts.published}"}).resolve()
        if own is None or len(own) == len(published):
            return tuple(published)
    if own is not None:
        return tuple(_readable(one) for one in own)
    if name == "svhn":
        return tuple("0123456789")
    raise DatasetError(
        f"torchvision has no names for the classes of {name}.", "Run: pip install clip-benchmark (its names are used)."
    )


def _readable(name: object) -> str:
    """ "6 - six" and "banded_texture" as one would say them."""
    text = str(name).partition(" - ")[2] or str(name)
    return text.replace("_", " ").replace("/", " ").strip()


def open_digits() -> Dataset:
    """Open scikit-learn's digits: 1,797 images of 8 x 8 grey levels, written digits as they stand in the package."""
    found = require("sklearn.datasets", "evaluate").load_digits()
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    def samples() -> Iterator[Sample | Problem]:
        for index, (levels, target) in enumerate(zip(found.images, found.target, strict=True)):
            image = Image.fromarray(np.round(255 * levels / 16).astype(np.uint8)).resize((64, 64), Image.Resampling.BOX)
            yield Sample(str(index), image.convert("RGB"), (names[int(target)],))

    templates = check_templates(['a photo of the number: "{}".'])
    return Dataset(
        "digits", samples, names, len(found.target), TemplateSet("clip_benchmark mnist", templates),
        "scikit-learn's load_digits",
    )  # fmt: skip


def open_hugging_face(name: str, split: str | None, columns: Mapping[str, str] | None = None) -> Dataset:
    """Open a dataset of the Hugging Face hub, or of its cache on this machine."""
    path, _, config = name.partition(":")
    if not path.startswith((".", "/", "~")) and Path(path).exists():
        raise DatasetError(
            f"hf:{path} names a dataset of the hub, and there is a file or folder {path} here.",
            f"Write hf:./{path} for the folder; for the hub's, work in another folder.",
        )
    datasets = require("datasets", "datasets")
    try:
        found = datasets.load_dataset(path, config or None, split=split or "test")
    except Exception as error:  # the library and the hub raise many kinds
        raise DatasetError(
            f"{name} cannot be loaded: {type(error).__name__}: {error}.",
            "Give a name and a --split that exist; without network it has to be in the cache (HF_HOME).",
        ) from error
    kinds = {column: type(feature).__name__ for column, feature in found.features.items()}
    chosen = columns or {}
    images = [name for name, kind in kinds.items() if kind == "Image" and chosen.get("file", name) == name]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel" and chosen.get("label", name) == name]
    if not images or not labels:
        raise DatasetError(
            f"{name} has the columns {', '.join(f'{c} ({k})' for c, k in kinds.items())}.",
            "It needs one of images and one of class labels.",
        )
    names = tuple(_readable(one) for one in found.features[labels[0]].names)

    def samples() -> Iterator[Sample | Problem]:
        for index in range(len(found)):
            try:
                row = found[index]
            except Exception as error:  # one damaged image must not end the rest
                yield Problem(str(index), f"{type(error).__name__}: {error}")
                continue
            yield Sample(str(index), row[images[0]], (names[row[labels[0]]],))

    return Dataset(path, samples, names, len(found), origin=f"Hugging Face, {split or 'test'}")
