"""The routes of galleries."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, TypeVar

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request, Response

from zeroshot.encoders import FloatArray
from zeroshot.errors import GalleryCorrupt, ZeroshotError
from zeroshot.gallery import Gallery, Item, gallery_names, summarise
from zeroshot.gallery import Query as GalleryQuery
from zeroshot.gallery.ingest import image_size
from zeroshot.gallery.queries import unit_vector
from zeroshot.images import ImageLimits
from zeroshot.images.loading import decode_base64, open_source
from zeroshot.prompts import load_templates
from zeroshot.service.context import current, timed
from zeroshot.service.gallery_pool import GalleryPool
from zeroshot.service.inference.pipeline import Pipeline, is_base64
from zeroshot.service.ndjson import NDJSON, lines_of, respond_in_lines
from zeroshot.service.openapi import body, problems
from zeroshot.service.problems import RequestError, describe
from zeroshot.service.requests import check_fields, invalid, media_type, parse, read_body, read_form, read_question
from zeroshot.service.schemas import galleries as schemas
from zeroshot.service.state import ServiceState

ResultT = TypeVar("ResultT")
Name = Annotated[str, Path(description="A gallery's name.", json_schema_extra={"pattern": schemas.GALLERY_NAME})]
_LINES_AT_ONCE = 64

_BULK = {NDJSON: {"schema": {"type": "string", "description": "One NewItem a line; an ItemResult each."}}}
_FORM = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {
                "image": {"type": "string", "format": "binary"},
                "top_k": {"type": "integer"},
                "min_similarity": {"type": "number"},
                "where": {"type": "string", "description": "A filter, in JSON."},
                "exact": {"type": "boolean"},
            },
        }
    }
}

router = APIRouter(prefix="/v1/galleries", tags=["galleries"])


async def _in_thread(request: Request, work: Callable[[GalleryPool], ResultT], stage: str | None = None) -> ResultT:
    """Do something with the galleries in a thread, as a stage of the request."""
    state: ServiceState = request.app.state.service
    start = time.monotonic()
    try:
        return await run_sync(work, state.galleries, limiter=state.gallery_threads)
    finally:
        if stage is not None:
            current.get().add(stage, start, time.monotonic())


async def _on_whole_gallery(request: Request, work: Callable[[GalleryPool], ResultT]) -> ResultT:
    """Do what reads a whole gallery: one at a time, and without taking other requests' threads."""
    state: ServiceState = request.app.state.service
    return await run_sync(work, state.galleries, limiter=state.whole_gallery_threads)


@router.get("", summary="List the galleries", responses=problems())
async def list_galleries(request: Request) -> schemas.GalleryList:
    return await _in_thread(
        request,
        lambda pool: schemas.GalleryList(galleries=[_summary(pool, name) for name in gallery_names(pool.home)]),
    )


@router.post(
    "",
    status_code=201,
    summary="Make a gallery",
    openapi_extra=body(schemas.NewGallery),
    responses=problems(400, 409, 413, 422),
)
async def create_gallery(request: Request) -> schemas.GalleryInfo:
    name = (await read_body(request, schemas.NewGallery)).name
    return await _in_thread(
        request, lambda pool: schemas.GalleryInfo.of(name, pool.get(name, create=True).statistics())
    )


@router.get("/{name}", summary="Describe a gallery", responses=problems(404, 409, 422, 500))
async def describe_gallery(name: Name, request: Request) -> schemas.GalleryInfo:
    return await _in_thread(request, lambda pool: schemas.GalleryInfo.of(name, pool.get(name).statistics()))


@router.delete("/{name}", status_code=204, summary="Delete a gallery and all in it", responses=problems(404, 409, 422))
async def delete_gallery(name: Name, request: Request) -> Response:
    await _in_thread(request, lambda pool: pool.delete(name))
    return Response(status_code=204)


