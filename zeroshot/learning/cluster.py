"""Images without labels, put into groups that look alike, and names for the groups by text alone.

Spherical k-means with FAISS (Dhillon and Modha, "Concept Decompositions for Large Sparse Text Data using Clustering",
Machine Learning 2001), the number of clusters by silhouette (Rousseeuw, Journal of Computational and Applied
Mathematics 1987) where none is given; or HDBSCAN with scikit-learn (Campello et al., PAKDD 2013), which finds the
number itself and leaves images out that are like no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from zeroshot.classifier import ZeroShotClassifier
from zeroshot.datasets import Problem
from zeroshot.encoders import FloatArray
from zeroshot.errors import ImageError, LearningError, OptionError
from zeroshot.images import ImageSource
from zeroshot.labels import Head, LabelSet
from zeroshot.labels.clusters import name_clusters
from zeroshot.learning.examples import embed_images
from zeroshot.learning.probe import threads_for
from zeroshot.optional import require
from zeroshot.statistics import IntArray

_TRIED = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 50)
_JUDGED = 2_000  # images that a number of clusters is judged by
_ROUNDS = 50
_STARTS = 10
_BETA = 5.0
_STRENGTH = 2.0  # of the centroids' differences, over those of the text's logits


class Method(StrEnum):
    """How groups are found."""

    KMEANS = "kmeans"
    HDBSCAN = "hdbscan"


@dataclass(frozen=True, eq=False)
class Clusters:
    """Groups of images, largest first.

    Parameters
    ----------
    members : ndarray of int64, shape (n,)
        Each image's group; -1 for none.
    centroids : ndarray of float32, shape (k, dim)
        Unit rows.
    tried : tuple of (int, float)
        Numbers of groups, and the silhouette of each; empty where the number was given.
    """

    members: IntArray
    centroids: FloatArray
    tried: tuple[tuple[int, float], ...] = ()

    def typical(self, cluster: int, vectors: FloatArray, count: int) -> IntArray:
        """Give the images nearest to a cluster's centroid.

        Parameters
        ----------
        cluster : int
            Which.
        vectors : ndarray of float32, shape (n, dim)
            The images' unit rows.
        count : int
            At most so many.

        Returns
        -------
        ndarray of int64, shape (m,)
            Rows, the nearest first.
        """
        inside = np.flatnonzero(self.members == cluster)
        nearest = np.argsort(-(vectors[inside] @ self.centroids[cluster]), kind="stable")
        return inside[nearest[:count]]


@dataclass(frozen=True, eq=False)
class ClusterReport:
    """The groups that were found.

    Parameters
    ----------
    clusters : Clusters
        Each image's group, the groups' centroids, and the numbers of groups that were tried.
    names : tuple of str
        Each group's name: the nearest of the vocabulary that no larger group has.
    suggestions : list of list of str
        Each group's five nearest names, by text alone.
    head : Head
        The centroids, as examples of labels "0", "1"...
    vectors : ndarray of float32, shape (n, dim)
        Unit rows of the images that could be used.
    used : list of int
        Which images those are: n positions.
    problems : tuple of Problem
        Images that could not be used.
    """

    clusters: Clusters
    names: tuple[str, ...]
    suggestions: list[list[str]]
    head: Head
    vectors: FloatArray
    used: list[int]
    problems: tuple[Problem, ...]


def cluster(
    images: Iterable[ImageSource | ImageError],
    vocabulary: LabelSet,
    classifier: ZeroShotClassifier,
    *,
    count: int | None = None,
    method: Method | str = Method.KMEANS,
    min_cluster_size: int = 5,
    name: str = "clusters",
    on_progress: Callable[[], object] = lambda: None,
) -> tuple[LabelSet, ClusterReport]:
    """Group images without labels, and name each group by text alone.

    Parameters
    ----------
    images : iterable of ImageSource or ImageError
        Read lazily.
    vocabulary : LabelSet
        The names to choose from.
    classifier : ZeroShotClassifier
        The centroids belong to its encoder.
    count : int or None
        How many groups; chosen by silhouette when None.
    method : Method or str
        "kmeans", or "hdbscan", which leaves out images that are like no others.
    min_cluster_size : int
        Fewest images of a group, for "hdbscan".
    name : str
        The label set's.
    on_progress : callable
        Called once per image.

    Returns
    -------
    (LabelSet, ClusterReport)
        A label per group, with its centroid as an example, not stored; and the groups.

    Raises
    ------
    LearningError
        If fewer than three different images can be used, or no groups are found.
    OptionError
        If an option is out of range.
    """
    used, vectors, problems = embed_images(images, classifier, on_progress)
    clusters = cluster_images(vectors, count=count, method=method, min_cluster_size=min_cluster_size)
    matrix, encoder = classifier.class_matrix(vocabulary), classifier.encoder
    ranked = suggest_names(clusters.centroids, matrix, vocabulary.names, top=len(clusters.centroids))
    names: list[str] = []
    for number, nearest in enumerate(ranked):
        names.append(next((one for one in nearest if one not in names), f"group {number}"))
    head = centroid_head(
        clusters, vectors, matrix, encoder.logit_scale, model=encoder.spec, fingerprint=encoder.fingerprint
    )
    suggestions = suggest_names(clusters.centroids, matrix, vocabulary.names)
    report = ClusterReport(clusters, tuple(names), suggestions, head, vectors, used, problems)
    return name_clusters(name, dict(enumerate(names)), head), report


def cluster_images(
    vectors: FloatArray, *, count: int | None = None, method: Method | str = Method.KMEANS, min_cluster_size: int = 5
) -> Clusters:
    """Group images."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    distinct = len(np.unique(vectors, axis=0))
    if not np.isfinite(vectors).all():
        raise LearningError(
            "There are vectors that are not finite.", "Try another model: this one gives infinite or undefined numbers."
        )
    if distinct < 3:
        raise LearningError(f"There are {distinct} different images.", "Give three at least.")
    if count is not None and not 2 <= count < distinct:
        raise OptionError(
            f"count={count} is not from 2 to {distinct - 1}, one less than the images.",
            f"Use 2 to {distinct - 1}.",
            field="count",
        )
    if method not in tuple(Method):
        raise OptionError(f"There is no method {method!r}.", f"Use one of: {', '.join(Method)}.", field="method")
    if method == Method.HDBSCAN:
        if count is not None:
            raise OptionError("HDBSCAN finds the number of clusters itself.", "Leave count out.", field="count")
        return _ordered(vectors, _hdbscan(vectors, min_cluster_size), ())
    if count is not None:
        return _ordered(vectors, _kmeans(vectors, count), ())
    judged = np.random.default_rng(0).permutation(len(vectors))[:_JUDGED]
    silhouette = require("sklearn.metrics").silhouette_score
    tried: list[tuple[int, float]] = []
    best: tuple[float, IntArray] | None = None
    for number in (number for number in _TRIED if number < min(distinct, len(vectors) // 2 + 1)):
        members = _kmeans(vectors, number)
        if len(np.unique(members[judged])) < 2:
            continue
        score = float(silhouette(vectors[judged], members[judged], metric="cosine"))
        tried.append((number, score))
        if best is None or score > best[0]:
            best = score, members
    if best is None:
        return _ordered(vectors, _kmeans(vectors, 2), ())
    return _ordered(vectors, best[1], tuple(tried))


def suggest_names(centroids: FloatArray, matrix: FloatArray, names: Sequence[str], top: int = 5) -> list[list[str]]:
    """Name clusters after the words whose text is nearest to their middle."""
    order = np.argsort(-(centroids @ matrix.T), axis=1, kind="stable")[:, :top]
    return [[names[column] for column in row] for row in order]


def centroid_head(
    clusters: Clusters, vectors: FloatArray, matrix: FloatArray, logit_scale: float, *, model: str, fingerprint: str
) -> Head:
    """Make the centroids examples of labels "0", "1"..., which a person will name.

    They weigh twice what text does: their logits differ between clusters by twice what a vocabulary's do among its
    names, so that a name of which the model knows nothing does no harm.
    """
    sample = vectors[np.random.default_rng(0).permutation(len(vectors))[:_JUDGED]]
    text = float((logit_scale * (sample @ matrix.T).astype(np.float64)).std(axis=1).mean())
    near = float(np.exp(-_BETA * (1.0 - (sample @ clusters.centroids.T).astype(np.float64))).std(axis=1).mean())
    count, dim = clusters.centroids.shape
    return Head(
        model=model,
        fingerprint=fingerprint,
        labels=tuple(str(number) for number in range(count)),
        weights=np.zeros((count, dim), np.float32),
        keys=clusters.centroids,
        key_labels=np.arange(count),
        alpha=_STRENGTH * text / max(near, 1e-9),
        beta=_BETA,
        summary=f"centroids of {count} clusters of {int((clusters.members >= 0).sum())} images",
    )


def _kmeans(vectors: FloatArray, count: int) -> IntArray:
    import faiss

    kmeans = faiss.Kmeans(
        vectors.shape[1], count, niter=_ROUNDS, nredo=_STARTS, spherical=True, seed=0, min_points_per_centroid=1
    )
    with threads_for(vectors.size * count):
        kmeans.train(vectors)
        return np.asarray(kmeans.index.search(vectors, 1)[1].ravel(), dtype=np.int64)


def _hdbscan(vectors: FloatArray, min_cluster_size: int) -> IntArray:
    if not 2 <= min_cluster_size <= len(vectors):
        raise OptionError(
            f"min_cluster_size={min_cluster_size} is not from 2 to {len(vectors)}.",
            f"Use 2 to {len(vectors)}.",
            field="min_cluster_size",
        )
    found = require("sklearn.cluster").HDBSCAN(min_cluster_size=min_cluster_size, copy=True).fit_predict(vectors)
    if found.max() < 0:
        raise LearningError(
            "No images lie closer together than the rest.", "Use k-means, or a smaller min_cluster_size."
        )
    return np.asarray(found, dtype=np.int64)


def _ordered(vectors: FloatArray, members: IntArray, tried: tuple[tuple[int, float], ...]) -> Clusters:
    """Number clusters by size, and give them their means."""
    found, counts = np.unique(members[members >= 0], return_counts=True)
    ranked = found[np.argsort(-counts, kind="stable")]
    numbered = np.full(len(members), -1, dtype=np.int64)
    means = np.empty((len(ranked), vectors.shape[1]), dtype=np.float32)
    for number, cluster in enumerate(ranked):
        inside = members == cluster
        numbered[inside] = number
        means[number] = vectors[inside].mean(axis=0)
    return Clusters(numbered, means / np.linalg.norm(means, axis=1, keepdims=True), tried)
