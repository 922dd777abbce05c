"""The clients people already have, as they are: Hugging Face's, OpenAI's, Roboflow's."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.images import PHOTOS
from tests.test_service import problem_of
from zeroshot import Encoder, ZeroShotClassifier

LABELS = ["cat", "dog", "a cup of coffee"]
CAT = PHOTOS / "cat.jpg"
CAT_BASE64 = base64.b64encode(CAT.read_bytes()).decode()


def test_hugging_faces_client_gets_its_ranking(server: str, classifier: ZeroShotClassifier) -> None:
    client = InferenceClient(model=f"{server}/hf/zero-shot-image-classification")
    for image in (str(CAT), CAT.read_bytes()):
        found = client.zero_shot_image_classification(image, candidate_labels=LABELS)
        expected = classifier.classify(CAT, LABELS).predictions
        assert [one.label for one in found] == [one.label for one in expected]
        assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-4)
    found = client.zero_shot_image_classification(CAT, candidate_labels=LABELS, hypothesis_template="a photo of a {}.")
    expected = classifier.classify(CAT, LABELS, templates=["a photo of a {}."]).predictions
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-4)
    with pytest.raises(HfHubHTTPError, match="422"):
        client.zero_shot_image_classification(CAT, candidate_labels=["cat", "cat"])
    with pytest.raises(HfHubHTTPError, match="422"):
        client.zero_shot_image_classification(CAT, candidate_labels=LABELS, hypothesis_template="no slot")


@pytest.fixture
def open_ai(server: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server}/v1", api_key="none needed", max_retries=0)


def test_openais_client_embeds_texts(open_ai: openai.OpenAI, tiny: Encoder) -> None:
    texts = ["a cat", "собака", "a cup of coffee"]
    expected = tiny.encode_texts(texts)
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": 640}):
        found = open_ai.embeddings.create(model="tiny", input=texts, **options)
        assert [one.index for one in found.data] == [0, 1, 2]
        rows = [
            np.frombuffer(base64.b64decode(one.embedding), "<f4") if isinstance(one.embedding, str) else one.embedding
            for one in found.data
        ]
        np.testing.assert_allclose(rows, expected, atol=1e-5)
    assert found.usage.prompt_tokens == tiny.count_tokens(texts) > 6
    single = open_ai.embeddings.create(model="tiny", input="a cat")
    np.testing.assert_allclose(single.data[0].embedding, expected[0], atol=1e-5)


def test_openais_client_embeds_images_as_infinitys_users_do(open_ai: openai.OpenAI, tiny: Encoder) -> None:
    uri = f"data:image/jpeg;base64,{CAT_BASE64}"
    found = open_ai.embeddings.create(model="tiny", input=[uri, uri], extra_body={"modality": "image"})
    rows = np.array([one.embedding for one in found.data])
    text = tiny.encode_texts(["cat", "rocket"])
    assert (rows[0] @ text[0]) > (rows[0] @ text[1]) + 0.1
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_openais_client_hears_what_is_wrong(open_ai: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions=256"):
        open_ai.embeddings.create(model="tiny", input="a cat", dimensions=256)
    with pytest.raises(openai.NotFoundError, match="no model 'text-embedding-3-small'"):
        open_ai.embeddings.create(model="text-embedding-3-small", input="a cat")
    with pytest.raises(openai.UnprocessableEntityError, match="token ids"):
        open_ai.embeddings.create(model="tiny", input=[1, 2, 3])
    for empty in ("", [], ["a", " "]):
        with pytest.raises(openai.UnprocessableEntityError, match="input"):
            open_ai.embeddings.create(model="tiny", input=empty)
    with pytest.raises(openai.UnprocessableEntityError, match="not valid base64"):
        open_ai.embeddings.create(model="tiny", input=["***"], extra_body={"modality": "image"})
    with pytest.raises(openai.UnprocessableEntityError, match="modality"):
        open_ai.embeddings.create(model="tiny", input="a", extra_body={"modality": "audio"})


def test_openais_client_lists_models(open_ai: openai.OpenAI, tiny: Encoder) -> None:
    (model,) = open_ai.models.list().data
    assert (model.id, model.owned_by) == ("tiny", "zeroshot")
    assert model.fingerprint == tiny.fingerprint
    assert open_ai.models.retrieve("tiny").dim == 640
    with pytest.raises(openai.NotFoundError):
        open_ai.models.retrieve("gpt-4")


def test_roboflows_routes_speak_its_schema(client: httpx.Client, tiny: Encoder) -> None:
    image = {"type": "base64", "value": CAT_BASE64}
    embedded = client.post("/clip/embed_image", json={"image": image, "api_key": None, "id": "x"}).json()
    assert set(embedded) == {"frame_id", "time", "embeddings"}
    row = np.array(embedded["embeddings"][0])
    both = client.post("/clip/embed_image", json={"image": [image, image]}).json()["embeddings"]
    assert np.array(both).shape == (2, 640)
    texts = client.post("/clip/embed_text", json={"text": LABELS}).json()["embeddings"]
    np.testing.assert_allclose(texts, tiny.encode_texts(LABELS), atol=1e-5)
    compared = client.post("/clip/compare", json={"subject": image, "prompt": LABELS}).json()["similarity"]
    np.testing.assert_allclose(compared, np.array(texts) @ row, atol=1e-4)
    turned = client.post(
        "/clip/compare", json={"subject": "a cat", "subject_type": "text", "prompt": [image], "prompt_type": "image"}
    )
    assert turned.json()["similarity"][0] == pytest.approx(float(tiny.encode_texts(["a cat"])[0] @ row), abs=1e-4)
    for body in (
        {"subject": image, "prompt": []},
        {"subject": "text", "prompt": LABELS},
        {"subject": image, "prompt": LABELS, "prompt_type": "image"},
        {"subject": image, "subject_type": "text", "prompt": LABELS},
        {"subject": image, "prompt": ["a"] * 65},
        {"prompt": LABELS},
    ):
        problem_of(client.post("/clip/compare", json=body), 422, "invalid-request")
    url = {"type": "url", "value": "http://127.0.0.1/cat.jpg"}
    problem_of(client.post("/clip/embed_image", json={"image": url}), 422, "image-source-refused")


@pytest.mark.slow
def test_roboflows_sdk_gets_its_answers(server: str, tmp_path: Path) -> None:
    """In an environment of its own: the SDK wants older packages than ours."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "inference-sdk"], check=True, capture_output=True)
    program = f"""
import json
from inference_sdk import InferenceHTTPClient
client = InferenceHTTPClient(api_url={server!r}, api_key="none needed")
photo = {str(CAT)!r}
print(json.dumps({{
    "compared": client.clip_compare(subject=photo, prompt=["cat", "rocket"]),
    "image": client.get_clip_image_embeddings(inference_input=photo),
    "text": client.get_clip_text_embeddings(text="a cat"),
}}))
"""
    finished = subprocess.run([python, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["compared"]["similarity"][0] > found["compared"]["similarity"][1] + 0.1
    image, text = (np.array(found[name]["embeddings"][0]) for name in ("image", "text"))
    assert image.shape == text.shape == (640,)
    assert image @ text > 0.3
