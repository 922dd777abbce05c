"""From an HTTP request about a gallery to what the gallery is asked."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence

from starlette.requests import Request

from zeroshot.encoders import FloatArray
from zeroshot.errors import ZeroshotError
from zeroshot.gallery import Gallery, Item, Query
from zeroshot.gallery.ingest import picture_size
from zeroshot.gallery.queries import unit_vector
from zeroshot.images import ImageLimits
from zeroshot.images.sources import open_source
from zeroshot.service.gallery_schemas import ItemResult, NewItem, QueryObject, SearchRequest
from zeroshot.service.problems import RequestError, describe
from zeroshot.service.requests import check_fields, media_type, parse, read_body, read_form, to_source


async def read_search(request: Request, max_image_bytes: int) -> SearchRequest:
    """Read what to look for, as JSON or as a form with a picture."""
    if media_type(request) != "multipart/form-data":
        return await read_body(request, SearchRequest)
    (content, *_), form = await read_form(request, max_image_bytes)
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    query = {"image": base64.b64encode(content).decode()}
    numbers = {"top_k": int, "min_similarity": float}
    try:
        others = {name: numbers.get(name, json.loads)(value) for name, value in fields.items()}
    except ValueError as error:
        raise RequestError(
            422, "invalid-request", f"A field of the form is malformed: {error}.", "See /docs."
        ) from error
    return check_fields({"queries": [query], **others}, SearchRequest)


def to_queries(objects: Sequence[QueryObject]) -> list[Query]:
    """Turn queries on the wire into queries."""
    return [
        Query(
            text=one.text,
            image=None if one.image is None else to_source(one.image),
            id=one.id,
            vector=one.vector,  # type: ignore[arg-type]  # checked where it is used
            weight=one.weight,
        )
        for one in objects
    ]


def store_lines(gallery: Gallery, lines: Sequence[bytes], *, replace: bool) -> Iterator[ItemResult]:
    """Store items, one JSON object a line; a line that cannot be stored harms no other."""
    entries: list[NewItem | ZeroshotError] = []
    for line in lines:
        try:
            entries.append(parse(line, NewItem))
        except RequestError as error:
            entries.append(error)
    yield from store_items(gallery, entries, replace=replace)


def store_items(gallery: Gallery, entries: Sequence[NewItem | ZeroshotError], *, replace: bool) -> Iterator[ItemResult]:
    """Store items; one that cannot be stored harms no other."""
    with gallery.writing():
        prepared = [entry if isinstance(entry, ZeroshotError) else _prepared(gallery, entry) for entry in entries]
        pictures = [(one[0], one[1]) for one in prepared if isinstance(one, tuple) and isinstance(one[1], bytes)]
        outcomes = iter([error for _, error in gallery.add_images(pictures, replace=replace)])
        vectors = [(one[0], one[1]) for one in prepared if isinstance(one, tuple) and not isinstance(one[1], bytes)]
        vector_outcomes = iter(gallery.add_each(vectors, replace=replace))
        for entry, one in zip(entries, prepared, strict=True):
            named = entry.id if isinstance(entry, NewItem) else None
            if isinstance(one, ZeroshotError):
                yield ItemResult(id=named, status="refused", problem=describe(one))
                continue
            item, source = one
            error = next(outcomes if isinstance(source, bytes) else vector_outcomes)
            if error is None:
                yield ItemResult(id=item.id, status="stored")
            else:
                yield ItemResult(id=item.id, status="refused", problem=describe(error))


def _prepared(gallery: Gallery, entry: NewItem) -> tuple[Item, bytes | FloatArray] | ZeroshotError:
    try:
        if (entry.image is None) == (entry.vector is None):
            given = "neither" if entry.image is None else "both"
            raise RequestError(
                422,
                "invalid-request",
                f"'image' or 'vector' is needed; {given} was given.",
                "Give one of them.",
                "image",
            )
        if entry.vector is not None:
            vector = unit_vector(entry.vector, gallery.encoder.dim)
            return Item(entry.id or uuid.uuid4().hex, entry.uri, metadata=entry.metadata), vector
        content = open_source(to_source(entry.image or ""), gallery.limits or ImageLimits())
        if not isinstance(content, bytes):
            raise TypeError(content)  # a path never gets here
        width, height = picture_size(content)
        sha256 = hashlib.sha256(content).hexdigest()
        return Item(entry.id or sha256, entry.uri, sha256, width, height, len(content), None, entry.metadata), content
    except ZeroshotError as error:
        return error
