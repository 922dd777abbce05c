"""Requests to a server and what is made of the answers; how they are sent is left to the two clients."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image

from zeroshot.errors import ImageNotFound, ServerProblem
from zeroshot.images import is_url
from zeroshot.labels import Label, LabelSet, LabelSetFile, Mode, emit_warnings
from zeroshot.labels.files import dump_label
from zeroshot.scoring import Classification, Prediction

ResultT = TypeVar("ResultT")
Picture = str | Path | bytes | Image.Image
"""A path, a URL or data URI, a picture's bytes, or an open picture."""

FloatArray = npt.NDArray[np.float32]

RETRIED = frozenset([429, 502, 503])
CHUNK = 64  # pictures of a stream that are sent together
_LONGEST_WAIT_S = 30.0


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


def wait_s(attempt: int, answer: httpx.Response | None) -> float:
    """How long to wait before the next attempt."""
    said = "" if answer is None else answer.headers.get("retry-after", "")
    seconds = float(said) if said.isdecimal() else 0.25 * 2**attempt
    return min(seconds, _LONGEST_WAIT_S) * random.uniform(1.0, 1.25)  # noqa: S311


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
    images: Picture | Sequence[Picture], options: Mapping[str, Any]
) -> Call[Classification] | Call[list[Classification | ServerProblem]]:
    """Ask about one picture, or several."""
    if isinstance(images, (str, bytes, Path, Image.Image)):
        body = {"image": encode(images), **options}
        return Call("POST", "/v1/classify", lambda answer: _classification(answer.json()), body)

    def read(answer: httpx.Response) -> list[Classification | ServerProblem]:
        return [_outcome(one) for one in answer.json()["results"]]

    return Call("POST", "/v1/classify", read, {"images": [encode(image) for image in images], **options})


def classify_lines(images: Sequence[Picture], options: Mapping[str, Any]) -> Call[list[Classification | ServerProblem]]:
    """Ask about a part of a stream."""
    lines = [json.dumps(dict(options)), *(json.dumps({"image": encode(image)}) for image in images)]

    def read(answer: httpx.Response) -> list[Classification | ServerProblem]:
        return [_outcome(json.loads(line)) for line in answer.text.splitlines()]

    return Call(
        "POST", "/v1/classify/stream", read, content="\n".join(lines).encode(), content_type="application/x-ndjson"
    )


def question(
    labels: Sequence[str | Label] | LabelSet | None,
    label_set: str | None,
    *,
    mode: Mode | str | None,
    threshold: float | None,
    temperature: float | None,
    templates: str | Sequence[str] | None,
    top_k: int | None,
) -> dict[str, Any]:
    """Put a question into the wire's form; what is None is left to the server."""
    if isinstance(labels, LabelSet):
        whole = LabelSetFile.of(labels)
        mode, threshold = mode or whole.mode, whole.threshold if threshold is None else threshold
        templates = whole.templates if templates is None else templates
        labels = labels.labels
    fields = {
        "labels": None if labels is None else [_label(label) for label in labels],
        "label_set": label_set,
        "mode": None if mode is None else str(mode),
        "threshold": threshold,
        "temperature": temperature,
        "templates": templates if templates is None or isinstance(templates, str) else list(templates),
        "top_k": top_k,
    }
    return {name: value for name, value in fields.items() if value is not None}


def embed(inputs: Sequence[str], modality: str, model: str) -> Call[FloatArray]:
    """Ask for vectors of texts, or of pictures in the wire's form."""

    def read(answer: httpx.Response) -> FloatArray:
        rows = [np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4") for one in answer.json()["data"]]
        return np.stack(rows).astype(np.float32)

    body = {"input": list(inputs), "model": model, "encoding_format": "base64", "modality": modality}
    return Call("POST", "/v1/embeddings", read, body)


def get(path: str) -> Call[Any]:
    """Ask for JSON."""
    return Call("GET", path, lambda answer: answer.json())


def change(method: str, path: str, body: Any = None) -> Call[Any]:
    """Ask for a change, once."""
    return Call(method, path, lambda answer: answer.json() if answer.content else None, body, is_repeatable=False)


def create_label_set(name: str, labels: Sequence[str | Label] | LabelSet) -> Call[int]:
    """Ask for a new label set; what was learnt from pictures stays behind."""
    if not isinstance(labels, LabelSet):
        return _new_version("POST", "/v1/label-sets", {"name": name, "labels": [_label(label) for label in labels]})
    body = LabelSetFile.of(replace(labels, name=name, calibrations=())).model_dump(mode="json", exclude_defaults=True)
    return _new_version("POST", "/v1/label-sets", body)


def add_labels(name: str, labels: Iterable[str | Label]) -> Call[int]:
    """Ask for more labels in a stored set."""
    return _new_version("POST", label_set_path(name, "labels"), {"labels": [_label(label) for label in labels]})


def remove_label(name: str, label: str) -> Call[int]:
    """Ask for one label less in a stored set."""
    return _new_version("DELETE", label_set_path(name, "labels", label))


def label_set_path(*parts: str) -> str:
    """Give the path of a label set, or of something in it."""
    return "/".join(("/v1/label-sets", *(quote(part, safe="@") for part in parts)))


def _new_version(method: str, path: str, body: Any = None) -> Call[int]:
    return Call(method, path, lambda answer: int(answer.json()["version"]), body, is_repeatable=False)


def read_label_set(data: Any) -> LabelSet:
    """Read a label set from the wire."""
    return LabelSetFile.model_validate(data).to_label_set()


def encode(image: Picture) -> str:
    """Put a picture into JSON."""
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
