"""What models there are: open_clip's registry, with the sizes, accuracies and licences that their authors published."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

from zeroshot.errors import OptionError

_PUBLISHED = files("zeroshot") / "data" / "published"
_MULTILINGUAL = ("xlm-roberta", "i18n", "siglip2", "nllb", "worldwide", "mt5")
_UNKNOWN_LICENCE = "see its card"
_MOST_GFLOPS = {"fast": 20.0, "balanced": 50.0}
_RULE = "the highest zero-shot top-1 on ImageNet under a licence that permits commercial use"
NEEDS = {
    "fast": f"{_RULE}, with at most {_MOST_GFLOPS['fast']:g} GFLOPs",
    "balanced": f"{_RULE}, with at most {_MOST_GFLOPS['balanced']:g} GFLOPs",
    "best": _RULE,
    "multilingual": f"{_RULE}, of the models trained in many languages",
}
"""What can be recommended, and by which rule."""


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model without loading it; None where nothing was published."""

    spec: str
    mparams: float | None
    gflops: float | None
    imagenet: float | None
    average_38: float | None
    licence: str
    commercial_use: bool
    multilingual: bool
    source: str

    @property
    def terms(self) -> str:
        """The licence and what it forbids, for people."""
        restricted = not self.commercial_use and self.licence != _UNKNOWN_LICENCE
        return f"{self.licence}, no commercial use" if restricted else self.licence


def published_models() -> list[ModelFacts]:
    """List the models with published results, each under the name it was published; imports nothing heavy."""
    facts = [_facts(row["architecture"], row["tag"]) for row in _read("results.csv")]
    return sorted(
        facts, key=lambda it: (-(it.imagenet or 0), not it.commercial_use, -(it.average_38 or 0), it.spec.lower())
    )


def all_models() -> list[ModelFacts]:
    """List every pretrained model of the installed open_clip; imports torch.

    A tag that has results under an architecture has them under its "-quickgelu" twin too, and the other way round: the
    weights are the same.
    """
    from zeroshot.encoders.openclip_api import pretrained

    return [_facts(architecture, tag) for architecture, tag in pretrained()]


def recommend(need: str, *, any_licence: bool = False) -> ModelFacts:
    """Recommend a model among those with published results.

    >>> recommend("balanced").spec
    'ViT-B-16-SigLIP:webli'
    """
    if need not in NEEDS:
        raise OptionError(f"{need!r} is not a known need.", f"Use one of {', '.join(NEEDS)}.", field="need")
    most_gflops = _MOST_GFLOPS.get(need, float("inf"))
    return next(
        model
        for model in published_models()
        if (model.gflops or float("inf")) <= most_gflops
        and (model.multilingual or need != "multilingual")
        and (model.commercial_use or any_licence)
    )


@cache
def _read(name: str) -> tuple[dict[str, str], ...]:
    with (_PUBLISHED / name).open(encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def _facts(architecture: str, tag: str) -> ModelFacts:
    result = next(_results(architecture, tag), {})
    size = next(_sizes(architecture, result), {})
    spec = f"{architecture}:{tag}"
    name = spec.lower()
    terms = next((row for row in _read("licences.csv") if fnmatchcase(name, row["pattern"])), {})
    return ModelFacts(
        spec=spec,
        mparams=_number(size.get("mparams")),
        gflops=_number(size.get("gflops")),
        imagenet=_number(result.get("imagenet")),
        average_38=_number(result.get("average_38")),
        licence=terms.get("licence", _UNKNOWN_LICENCE),
        commercial_use=terms.get("commercial") == "yes",
        multilingual=any(part in name for part in _MULTILINGUAL),
        source=", ".join(dict.fromkeys(row["source"] for row in (result, size) if row)),
    )


def _results(architecture: str, tag: str) -> Iterator[dict[str, str]]:
    """Rows of the model: its own, then its twin's."""
    rows = [row for row in _read("results.csv") if row["tag"] == tag]
    yield from (row for row in rows if row["architecture"] == architecture)
    yield from (row for row in rows if _plain(row["architecture"]) == _plain(architecture))


def _sizes(architecture: str, result: dict[str, str]) -> Iterator[dict[str, str]]:
    """Rows with the size: the model's own, the architecture's, another tag's; twins share it."""
    profile = ({**row, "source": "docs/model_profile.csv"} for row in _read("profile.csv"))
    for row in (result, *profile, *_read("results.csv")):
        if row.get("mparams") and _plain(row["architecture"]) == _plain(architecture):
            yield row


def _plain(architecture: str) -> str:
    return architecture.removesuffix("-quickgelu")


def _number(text: str | None) -> float | None:
    return float(text) if text else None
