"""What models there are, what was published of them, and which is recommended."""

from __future__ import annotations

import csv
import json
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import open_clip
import pytest

import zeroshot
from tests.conftest import Run
from zeroshot.encoders import catalog
from zeroshot.encoders.catalog import NEEDS, ModelFacts, all_models, published_models, recommend
from zeroshot.errors import OptionError

PUBLISHED = Path(zeroshot.__file__).parent / "data" / "published"
REGISTRY = [f"{architecture}:{tag}" for architecture, tag in open_clip.list_pretrained()]
# every architecture with weights whose text tower was trained in many languages
MULTILINGUAL = {
    "xlm-roberta-base-ViT-B-32",
    "xlm-roberta-large-ViT-H-14",
    "ViT-B-16-SigLIP-i18n-256",
    "ViT-SO400M-16-SigLIP-i18n-256",
    "ViT-B-32-SigLIP2-256",
    *(f"ViT-B-16-SigLIP2{size}" for size in ("", "-256", "-384", "-512")),
    *(f"ViT-L-16-SigLIP2{size}" for size in ("-256", "-384", "-512")),
    *(f"ViT-SO400M-14-SigLIP2{size}" for size in ("", "-378")),
    *(f"ViT-SO400M-16-SigLIP2{size}" for size in ("-256", "-384", "-512")),
    *(f"ViT-gopt-16-SigLIP2{size}" for size in ("-256", "-384")),
    *(f"nllb-clip-{size}" for size in ("base", "large", "base-siglip", "large-siglip")),
    *(f"ViT-H-14-worldwide{rest}" for rest in ("", "-378", "-quickgelu")),
    *(f"ViT-bigG-14-worldwide{rest}" for rest in ("", "-378")),
}


