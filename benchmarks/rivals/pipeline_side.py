"""Hugging Face's zero-shot-image-classification pipeline on a saved CLIP model, run by the rival's interpreter."""

import sys

import transformers

from benchmarks.rivals.side import answer

PIPELINE = transformers.pipeline("zero-shot-image-classification", model=sys.argv[1], device="cpu")


def reply(question: dict[str, object]) -> str:
    """Classify files under labels."""
    found = PIPELINE(question["files"], candidate_labels=question["labels"], batch_size=question.get("batch", 1))
    return str(len(found))


answer(reply, f"transformers {transformers.__version__}")
