"""The asynchronous client: ``Client``, method for method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, TypeVar, Unpack, cast, overload

import httpx

from zeroshot.client import calls
from zeroshot.client.calls import Call, FloatArray, ImageSource, Labels, Options
from zeroshot.errors import ServerProblem
from zeroshot.labels import Label, LabelSet
from zeroshot.scoring import Classification

ResultT = TypeVar("ResultT")


class AsyncClient:
    """Ask a ``zeroshot serve``; answers are what ``ZeroShotClassifier`` gives.

    A request is retried after the time that an overloaded server (503, 429) names, or when it cannot be reached; one
    that may not be done twice is not sent twice. For one event loop.

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
        self._http = httpx.AsyncClient(transport=transport, **calls.connection(base_url, api_key, timeout_s))
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
        self, images: list[ImageSource] | tuple[ImageSource, ...], labels: Labels = None, **options: Unpack[Options]
    ) -> list[Classification | ServerProblem]: ...
    @overload
    async def classify(
        self, images: ImageSource, labels: Labels = None, **options: Unpack[Options]
    ) -> Classification: ...
    async def classify(
        self,
        images: ImageSource | list[ImageSource] | tuple[ImageSource, ...],
        labels: Labels = None,
        **options: Unpack[Options],
    ) -> Classification | list[Classification | ServerProblem]:
        """See ``Client.classify``."""
        return await self._send(calls.classify(images, labels, options))

    async def classify_stream(
        self, images: Iterable[ImageSource], labels: Labels = None, **options: Unpack[Options]
    ) -> AsyncIterator[tuple[ImageSource, Classification | ServerProblem]]:
        """See ``Client.classify_stream``."""
        for part, call in calls.classify_stream(images, labels, options):
            answers = await self._send(call)
            for image, answer in zip(part, answers, strict=True):
                yield image, answer

    async def embed_texts(self, texts: Sequence[str], *, model: str | None = None) -> FloatArray:
        """Embed texts as they are: (n, dim) float32 unit rows."""
        return await self._send(calls.embed(list(texts), "text", model or (await self.models())[0]["id"]))

    async def embed_images(self, images: Sequence[ImageSource], *, model: str | None = None) -> FloatArray:
        """Embed images: (n, dim) float32 unit rows."""
        inputs = [calls.encode(image) for image in images]
        return await self._send(calls.embed(inputs, "image", model or (await self.models())[0]["id"]))

    async def models(self) -> list[dict[str, Any]]:
        """Describe the models that are served."""
        return await self._send(calls.models())

    async def is_ready(self) -> bool:
        """Whether the server answers, and its encoder does; asked once."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def label_sets(self) -> list[dict[str, Any]]:
        """List the stored and the shipped label sets."""
        return await self._send(calls.label_sets())

    async def label_set(self, name: str) -> LabelSet:
        """Give a label set: "pets", or "pets@3" for its third version."""
        return await self._send(calls.label_set(name))

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
        await self._send(calls.delete_label_set(name))

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON to what has no method here, and give the JSON of the answer; it is sent once."""
        return await self._send(calls.change(method, path, body))

    async def _send(self, call: Call[ResultT]) -> ResultT:
        steps = calls.attempts(call, self._retries, self._http.base_url)
        wait_s = next(steps)
        while True:
            await asyncio.sleep(wait_s)
            sent: calls.Sent
            try:
                sent = await self._http.request(call.method, call.path, **call.arguments())
            except httpx.TransportError as error:
                sent = error
            try:
                wait_s = steps.send(sent)
            except StopIteration as end:
                return cast(ResultT, end.value)
