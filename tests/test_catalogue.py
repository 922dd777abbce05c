"""What models there are, and which is recommended."""

from __future__ import annotations

import json

import open_clip
import pytest

from tests.conftest import Run
from zeroshot.encoders.catalogue import NEEDS, all_models, published_models, recommend
from zeroshot.errors import OptionError


def test_every_published_result_is_of_a_model_that_open_clip_has() -> None:
    registry = {f"{name}:{tag}" for name, tag in open_clip.list_pretrained()}
    published = published_models()
    assert {model.spec for model in published} <= registry
    assert len(published) > 70
    assert all(model.imagenet and 0 < model.imagenet < 1 for model in published)
    assert len(all_models()) == len(registry)


def test_the_figures_are_the_published_ones() -> None:
    facts = {model.spec: model for model in published_models()}
    base = facts["ViT-B-32:laion2b_s34b_b79k"]
    assert (base.imagenet, base.average_38, base.mparams, base.gflops) == (0.6656, 0.5694, 151.28, 14.78)
    assert facts["ViT-B-32:openai"].imagenet == 0.6332


@pytest.mark.parametrize("need", NEEDS)
def test_a_recommendation_follows_its_rule(need: str) -> None:
    chosen = recommend(need)
    limit = {"fast": 20, "balanced": 50}.get(need, float("inf"))
    assert chosen.gflops <= limit
    for model in published_models():
        if (model.gflops or limit + 1) <= limit and (need != "multilingual" or model.multilingual):
            assert (model.average_38 or 0) <= chosen.average_38
    assert chosen.multilingual == (need == "multilingual")


def test_an_unknown_need_is_named() -> None:
    with pytest.raises(OptionError, match="'cheap'"):
        recommend("cheap")


def test_the_command_lists_searches_and_recommends(run: Run) -> None:
    assert "ViT-B-16:datacomp_xl_s13b_b90k" in run("models").stdout
    assert run("models", "--need", "fast").stdout == "ViT-B-32-256:datacomp_s34b_b86k\n"
    found = [json.loads(line) for line in run("models", "siglip2 384", "--json").stdout.splitlines()]
    assert len(found) >= 4
    assert all("SigLIP2" in model["spec"] and model["licence"] == "Apache-2.0" for model in found)
    assert len(run("models", "--all", "--json").stdout.splitlines()) == len(open_clip.list_pretrained())
    assert run("models", "nosuchmodel").returncode == 1
    assert run("models", "--need", "cheap").returncode == 2
