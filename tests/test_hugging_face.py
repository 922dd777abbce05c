"""The same weights in Hugging Face's CLIPModel and pipeline give the same answers."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.hugging_face import pipeline, to_clip_model
from tests import models
from tests.images import LABELS, PHOTOS
from zeroshot import ZeroShotClassifier, load_encoder


@pytest.mark.parametrize("family", ["clip", "quickgelu"])
def test_clip_model_ranks_classes_as_we_do(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(f"local-dir:{models.save_local_dir(family, tmp_path / 'm')}", device="cpu")
    theirs = to_clip_model(encoder.model)
    photos = [Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))]
    pixels = torch.from_numpy(np.stack([encoder.preprocessing(photo) for photo in photos]))
    ids = encoder.tokenizer([f"a photo of a {label}." for label in LABELS])
    with torch.no_grad():
        logits = theirs(input_ids=ids, pixel_values=pixels).logits_per_image.softmax(-1).numpy()
    classifier = ZeroShotClassifier(encoder, LABELS, templates="a photo of a {}.")
    np.testing.assert_allclose(classifier.predict_proba(photos), logits, atol=1e-4)
    ours = [[p.label for p in answer.predictions] for answer in classifier.classify(photos)]
    assert ours == [[LABELS[i] for i in np.argsort(-row, kind="stable")] for row in logits]


def test_the_pipeline_gives_the_scores_we_give(tmp_path: Path) -> None:
    encoder = load_encoder(f"local-dir:{models.save_local_dir('clip', tmp_path / 'm')}", device="cpu")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classify = pipeline(encoder.model, tmp_path)
        classify.image_processor.size, classify.image_processor.crop_size = (
            {"shortest_edge": 64},
            {"height": 64, "width": 64},
        )
        theirs = classify(str(PHOTOS / "cat.jpg"), candidate_labels=LABELS, hypothesis_template="a photo of a {}.")
    classifier = ZeroShotClassifier(encoder, LABELS, templates="a photo of a {}.")
    ours = {p.label: p.score for p in classifier.classify(PHOTOS / "cat.jpg").predictions}
    for row in theirs:
        assert ours[row["label"]] == pytest.approx(row["score"], abs=0.01)  # their resizing is torchvision's
