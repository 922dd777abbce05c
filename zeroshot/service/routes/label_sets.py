"""The routes of stored label sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, TypeVar

from anyio.to_thread import run_sync
from fastapi import APIRouter, Path, Query, Request, Response

from zeroshot.errors import LabelSetRefused, quote
from zeroshot.labels import LabelSet, LabelSetFile, LabelSetStore, Mode, find_label_set, label_set_names
from zeroshot.labels.distinct import name_warnings
from zeroshot.prompts import load_templates
from zeroshot.service.openapi import body, problems
from zeroshot.service.requests import read_body
from zeroshot.service.schemas import label_sets as schemas
from zeroshot.service.schemas.classify import NAME
from zeroshot.service.state import ServiceState

ResultT = TypeVar("ResultT")
Name = Annotated[str, Path(description="A label set's name.", json_schema_extra={"pattern": NAME})]


router = APIRouter(prefix="/v1/label-sets", tags=["label sets"])


async def _in_thread(request: Request, work: Callable[[LabelSetStore], ResultT]) -> ResultT:
    """Do something with the stored sets in one of few threads: they wait for the database."""
    state: ServiceState = request.app.state.service
    return await run_sync(work, state.label_sets, limiter=state.label_set_threads)


async def _change(request: Request, work: Callable[[LabelSetStore], LabelSet]) -> schemas.LabelSetCreated:
    found = await _in_thread(request, work)
    return schemas.LabelSetCreated(
        name=found.name,
        version=found.version or 0,
        count=len(found.labels),
        warnings=list(name_warnings(found.labels)) or None,
    )


@router.get("", summary="List the label sets", responses=problems(500))
async def list_label_sets(request: Request) -> schemas.LabelSetList:
    stored = await _in_thread(request, LabelSetStore.summaries)
    shipped = [schemas.LabelSetSummary(name=name, shipped=True) for name in label_set_names()]
    return schemas.LabelSetList(label_sets=[*map(schemas.LabelSetSummary.of, stored), *shipped])


@router.post(
    "",
    status_code=201,
    summary="Store a label set",
    openapi_extra=body(LabelSetFile),
    responses=problems(400, 404, 409, 413, 422),
)
async def create(request: Request) -> schemas.LabelSetCreated:
    given = await read_body(request, LabelSetFile)
    return await _change(request, lambda store: store.create(_to_label_set(given)))


@router.get(
    "/{name}",
    summary="Show a label set in the form of a file",
    response_model_exclude_defaults=True,
    responses=problems(404, 422),
)
async def show(
    name: Name, request: Request, version: Annotated[int | None, Query(ge=1, description="Default: the newest.")] = None
) -> LabelSetFile:
    wanted = name if version is None else f"{name}@{version}"
    return await _in_thread(request, lambda store: LabelSetFile.of(find_label_set(wanted, store, files=False)))


@router.put(
    "/{name}",
    summary="Store a label set under this name, as its next version where there is one",
    openapi_extra=body(LabelSetFile),
    responses=problems(400, 404, 409, 413, 422),
)
async def put(name: Name, request: Request) -> schemas.LabelSetCreated:
    given = await read_body(request, LabelSetFile)
    if given.name != name:
        raise LabelSetRefused(
            f"The body's name is {quote(given.name)}, the address says {quote(name)}.", "Use the same.", field="name"
        )

    def run(store: LabelSetStore) -> LabelSet:
        new = _to_label_set(given)
        if name in store:
            return store.update(name, lambda _: new, what="replaced")
        return store.create(new)

    return await _change(request, run)


@router.patch(
    "/{name}",
    summary="Rename a label set, or change how it is asked about",
    openapi_extra=body(schemas.LabelSetOptions),
    responses=problems(400, 404, 409, 422),
)
async def patch(name: Name, request: Request) -> schemas.LabelSetCreated:
    given = await read_body(request, schemas.LabelSetOptions)
    options = given.model_dump(exclude_unset=True, exclude={"name"})

    def changed(old: LabelSet) -> LabelSet:
        fields = {name: value for name, value in options.items() if name != "description"}
        if "description" in options:
            fields["description"] = options["description"] or ""
        if "mode" in fields:
            fields["mode"] = None if fields["mode"] is None else Mode(fields["mode"])
        if fields.get("templates") is not None:
            fields["templates"] = load_templates(fields["templates"], files=False)
        return replace(old, **fields)

    def run(store: LabelSetStore) -> LabelSet:
        found = store.update(name, changed, what="options changed") if options else store.get(name)
        if given.name is not None and given.name != name:
            store.rename(name, given.name)
            return store.get(given.name)
        return found

    return await _change(request, run)


@router.delete(
    "/{name}", status_code=204, summary="Delete a label set and all its versions", responses=problems(404, 422)
)
async def delete(name: Name, request: Request) -> Response:
    await _in_thread(request, lambda store: store.delete(name))
    return Response(status_code=204)


@router.post(
    "/{name}/copy",
    status_code=201,
    summary="Store a copy of a stored or shipped set under another name",
    openapi_extra=body(schemas.CopyRequest),
    responses=problems(400, 404, 409, 422),
)
async def copy(name: Name, request: Request) -> schemas.LabelSetCreated:
    new = (await read_body(request, schemas.CopyRequest)).name

    def run(store: LabelSetStore) -> LabelSet:
        found = find_label_set(name, store, files=False)
        return store.create(replace(found, name=new), change=f"copied from {name}")

    return await _change(request, run)


@router.post(
    "/{name}/labels",
    status_code=201,
    summary="Add labels; they are in the next answer",
    openapi_extra=body(schemas.NewLabels),
    responses=problems(400, 404, 409, 413, 422),
)
async def add(name: Name, request: Request) -> schemas.LabelSetCreated:
    given = await read_body(request, schemas.NewLabels)
    labels = [one for entry in given.labels for one in ([entry] if isinstance(entry, str) else entry.to_labels())]
    return await _change(request, lambda store: store.add(name, labels))


@router.delete("/{name}/labels/{label:path}", summary="Take a label out", responses=problems(404, 422))
async def remove(
    name: Name, request: Request, label: Annotated[str, Path(description="Its name, or an alias.")]
) -> schemas.LabelSetCreated:
    return await _change(request, lambda store: store.remove(name, [label]))


@router.get("/{name}/versions", summary="Say what was done to a label set", responses=problems(404, 422))
async def versions(name: Name, request: Request) -> schemas.History:
    found = await _in_thread(request, lambda store: store.history(name))
    return schemas.History(versions=[schemas.ChangeObject.of(one) for one in found])


def _to_label_set(given: LabelSetFile) -> LabelSet:
    if given.vectors:
        raise LabelSetRefused(
            "Vectors are files beside a label set, and do not come over HTTP.", "Leave them out.", field="vectors"
        )
    return given.to_label_set(files=False)
