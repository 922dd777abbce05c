"""From queries to one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from zeroshot.encoders import Encoder, FloatArray
from zeroshot.encoders.streaming import encode_one
from zeroshot.encoders.truncation import truncation_warnings_off
from zeroshot.errors import OptionError
from zeroshot.gallery.types import Query
from zeroshot.images import ImageLimits


def as_queries(query: str | Query | Sequence[Query]) -> list[Query]:
    """Take a sentence, a query or several as a list."""
    if isinstance(query, str):
        return [Query(text=query)]
    return [query] if isinstance(query, Query) else list(query)


def combine(
    queries: Sequence[Query],
    encoder: Encoder,
    stored: Callable[[str], FloatArray],
    limits: ImageLimits | None,
) -> FloatArray:
    """Add up the vectors of queries by weight, to a unit vector."""
    if not queries:
        raise OptionError("There is no query.", "Give a sentence, an image, an id or a vector.", field="query")
    if len(queries) == 1 and queries[0].weight > 0:
        return _embed(queries[0], encoder, stored, limits)
    total = np.zeros(encoder.dim, dtype=np.float64)
    for query in queries:
        total += query.weight * _embed(query, encoder, stored, limits)
    norm = float(np.linalg.norm(total))
    if not np.isfinite(norm) or norm < 1e-6:
        raise OptionError("The weighted queries cancel out.", "Use other weights.", field="query")
    vector: FloatArray = (total / norm).astype(np.float32)
    return vector


def _embed(
    query: Query, encoder: Encoder, stored: Callable[[str], FloatArray], limits: ImageLimits | None
) -> FloatArray:
    given = [part is not None for part in (query.text, query.image, query.id, query.vector)]
    if sum(given) != 1:
        raise OptionError(
            f"A query has {sum(given)} of text, image, id and vector.", "Give exactly one.", field="query"
        )
    if query.text is not None:
        if not query.text.strip():
            raise OptionError("The query is blank.", "Give a sentence.", field="query")
        with truncation_warnings_off():  # by the search
            row: FloatArray = encoder.encode_texts([query.text])[0]
        return row
    if query.image is not None:
        return encode_one(encoder, query.image, limits=limits)
    if query.id is not None:
        return stored(query.id)
    return unit_vector(query.vector, encoder.dim)


def unit_vector(values: object, dim: int) -> FloatArray:
    """Check a given vector, and scale it to length 1."""
    try:
        vector = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"The vector is not made of numbers: {error}.", f"Give {dim} numbers.", field="vector"
        ) from error
    norm = float(np.linalg.norm(vector)) if vector.size else 0.0
    if vector.shape != (dim,) or not np.isfinite(norm) or norm == 0:
        raise OptionError(
            f"The vector has shape {vector.shape}.", f"Give {dim} finite numbers, not all zero.", field="vector"
        )
    unit: FloatArray = vector if abs(norm - 1) < 1e-6 else vector / norm  # an encoder's own rows stay as they are
    return unit
