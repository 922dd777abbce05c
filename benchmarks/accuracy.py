"""The same model, data and prompts through CLIP_benchmark's own evaluation and through ours: counts, and seconds.

The data is scikit-learn's digits as WebDataset shards, and parts of the shipped photos as a folder per class; the
models are tiny, wrapped as CLIP_benchmark takes models, and a ViT-B-32 with random weights, which are enough for code
to be compared by. Each side runs in a process of its own, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.clip import random_weights
from benchmarks.data import write_crops, write_digit_shards
from benchmarks.results import Results
from benchmarks.rivals import python_of
from zeroshot import load_encoder
from zeroshot.labels import class_matrix, parse_labels
from zeroshot.prompts import load_templates

_ROOT = Path(__file__).parent.parent
_TEMPLATES = ("a photo of a {}.", "{}")


def main() -> None:
    """Run both sides in turn, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rival = python_of("clip-benchmark")
    results = Results("accuracy", ("zeroshot", "open_clip_torch", "torch", "onnxruntime", "pillow", "numpy"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = {
            "600 digits, WebDataset": (write_digit_shards(folder / "digits", 600), ()),
            "600 parts of photos, a folder per class": (write_crops(folder / "crops", 100), _TEMPLATES),
        }
        models = {"tiny": "tiny", "ViT-B-32, random": f"ViT-B-32:{random_weights(folder)}"}
        for model, spec in models.items():
            for what, (images, templates) in data.items():
                _compare(results, rival, f"{model}, {what}", spec, images, templates, folder, arguments.rounds)
    results.save()


def _compare(
    results: Results, rival: Path, what: str, spec: str, data: Path, templates: tuple[str, ...], work: Path, rounds: int
) -> None:
    seconds: dict[str, list[float]] = {"CLIP_benchmark": [], "zeroshot": [], "zeroshot, a second prompt set": []}
    for turn in range(rounds):
        home, output = work / f"home{len(results.rows)}-{turn}", work / "theirs"
        start = time.perf_counter()
        subprocess.run(
            [str(rival), str(Path(__file__).parent / "rivals/clip_benchmark_side.py"), spec, str(data), str(output)]
            + (["--templates", *templates] if templates else []),
            check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )  # fmt: skip
        seconds["CLIP_benchmark"].append(time.perf_counter() - start)
        for side, own in (("zeroshot", templates), ("zeroshot, a second prompt set", ("a picture of a {}.",))):
            file = work / f"{home.name}.yaml"
            file.write_text(json.dumps({"name": "own", "templates": own}))
            report = work / f"{home.name}-{len(own)}"
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "zeroshot", "evaluate", str(data), "--model", spec, "--report", str(report)]
                + (["--templates", str(file)] if own else ["--templates", str(_published(data, work))])
                + ["--device", "cpu", "--precision", "fp32"],
                check=True, capture_output=True, env={**os.environ, "ZEROSHOT_HOME": str(home)},
            )  # fmt: skip
            seconds[side].append(time.perf_counter() - start)
            if side == "zeroshot":
                single = json.loads((report / "report.json").read_text())["single"]
    theirs, weights = json.loads(output.with_suffix(".json").read_text()), np.load(output.with_suffix(".npy"))
    count = single["images"]
    hits = {"CLIP_benchmark": round(theirs["acc1"] * count), "zeroshot": single["hits"]}
    results.row(f"{what}: right answers of {count:,}", "", hits, note=f"chance: {count // len(single['labels']):,}")
    top = {"CLIP_benchmark": round(theirs["acc5"] * count), "zeroshot": single["top_5_hits"]}
    results.row(f"{what}: right among five", "", top)
    recall = {
        "CLIP_benchmark": theirs["mean_per_class_recall"],
        "zeroshot": single["mean_per_class_recall"]["value"],
    }
    gap = abs(recall["CLIP_benchmark"] - recall["zeroshot"])
    encoder = load_encoder(spec, device="cpu", precision="fp32")
    names = [one["label"] for one in single["labels"]]
    own = load_templates(list(templates)) if templates else load_templates(_published(data, work))
    apart = float(np.abs(class_matrix(encoder, parse_labels(names), own) - weights.T).max())
    note = f"apart by {gap:.0e}; class weights by {apart:.0e} at most"
    results.row(f"{what}: mean per-class recall", "", recall, note=note)
    times = {side: median(values) for side, values in seconds.items()}
    results.row(f"{what}: the whole command", "s", times, rival="CLIP_benchmark")


def _published(data: Path, work: Path) -> Path:
    """The templates that a dataset comes with, as a file of ours."""
    lines = (data / "zeroshot_classification_templates.txt").read_text().splitlines()
    file = work / "published.yaml"
    file.write_text(json.dumps({"name": "published", "templates": [line.replace("{c}", "{}") for line in lines]}))
    return file


if __name__ == "__main__":
    main()