def read(name: str) -> list[dict[str, str]]:
    with (PUBLISHED / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def by_spec(models: list[ModelFacts]) -> dict[str, ModelFacts]:
    return {model.spec: model for model in models}


def test_every_published_row_is_there_once_and_is_a_model_of_open_clip() -> None:
    rows = read("results.csv")
    assert Counter(row["source"] for row in rows) == {"docs/openclip_results.csv": 121, "README.md": 6}
    specs = {f"{row['architecture']}:{row['tag']}" for row in rows}
    assert len(specs) == len(rows)
    assert specs <= set(REGISTRY)
    assert sorted(model.spec for model in published_models()) == sorted(specs)
    for row in rows:
        assert 0 < float(row["imagenet"]) < 1
        from_table = row["source"] == "docs/openclip_results.csv"
        assert all(bool(row[name]) == from_table for name in ("mparams", "gflops", "average_38"))


@pytest.mark.parametrize(
    ("spec", "figures", "source"),
    [
        ("ViT-H-14-378-quickgelu:dfn5b", (986.71, 1054.05, 0.7079, 0.8437), "docs/openclip_results.csv"),
        ("ViT-B-32:laion2b_s34b_b79k", (151.28, 14.78, 0.5694, 0.6656), "docs/openclip_results.csv"),
        ("ViT-B-16-SigLIP:webli", (203.16, 46.44, 0.6232, 0.7604), "docs/openclip_results.csv"),
        ("coca_ViT-L-14:laion2b_s13b_b90k", (638.45, 214.52, 0.6327, 0.7561), "docs/openclip_results.csv"),
        ("nllb-clip-large-siglip:v1", (1195.5, 1804.22, 0.5184, 0.5175), "docs/openclip_results.csv"),
        ("PE-Core-bigG-14-448:meta", (None, None, None, 0.854), "README.md"),
        ("ViT-gopt-16-SigLIP2-384:webli", (None, None, None, 0.85), "README.md"),
        ("ViT-L-14:dfn2b_s39b", (427.62, 175.33, None, 0.822), "README.md, docs/model_profile.csv"),
    ],
)
def test_the_figures_are_the_published_ones_and_say_where_from(
    spec: str, figures: tuple[float | None, ...], source: str
) -> None:
    for models in (published_models(), all_models()):
        facts = by_spec(models)[spec]
        assert (facts.mparams, facts.gflops, facts.average_38, facts.imagenet) == figures
        assert facts.source == source


def test_an_architecture_has_one_size_in_every_document() -> None:
    sizes: dict[str, set[tuple[float, float]]] = {}
    for row in [*read("results.csv"), *read("profile.csv")]:
        if row["mparams"]:
            plain = row["architecture"].removesuffix("-quickgelu")
            sizes.setdefault(plain, set()).add((float(row["mparams"]), float(row["gflops"])))
    assert len(read("profile.csv")) == 87
    assert {name: found for name, found in sizes.items() if len(found) > 1} == {}


def test_nothing_published_is_said_as_nothing() -> None:
    facts = by_spec(all_models())["MobileCLIP2-S4:dfndr2b"]
    assert (facts.mparams, facts.gflops, facts.average_38, facts.imagenet, facts.source) == (*[None] * 4, "")
    sized = by_spec(all_models())["ViT-H-14:metaclip_altogether"]
    assert (sized.mparams, sized.imagenet, sized.source) == (986.11, None, "docs/model_profile.csv")


def test_all_models_is_the_registry_and_gives_a_tag_to_both_twins() -> None:
    facts = by_spec(all_models())
    assert list(facts) == REGISTRY
    for spec, twin in [
        ("ViT-L-14:dfn2b", "ViT-L-14-quickgelu:dfn2b"),
        ("ViT-H-14-378:dfn5b", "ViT-H-14-378-quickgelu:dfn5b"),
        ("ViT-B-16-quickgelu:openai", "ViT-B-16:openai"),
    ]:
        assert spec not in by_spec(published_models())
        for name in ("mparams", "gflops", "average_38", "imagenet", "licence", "commercial_use", "source"):
            assert getattr(facts[spec], name) == getattr(facts[twin], name)
        assert facts[spec].imagenet is not None
    # where both twins have rows, each keeps its own
    assert facts["ViT-B-32:laion400m_e31"].imagenet == 0.6022
    assert facts["ViT-B-32-quickgelu:laion400m_e31"].imagenet == 0.6294


def test_every_tag_of_open_clip_has_a_licence_and_every_pattern_a_tag() -> None:
    rows = read("licences.csv")
    first = {
        spec: next((row["pattern"] for row in rows if fnmatchcase(spec.lower(), row["pattern"])), None)
        for spec in REGISTRY
    }
    assert [spec for spec, pattern in first.items() if pattern is None] == []
    assert set(first.values()) == {row["pattern"] for row in rows}
    assert all(row["source"] for row in rows)
    assert {(row["licence"], row["commercial"]) for row in rows} == {
        ("MIT", "yes"),
        ("Apache-2.0", "yes"),
        ("apple-amlr", "no"),
        ("CC-BY-NC-4.0", "no"),
    }


@pytest.mark.parametrize(
    ("licence", "commercial", "specs"),
    [
        (
            "MIT",
            True,
            "ViT-L-14-336-quickgelu:openai EVA02-E-14-plus:laion2b_s9b_b144k EVA02-L-14:merged2b_s4b_b131k "
            "ViTamin-XL-384:datacomp1b coca_ViT-B-32:mscoco_finetuned_laion2b_s13b_b90k RN50:cc12m RN101:yfcc15m "
            "xlm-roberta-large-ViT-H-14:frozen_laion5b_s13b_b90k ViT-B-32-256:datacomp_s34b_b86k "
            "ViT-B-32:commonpool_s_laion_s13m_b4k",
        ),
        (
            "Apache-2.0",
            True,
            "ViT-B-16-SigLIP:webli ViT-gopt-16-SigLIP2-384:webli ViT-H-14-CLIPA-336:laion2b "
            "ViT-bigG-14-CLIPA:datacomp1b PE-Core-T-16-384:meta",
        ),
        (
            "apple-amlr",
            False,
            "MobileCLIP-B:datacompdr_lt MobileCLIP2-L-14:dfndr2b ViT-B-16:dfn2b ViT-L-14:dfn2b_s39b "
            "ViT-H-14-378-quickgelu:dfn5b",
        ),
        (
            "CC-BY-NC-4.0",
            False,
            "ViT-B-32:metaclip_400m ViT-H-14:metaclip_altogether ViT-bigG-14-worldwide-378:metaclip2_worldwide "
            "nllb-clip-base:v1 nllb-clip-large-siglip:mrl",
        ),
    ],
)
def test_the_licence_is_the_publishers(licence: str, commercial: bool, specs: str) -> None:
    facts = by_spec(all_models())
    for spec in specs.split():
        assert (facts[spec].licence, facts[spec].commercial_use) == (licence, commercial), spec


def test_an_unknown_licence_is_not_taken_for_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # a later open_clip will have tags that licences.csv does not know; this one has none
    monkeypatch.setattr(open_clip, "list_pretrained", lambda: [("ViT-B-32", "brand_new")])
    (facts,) = all_models()
    assert (facts.licence, facts.commercial_use, facts.terms) == ("see its card", False, "see its card")


def test_the_multilingual_models_are_known() -> None:
    found = {model.spec.split(":")[0] for model in all_models() if model.multilingual}
    assert found == MULTILINGUAL
    assert {spec.split(":")[0] for spec in REGISTRY} >= MULTILINGUAL


def highest(need: str, *, any_licence: bool) -> float:
    """The highest figure under a rule, worked out from the rows alone."""
    limit = {"fast": 20, "balanced": 50}.get(need)
    figures = []
    for row in read("results.csv"):
        name = f"{row['architecture']}:{row['tag']}".lower()
        restricted = any(part in name for part in ("dfn", "metaclip", "mobileclip", "nllb"))
        too_big = limit is not None and (not row["gflops"] or float(row["gflops"]) > limit)
        wrong_language = need == "multilingual" and row["architecture"] not in MULTILINGUAL
        if not too_big and not wrong_language and (any_licence or not restricted):
            figures.append(float(row["imagenet"]))
    return max(figures)


@pytest.mark.parametrize("any_licence", [False, True])
@pytest.mark.parametrize("need", NEEDS)
def test_a_recommendation_is_the_highest_under_its_rule(need: str, any_licence: bool) -> None:
    chosen = recommend(need, any_licence=any_licence)
    assert chosen.imagenet == highest(need, any_licence=any_licence)
    assert chosen.commercial_use or any_licence
    assert chosen.multilingual == (need == "multilingual")
    limit = {"fast": 20, "balanced": 50}.get(need)
    assert limit is None or (chosen.gflops is not None and chosen.gflops <= limit)


def test_the_recommendations() -> None:
    assert {need: recommend(need).spec for need in NEEDS} == {
        "fast": "ViT-B-32-256:datacomp_s34b_b86k",
        "balanced": "ViT-B-16-SigLIP:webli",
        "best": "PE-Core-bigG-14-448:meta",
        "multilingual": "ViT-gopt-16-SigLIP2-384:webli",
    }
    changed = {need: recommend(need, any_licence=True) for need in NEEDS}
    assert {need: model.spec for need, model in changed.items() if not model.commercial_use} == {
        "balanced": "ViT-B-16:dfn2b"
    }
    assert all(changed[need] == recommend(need) for need in NEEDS if need != "balanced")


def test_the_order_of_the_files_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = published_models()
    figures = [model.imagenet or 0 for model in before]
    assert figures == sorted(figures, reverse=True)
    assert len(set(figures)) < len(figures)  # there are ties, the two names of an openai model among them
    backwards = {name: tuple(reversed(read(name))) for name in ("results.csv", "profile.csv")}
    read_before = catalog._read
    # the files as they might have been: nothing but their order differs
    monkeypatch.setattr(catalog, "_read", lambda name: backwards.get(name) or read_before(name))
    assert published_models() == before


def test_an_unknown_need_is_named() -> None:
    with pytest.raises(OptionError, match="'cheap'"):
        recommend("cheap")


def test_need_prints_the_spec_and_names_a_higher_figure_under_a_restricted_licence(run: Run) -> None:
    fast = run("models", "--need", "fast")
    assert (fast.stdout, fast.stderr) == ("ViT-B-32-256:datacomp_s34b_b86k\n", "")

    balanced = run("models", "--need", "balanced")
    assert balanced.stdout == "ViT-B-16-SigLIP:webli\n"
    (line,) = balanced.stderr.splitlines()
    for part in ("ViT-B-16:dfn2b", "0.7624", "0.7604", "apple-amlr, no commercial use", "--any-licence"):
        assert part in line

    lifted = run("models", "--need", "balanced", "--any-licence")
    assert lifted.stdout == "ViT-B-16:dfn2b\n"
    (line,) = lifted.stderr.splitlines()
    for part in ("ViT-B-16:dfn2b", "apple-amlr, no commercial use"):
        assert part in line
    assert "--any-licence" not in line

    best = run("models", "--need", "best", "--any-licence", "--json")
    assert best.stderr == ""
    assert json.loads(best.stdout) == {
        "spec": "PE-Core-bigG-14-448:meta",
        "mparams": None,
        "gflops": None,
        "imagenet": 0.854,
        "average_38": None,
        "licence": "Apache-2.0",
        "commercial_use": True,
        "multilingual": False,
        "source": "README.md",
    }
    assert run("models", "--need", "cheap").returncode == 2


def row_of(table: str, spec: str) -> str:
    (line,) = [line for line in table.splitlines() if line.startswith(f"{spec} ")]
    return line


def test_the_command_lists_the_recommended_with_their_rules(run: Run) -> None:
    listed = run("models").stdout
    for need, rule in NEEDS.items():
        assert rule in listed
        assert row_of(listed, recommend(need).spec).rstrip().endswith(need)
    assert "dfn2b" not in listed
    assert row_of(run("models", "--any-licence").stdout, "ViT-B-16:dfn2b").rstrip().endswith("balanced")


def test_the_command_searches_and_shows_licence_and_source(run: Run) -> None:
    table = run("models", "ViT-L-14").stdout
    header = table.splitlines()[0].split()
    assert header[0] == "model"
    assert header[-2:] == ["source", "licence"]
    restricted = row_of(table, "ViT-L-14:dfn2b_s39b")
    assert " ".join(restricted.split()[1:]) == "428 175.3 0.8220 - README, profile apple-amlr, no commercial use"
    assert row_of(table, "ViT-L-14:openai").split()[-2:] == ["results", "MIT"]

    found = [json.loads(line) for line in run("models", "siglip2 384", "--json").stdout.splitlines()]
    assert len(found) == 4
    assert all("SigLIP2" in model["spec"] and model["licence"] == "Apache-2.0" for model in found)
    assert all(model["commercial_use"] is True for model in found)

    everything = [json.loads(line) for line in run("models", "--all", "--json").stdout.splitlines()]
    assert [model["spec"] for model in everything] == REGISTRY
    assert run("models", "nosuchmodel").returncode == 1
