"""The client that is awaited: ``Client``, method for method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar, cast, overload

import httpx

from zeroshot.client import calls
from zeroshot.client.calls import CHUNK, RETRIED, Call, FloatArray, Picture, problem_of, wait_s
from zeroshot.errors import ServerProblem, ServerUnreachable
from zeroshot.labels import Label, LabelSet, Mode
from zeroshot.scoring import Classification

ResultT = TypeVar("ResultT")


class AsyncClient:
    """Ask a ``zeroshot serve``; answers are what ``ZeroShotClassifier`` gives.

    A server that is overloaded (503, 429) or away is asked again, after the time it names; what may not be done twice
    is not sent twice. For one event loop.

    Parameters
    ----------
    base_url : str
        The server's address.
    api_key : str or None
        Sent with every request.
    timeout_s : float
        Most seconds that one attempt may take.
    retries : int
        Most attempts after the first.
    transport : httpx.AsyncBaseTransport or None
        Instead of the network.

    Examples
    --------
    >>> async def ask():
    ...     async with AsyncClient("http://127.0.0.1:8000") as client:
    ...         return (await client.classify("cat.jpg", ["cat", "dog"])).label
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout_s, transport=transport)
        self._retries = retries

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @overload
    async def classify(
        self,
        images: list[Picture] | tuple[Picture, ...],
        labels: Sequence[str | Label] | LabelSet | None = None,
        *,
        label_set: str | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        templates: str | Sequence[str] | None = None,
        top_k: int | None = None,
    ) -> list[Classification | ServerProblem]: ...
    @overload
    async def classify(
        self,
        images: Picture,
        labels: Sequence[str | Label] | LabelSet | None = None,
        *,
        label_set: str | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        templates: str | Sequence[str] | None = None,
        top_k: int | None = None,
    ) -> Classification: ...
    async def classify(
        self,
        images: Picture | list[Picture] | tuple[Picture, ...],
        labels: Sequence[str | Label] | LabelSet | None = None,
        *,
        label_set: str | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        templates: str | Sequence[str] | None = None,
        top_k: int | None = None,
    ) -> Classification | list[Classification | ServerProblem]:
        """See ``Client.classify``."""
        options = calls.question(
            labels, label_set, mode=mode, threshold=threshold, temperature=temperature, templates=templates, top_k=top_k
        )
        call = cast("Call[Classification | list[Classification | ServerProblem]]", calls.classify(images, options))
        return await self._send(call)

    async def classify_stream(
        self,
        images: Iterable[Picture],
        labels: Sequence[str | Label] | LabelSet | None = None,
        *,
        label_set: str | None = None,
        mode: Mode | str | None = None,
        threshold: float | None = None,
        temperature: float | None = None,
        templates: str | Sequence[str] | None = None,
        top_k: int | None = None,
    ) -> AsyncIterator[tuple[Picture, Classification | ServerProblem]]:
        """See ``Client.classify_stream``."""
        options = calls.question(
            labels, label_set, mode=mode, threshold=threshold, temperature=temperature, templates=templates, top_k=top_k
        )
        remaining = iter(images)
        while part := list(islice(remaining, CHUNK)):
            answers = await self._send(calls.classify_lines(part, options))
            for image, answer in zip(part, answers, strict=True):
                yield image, answer

    async def embed_texts(self, texts: Sequence[str], *, model: str | None = None) -> FloatArray:
        """Embed texts as they are: (n, dim) float32 unit rows."""
        return await self._send(calls.embed(texts, "text", model or (await self.models())[0]["id"]))

    async def embed_images(self, images: Sequence[Picture], *, model: str | None = None) -> FloatArray:
        """Embed pictures: (n, dim) float32 unit rows."""
        inputs = [calls.encode(image) for image in images]
        return await self._send(calls.embed(inputs, "image", model or (await self.models())[0]["id"]))

    async def models(self) -> list[dict[str, Any]]:
        """Describe the models that are served."""
        return list((await self._send(calls.get("/v1/models")))["data"])

    async def is_ready(self) -> bool:
        """Whether the server answers, and its encoder does; asked once."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def label_sets(self) -> list[dict[str, Any]]:
        """List the stored and the shipped label sets."""
        return list((await self._send(calls.get("/v1/label-sets")))["label_sets"])

    async def label_set(self, name: str) -> LabelSet:
        """Give a label set: "pets", or "pets@3" for its third version."""
        return calls.read_label_set(await self._send(calls.get(calls.label_set_path(name))))

    async def create_label_set(self, name: str, labels: Sequence[str | Label] | LabelSet) -> int:
        """Store a new label set, and give its version."""
        return await self._send(calls.create_label_set(name, labels))

    async def add_labels(self, name: str, labels: Sequence[str | Label]) -> int:
        """Add labels to a stored set, and give its new version; they are in the next answer."""
        return await self._send(calls.add_labels(name, labels))

    async def remove_label(self, name: str, label: str) -> int:
        """Take a label out of a stored set, and give its new version."""
        return await self._send(calls.remove_label(name, label))

    async def delete_label_set(self, name: str) -> None:
        """Delete a stored label set and all its versions."""
        await self._send(calls.change("DELETE", calls.label_set_path(name)))

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON to what has no method here, and give the JSON of the answer; it is sent once."""
        return await self._send(calls.change(method, path, body))

    async def _send(self, call: Call[ResultT]) -> ResultT:
        attempt = 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = await self._http.request(call.method, call.path, **call.arguments())
            except httpx.TransportError as error:
                unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                if attempt >= self._retries or not (call.is_repeatable or unsent):
                    raise ServerUnreachable(
                        f"{self._http.base_url} does not answer: {error or type(error).__name__}.", "Is it running?"
                    ) from error
            if answer is not None and (answer.status_code not in RETRIED or attempt >= self._retries):
                if answer.is_error:
                    raise problem_of(answer)
                return call.read(answer)
            await asyncio.sleep(wait_s(attempt, answer))
            attempt += 1
