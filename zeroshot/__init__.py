"""Zero-shot image classification: images ranked under labels given as text, with no training."""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

for _variable in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(
        _variable, "1"
    )  # before either library loads; who sets them otherwise has said what they want

if TYPE_CHECKING:
    from zeroshot.classifier import ZeroShotClassifier
    from zeroshot.client import AsyncClient, Client
    from zeroshot.encoders import Encoder, load_encoder
    from zeroshot.errors import InputError, ModelError, ZeroshotError
    from zeroshot.explanation import Explanation, explain
    from zeroshot.gallery import Gallery, Item, Query
    from zeroshot.images import ImageLimits
    from zeroshot.labels import Label, LabelSet, LabelSetStore, Mode, load_label_set
    from zeroshot.prompts import TemplateSet, load_templates
    from zeroshot.scoring import Classification, Prediction, ScoringOptions

__version__ = version("zeroshot")

_HOME = {
    "AsyncClient": "client",
    "Classification": "scoring",
    "Client": "client",
    "Encoder": "encoders",
    "Explanation": "explanation",
    "Gallery": "gallery",
    "ImageLimits": "images",
    "InputError": "errors",
    "Item": "gallery",
    "Label": "labels",
    "LabelSet": "labels",
    "LabelSetStore": "labels",
    "Mode": "labels",
    "ModelError": "errors",
    "Prediction": "scoring",
    "Query": "gallery",
    "ScoringOptions": "scoring",
    "TemplateSet": "prompts",
    "ZeroShotClassifier": "classifier",
    "ZeroshotError": "errors",
    "explain": "explanation",
    "load_encoder": "encoders",
    "load_label_set": "labels",
    "load_templates": "prompts",
}

__all__ = [
    "AsyncClient",
    "Classification",
    "Client",
    "Encoder",
    "Explanation",
    "Gallery",
    "ImageLimits",
    "InputError",
    "Item",
    "Label",
    "LabelSet",
    "LabelSetStore",
    "Mode",
    "ModelError",
    "Prediction",
    "Query",
    "ScoringOptions",
    "TemplateSet",
    "ZeroShotClassifier",
    "ZeroshotError",
    "__version__",
    "explain",
    "load_encoder",
    "load_label_set",
    "load_templates",
]


def __getattr__(name: str) -> Any:
    """Import a public name's module when the name is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'zeroshot' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"zeroshot.{_HOME[name]}"), name)
    globals()[name] = value
    return value
