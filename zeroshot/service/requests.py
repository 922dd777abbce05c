"""From an HTTP request to a picture and labels: JSON or multipart, bounded before it is read."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zeroshot.images import ImageSource, decode_base64
from zeroshot.labels import LabelEntry, LabelSet, LabelSetStore, find_label_set, parse_labels
from zeroshot.prompts import TemplateSet, load_templates
from zeroshot.scoring import Wishes
from zeroshot.service.problems import RequestError, from_validation, problem
from zeroshot.service.schemas import ClassifyRequest

_ROOM_FOR_LABELS = 32 * 2**20  # 10,000 labels of 1,000 characters, escaped


@dataclass(frozen=True)
class ClassifyJob:
    """A request, read and validated, its picture not yet decoded.

    Parameters
    ----------
    image : ImageSource
        Bytes, data URI or URL.
    labels : LabelSet
        The classes.
    templates : TemplateSet or None
        None leaves the choice to the label set or the encoder.
    top_k : int or None
        How many labels to answer with.
    wishes : Wishes
        Mode, threshold and temperature.
    """

    image: ImageSource
    labels: LabelSet
    templates: TemplateSet | None
    top_k: int | None
    wishes: Wishes


async def read_classify_job(request: Request, max_image_bytes: int, store: LabelSetStore) -> ClassifyJob:
    """Read a request to classify.

    Parameters
    ----------
    request : Request
        JSON or multipart.
    max_image_bytes : int
        Largest part of a multipart body.
    store : LabelSetStore
        Stored label sets.

    Returns
    -------
    ClassifyJob
        Validated.

    Raises
    ------
    RequestError
        If the body is of another type, malformed, or not of the documented form.
    LabelError
        If the labels cannot be used.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json" or (
        content_type.startswith("application/") and content_type.endswith("+json")
    ):
        fields = await _read_json(request)
        body = _validated(fields)
        image: ImageSource = to_source(body.image)
    elif content_type == "multipart/form-data":
        image, body = await _read_multipart(request, max_image_bytes)
    else:
        raise RequestError(
            415,
            "unsupported-content-type",
            f"The content type is {content_type or 'missing'}.",
            "Send application/json or multipart/form-data.",
        )
    return _to_job(image, body, store)


def to_source(text: str) -> ImageSource:
    """Tell base64 from a data URI and a URL.

    Parameters
    ----------
    text : str
        A picture in JSON.

    Returns
    -------
    ImageSource
        Bytes, or the URI as it is; never a path.

    Raises
    ------
    ImageUnreadable
        If it is none of them.
    """
    if text[:5].lower() == "data:" or text.lower().startswith(("http://", "https://")):
        return text
    return decode_base64(text)


def to_labels(labels: Sequence[str | LabelEntry] | None, label_set: str | None, store: LabelSetStore) -> LabelSet:
    """Take the labels from whichever of the two fields was given.

    Parameters
    ----------
    labels : sequence of str or LabelEntry, or None
        Inline labels.
    label_set : str or None
        A label set's name.
    store : LabelSetStore
        Stored label sets.

    Returns
    -------
    LabelSet
        Validated.

    Raises
    ------
    RequestError
        If neither was given, or both.
    LabelError
        If the labels cannot be used.
    DefinitionNotFound
        If there is no such label set.
    """
    if (labels is None) == (label_set is None):
        given = "neither" if labels is None else "both"
        raise RequestError(
            422, "invalid-request", f"'labels' or 'label_set' is needed; {given} was given.", "Give one.", "labels"
        )
    if label_set is not None:
        return find_label_set(label_set, store, files=False)
    items = [one for item in labels or [] for one in ([item] if isinstance(item, str) else item.to_labels())]
    return LabelSet("custom", parse_labels(items, at_least=1))


async def _read_json(request: Request) -> object:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise RequestError(
            400, "invalid-json", f"The body is not valid JSON: {error}.", "Send a JSON object."
        ) from error


