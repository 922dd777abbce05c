"""ZeroShotClassifier: scores, ranking, caching, and scikit-learn's surface."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from tests.images import PHOTOS, cat
from zeroshot import Classification, Encoder, Label, LabelSet, ZeroShotClassifier, load_label_set
from zeroshot.encoders import FloatArray
from zeroshot.errors import DefinitionNotFound, ImageError, LabelError, OptionError, TemplateError
from zeroshot.prompts import load_templates

CAT, COFFEE = PHOTOS / "cat.jpg", PHOTOS / "coffee.jpg"
LABELS = ["dog", "a cup of coffee", "cat"]


class Counting:
    """The real tiny, counting the texts it is asked for."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.texts: list[str] = []
        for name in ("spec", "fingerprint", "dim", "logit_scale", "logit_bias", "preprocessing", "template_set"):
            setattr(self, name, getattr(encoder, name))
        self.encode_pixels, self.encode_images = encoder.encode_pixels, encoder.encode_images

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        self.texts += texts
        return self.encoder.encode_texts(texts)


def test_scores_are_the_softmax_of_scaled_cosines(classifier: ZeroShotClassifier, tiny: Encoder) -> None:
    answer = classifier.classify(cat(), LABELS)
    image, texts = tiny.encode_images([cat()])[0], tiny.encode_texts(LABELS)
    cosines = texts @ image
    logits = tiny.logit_scale * cosines
    expected = np.exp(logits) / np.exp(logits).sum()
    for prediction in answer.predictions:
        position = LABELS.index(prediction.label)
        assert prediction.similarity == pytest.approx(cosines[position], abs=1e-6)
        assert prediction.score == pytest.approx(expected[position], abs=1e-5)
    scores = [prediction.score for prediction in answer.predictions]
    assert scores == sorted(scores, reverse=True)
    assert (answer.label, answer.score) == ("cat", scores[0])


def test_one_image_gives_one_answer_and_a_list_gives_a_list(classifier: ZeroShotClassifier) -> None:
    assert isinstance(classifier.classify(CAT, LABELS), Classification)
    several = classifier.classify([CAT, COFFEE.read_bytes(), cat(), np.asarray(cat())], LABELS)
    assert [answer.label for answer in several] == ["cat", "a cup of coffee", "cat", "cat"]
    assert classifier.classify([], LABELS) == []


def test_top_k_keeps_the_best_and_their_scores(classifier: ZeroShotClassifier) -> None:
    everything = classifier.classify(CAT, LABELS)
    assert classifier.classify(CAT, LABELS, top_k=2).predictions == everything.predictions[:2]
    assert classifier.classify(CAT, LABELS, top_k=99) == everything
    with pytest.raises(OptionError, match="top_k=0"):
        classifier.classify(CAT, LABELS, top_k=0)


def test_a_label_list_is_embedded_once(tiny: Encoder) -> None:
    encoder = Counting(tiny)
    classifier = ZeroShotClassifier(encoder)
    for _ in range(3):
        classifier.classify(CAT, LABELS)
        classifier.classify(COFFEE, tuple(LABELS))
    assert encoder.texts == LABELS
    classifier.classify(CAT, LABELS, templates="a photo of a {}.")
    assert len(encoder.texts) == 6


def test_templates_come_from_the_call_then_the_classifier_then_what_suits_the_encoder(tiny: Encoder) -> None:
    encoder = Counting(tiny)
    classifier = ZeroShotClassifier(encoder, templates="by the classifier {}")
    own = LabelSet("own", (Label("cat"), Label("dog")), load_templates("by the set {}"))
    classifier.classify(CAT, own, templates="by the call {}")
    classifier.classify(CAT, own)
    ZeroShotClassifier(encoder).classify(CAT, own)
    encoder.template_set = "photo"
    ZeroShotClassifier(encoder).classify(CAT, own)
    ZeroShotClassifier(encoder).classify(CAT, ["cat", "dog"])
    expected = ["by the call cat", "by the classifier cat", "cat", "by the set cat", "a photo of a cat."]
    assert encoder.texts[::2] == expected


def test_a_kept_class_matrix_cannot_be_written_to(classifier: ZeroShotClassifier) -> None:
    with pytest.raises(ValueError, match="read-only"):
        classifier.class_matrix(LABELS)[0, 0] = 1


def test_threads_may_share_it(classifier: ZeroShotClassifier) -> None:
    expected = classifier.classify(CAT, LABELS)
    answers: list[Classification] = []
    threads = [threading.Thread(target=lambda: answers.append(classifier.classify(CAT, LABELS))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 16
    for answer in answers:
        assert answer.label == "cat"
        assert answer.score == pytest.approx(expected.score, abs=1e-6)


def test_it_has_scikit_learns_surface(tiny: Encoder) -> None:
    classifier = ZeroShotClassifier(tiny, LABELS)
    probabilities = classifier.predict_proba([CAT, COFFEE])
    assert classifier.classes_.tolist() == LABELS
    assert probabilities.shape == (2, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert classifier.predict([CAT, COFFEE]).tolist() == ["cat", "a cup of coffee"]
    assert classifier.predict([]).shape == (0,)
    assert classifier.predict_proba([]).shape == (0, 3)
    assert probabilities[0].max() == pytest.approx(classifier.classify(CAT).score, abs=1e-6)


def test_a_label_set_classifies(classifier: ZeroShotClassifier) -> None:
    assert classifier.classify(cat(), load_label_set("cifar10")).label == "cat"


def test_bad_arguments_are_refused(classifier: ZeroShotClassifier) -> None:
    with pytest.raises(LabelError, match="no labels"):
        classifier.classify(CAT)
    with pytest.raises(LabelError):
        classifier.classify(CAT, ["cat"])
    with pytest.raises(TemplateError):
        classifier.classify(CAT, LABELS, templates=["no slot"])
    with pytest.raises(DefinitionNotFound):
        classifier.classify(CAT, LABELS, templates="nosuchset")
    with pytest.raises(ImageError):
        classifier.classify([CAT, "missing.jpg"], LABELS)
    with pytest.raises(ImageError):
        ZeroShotClassifier(classifier.encoder, LABELS).predict(["missing.jpg"])
    with pytest.raises(LabelError):
        classifier.classify_stream(iter([CAT]), [])  # at once, not at the first answer


def test_an_image_handed_in_is_left_as_it_was(classifier: ZeroShotClassifier) -> None:
    image = Image.new("RGB", (50, 40), "red")
    classifier.classify(image, LABELS)
    assert image.size == (50, 40)
    assert image.getpixel((0, 0)) == (255, 0, 0)
