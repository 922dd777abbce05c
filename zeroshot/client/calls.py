"""Requests to a server, when they are sent again, and how answers are read; the two clients only send and sleep."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from types import NoneType
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroshot.errors import ImageNotFound, ServerProblem, ServerUnreachable
from zeroshot.images.loading import is_url
from zeroshot.labels import Label, LabelSet, LabelSetFile, Mode
from zeroshot.labels.distinct import emit_warnings
from zeroshot.labels.files import dump_label
from zeroshot.scoring import Classification, Prediction

ResultT = TypeVar("ResultT")
ImageSource = str | Path | bytes | Image.Image
"""A path, a URL or data URI, an image's bytes, or an open image."""

Labels = Sequence[str | Label] | LabelSet | None
FloatArray = npt.NDArray[np.float32]

_NDJSON = "application/x-ndjson"
CHUNK = 64  # images of a stream that are sent together
_RETRIED = frozenset([429, 502, 503])
_LONGEST_WAIT_S = 30.0


class Options(TypedDict, total=False):
    """How labels are ranked; what is left out or None is left to the server."""

    label_set: str | None
    mode: Mode | str | None
    threshold: float | None
    temperature: float | None
    unknown: bool | None
    templates: str | Sequence[str] | None
    top_k: int | None


@dataclass(frozen=True)
class Call(Generic[ResultT]):
    """One request."""

    method: str
    path: str
    read: Callable[[httpx.Response], ResultT]
    body: Any = None
    content: bytes | None = None
    content_type: str = "application/json"
    is_repeatable: bool = True

    def arguments(self) -> dict[str, Any]:
        """Give what httpx is called with."""
        if self.content is not None:
            return {"content": self.content, "headers": {"content-type": self.content_type}}
        return {} if self.body is None else {"json": self.body}


Sent = httpx.Response | httpx.TransportError
"""What comes of an attempt."""


def attempts(call: Call[ResultT], retries: int, server: object) -> Generator[float, Sent, ResultT]:
    """Say before each attempt how many seconds to wait, take what came of it, and return the answer in the end."""
    sent = yield 0.0
    for attempt in count():
        is_last = attempt >= retries
        if isinstance(sent, httpx.Response):
            if sent.status_code not in _RETRIED or is_last:
                if sent.is_error:
                    raise problem_of(sent)
                return call.read(sent)
            sent = yield wait_s(attempt, sent)
        else:
            is_unsent = isinstance(sent, (httpx.ConnectError, httpx.ConnectTimeout))
            if is_last or not (call.is_repeatable or is_unsent):
                raise ServerUnreachable(
                    f"{server} does not answer: {sent or type(sent).__name__}.", "Is it running?"
                ) from sent
            sent = yield wait_s(attempt, None)
    raise AssertionError  # the loop has no end


def wait_s(attempt: int, answer: httpx.Response | None) -> float:
    """Give the seconds to wait before the next attempt: what the server says, or twice as long each time."""
    said = "" if answer is None else answer.headers.get("retry-after", "")
    seconds = float(said) if said.isdecimal() else 0.25 * 2**attempt
    return min(seconds, _LONGEST_WAIT_S) * random.uniform(1.0, 1.25)  # noqa: S311