async def read_form(request: Request, max_image_bytes: int) -> tuple[bytes, FormData]:
    """Read a form with a file named ``image``.

    Parameters
    ----------
    request : Request
        Multipart.
    max_image_bytes : int
        Largest part.

    Returns
    -------
    (bytes, FormData)
        The picture, and everything.

    Raises
    ------
    RequestError
        If it is no form, or there is no picture in it.
    """
    try:
        form = await request.form(max_files=1, max_fields=20_000, max_part_size=max_image_bytes)
    except HTTPException as error:
        raise RequestError(
            400, "invalid-form", f"The form cannot be read: {error.detail}.", "Send one picture."
        ) from error
    upload = form.get("image")
    if not isinstance(upload, UploadFile):
        raise RequestError(
            422,
            "invalid-request",
            "The form has no file named 'image'.",
            "For example: curl -F image=@cat.jpg",
            "image",
        )
    content = await upload.read()
    await form.close()
    return content, form


async def _read_multipart(request: Request, max_image_bytes: int) -> tuple[bytes, ClassifyRequest]:
    content, form = await read_form(request, max_image_bytes)
    fields: dict[str, object] = {"image": ""}
    for name in form:
        if name == "image":
            continue
        values = [value for value in form.getlist(name) if isinstance(value, str)]
        many = name in ("labels", "templates") and not (name == "templates" and len(values) == 1)
        fields[name] = (_split(values) if name == "labels" else values) if many else values[0] if values else None
    top_k = fields.get("top_k")
    if isinstance(top_k, str) and top_k.strip().isdecimal():
        fields["top_k"] = int(top_k)
    for name in ("threshold", "temperature"):
        value = fields.get(name)
        if isinstance(value, str):
            with suppress(ValueError):
                fields[name] = float(value)
    return content, _validated(fields)


def _split(values: Sequence[str]) -> list[str]:
    """One label per field; or, from a single field, comma-separated."""
    if len(values) != 1:
        return list(values)
    return next(csv.reader(values, skipinitialspace=True), [])


def _validated(fields: object) -> ClassifyRequest:
    if not isinstance(fields, dict):
        raise RequestError(
            422, "invalid-request", f"The body is a JSON {_json_type(fields)}, not an object.", 'Send {"image": ...}.'
        )
    try:
        return ClassifyRequest.model_validate(fields, strict=True)
    except ValidationError as error:
        raise from_validation(error) from error


def _json_type(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _to_job(image: ImageSource, body: ClassifyRequest, store: LabelSetStore) -> ClassifyJob:
    labels = to_labels(body.labels, body.label_set, store)
    templates = None if body.templates is None else load_templates(body.templates, files=False)
    return ClassifyJob(image, labels, templates, body.top_k, Wishes(body.mode, body.threshold, body.temperature))


class BodyLimit:
    """ASGI middleware that answers 413 to a body over the limit, without reading past it.

    Parameters
    ----------
    app : ASGIApp
        What it wraps.
    max_image_bytes : int
        The largest picture; base64 and labels are allowed for on top.
    """

    def __init__(self, app: ASGIApp, max_image_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_image_bytes * 4 // 3 + _ROOM_FOR_LABELS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting."""
        if scope["type"] != "http" or _is_stream(scope):
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            await problem(413, "body-too-large", self._message())(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise RequestError(413, "body-too-large", self._message())
            return message

        await self.app(scope, counted, send)

    def _message(self) -> str:
        return f"The body has more than {self.max_bytes:,} bytes. Send less, or raise ZEROSHOT_MAX_IMAGE_BYTES."


def _is_stream(scope: Scope) -> bool:
    """Whether the body is lines, which are bounded one by one as they are read."""
    content_type: bytes = dict(scope["headers"]).get(b"content-type", b"")
    return scope["path"].endswith("/items") and content_type.lower().startswith(b"application/x-ndjson")
