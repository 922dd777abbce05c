"""A gallery's queries and results: plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zeroshot.encoders import FloatArray
from zeroshot.images import ImageSource


@dataclass(frozen=True)
class Item:
    """An image of a gallery, without its vector.

    Parameters
    ----------
    id : str
        Unique within the gallery.
    uri : str or None
        Where the image is.
    sha256 : str or None
        Of the image's file, in hex.
    width : int or None
        In pixels.
    height : int or None
        In pixels.
    file_size : int or None
        In bytes, when it was read.
    file_mtime_ns : int or None
        When the file was last changed, when it was read.
    metadata : dict
        Any JSON object.
    """

    id: str
    uri: str | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    file_size: int | None = None
    file_mtime_ns: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """One thing to search for; exactly one of the four is given.

    Parameters
    ----------
    text : str or None
        A sentence.
    image : ImageSource or None
        An image.
    id : str or None
        A stored item, whose own vector is used.
    vector : ndarray of float32, shape (dim,), or None
        A vector of the gallery's encoder.
    weight : float
        Factor in a sum of several queries; negative moves away from it.
    """

    text: str | None = None
    image: ImageSource | None = None
    id: str | None = None
    vector: FloatArray | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Hit:
    """An item that a search found.

    Parameters
    ----------
    item : Item
        The item.
    similarity : float
        Cosine with the query, in [-1, 1], computed from the stored float32 vector.
    """

    item: Item
    similarity: float


@dataclass(frozen=True)
class LabelCount:
    """For how many items of a gallery a label is the answer.

    Parameters
    ----------
    label : str
        Its name.
    count : int
        Items for which it is the answer.
    examples : tuple of (str, float)
        Ids and scores of those with the highest scores.
    """

    label: str
    count: int
    examples: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found, and repaired.

    Parameters
    ----------
    count : int
        Items in the database.
    missing : int
        Items that the index lacked.
    surplus : int
        Vectors in the index that no item has.
    different : int
        Vectors that differed between index and database.
    recall : float
        Share of the true ten nearest that searches for a sample of stored vectors find; 1 when nothing is stored.
    """

    count: int
    missing: int
    surplus: int
    different: int
    recall: float

    @property
    def repaired(self) -> bool:
        """Whether the index differed from the database and was rebuilt."""
        return bool(self.missing or self.surplus or self.different)


@dataclass(frozen=True)
class Statistics:
    """A gallery in numbers.

    Parameters
    ----------
    count : int
        Items.
    dim : int
        Length of a vector.
    model : str
        Spec of the encoder.
    fingerprint : str
        Of the encoder.
    bytes : int
        Size of the folder on disk.
    first_added : float or None
        Unix time of the oldest item.
    last_added : float or None
        Unix time of the newest item.
    fields : dict of str to int
        Metadata's top-level fields and how many items have them.
    index : str
        ``exact``, or FAISS's name of the kind.
    indexed : int
        Items in the approximate index; the others are compared one by one.
    nprobe : int or None
        Lists of the approximate index that a search reads.
    recall : float or None
        Share of the true ten nearest that the approximate index found when it was built.
    """

    count: int
    dim: int
    model: str
    fingerprint: str
    bytes: int
    first_added: float | None
    last_added: float | None
    fields: dict[str, int]
    index: str
    indexed: int
    nprobe: int | None
    recall: float | None