@router.post(
    "/{name}/items",
    response_model=schemas.ItemResults,
    summary="Add images or vectors",
    description=(
        "Each item is stored or refused by itself. As `application/x-ndjson` the body may be of any length: one "
        "item a line (`?replace=true` to replace); the answer has one result a line, sent when the body is done."
    ),
    openapi_extra=body(schemas.NewItems, _BULK),
    responses={200: {"content": _BULK}, **problems(400, 404, 408, 409, 413, 422, 500, 503, 504)},
)
async def add_items(name: Name, request: Request, replace: bool = False) -> Any:
    state: ServiceState = request.app.state.service
    gallery = await _in_thread(request, lambda pool: pool.get(name))
    if media_type(request) == NDJSON:
        with state.pipeline.admitted(state.config.stream_window - 1):
            return await respond_in_lines(_store_lines(request, gallery, replace=replace))
    given = await read_body(request, schemas.NewItems)
    with state.pipeline.admitted(min(len(given.items), state.config.stream_window) - 1):
        results = await _store(request, gallery, given.items, replace=given.replace or replace)
    return schemas.ItemResults(stored=sum(one.status == "stored" for one in results), results=results)


@router.get("/{name}/items", summary="List items by id", responses=problems(404, 409, 422, 500))
async def list_items(
    name: Name,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(description="Only ids beyond this one.")] = None,
    where: Annotated[str | None, Query(description='A filter, in JSON: {"colour": "red"}.')] = None,
) -> schemas.ItemPage:
    condition = _json(where)

    def run(pool: GalleryPool) -> schemas.ItemPage:
        items = pool.get(name).list_items(condition, limit=limit + 1, after=after)
        more = len(items) > limit
        return schemas.ItemPage(
            items=[schemas.ItemObject.of(item) for item in items[:limit]],
            next=items[limit - 1].id if more else None,
        )

    return await _in_thread(request, run)


@router.get("/{name}/items/{id:path}", summary="Get an item", responses=problems(404, 409, 422, 500))
async def get_item(
    name: Name,
    request: Request,
    id: str,  # noqa: A002
    vector: Annotated[bool, Query(description="With its vector.")] = False,
) -> schemas.ItemObject:
    def run(pool: GalleryPool) -> schemas.ItemObject:
        item, row = pool.get(name).get(id)
        return schemas.ItemObject.of(item, row.tolist() if vector else None)

    return await _in_thread(request, run)


@router.delete(
    "/{name}/items/{id:path}", status_code=204, summary="Remove an item", responses=problems(404, 409, 422, 500)
)
async def delete_item(name: Name, request: Request, id: str) -> Response:  # noqa: A002
    await _in_thread(request, lambda pool: pool.get(name).delete([id]))
    return Response(status_code=204)


@router.post(
    "/{name}/search",
    summary="Find items by sentence, image, stored item or vector, or a weighted sum of them",
    openapi_extra=body(schemas.SearchRequest, _FORM),
    responses=problems(400, 404, 408, 409, 413, 422, 500, 503, 504),
)
async def search(name: Name, request: Request) -> schemas.SearchResponse:
    state: ServiceState = request.app.state.service
    gallery = await _in_thread(request, lambda pool: pool.get(name))
    asked = await _read_search(request, state)
    queries, warnings = await _embed_queries(state.pipeline, asked.queries)
    hits = await _in_thread(
        request,
        lambda _: gallery.search(
            queries, top_k=asked.top_k, min_similarity=asked.min_similarity, where=asked.where, exact=asked.exact,
            on_warning=lambda _: None,
        ),
        "search",
    )  # fmt: skip
    return schemas.SearchResponse(hits=[schemas.HitObject.of(hit) for hit in hits], warnings=list(warnings))


