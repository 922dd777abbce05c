"""``zeroshot cluster``: groups of pictures that look alike, for a person to name."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.encoders import FloatArray
    from zeroshot.learning.clusters import Clusters

_SHOWN = 8  # pictures of a cluster on the contact sheet
_HEAD = """\
# Clusters of {pictures:,} pictures. Edit the names; {sheet} shows what is in each.
# One name for two clusters makes them one label; an empty name leaves a cluster out. Then:
#   zeroshot labels import {file}
"""


def cluster(
    paths: Annotated[list[str], typer.Argument(help="Pictures: folders, files, globs.")],
    out: Annotated[Path, typer.Option(help="A new YAML file for the clusters and their names.")] = Path(
        "clusters.yaml"
    ),
    count: Annotated[int | None, typer.Option(help="How many clusters. [default: chosen by silhouette]")] = None,
    method: Annotated[str, typer.Option(help="kmeans, or hdbscan, which leaves out what is like nothing else.")] = (
        "kmeans"
    ),
    smallest: Annotated[int, typer.Option(min=2, help="Fewest pictures of a cluster, for hdbscan.")] = 5,
    vocabulary: Annotated[
        str, typer.Option(help="The label set that names are suggested from: stored, shipped, or a file.")
    ] = "nouns",
    model: Annotated[str | None, typer.Option(help="Model spec. [default: ZEROSHOT_MODEL, else tiny]")] = None,
    device: Annotated[str | None, typer.Option(help="For open_clip models: auto, cpu, cuda, mps.")] = None,
) -> None:
    """Group pictures without labels, and suggest a name for each group by text alone.

    Writes four files: OUT, whose names a person edits and 'zeroshot labels import' makes a label set of; beside it
    an HTML contact sheet, a CSV file of who is in which cluster, and the centroids (.npz).
    """
    from zeroshot.cli.inputs import build_classifier, embed_pictures
    from zeroshot.cli.rendering import working
    from zeroshot.errors import LearningError
    from zeroshot.labels import LabelSetStore, check_yaml, find_label_set
    from zeroshot.learning.clusters import centroid_head, cluster_pictures, suggest_names
    from zeroshot.output import check_new_files, write_new_files

    settings = load_settings()
    check_yaml(out)
    beside = {ending: out.with_suffix(ending) for ending in (".npz", ".csv", ".html")}
    check_new_files([out, *beside.values()])
    words = find_label_set(vocabulary, LabelSetStore(settings.home))
    classifier = build_classifier(settings, model=model, device=device, precision=None)
    files, vectors = embed_pictures(paths, classifier)
    if vectors is None:
        raise LearningError(f"{' '.join(paths)} holds no picture that can be used.", "Give a folder of pictures.")
    with working("grouping"):
        clusters = cluster_pictures(vectors, count=count, method=method, smallest=smallest)
        matrix = classifier.class_matrix(words)
        names = suggest_names(clusters.centroids, matrix, words.names)
    encoder = classifier.encoder
    head = centroid_head(
        clusters, vectors, matrix, encoder.logit_scale, model=encoder.spec, fingerprint=encoder.fingerprint
    ).to_bytes()
    folder = out.absolute().parent
    write_new_files(
        {
            beside[".npz"]: head,
            beside[".csv"]: _table(folder, files, vectors, clusters).encode(),
            beside[".html"]: _sheet(out.stem, files, vectors, clusters, names).encode(),
            out: _yaml(out, files, vectors, clusters, names, hashlib.sha256(head).hexdigest()).encode(),
        }
    )
    for number, suggested in enumerate(names):
        sys.stdout.write(f"{int((clusters.members == number).sum()):8,}  {', '.join(suggested[:3])}\n")
    if (left_out := int((clusters.members < 0).sum())) > 0:
        sys.stdout.write(f"{left_out:8,}  in no cluster\n")
    sys.stdout.write(f"{out}: edit the names, with {beside['.html']} before you; then zeroshot labels import {out}\n")


def _yaml(
    out: Path, files: list[str], vectors: FloatArray, clusters: Clusters, names: list[list[str]], digest: str
) -> str:
    from zeroshot.labels import ClusterEntry, ClusterFile, VectorFile, to_yaml

    folder = out.absolute().parent
    entries = [
        ClusterEntry(
            id=number,
            name=suggested[0],
            pictures=int((clusters.members == number).sum()),
            suggestions=suggested,
            examples=[os.path.relpath(files[row], folder) for row in clusters.typical(number, vectors, 3)],
        )
        for number, suggested in enumerate(names)
    ]
    vector_file = VectorFile(file=out.with_suffix(".npz").name, sha256=digest)
    form = ClusterFile(name=out.stem, clusters=entries, vectors=[vector_file])
    head = _HEAD.format(pictures=len(files), sheet=out.with_suffix(".html").name, file=out.name)
    return head + to_yaml(form.model_dump(mode="json", exclude_defaults=True))


def _table(folder: Path, files: list[str], vectors: FloatArray, clusters: Clusters) -> str:
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["file", "cluster", "similarity"])
    for file, vector, number in zip(files, vectors, clusters.members, strict=True):
        similarity = f"{float(vector @ clusters.centroids[number]):.4f}" if number >= 0 else ""
        writer.writerow([os.path.relpath(file, folder), number if number >= 0 else "", similarity])
    return content.getvalue()


def _sheet(title: str, files: list[str], vectors: FloatArray, clusters: Clusters, names: list[list[str]]) -> str:
    from zeroshot.cli.inputs import limits_from
    from zeroshot.contact_sheet import Entry, contact_sheet

    sections = []
    for number, suggested in enumerate(names):
        entries = [
            Entry(
                files[row],
                f"{float(vectors[row] @ clusters.centroids[number]):.3f}",
                files[row],
                Path(files[row]).absolute().as_uri(),
            )
            for row in clusters.typical(number, vectors, _SHOWN)
        ]
        count = int((clusters.members == number).sum())
        heading = f"{number}: {suggested[0]}, {count:,} pictures (or: {', '.join(suggested[1:])})"
        sections.append((heading, entries))
    return contact_sheet(title, sections, limits_from(load_settings()))
