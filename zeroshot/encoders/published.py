"""What open_clip publishes: architectures, and what a tag's publisher says of how its weights were trained."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from zeroshot.encoders import openclip_api
from zeroshot.errors import UnknownModel, quote

_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode", "fill_color")


@dataclass(frozen=True)
class Definition:
    """A model without weights."""

    name: str
    model_config: dict[str, Any]
    preprocessing: dict[str, Any]
    tag: str | None = None
    notes: tuple[str, ...] = ()


def define(spec: str, architecture: str, tag: str | None) -> Definition:
    """Say what an architecture is as a tag's publisher trained it: activation, preprocessing and all."""
    name = architecture_name(architecture)
    config = openclip_api.architecture(name) or {}
    if tag is None:
        return Definition(name, config, openclip_api.preprocess_config(), notes=_differences(name, config))
    entry = openclip_api.published(name, tag)
    if not entry:
        raise no_tag(spec, name, tag)
    known = openclip_api.tag_name(tag)
    notes: tuple[str, ...] = ()
    if entry.get("quick_gelu") and not config.get("quick_gelu"):
        config["quick_gelu"] = True
        notes = (f"{name}:{known} was trained with QuickGELU and is built with it.",)
    return Definition(name, config, openclip_api.preprocess_config(entry), known, notes)


def architecture_name(architecture: str) -> str:
    """Give an architecture's name as open_clip lists it."""
    name = architecture.replace("/", "-")
    if openclip_api.architecture(name) is None:
        every = openclip_api.architectures()
        close = difflib.get_close_matches(name, every, n=3, cutoff=0.5)
        raise UnknownModel(
            f"{quote(name)} is not an architecture of open_clip {openclip_api.VERSION}.",
            f"Did you mean {' or '.join(close)}?" if close else "'zeroshot models' lists them.",
            field="model",
        )
    return name


def no_tag(spec: str, name: str, tag: str) -> UnknownModel:
    """The error for a spec that names no published weights."""
    known = (
        ", ".join(f"{name}:{one}" for one in openclip_api.tags(name)) or "none are published; give a path to weights"
    )
    return UnknownModel(
        f"{quote(spec)} names no weights: {quote(tag) if tag else 'nothing'} is not a tag of {name}.",
        f"There are: {known}.",
        field="model",
    )


def _differences(name: str, config: dict[str, Any]) -> tuple[str, ...]:
    """What published weights of an architecture were trained with that a file of weights cannot tell."""
    usual = openclip_api.preprocess_config()
    by_difference: dict[str, list[str]] = {}
    for tag in openclip_api.tags(name):
        entry = openclip_api.published(name, tag)
        own = openclip_api.preprocess_config(entry)
        parts = [
            f"{field} {_shown(own[field])}" for field in _PREPROCESSING if _shown(own[field]) != _shown(usual[field])
        ]
        if entry.get("quick_gelu") and not config.get("quick_gelu"):
            parts.insert(0, "QuickGELU")
        if parts:
            by_difference.setdefault(", ".join(parts), []).append(tag)
    if not by_difference:
        return ()
    said = "; ".join(f"{', '.join(tags)} ({difference})" for difference, tags in by_difference.items())
    example = next(iter(by_difference.values()))[0]
    return (
        f"A file of weights does not say how {name} was trained; this one is taken as open_clip's defaults have it. "
        f"Published weights that differ: {said}. If yours come from one of them, name it: {name}:{example}@/path.",
    )


def _shown(value: Any) -> str:
    return "/".join(f"{one:g}" for one in value) if isinstance(value, (list, tuple)) else str(value)