@router.post(
    "/{name}/classify",
    summary="Re-label everything in it, from stored vectors",
    openapi_extra=body(schemas.RelabelRequest),
    responses=problems(400, 404, 409, 413, 422, 500, 503, 504),
)
async def classify(name: Name, request: Request) -> schemas.RelabelResponse:
    state: ServiceState = request.app.state.service
    asked = await read_question(await request.body(), schemas.RelabelRequest, state.config.few_labels)
    labels = await state.pipeline.label_set(asked.labels, asked.label_set)
    templates = None if asked.templates is None else load_templates(asked.templates, files=False)

    def run(pool: GalleryPool) -> schemas.RelabelResponse:
        warnings: list[str] = []
        counts = pool.get(name).classify(
            labels, templates=templates, mode=asked.mode, threshold=asked.threshold,
            temperature=asked.temperature, unknown=asked.unknown, examples=asked.examples, on_warning=warnings.append,
        )  # fmt: skip
        return schemas.RelabelResponse(labels=[schemas.LabelCountObject.of(one) for one in counts], warnings=warnings)

    with timed("rank"):
        return await _on_whole_gallery(request, run)


@router.get(
    "/{name}/duplicates", summary="Find near-duplicates, in groups", responses=problems(404, 409, 422, 500, 504)
)
async def duplicates(
    name: Name, request: Request, min_similarity: Annotated[float, Query(gt=0, le=1)] = 0.95
) -> schemas.DuplicateGroups:
    return await _on_whole_gallery(
        request, lambda pool: schemas.DuplicateGroups(groups=pool.get(name).duplicates(min_similarity=min_similarity))
    )


@router.post(
    "/{name}/verify",
    summary="Check the index against the database, and rebuild it where they differ",
    responses=problems(404, 409, 422, 500, 504),
)
async def verify(name: Name, request: Request) -> schemas.VerificationObject:
    return await _on_whole_gallery(request, lambda pool: schemas.VerificationObject.of(pool.get(name).verify()))


@router.post(
    "/{name}/compact",
    summary="Reclaim the disk space of deleted items, and rebuild a large index",
    responses=problems(404, 409, 422, 500, 504),
)
async def compact(name: Name, request: Request) -> schemas.GalleryInfo:
    def run(pool: GalleryPool) -> schemas.GalleryInfo:
        gallery = pool.get(name)
        gallery.compact()
        return schemas.GalleryInfo.of(name, gallery.statistics())

    return await _on_whole_gallery(request, run)


def _summary(pool: GalleryPool, name: str) -> schemas.GalleryObject:
    try:
        return schemas.GalleryObject.of(summarise(pool.home, name))
    except GalleryCorrupt as error:  # one that is damaged hides no other
        return schemas.GalleryObject(name=name, problem=describe(error))


async def _store_lines(request: Request, gallery: Gallery, *, replace: bool) -> AsyncIterator[schemas.ItemResult]:
    """Store items, one JSON object a line, some dozens at a time; a line that cannot be stored harms no other."""
    state: ServiceState = request.app.state.service
    limit = state.pipeline.classifier.limits.max_bytes * 4 // 3 + state.config.label_bytes
    entries: list[schemas.NewItem | ZeroshotError] = []

    async def store() -> list[schemas.ItemResult]:
        current.get().deadline = time.monotonic() + state.config.request_timeout_s
        results = await _store(request, gallery, entries, replace=replace)
        entries.clear()
        return results

    async for line in lines_of(request, limit):
        try:
            entries.append(parse(line, schemas.NewItem))
        except RequestError as error:
            entries.append(error)
        if len(entries) == _LINES_AT_ONCE:
            for result in await store():
                yield result
    for result in await store():
        yield result


