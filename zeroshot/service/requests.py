"""From an HTTP request to images and a question: JSON, a form, or the image itself."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from zeroshot.labels.files import LabelEntry
from zeroshot.service.problems import RequestError, from_validation
from zeroshot.service.schemas.classify import OPTIONS, ClassifyRequest, Question
from zeroshot.service.schemas.galleries import RelabelRequest
from zeroshot.service.state import ServiceState

ModelT = TypeVar("ModelT", bound=BaseModel)
QuestionT = TypeVar("QuestionT", Question, ClassifyRequest, RelabelRequest)

_LISTS = ("labels", "templates")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_LABELS = TypeAdapter(list[str | LabelEntry])
_LARGE_BODY = 64 * 2**10
_LABELS_AT_ONCE = 250  # validated in a fraction of a millisecond


@dataclass(frozen=True)
class ClassifyJob:
    """A request, read and validated, its images not yet decoded."""

    sources: list[str | bytes]
    question: Question
    is_single: bool


async def read_classify_job(request: Request, state: ServiceState) -> ClassifyJob:
    """Read a request to classify."""
    content_type, max_images = media_type(request), state.config.max_images_per_request
    if not is_image(content_type) and (beside := [name for name in request.query_params if name in OPTIONS]):
        raise invalid(
            f"{beside[0]} is in the query, and the body is no image.",
            "Options in the query go with an image as the body; put them into the body.",
            beside[0],
        )
    if is_json(content_type):
        job = _from_json(await read_question(await request.body(), ClassifyRequest, state.config.few_labels))
    elif content_type == "multipart/form-data":
        job = await _from_form(request, state.pipeline.classifier.limits.max_bytes, max_images)
    elif is_image(content_type):
        question = check_fields(_options(request.query_params), Question)
        job = ClassifyJob([await request.body()], question, is_single=True)
    else:
        raise RequestError(
            415,
            "unsupported-content-type",
            f"The content type is {content_type or 'missing'}.",
            "Send application/json, multipart/form-data, or the image itself as image/jpeg or another image type.",
        )
    if len(job.sources) > max_images:
        raise invalid(
            f"There are {len(job.sources)} images; {max_images} are the most in one request.",
            "Send them to /v1/classify/stream, or raise ZEROSHOT_MAX_IMAGES_PER_REQUEST.",
            "images",
        )
    return job


def invalid(message: str, remedy: str, field: str | None = None) -> RequestError:
    """Make the error of a request whose content cannot be used."""
    return RequestError(422, "invalid-request", message, remedy, field)


def media_type(request: Request) -> str:
    """Give the content type without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Whether a content type is one of JSON's."""
    return content_type == "application/json" or (
        content_type.startswith("application/") and content_type.endswith("+json")
    )


def is_image(content_type: str) -> bool:
    """Whether a body of this type is an image itself."""
    return content_type.startswith("image/") or content_type == "application/octet-stream"


async def read_body(request: Request, model: type[ModelT]) -> ModelT:
    """Read a JSON body of a known form."""
    return parse(await request.body(), model)


def parse(body: bytes, model: type[ModelT]) -> ModelT:
    """Parse a JSON object of a known form."""
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise from_validation(error) from error


async def read_question(body: bytes, model: type[QuestionT], few_labels: int) -> QuestionT:
    """Parse a body with labels; many are validated in a thread, some at a time, so that the event loop goes on."""
    if len(body) <= _LARGE_BODY:
        return parse(body, model)
    try:
        data = from_json(body)
        labels = data.get("labels") if isinstance(data, dict) else None
        if not isinstance(labels, list) or len(labels) <= few_labels:
            return model.model_validate(data, strict=True)
        question = model.model_validate(data | {"labels": None}, strict=True)
        question.labels = await run_sync(_entries, labels)
    except ValueError:
        return parse(body, model)  # says what is wrong, as of any body
    return question


def _entries(labels: list[Any]) -> list[str | LabelEntry]:
    starts = range(0, len(labels), _LABELS_AT_ONCE)
    parts = (_LABELS.validate_python(labels[start : start + _LABELS_AT_ONCE], strict=True) for start in starts)
    return [entry for part in parts for entry in part]


def check_fields(fields: dict[str, object], model: type[ModelT]) -> ModelT:
    """Check fields that were parsed already."""
    try:
        return model.model_validate(fields, strict=True)
    except ValidationError as error:
        raise from_validation(error) from error


async def read_form(request: Request, max_image_bytes: int, max_images: int = 1) -> tuple[list[bytes], FormData]:
    """Read a form with files named ``image``."""
    try:
        form = await request.form(max_files=max_images, max_fields=20_000, max_part_size=max_image_bytes)
    except HTTPException as error:
        raise RequestError(
            400, "invalid-form", f"The form cannot be read: {error.detail}.", "Send images as files."
        ) from error
    uploads = [part for part in form.getlist("image") if isinstance(part, UploadFile)]
    if not uploads:
        raise invalid("The form has no file named 'image'.", "For example: curl -F image=@cat.jpg", "image")
    contents = [await upload.read() for upload in uploads]
    await form.close()
    return contents, form


def _from_json(body: ClassifyRequest) -> ClassifyJob:
    if (body.image is None) == (body.images is None):
        given = "neither" if body.image is None else "both"
        raise invalid(f"'image' or 'images' is needed; {given} was given.", "Give one of them.", "image")
    sources: list[str | bytes] = [body.image] if body.image is not None else list(body.images or ())
    return ClassifyJob(sources, body, is_single=body.image is not None)


async def _from_form(request: Request, max_image_bytes: int, max_images: int) -> ClassifyJob:
    contents, form = await read_form(request, max_image_bytes, max_images)
    texts = {name: [one for one in form.getlist(name) if isinstance(one, str)] for name in form if name != "image"}
    question = check_fields(_from_texts(texts), Question)
    return ClassifyJob(list(contents), question, is_single=len(contents) == 1)


def _options(query: Any) -> dict[str, object]:
    return _from_texts({name: query.getlist(name) for name in query})


def _from_texts(texts: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Fields that came as texts, each perhaps several times, in the types of JSON."""
    fields: dict[str, object] = {}
    for name, values in texts.items():
        if name == "labels":
            fields[name] = _split(values)
        elif name in _LISTS and len(values) != 1:
            fields[name] = list(values)
        else:
            fields[name] = values[0] if values else None
    top_k = fields.get("top_k")
    if isinstance(top_k, str) and top_k.strip().isdecimal() and len(top_k) < 20:
        fields["top_k"] = int(top_k)
    for name in ("threshold", "temperature"):
        value = fields.get(name)
        if isinstance(value, str):
            with suppress(ValueError):
                fields[name] = float(value)
    unknown = fields.get("unknown")
    if isinstance(unknown, str):
        fields["unknown"] = _BOOLEANS.get(unknown.strip().lower(), unknown)
    return fields


def _split(values: Sequence[str]) -> list[str]:
    """One label per value; or, from a single one, comma-separated."""
    if len(values) != 1:
        return list(values)
    try:
        return next(csv.reader(values, skipinitialspace=True), [])
    except csv.Error as error:
        raise invalid(f"labels: {error}.", "Repeat the field per label.", "labels") from error
