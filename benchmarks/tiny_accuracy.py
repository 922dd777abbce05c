"""Accuracy of tiny on a folder of images with a labels.csv.

labels.csv has the columns file, name and category, a path such as animals/mammals/bears. The tasks are those of
docs/tiny.md; their labels are written out below, distractors included.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.results import Results
from zeroshot import load_encoder
from zeroshot.encoders.streaming import encode_stream
from zeroshot.labels import Label, class_matrix
from zeroshot.prompts import load_templates

TOP = {
    "animals": "animal",
    "food": "food",
    "household": "household object",
    "plants": "plant",
    "clothes": "clothing",
    "hobbies": "musical instrument",
    "space": "space",
    "vehicles": "vehicle",
    "sports": "sports",
    "town": "building",
}
ANIMALS = {
    "amphibians": "amphibian",
    "birds": "bird",
    "fish": "fish",
    "insects": "insect",
    "mammals": "mammal",
    "shellfish": "shellfish",
    "(none)": "reptile",
    "(none) ": "spider",
    "(none)  ": "worm",
}
FOOD = {"fruit": "fruit", "nuts": "nut", "spices": "spice", "vegetables": "vegetable", "(none)": "meat"}
MAMMALS = {
    "apes": "ape",
    "aquatic": "marine mammal",
    "bears": "bear",
    "bovines": "cow",
    "camel": "camel",
    "cats": "cat",
    "deer": "deer",
    "dogs": "dog",
    "equines": "horse",
    "rodents": "rodent",
}


@dataclass(frozen=True)
class Task:
    """Labels, and for each image the index of the right one (None: the image is not part of the task)."""

    name: str
    labels: list[str]
    answers: list[int | None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="tiny")
    arguments = parser.parse_args()
    with (arguments.folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    encoder = load_encoder(arguments.model)
    images = [arguments.folder / row["file"] for row in rows]
    vectors = np.stack([vector for _, vector in encode_stream(encoder, images)])
    templates = load_templates(encoder.template_set)
    results = Results("tiny", ("zeroshot", "onnxruntime", "pillow", "numpy"))
    print(f"{len(rows)} images, model {encoder.spec} ({encoder.fingerprint[:12]})\n")
    for task in tasks(rows):
        matrix = class_matrix(encoder, [Label(name) for name in task.labels], templates)
        members = [i for i, answer in enumerate(task.answers) if answer is not None]
        ranks = np.argsort(-(vectors[members] @ matrix.T), axis=1, kind="stable")
        right = np.array([task.answers[i] for i in members])[:, None]
        top1, top5 = ((ranks[:, :k] == right).any(axis=1).mean() for k in (1, 5))
        title = f"{len(task.labels)} {task.name} ({len(members)} images)"
        results.row(title, "", {"chance": 1 / len(task.labels), "top-1": float(top1), "top-5": float(top5)})
    results.save()


def tasks(rows: list[dict[str, str]]) -> list[Task]:
    """The tasks of docs/tiny.md."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    paths = [row["category"].split("/") for row in rows]

    def by_folder(name: str, labels: dict[str, str], folder_of: Callable[[list[str]], str | None]) -> Task:
        folders = list(labels)
        answers = [folders.index(f) if (f := folder_of(path)) in labels else None for path in paths]
        return Task(name, list(labels.values()), answers)

    def below(*prefix: str) -> Callable[[list[str]], str | None]:
        depth = len(prefix)
        return lambda path: path[depth] if path[:depth] == list(prefix) and len(path) > depth else None

    return [
        Task("names", names, [names.index(row["name"]) for row in rows]),
        by_folder("top-level categories", TOP, below()),
        by_folder("kinds of animal", ANIMALS, below("animals")),
        by_folder("kinds of food", FOOD, below("food")),
        by_folder("kinds of mammal", MAMMALS, below("animals", "mammals")),
    ]


if __name__ == "__main__":
    main()
