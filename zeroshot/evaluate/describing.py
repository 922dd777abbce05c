"""What was evaluated, on what, where: the part of a report that is not figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from zeroshot.datasets import Dataset, Problem
from zeroshot.encoders import Encoder
from zeroshot.evaluate.evaluation import DatasetFacts, ModelFacts, RunFacts

_VERSIONS = ("zeroshot", "numpy", "pillow", "onnxruntime", "torch", "open_clip_torch", "scikit-learn")


def dataset_facts(
    dataset: Dataset, pictures: int, problems: Sequence[Problem], unknown: Mapping[str, int]
) -> DatasetFacts:
    """Describe a dataset."""
    return DatasetFacts(
        name=dataset.name,
        origin=dataset.origin,
        classes=len(dataset.classes),
        empty_classes=list(dataset.empty_classes),
        pictures=pictures,
        unknown_labels=dict(unknown),
        problems=[(problem.key, problem.reason) for problem in problems],
    )


def model_facts(encoder: Encoder) -> ModelFacts:
    """Describe an encoder."""
    return ModelFacts(
        spec=encoder.spec,
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
    )


def run_facts(pictures: int, seconds: float, encoded: int) -> RunFacts:
    """Describe this machine, and what it did."""
    return RunFacts(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        versions=_versions(),
        seconds=seconds,
        pictures_per_s=pictures / max(seconds, 1e-9),
        encoded=encoded,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
