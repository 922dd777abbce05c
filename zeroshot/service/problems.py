"""Every error answer: ``application/problem+json`` (RFC 9457), with a stable type and no traceback."""

from __future__ import annotations

import logging
import math
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import compile_path

from zeroshot import errors

_LOG = logging.getLogger(__name__)

STATUS: dict[type[Exception], int] = {
    errors.ImageTooLarge: 413,
    errors.DefinitionNotFound: 404,
    errors.InputError: 422,
    errors.GalleryNotFound: 404,
    errors.ItemNotFound: 404,
    errors.GalleryRefused: 422,
    errors.GalleryExists: 409,
    errors.GalleryBusy: 409,
    errors.GalleryMismatch: 409,
    errors.ItemExists: 409,
    errors.LabelSetNotFound: 404,
    errors.LabelSetExists: 409,
    errors.LabelSetRefused: 422,
    errors.UnknownModel: 404,
    errors.Overloaded: 503,
    errors.DeadlineExceeded: 504,
    errors.WorkerLost: 503,
    errors.ZeroshotError: 500,
}
"""HTTP status of each error class; a class without an entry takes its nearest ancestor's."""

_OPENAI = ("/v1/embeddings", "/v1/models")


class RequestError(errors.InputError):
    """The request itself, rather than an image or a label, cannot be used."""

    def __init__(self, status: int, type: str, message: str, remedy: str = "", field: str | None = None) -> None:  # noqa: A002
        super().__init__(message, remedy, field=field)
        self.status = status
        self.slug = type


def title(status: int) -> str:
    """Give a status's standard reason phrase."""
    return HTTPStatus(status).phrase


_JSON_TYPES = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
_UNION_BRANCH = re.compile(r"(str|int|list\[.*|Label(Entry|SetFile)|Reference|Roboflow\w+|function-.*)$")


class OpenAIError(BaseModel):
    """An error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None = None
    code: str


class Problem(BaseModel):
    """An error, in the form of RFC 9457."""

    type: str = Field(
        description="Stable: 'urn:zeroshot:problem:' and a slug.", examples=["urn:zeroshot:problem:invalid-labels"]
    )
    title: str = Field(description="The same for every problem of this status.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What was wrong, with the value, and what to do.")
    field: str | None = Field(None, description="The request field at fault, where there is one.")
    error: OpenAIError | None = Field(None, description="On OpenAI's routes the same, as its clients read it.")


def problem(
    status: int, slug: str, detail: str, *, field: str | None = None, headers: Any = None, path: str = ""
) -> JSONResponse:
    """Build an error answer."""
    said = None
    if path.startswith(_OPENAI):
        kind = "server_error" if status >= 500 else "invalid_request_error"
        said = OpenAIError(message=detail, type=kind, param=field, code=slug)
    body = Problem(
        type=f"urn:zeroshot:problem:{slug}",
        title=title(status),
        status=status,
        detail=detail,
        field=field,
        error=said,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True), status_code=status, headers=headers, media_type="application/problem+json"
    )


def describe(error: errors.ZeroshotError) -> Problem:
    """Put an error into the form of answers."""
    if isinstance(error, RequestError):
        status, slug, field = error.status, error.slug, error.field
    else:
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        slug, field = error.type, error.field or ("image" if isinstance(error, errors.ImageError) else None)
    return Problem(
        type=f"urn:zeroshot:problem:{slug}", title=title(status), status=status, detail=str(error),
        field=field,
    )  # fmt: skip


def install(app: FastAPI) -> None:
    """Turn every exception that reaches the app into a problem."""
    app.add_exception_handler(errors.ZeroshotError, _on_zeroshot_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_bad_parameter)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_bug)


def from_validation(error: ValidationError) -> RequestError:
    """Say in one line what pydantic found."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        reason = str(first.get("ctx", {}).get("error", first["msg"]))
        return RequestError(400, "invalid-json", f"The body is not valid JSON: {reason}.", "Send a JSON object.")
    if not first["loc"] and first["type"] in ("model_type", "model_attributes_type"):
        kind = _JSON_TYPES.get(type(first["input"]), "null")
        return RequestError(
            422, "invalid-request", f"The body is a JSON {kind}, not an object.", 'Send an object: {"...": ...}.'
        )
    place = [str(part) for part in first["loc"] if not _UNION_BRANCH.match(str(part))]
    field = ".".join(place) or None
    value = "" if first["type"] == "missing" else f", not {errors.quote(first['input'])}"
    return RequestError(
        422, "invalid-request", f"{field or 'The request'}: {first['msg']}{value}.", "See /docs.", field
    )


def respond(error: errors.ZeroshotError, path: str = "") -> JSONResponse:
    """Answer with an error; one that is not the caller's is logged."""
    body = describe(error)
    if body.status >= 500 and not isinstance(error, errors.ServiceError):
        _LOG.error("%s", error, exc_info=error)
    retry = math.ceil(getattr(error, "retry_after_s", 1.0))
    headers = {"Retry-After": str(retry)} if body.status == 503 else None
    slug = body.type.rpartition(":")[2]
    return problem(body.status, slug, body.detail, field=body.field, headers=headers, path=path)


def _on_zeroshot_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, errors.ZeroshotError):
        raise error
    return respond(error, request.url.path)


def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    details = {
        404: f"There is nothing at {request.url.path}; /docs lists what there is.",
        405: f"{request.method} is not allowed at {request.url.path}; see /docs.",
    }
    slugs = {404: "not-found", 405: "method-not-allowed"}
    status = error.status_code
    if status == 405:
        error.headers = {"Allow": ", ".join(_methods_at(request))}
    return problem(status, slugs.get(status, "http"), details.get(status, str(error.detail)), headers=error.headers)


def _methods_at(request: Request) -> list[str]:
    """Every method of a path, of whichever route: Starlette names those of the first that fits."""
    paths = request.app.openapi()["paths"].items()
    found = [methods for path, methods in paths if compile_path(path)[0].match(request.url.path)]
    return sorted({method.upper() for methods in found for method in methods})


def _on_bad_parameter(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return problem(
        422,
        "invalid-request",
        f"{name}: {first['msg']}, not {errors.quote(first.get('input'))}. See /docs.",
        field=name,
    )


def _on_disconnect(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return Response(status_code=499)  # the client has left


def _on_bug(request: Request, error: Exception) -> JSONResponse:
    _LOG.error("unexpected error at %s %s", request.method, request.url.path, exc_info=error)
    return problem(500, "internal", "An unexpected error happened; the server's log has the details.")
