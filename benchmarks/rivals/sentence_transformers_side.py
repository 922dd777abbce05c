"""sentence-transformers on a saved CLIP model, run by the rival's interpreter."""

import sys

import sentence_transformers
from PIL import Image
from sentence_transformers import SentenceTransformer

from benchmarks.rivals.side import answer

MODEL = SentenceTransformer(sys.argv[1], device="cpu")
LABELS: dict[str, object] = {}


def reply(question: dict[str, object]) -> str:
    """Compare files with labels, which are embedded once."""
    key = "|".join(question["labels"])
    if key not in LABELS:
        LABELS[key] = MODEL.encode([f"This is a photo of {one}." for one in question["labels"]])
    images = [Image.open(file).convert("RGB") for file in question["files"]]
    vectors = MODEL.encode(images, batch_size=question.get("batch", 1))
    return str(MODEL.similarity(vectors, LABELS[key]).shape[0])


answer(reply, f"sentence-transformers {sentence_transformers.__version__}")
