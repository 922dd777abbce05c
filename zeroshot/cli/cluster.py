"""``zeroshot cluster``: groups of images that look alike, for a person to name."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zeroshot.cli import options
from zeroshot.cli.options import load_settings

if TYPE_CHECKING:
    from zeroshot.images import ImageLimits
    from zeroshot.learning import ClusterReport

_SHOWN = 8  # images of a cluster on the contact sheet
_HEAD = """\
# Clusters of {images:,} images. Edit the names; {sheet} shows what is in each.
# One name for two clusters makes them one label; an empty name leaves a cluster out. Then:
#   zeroshot labels import {file}
"""


def cluster(
    paths: Annotated[list[str], typer.Argument(help="Images: folders, files, globs.")],
    out: Annotated[Path, typer.Option(help="A new YAML file for the clusters and their names.")] = Path(
        "clusters.yaml"
    ),
    count: Annotated[int | None, typer.Option(help="How many clusters. [default: chosen by silhouette]")] = None,
    method: Annotated[str, typer.Option(help="kmeans, or hdbscan, which leaves out what is like nothing else.")] = (
        "kmeans"
    ),
    min_cluster_size: Annotated[int, typer.Option(min=2, help="Fewest images of a cluster, for hdbscan.")] = 5,
    vocabulary: Annotated[
        str, typer.Option(help="The label set that names are suggested from: stored, shipped, or a file.")
    ] = "nouns",
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
) -> None:
    """Group images without labels, and suggest a name for each group by text alone.

    Writes four files: OUT, whose names a person edits and 'zeroshot labels import' makes a label set of; beside it
    an HTML contact sheet, a CSV file of who is in which cluster, and the centroids (.npz).
    """
    from zeroshot.cli.inputs import build_classifier, find_images
    from zeroshot.cli.rendering import progress, show_problems
    from zeroshot.labels import LabelSetStore, find_label_set
    from zeroshot.labels.exporting import check_yaml
    from zeroshot.learning import cluster as find_clusters
    from zeroshot.output import check_new_files, write_new_files

    settings = load_settings()
    check_yaml(out)
    beside = {ending: out.with_suffix(ending) for ending in (".npz", ".csv", ".html")}
    check_new_files([out, *beside.values()])
    words = find_label_set(vocabulary, LabelSetStore(settings.home))
    classifier = build_classifier(settings, model=model, device=device)
    images = find_images(paths, classifier.limits)
    with progress(len(images)) as advance:
        _, report = find_clusters(
            [image.source for image in images],
            words,
            classifier,
            count=count,
            method=method,
            min_cluster_size=min_cluster_size,
            on_progress=advance,
        )
    show_problems(report.problems)
    files = [images[position].path for position in report.used]
    head = report.head.to_bytes()
    write_new_files(
        {
            beside[".npz"]: head,
            beside[".csv"]: _table(out.absolute().parent, files, report).encode(),
            beside[".html"]: _sheet(out.stem, files, report, classifier.limits).encode(),
            out: _yaml(out, files, report, hashlib.sha256(head).hexdigest()).encode(),
        }
    )
    members = report.clusters.members
    for number, suggested in enumerate(report.suggestions):
        sys.stdout.write(f"{int((members == number).sum()):8,}  {', '.join(suggested[:3])}\n")
    if (left_out := int((members < 0).sum())) > 0:
        sys.stdout.write(f"{left_out:8,}  in no cluster\n")
    sys.stdout.write(f"{out}: edit the names, with {beside['.html']} before you; then zeroshot labels import {out}\n")


def _yaml(out: Path, files: Sequence[str], report: ClusterReport, digest: str) -> str:
    from zeroshot.labels.clusters import ClusterEntry, ClusterFile, VectorFile
    from zeroshot.labels.exporting import to_yaml

    folder = out.absolute().parent
    entries = [
        ClusterEntry(
            id=number,
            name=report.names[number],
            images=int((report.clusters.members == number).sum()),
            suggestions=suggested,
            examples=[
                os.path.relpath(files[row], folder) for row in report.clusters.typical(number, report.vectors, 3)
            ],
        )
        for number, suggested in enumerate(report.suggestions)
    ]
    vector_file = VectorFile(file=out.with_suffix(".npz").name, sha256=digest)
    form = ClusterFile(name=out.stem, clusters=entries, vectors=[vector_file])
    head = _HEAD.format(images=len(files), sheet=out.with_suffix(".html").name, file=out.name)
    return head + to_yaml(form.model_dump(mode="json", exclude_defaults=True))


def _table(folder: Path, files: Sequence[str], report: ClusterReport) -> str:
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(["file", "cluster", "similarity"])
    for file, vector, number in zip(files, report.vectors, report.clusters.members, strict=True):
        similarity = f"{float(vector @ report.clusters.centroids[number]):.4f}" if number >= 0 else ""
        writer.writerow([os.path.relpath(file, folder), number if number >= 0 else "", similarity])
    return content.getvalue()


def _sheet(title: str, files: Sequence[str], report: ClusterReport, limits: ImageLimits) -> str:
    from zeroshot.contact_sheet import Entry, contact_sheet

    sections = []
    for number, suggested in enumerate(report.suggestions):
        entries = [
            Entry(
                files[row],
                f"{float(report.vectors[row] @ report.clusters.centroids[number]):.3f}",
                files[row],
                Path(files[row]).absolute().as_uri(),
            )
            for row in report.clusters.typical(number, report.vectors, _SHOWN)
        ]
        count = int((report.clusters.members == number).sum())
        others = ", ".join(one for one in suggested if one != report.names[number])
        sections.append((f"{number}: {report.names[number]}, {count:,} images (or: {others})", entries))
    return contact_sheet(title, sections, limits)