async def _store(
    request: Request, gallery: Gallery, entries: Sequence[schemas.NewItem | ZeroshotError], *, replace: bool
) -> list[schemas.ItemResult]:
    """Embed and store items; one that cannot be stored harms no other. They are written when all are embedded."""
    state: ServiceState = request.app.state.service
    prepared = await _in_thread(request, lambda _: [_prepare(gallery, entry) for entry in entries])
    sources = [one[1] for one in prepared if isinstance(one, tuple) and isinstance(one[1], bytes)]
    current.get().images += len(sources)
    embedded = iter(await state.pipeline.embed_each(sources, at_once=state.config.stream_window))
    rows: list[tuple[Item, FloatArray]] = []
    outcomes: list[ZeroshotError | None] = []
    for one in prepared:
        vector = one if isinstance(one, ZeroshotError) else next(embedded) if isinstance(one[1], bytes) else one[1]
        if isinstance(one, tuple) and not isinstance(vector, ZeroshotError):
            rows.append((one[0], vector))
        outcomes.append(vector if isinstance(vector, ZeroshotError) else None)

    def write(_: GalleryPool) -> list[ZeroshotError | None]:
        with gallery.writing():
            written = iter(gallery.add_each(rows, replace=replace))
        return [next(written) if outcome is None else outcome for outcome in outcomes]

    results = []
    for entry, one, error in zip(entries, prepared, await _in_thread(request, write, "store"), strict=True):
        own = entry.id if isinstance(entry, schemas.NewItem) else None
        id_ = one[0].id if isinstance(one, tuple) else own
        if error is None:
            results.append(schemas.ItemResult(id=id_, status="stored"))
        else:
            results.append(schemas.ItemResult(id=id_, status="refused", problem=describe(error)))
    return results


def _prepare(
    gallery: Gallery, entry: schemas.NewItem | ZeroshotError
) -> tuple[Item, bytes | FloatArray] | ZeroshotError:
    """Give an item and its image's bytes, or its ready vector."""
    if isinstance(entry, ZeroshotError):
        return entry
    try:
        if entry.vector is not None and entry.image is None:
            vector = unit_vector(entry.vector, gallery.encoder.dim)
            return Item(entry.id or uuid.uuid4().hex, entry.uri, metadata=entry.metadata), vector
        if entry.image is None or entry.vector is not None:
            given = "neither" if entry.image is None else "both"
            raise invalid(f"'image' or 'vector' is needed; {given} was given.", "Give one of them.", "image")
        source = decode_base64(entry.image) if is_base64(entry.image) else entry.image
        content = open_source(source, gallery.limits or ImageLimits())
        if not isinstance(content, bytes):
            raise TypeError(content)  # a path never gets here
        width, height = image_size(content)
        sha256 = hashlib.sha256(content).hexdigest()
        return Item(entry.id or sha256, entry.uri, sha256, width, height, len(content), None, entry.metadata), content
    except ZeroshotError as error:
        return error


async def _read_search(request: Request, state: ServiceState) -> schemas.SearchRequest:
    """Read what to look for, as JSON or as a form with an image."""
    if media_type(request) != "multipart/form-data":
        return await read_body(request, schemas.SearchRequest)
    (content, *_), form = await read_form(request, state.pipeline.classifier.limits.max_bytes)
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    numbers = {"top_k": int, "min_similarity": float}
    try:
        others = {name: numbers.get(name, json.loads)(value) for name, value in fields.items()}
    except ValueError as error:
        raise invalid(f"A field of the form is malformed: {error}.", "See /docs.") from error
    query = {"image": base64.b64encode(content).decode()}
    return check_fields({"queries": [query], **others}, schemas.SearchRequest)


async def _embed_queries(
    pipeline: Pipeline, given: Sequence[schemas.QueryObject]
) -> tuple[list[GalleryQuery], Sequence[str]]:
    """Replace sentences and images by their vectors; what is malformed is left for the gallery to refuse."""
    queries = [GalleryQuery(one.text, one.image, one.id, one.vector, one.weight) for one in given]  # type: ignore[arg-type]
    single = [row for row, one in enumerate(given) if (one.text, one.image, one.id, one.vector).count(None) == 3]
    texts = {row: text for row in single if (text := given[row].text) is not None and text.strip()}
    images = {row: image for row in single if (image := given[row].image) is not None}
    warnings: Sequence[str] = ()
    vectors: dict[int, FloatArray] = {}
    if texts:
        rows, warnings = await pipeline.embed_texts(list(texts.values()))
        vectors.update(zip(texts, rows, strict=True))
    if images:
        vectors.update(zip(images, await pipeline.embed_images(list(images.values())), strict=True))
    for row, vector in vectors.items():
        queries[row] = GalleryQuery(vector=vector, weight=given[row].weight)
    return queries, warnings


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise invalid(f"where: {error}.", "Give a filter in JSON.", "where") from error
