"""What models there are: open_clip's registry, with the sizes and accuracies that its authors published."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from zeroshot.errors import OptionError

_PUBLISHED = files("zeroshot") / "data" / "published"
_MULTILINGUAL = ("xlm-roberta", "i18n", "siglip2", "nllb", "worldwide", "mt5")
_NONCOMMERCIAL = {
    "metaclip": "CC-BY-NC-4.0 (MetaCLIP)",
    "worldwide": "CC-BY-NC-4.0 (MetaCLIP)",
    "nllb": "CC-BY-NC-4.0 (NLLB-CLIP)",
    "mobileclip": "Apple's own licence",
    "datacompdr": "Apple's own licence",
    "dfn": "Apple's own licence",
}
_PERMISSIVE = {
    "siglip": "Apache-2.0",
    "webli": "Apache-2.0",
    "clipa": "Apache-2.0",
    "pe-core": "Apache-2.0",
    "eva": "MIT",
    "openai": "MIT",
    "laion": "MIT",
    "datacomp": "MIT",
    "commonpool": "MIT",
}
NEEDS = {
    "fast": "the best average on 38 datasets under 20 GFLOPs",
    "balanced": "the best average on 38 datasets under 50 GFLOPs",
    "best": "the best average on 38 datasets",
    "multilingual": "the best average on 38 datasets of those trained in many languages",
}
"""What can be recommended, and by which rule."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without loading it; None where nothing was published.

    Parameters
    ----------
    spec : str
        What ``--model`` takes.
    mparams : float or None
        Parameters, in millions.
    gflops : float or None
        GFLOPs of one image and one text.
    imagenet : float or None
        Zero-shot top-1 on ImageNet-1k, in [0, 1].
    average_38 : float or None
        Average over open_clip's 38 datasets, in [0, 1].
    licence : str
        A note on the weights' licence, to be checked at its source.
    multilingual : bool
        Whether its text tower was trained in many languages.
    """

    spec: str
    mparams: float | None
    gflops: float | None
    imagenet: float | None
    average_38: float | None
    licence: str
    multilingual: bool


def published_models() -> list[ModelFacts]:
    """List the models with published results; reads two small files, imports nothing.

    Returns
    -------
    list of ModelFacts
        Best average first.
    """
    results = _read("results.csv")
    facts = [_facts(row["architecture"], row["tag"], row) for row in results]
    return sorted(facts, key=lambda model: -(model.average_38 or 0))


def all_models() -> list[ModelFacts]:
    """List every pretrained model of the installed open_clip; imports torch.

    Returns
    -------
    list of ModelFacts
        In the registry's order.
    """
    import open_clip

    results = {(row["architecture"], row["tag"]): row for row in _read("results.csv")}
    return [_facts(name, tag, results.get((name, tag), {})) for name, tag in open_clip.list_pretrained()]


def recommend(need: str) -> ModelFacts:
    """Recommend a model among those with published results.

    Parameters
    ----------
    need : {"fast", "balanced", "best", "multilingual"}
        A key of `NEEDS`, whose value is the rule.

    Returns
    -------
    ModelFacts
        The recommended model.

    Raises
    ------
    OptionError
        If the need is not known.

    Examples
    --------
    >>> recommend("balanced").spec
    'ViT-B-16:datacomp_xl_s13b_b90k'
    """
    if need not in NEEDS:
        raise OptionError(f"{need!r} is not a known need.", f"Use one of {', '.join(NEEDS)}.", field="need")
    most_gflops = {"fast": 20.0, "balanced": 50.0}.get(need, float("inf"))
    candidates = [
        model
        for model in published_models()
        if (model.gflops or float("inf")) <= most_gflops and (need != "multilingual" or model.multilingual)
    ]
    return candidates[0]


def _read(name: str) -> list[dict[str, str]]:
    with (_PUBLISHED / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _facts(architecture: str, tag: str, result: dict[str, str]) -> ModelFacts:
    profile: dict[str, Any] = next((row for row in _read("profile.csv") if row["architecture"] == architecture), {})
    name = f"{architecture}:{tag}".lower()
    note = next(
        (licence for part, licence in {**_NONCOMMERCIAL, **_PERMISSIVE}.items() if part in name), "see its card"
    )
    return ModelFacts(
        spec=f"{architecture}:{tag}",
        mparams=_number(profile.get("mparams")),
        gflops=_number(profile.get("gflops")),
        imagenet=_number(result.get("imagenet")),
        average_38=_number(result.get("average_38")),
        licence=note,
        multilingual=any(part in name for part in _MULTILINGUAL),
    )


def _number(text: str | None) -> float | None:
    return float(text) if text else None
