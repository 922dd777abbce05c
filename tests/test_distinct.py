"""Labels and texts that are not told apart are said to be so: in Python, on the command line, over HTTP."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import httpx
import pytest

from tests import models
from tests.conftest import Run, running_server
from tests.images import PHOTOS
from zeroshot import Client, Encoder, ZeroShotClassifier, explain, load_encoder
from zeroshot.encoders.truncation import TextLimits
from zeroshot.errors import LabelWarning
from zeroshot.gallery import Gallery
from zeroshot.labels import Label, LabelSet, parse_labels
from zeroshot.labels.distinct import label_warnings, text_warnings
from zeroshot.prompts import load_templates

CAT = PHOTOS / "cat.jpg"
LONG = "a photograph of a small animal with soft fur " * 20
PAIR = [f"{LONG}on a mat", f"{LONG}in a boat"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cat", "cat"),
        ("hot dog", "hot\u00a0dog"),
        ("hot dog", "hot  dog"),
        ("hot dog", "hot\u2003dog"),
        ("caf\u00e9", "cafe\u0301"),
        ("CAF\u00c9", "cafe\u0301"),
        ("stra\u00dfe", "STRASSE"),
        ("cat", "c\u200bat"),
        ("cat", "\ufeffcat"),
        ("\u0130stanbul", "i\u0307stanbul"),
        ("soft\u00adware", "software"),
    ],
)
def test_names_that_look_alike_are_named_in_one_warning(one: str, other: str, classifier: ZeroShotClassifier) -> None:
    with pytest.warns(LabelWarning) as told:
        classifier.classify(CAT, [one, other, "dog"])
    texts = {str(warning.message) for warning in told}
    assert len(texts) == 1
    assert repr(one) in next(iter(texts))
    assert repr(other) in next(iter(texts))


@pytest.mark.parametrize(
    ("one", "other"), [("cat", "cats"), ("cat", "dog"), ("re-sort", "resort"), ("x\u00b2", "x2"), ("\u0431", "6")]
)
def test_names_that_differ_are_not(one: str, other: str, classifier: ZeroShotClassifier) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        answer = classifier.classify(CAT, [one, other])
    assert [str(warning.message) for warning in told] == []
    assert {prediction.label for prediction in answer.predictions} == {one, other}


def test_aliases_count_and_a_labels_own_do_not(tiny: Encoder) -> None:
    bare = load_templates("none")
    (found,) = label_warnings(tiny, parse_labels([Label("cat", aliases=("Kitten",)), Label("kitten")]), bare)
    assert "'Kitten' and 'kitten'" in found
    assert label_warnings(tiny, parse_labels([Label("cat", aliases=("Cat",)), Label("dog")]), bare) == ()
    many = parse_labels([name for number in range(9) for name in (f"label {number}", f"Label {number}")])
    (found,) = label_warnings(tiny, many, bare)
    assert "and 6 more" in found


def test_labels_cut_at_the_context_are_said_to_tie(classifier: ZeroShotClassifier) -> None:
    with pytest.warns(LabelWarning, match="reads 128 tokens of a text") as told:
        answer = classifier.classify(CAT, PAIR)
    first, second = answer.predictions
    assert first.similarity == second.similarity
    assert all(quoted in str(told[0].message) for quoted in ("on a mat", "in a boat"))


def test_who_embeds_texts_oneself_is_told_too(tiny: Encoder) -> None:
    with pytest.warns(LabelWarning, match="reads 128 tokens") as told:
        tiny.encode_texts(["cat", *PAIR])
    assert len(told) == 1
    assert "boat" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.encode_texts(["cat", "dog"])


def test_what_is_said_with_labels_names_is_not_said_again(classifier: ZeroShotClassifier) -> None:
    with pytest.warns(LabelWarning) as told:
        classifier.class_matrix([f"{one}, seen from afar" for one in PAIR])
    assert len(told) == 1


FAMILIES = ["clip", "siglip", "coca", "bidirectional", "eos-pooled"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_encoder_knows_what_it_cuts(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(f"local-dir:{models.save_local_dir(family, tmp_path / family)}", device="cpu")
    assert isinstance(encoder, TextLimits)
    short, long = ["", "cat", "a photo of a cat.", "\u6771\u4eac" * 3, "&lt;b&gt;"], ["word " * 200, "\u00e9 " * 300]
    assert encoder.cuts([*short, *long]) == [False] * 5 + [True] * 2
    pair = ["word " * 100 + "cat", "word " * 100 + "dog"]
    assert encoder.cuts(pair) == [True, True]
    rows = encoder.encode_texts(pair)
    assert (rows[0] == rows[1]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_text_that_fits_is_not_called_cut(family: str, tmp_path: Path) -> None:
    """For each number of words: cut exactly if a change of the last word changes no vector."""
    encoder = load_encoder(f"local-dir:{models.save_local_dir(family, tmp_path / family)}", device="cpu")
    verdicts = set()
    for count in range(10, 90, 4):
        texts = [" ".join(["cat"] * count + [last]) for last in ("dog", "fish")]
        rows = encoder.encode_texts(texts)
        same = bool((rows[0] == rows[1]).all())
        verdicts.add(same)
        if same:
            assert encoder.cuts(texts) == [True, True]
        elif not any(encoder.cuts(texts)):
            assert encoder.cuts([text.rpartition(" ")[0] for text in texts]) == [False, False]
    assert verdicts == {False, True}


def test_a_text_that_spells_the_end_token_ends_there(tmp_path: Path) -> None:
    encoder = load_encoder(f"local-dir:{models.save_local_dir('clip', tmp_path / 'clip')}", device="cpu")
    texts = ["a cat <end_of_text> on a mat", "a cat <end_of_text> in a boat"]
    assert encoder.cuts(texts) == [True, True]
    rows = encoder.encode_texts(texts)
    assert (rows[0] == rows[1]).all()


def test_an_encoder_of_ones_own_need_not_say(tiny: Encoder) -> None:
    class Own:
        spec = "own"

    assert text_warnings(Own(), ["word " * 1000]) == ()  # type: ignore[arg-type]


def test_python_says_it_wherever_labels_are_read(tiny: Encoder, tmp_path: Path) -> None:
    classifier = ZeroShotClassifier(tiny, ["Cat", "cat"])
    label_set = LabelSet("pets", parse_labels(["Cat", "cat"]))
    gallery = Gallery(tmp_path, "g", tiny, create=True)
    for ask in (
        lambda: classifier.predict([CAT]),
        lambda: classifier.predict_proba([CAT]),
        classifier.class_matrix,
        classifier.scorer,
        lambda: list(classifier.classify_stream([CAT])),
        lambda: explain(classifier, CAT),
        lambda: gallery.classify(label_set),
    ):
        with pytest.warns(LabelWarning) as told:
            ask()
        assert ["'Cat' and 'cat'" in str(one.message) for one in told] == [True]
    with pytest.warns(LabelWarning) as told:
        gallery.search(PAIR[0])
    assert ["reads 128 tokens" in str(one.message) for one in told] == [True]
    gallery.close()


def test_the_command_line_says_it_once_and_answers_all_the_same(run: Run, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join([*PAIR, "Cat", "cat"]))
    finished = run("classify", CAT, CAT, "--labels-file", "labels.txt", "--json")
    assert finished.returncode == 0
    assert len(finished.stdout.splitlines()) == 2
    lines = finished.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("zeroshot: warning: ") for line in lines)
    assert any("'Cat' and 'cat'" in line for line in lines)
    assert run("classify", CAT, "--labels", "cat,dog").stderr == ""
    assert run("index", CAT, "--gallery", "g").returncode == 0
    assert "reads 128 tokens" in run("search", PAIR[0], "--gallery", "g").stderr
    relabelled = run("gallery", "classify", "g", "--labels", "Cat,cat")
    assert relabelled.returncode == 0
    assert "'Cat' and 'cat'" in relabelled.stderr


def test_it_is_said_when_labels_are_stored(run: Run, client: httpx.Client) -> None:
    created = run("labels", "create", "pets", "--labels", "cat,dog")
    assert created.stderr == ""
    added = run("labels", "add", "pets", "Cat")
    assert added.returncode == 0
    assert "'cat' and 'Cat'" in added.stderr
    given = {"name": "alike", "labels": ["Hot dog", "hot\u00a0dog"]}
    answer = client.post("/v1/label-sets", json=given)
    assert answer.status_code == 201
    assert "'Hot dog' and 'hot\\xa0dog'" in answer.json()["warnings"][0]
    assert client.delete("/v1/label-sets/alike").status_code == 204


def test_http_says_it_in_a_list_wherever_texts_are_taken(client: httpx.Client) -> None:
    labels = {"labels": [*PAIR, "Cat", "cat"]}
    image = CAT.read_bytes()
    for answer in (
        client.post("/v1/classify", files={"image": image}, data=labels).json(),
        client.post("/v1/classify", files=[("image", image), ("image", image)], data=labels).json()["results"][1],
    ):
        assert len(answer["warnings"]) == 2
        assert any("'Cat' and 'cat'" in text for text in answer["warnings"])
        assert any("reads 128 tokens" in text for text in answer["warnings"])
    plain = client.post("/v1/classify", files={"image": image}, data={"labels": ["cat", "dog"]}).json()
    assert "warnings" not in plain
    embedded = client.post("/v1/embeddings", json={"model": "tiny", "input": [PAIR[0], "cat"]}).json()
    assert len(embedded["warnings"]) == 1
    assert "warnings" not in client.post("/v1/embeddings", json={"model": "tiny", "input": "cat"}).json()
    assert len(client.post("/clip/embed_text", json={"text": PAIR}).json()["warnings"]) == 1
    compared = client.post(
        "/clip/compare", json={"subject": PAIR[0], "subject_type": "text", "prompt": PAIR, "prompt_type": "text"}
    )
    assert len(compared.json()["warnings"]) >= 1
    stream = "\n".join([json.dumps({"labels": ["Cat", "cat"]}), json.dumps({"image": base64_of(image)})])
    lines = client.post("/v1/classify/stream", content=stream, headers={"content-type": "application/x-ndjson"})
    assert len(json.loads(lines.text)["answer"]["warnings"]) == 1
    hugging_face = client.post(
        "/hf/zero-shot-image-classification",
        json={"inputs": base64_of(image), "parameters": {"candidate_labels": ["Cat", "cat"]}},
    )
    assert "'Cat' and 'cat'" in json.loads(hugging_face.headers["x-zeroshot-warnings"])[0]


def base64_of(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


def test_http_galleries_and_the_client_say_it_too(tmp_path: Path) -> None:
    with running_server(tmp_path) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert http.post("/v1/galleries", json={"name": "g"}).status_code == 201
        found = http.post("/v1/galleries/g/search", json={"queries": [{"text": PAIR[0]}]}).json()
        assert len(found["warnings"]) == 1
        assert "warnings" not in http.post("/v1/galleries/g/search", json={"queries": [{"text": "cat"}]}).json()
        counted = http.post("/v1/galleries/g/classify", json={"labels": ["Cat", "cat"]}).json()
        assert "'Cat' and 'cat'" in counted["warnings"][0]
        with Client(url) as client, pytest.warns(LabelWarning, match="'Cat' and 'cat'"):
            client.classify(CAT, ["Cat", "cat"])
    assert "'Cat'" not in (tmp_path / "log").read_text()  # a label is never logged
