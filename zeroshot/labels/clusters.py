"""Clusters that a person names: the file that ``zeroshot cluster`` writes, and the label set it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from zeroshot.definitions import Fault
from zeroshot.errors import DefinitionError, LabelError, quote
from zeroshot.labels.head import Head
from zeroshot.labels.label import Label, label_faults, parse_labels, require, stripped
from zeroshot.labels.label_set import LabelSet


class VectorFile(BaseModel):
    """A head in a NumPy archive beside the file."""

    model_config = ConfigDict(extra="forbid")

    file: str = Field(pattern=r"^[^/\\]+\.npz$", description="Its name; it is in the same folder.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of its content, in hex.")


class ClusterEntry(BaseModel):
    """A group of images that look alike."""

    model_config = ConfigDict(extra="forbid")

    id: int = Field(ge=0, description="Which of the centroids; do not change it.")
    name: str = Field(description="What it is called. One name for two clusters makes them one; none leaves one out.")
    images: int = Field(ge=0, description="How many.")
    suggestions: list[str] = Field(default_factory=list, description="Names that fit it best, by text alone.")
    examples: list[str] = Field(default_factory=list, description="Its most typical images.")


class ClusterFile(BaseModel):
    """Clusters, their names for a person to edit."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, description="The label set's name.")
    description: str = Field("", description="For people.")
    clusters: list[ClusterEntry] = Field(min_length=1, description="Largest first.")
    vectors: list[VectorFile] = Field(min_length=1, max_length=1, description="The centroids.")

    def faults(self) -> Iterator[Fault]:
        """Say what is wrong with the names, with the place."""
        seen: set[int] = set()
        for place, entry in enumerate(self.clusters):
            if entry.id in seen:
                yield Fault(("clusters", place, "id"), f"The cluster {entry.id} is there twice. Remove one of the two.")
            seen.add(entry.id)
        named = [(place, entry) for place, entry in enumerate(self.clusters) if entry.name.strip()]
        first = {entry.name.strip(): place for place, entry in reversed(named)}
        places = sorted(first.values())
        labels = [stripped(Label(self.clusters[place].name)) for place in places]
        for fault in label_faults(labels):
            yield Fault(("clusters", places[fault.index], "name"), f"{fault.message} {fault.remedy}")
        try:
            require(labels, 2)
        except LabelError:
            yield Fault(("clusters",), f"{len(labels)} of the clusters have a name of their own. Name two at least.")

    def to_label_set(self, heads: Sequence[Head] = ()) -> LabelSet:
        """Give the label set: a label per name, and the centroids as its examples."""
        (centroids,) = heads
        if max(entry.id for entry in self.clusters) >= len(centroids.keys):
            raise DefinitionError(
                f"The vectors have {len(centroids.keys)} clusters, {quote(self.name)} has others.",
                "Run 'zeroshot cluster' again: the .npz file is of another run.",
            )
        named = {entry.id: entry.name.strip() for entry in self.clusters if entry.name.strip()}
        return replace(name_clusters(self.name, named, centroids), description=self.description)


def name_clusters(name: str, names: Mapping[int, str], centroids: Head) -> LabelSet:
    """Make a label set of named clusters: a label per name, with its clusters' centroids as examples."""
    labels = parse_labels(dict.fromkeys(names.values()))
    rows = {label.name: row for row, label in enumerate(labels)}
    head = replace(
        centroids,
        labels=tuple(rows),
        weights=np.zeros((len(rows), centroids.weights.shape[1]), np.float32),
        keys=centroids.keys[list(names)],
        key_labels=np.array([rows[one] for one in names.values()], dtype=np.int64),
    )
    return LabelSet(name, labels, heads=(head,))
