"""The routes of galleries."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from zeroshot.errors import GalleryCorrupt
from zeroshot.gallery import gallery_names, summarise
from zeroshot.prompts import load_templates
from zeroshot.service import gallery_schemas as schemas
from zeroshot.service.documents import body, problems
from zeroshot.service.gallery_requests import read_search, store_items, store_lines, to_queries
from zeroshot.service.open_galleries import OpenGalleries
from zeroshot.service.problems import RequestError, describe
from zeroshot.service.questions import Questions
from zeroshot.service.requests import media_type, read_body
from zeroshot.service.streams import NDJSON, lines_of, sent, spooled

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


def gallery_routes(
    galleries: OpenGalleries, questions: Questions, slots: anyio.CapacityLimiter, max_image_bytes: int
) -> APIRouter:
    """Build the routes below ``/v1/galleries``."""
    router = APIRouter(prefix="/v1/galleries", tags=["galleries"])

    whole = anyio.CapacityLimiter(1)  # what goes over a whole gallery waits for its like, and holds up nothing else

    async def off_the_loop(work: Callable[[], ResultT]) -> ResultT:
        return await run_sync(work, limiter=slots)

    async def over_the_whole(work: Callable[[], ResultT]) -> ResultT:
        return await run_sync(work, limiter=whole)

    @router.get("", summary="List the galleries", responses=problems())
    async def list_galleries() -> schemas.GalleryList:
        def run() -> schemas.GalleryList:
            return schemas.GalleryList(galleries=[_summary(galleries, name) for name in gallery_names(galleries.home)])

        return await off_the_loop(run)

    @router.post(
        "",
        status_code=201,
        summary="Make a gallery",
        openapi_extra=body(schemas.NewGallery),
        responses=problems(400, 409, 413, 422),
    )
    async def create_gallery(request: Request) -> schemas.GalleryInfo:
        name = (await read_body(request, schemas.NewGallery)).name
        return await off_the_loop(lambda: schemas.GalleryInfo.of(name, galleries.get(name, create=True).statistics()))

    @router.get("/{name}", summary="Describe a gallery", responses=problems(404, 409, 422, 500))
    async def describe_gallery(name: Name) -> schemas.GalleryInfo:
        return await off_the_loop(lambda: schemas.GalleryInfo.of(name, galleries.get(name).statistics()))

    @router.delete(
        "/{name}", status_code=204, summary="Delete a gallery and all in it", responses=problems(404, 409, 422)
    )
    async def delete_gallery(name: Name) -> Response:
        await off_the_loop(lambda: galleries.delete(name))
        return Response(status_code=204)

    @router.post(
        "/{name}/items",
        response_model=schemas.ItemResults,
        summary="Add pictures or vectors",
        description=(
            "Each item is stored or refused by itself. As `application/x-ndjson` the body may be of any length: one "
            "item a line (`?replace=true` to replace); the answer has one result a line, sent when the body is done."
        ),
        openapi_extra=body(schemas.NewItems, _BULK),
        responses={200: {"content": _BULK}, **problems(400, 404, 408, 409, 413, 422, 500, 503)},
    )
    async def add_items(name: Name, request: Request, replace: bool = False) -> Any:
        gallery = await off_the_loop(lambda: galleries.get(name))
        if media_type(request) == NDJSON:
            spool = await _store_stream(
                lines_of(request, max_image_bytes * 4 // 3 + 2**20),
                lambda lines: list(store_lines(gallery, lines, replace=replace)),
                off_the_loop,
            )
            return StreamingResponse(sent(spool), media_type=NDJSON)
        given = await read_body(request, schemas.NewItems)
        results = await off_the_loop(lambda: list(store_items(gallery, given.items, replace=given.replace or replace)))
        return schemas.ItemResults(stored=sum(one.status == "stored" for one in results), results=results)

    @router.get("/{name}/items", summary="List items by id", responses=problems(404, 409, 422, 500))
    async def list_items(
        name: Name,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[str | None, Query(description="Only ids beyond this one.")] = None,
        where: Annotated[str | None, Query(description='A filter, in JSON: {"colour": "red"}.')] = None,
    ) -> schemas.ItemPage:
        condition = _json(where)

        def run() -> schemas.ItemPage:
            items = galleries.get(name).list_items(condition, limit=limit + 1, after=after)
            more = len(items) > limit
            return schemas.ItemPage(
                items=[schemas.ItemObject.of(item) for item in items[:limit]],
                next=items[limit - 1].id if more else None,
            )

        return await off_the_loop(run)

    @router.get("/{name}/items/{id:path}", summary="Get an item", responses=problems(404, 409, 422, 500))
    async def get_item(
        name: Name,
        id: str,  # noqa: A002
        vector: Annotated[bool, Query(description="With its vector.")] = False,
    ) -> schemas.ItemObject:
        def run() -> schemas.ItemObject:
            item, row = galleries.get(name).get(id)
            return schemas.ItemObject.of(item, row.tolist() if vector else None)

        return await off_the_loop(run)

    @router.delete(
        "/{name}/items/{id:path}", status_code=204, summary="Remove an item", responses=problems(404, 409, 422, 500)
    )
    async def delete_item(name: Name, id: str) -> Response:  # noqa: A002
        await off_the_loop(lambda: galleries.get(name).delete([id]))
        return Response(status_code=204)

    @router.post(
        "/{name}/search",
        summary="Find items by sentence, picture, stored item or vector, or a weighted sum of them",
        openapi_extra=body(schemas.SearchRequest, _FORM),
        responses=problems(400, 404, 408, 409, 413, 422, 500, 503, 504),
    )
    async def search(name: Name, request: Request) -> schemas.SearchResponse:
        asked = await read_search(request, max_image_bytes)

        def run() -> schemas.SearchResponse:
            warnings: list[str] = []
            hits = galleries.get(name).search(
                to_queries(asked.queries), top_k=asked.top_k, min_similarity=asked.min_similarity, where=asked.where,
                exact=asked.exact, on_warning=warnings.append,
            )  # fmt: skip
            return schemas.SearchResponse(hits=[schemas.HitObject.of(hit) for hit in hits], warnings=warnings)

        return await off_the_loop(run)

    @router.post(
        "/{name}/classify",
        summary="Re-label everything in it, from stored vectors",
        openapi_extra=body(schemas.RelabelRequest),
        responses=problems(400, 404, 409, 413, 422, 500, 504),
    )
    async def classify(name: Name, request: Request) -> schemas.RelabelResponse:
        asked = await read_body(request, schemas.RelabelRequest)
        labels = await questions.label_set(asked.labels, asked.label_set)
        templates = None if asked.templates is None else load_templates(asked.templates, files=False)

        def run() -> schemas.RelabelResponse:
            warnings: list[str] = []
            counts = galleries.get(name).classify(
                labels, templates=templates, mode=asked.mode, threshold=asked.threshold,
                temperature=asked.temperature, examples=asked.examples, on_warning=warnings.append,
            )  # fmt: skip
            found = [schemas.LabelCountObject.of(one) for one in counts]
            return schemas.RelabelResponse(labels=found, warnings=warnings)

        return await over_the_whole(run)

    @router.get(
        "/{name}/duplicates", summary="Find near-duplicates, in groups", responses=problems(404, 409, 422, 500, 504)
    )
    async def duplicates(
        name: Name, min_similarity: Annotated[float, Query(gt=0, le=1)] = 0.95
    ) -> schemas.DuplicateGroups:
        return await over_the_whole(
            lambda: schemas.DuplicateGroups(groups=galleries.get(name).duplicates(min_similarity=min_similarity))
        )

    @router.post(
        "/{name}/verify",
        summary="Check the index against the database, and rebuild it where they differ",
        responses=problems(404, 409, 422, 500, 504),
    )
    async def verify(name: Name) -> schemas.VerificationObject:
        return await over_the_whole(lambda: schemas.VerificationObject.of(galleries.get(name).verify()))

    @router.post(
        "/{name}/compact",
        summary="Give back the room of deleted items, and build a large index anew",
        responses=problems(404, 409, 422, 500, 504),
    )
    async def compact(name: Name) -> schemas.GalleryInfo:
        def run() -> schemas.GalleryInfo:
            gallery = galleries.get(name)
            gallery.compact()
            return schemas.GalleryInfo.of(name, gallery.statistics())

        return await over_the_whole(run)

    return router


def _summary(galleries: OpenGalleries, name: str) -> schemas.GalleryObject:
    try:
        return schemas.GalleryObject.of(summarise(galleries.home, name))
    except GalleryCorrupt as error:  # one that is damaged hides no other
        return schemas.GalleryObject(name=name, problem=describe(error))


async def _store_stream(lines: AsyncIterator[bytes], store: Callable[[list[bytes]], list[Any]], run: Any) -> Any:
    """Store lines some dozens at a time as they come; give the results, one a line, in a file."""
    spool = spooled()
    waiting: list[bytes] = []

    async def flush() -> None:
        for result in await run(lambda: store(waiting)):
            spool.write(result.model_dump_json(exclude_none=True).encode() + b"\n")
        waiting.clear()

    try:
        async for line in lines:
            waiting.append(line)
            if len(waiting) == _LINES_AT_ONCE:
                await flush()
        await flush()
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return spool


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise RequestError(422, "invalid-request", f"where: {error}.", "Give a filter in JSON.", "where") from error