def connection(base_url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Give what httpx's clients are made with."""
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    return {"base_url": base_url, "headers": headers, "timeout": timeout_s}


def problem_of(answer: httpx.Response) -> ServerProblem:
    """Make an error of an answer that is one."""
    try:
        body = answer.json()
        return _problem(body)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ServerProblem(
            answer.status_code, "http", f"The server answered {answer.status_code}: {answer.text[:200]}"
        )


def classify(
    images: ImageSource | Sequence[ImageSource], labels: Labels, options: Options
) -> Call[Classification | list[Classification | ServerProblem]]:
    """Ask about one image, or several."""
    asked = question(labels, options)
    if isinstance(images, (str, bytes, Path, Image.Image)):
        return Call(
            "POST", "/v1/classify", lambda answer: _classification(answer.json()), {"image": encode(images), **asked}
        )
    body = {"images": [encode(image) for image in images], **asked}
    return Call("POST", "/v1/classify", lambda answer: [_outcome(one) for one in answer.json()["results"]], body)


def classify_stream(
    images: Iterable[ImageSource], labels: Labels, options: Options
) -> Iterator[tuple[list[ImageSource], Call[list[Classification | ServerProblem]]]]:
    """Ask about any number of images, some dozens at a time."""
    first, remaining = json.dumps(question(labels, options)), iter(images)
    while part := list(islice(remaining, CHUNK)):
        lines = [first, *(json.dumps({"image": encode(image)}) for image in part)]
        yield (
            part,
            Call("POST", "/v1/classify/stream", _read_lines, content="\n".join(lines).encode(), content_type=_NDJSON),
        )


def question(labels: Labels, options: Options) -> dict[str, Any]:
    """Put labels and options into the form of a request; what is None is left to the server."""
    if unknown := options.keys() - Options.__annotations__:
        raise TypeError(f"There is no option {min(unknown)!r}; there are {', '.join(Options.__annotations__)}.")
    fields: dict[str, Any] = dict(options)
    if isinstance(labels, LabelSet):
        whole = LabelSetFile.of(labels)
        own = {"mode": whole.mode, "threshold": whole.threshold, "templates": whole.templates}
        fields |= {name: value for name, value in own.items() if fields.get(name) is None}
        labels = labels.labels
    if fields.get("mode") is not None:
        fields["mode"] = str(fields["mode"])
    if not isinstance(templates := fields.get("templates"), (str, NoneType)):
        fields["templates"] = list(templates)
    listed = None if labels is None else [_label(label) for label in labels]
    return {name: value for name, value in {"labels": listed, **fields}.items() if value is not None}


def embed(inputs: list[str], modality: str, model: str) -> Call[FloatArray]:
    """Ask for vectors of texts, or of encoded images."""

    def read(answer: httpx.Response) -> FloatArray:
        rows = [np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4") for one in answer.json()["data"]]
        return np.stack(rows).astype(np.float32)

    body = {"input": inputs, "model": model, "encoding_format": "base64", "modality": modality}
    return Call("POST", "/v1/embeddings", read, body)


def models() -> Call[list[dict[str, Any]]]:
    """Ask for the models that are served."""
    return Call("GET", "/v1/models", lambda answer: list(answer.json()["data"]))


def label_sets() -> Call[list[dict[str, Any]]]:
    """Ask for the names of label sets."""
    return Call("GET", "/v1/label-sets", lambda answer: list(answer.json()["label_sets"]))


def label_set(name: str) -> Call[LabelSet]:
    """Ask for a label set."""
    return Call("GET", label_set_path(name), lambda answer: LabelSetFile.model_validate(answer.json()).to_label_set())


def change(method: str, path: str, body: Any = None) -> Call[Any]:
    """Ask for a change, once."""
    return Call(method, path, lambda answer: answer.json() if answer.content else None, body, is_repeatable=False)


def create_label_set(name: str, labels: Sequence[str | Label] | LabelSet) -> Call[int]:
    """Ask for a new label set; what was fitted on images stays here."""
    if not isinstance(labels, LabelSet):
        return _new_version("POST", "/v1/label-sets", {"name": name, "labels": [_label(label) for label in labels]})
    body = LabelSetFile.of(replace(labels, name=name, calibrations=())).model_dump(mode="json", exclude_defaults=True)
    return _new_version("POST", "/v1/label-sets", body)


def add_labels(name: str, labels: Iterable[str | Label]) -> Call[int]:
    """Ask for more labels in a stored set."""
    return _new_version("POST", label_set_path(name, "labels"), {"labels": [_label(label) for label in labels]})


def remove_label(name: str, label: str) -> Call[int]:
    """Ask for a stored set without a label."""
    return _new_version("DELETE", label_set_path(name, "labels", label))


def delete_label_set(name: str) -> Call[None]:
    """Ask for a label set's end."""
    return change("DELETE", label_set_path(name))


def label_set_path(*parts: str) -> str:
    """Give the path of a label set, or of something in it."""
    return "/".join(("/v1/label-sets", *(quote(part, safe="@") for part in parts)))


def _new_version(method: str, path: str, body: Any = None) -> Call[int]:
    return Call(method, path, lambda answer: int(answer.json()["version"]), body, is_repeatable=False)


def encode(image: ImageSource) -> str:
    """Put an image into JSON."""
    if isinstance(image, str) and (image[:5].lower() == "data:" or is_url(image)):
        return image
    if isinstance(image, (str, Path)):
        path = Path(image)
        try:
            image = path.read_bytes()
        except OSError as error:
            raise ImageNotFound(f"{path} cannot be read: {error.strerror}.", "Check the path.") from error
    if isinstance(image, Image.Image):
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG", compress_level=1)
        image = buffer.getvalue()
    return base64.b64encode(image).decode()


def _label(label: str | Label) -> Any:
    entry = dump_label(label) if isinstance(label, Label) else label
    return entry if isinstance(entry, str) else entry.model_dump(mode="json", exclude_defaults=True)


def _read_lines(answer: httpx.Response) -> list[Classification | ServerProblem]:
    return [_outcome(json.loads(line)) for line in answer.text.splitlines()]


def _outcome(data: dict[str, Any]) -> Classification | ServerProblem:
    if "problem" in data:
        return _problem(data["problem"])
    return _classification(data.get("answer", data))


def _problem(body: dict[str, Any]) -> ServerProblem:
    return ServerProblem(body["status"], body["type"].rpartition(":")[2], body["detail"], body.get("field"))


def _classification(body: dict[str, Any]) -> Classification:
    predictions, levels = (
        tuple(Prediction(one["label"], one["score"], one["similarity"]) for one in body.get(name) or ())
        for name in ("predictions", "levels")
    )
    emit_warnings(body.get("warnings") or ())
    return Classification(predictions, tuple(body["labels"]), Mode(body["mode"]), levels)
