"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, Unpack, cast, overload

import httpx

from zeroshot.client import calls
from zeroshot.client.calls import Call, FloatArray, ImageSource, Labels, Options
from zeroshot.errors import ServerProblem
from zeroshot.labels import Label, LabelSet
from zeroshot.scoring import Classification

ResultT = TypeVar("ResultT")


class Client:
    """Ask a ``zeroshot serve``; answers are what ``ZeroShotClassifier`` gives.

    A request is retried after the time that an overloaded server (503, 429) names, or when it cannot be reached; one
    that may not be done twice is not sent twice. Safe to use from several threads.

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
    transport : httpx.BaseTransport or None
        Instead of the network.

    Examples
    --------
    >>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
    ...     client.classify("cat.jpg", ["cat", "dog"]).label
    'cat'
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(transport=transport, **calls.connection(base_url, api_key, timeout_s))
        self._retries = retries

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @overload
    def classify(
        self, images: list[ImageSource] | tuple[ImageSource, ...], labels: Labels = None, **options: Unpack[Options]
    ) -> list[Classification | ServerProblem]: ...
    @overload
    def classify(self, images: ImageSource, labels: Labels = None, **options: Unpack[Options]) -> Classification: ...
    def classify(
        self,
        images: ImageSource | list[ImageSource] | tuple[ImageSource, ...],
        labels: Labels = None,
        **options: Unpack[Options],
    ) -> Classification | list[Classification | ServerProblem]:
        """Rank labels for one image, or for each of a list.

        Parameters
        ----------
        images : ImageSource, or list or tuple of ImageSource
            Paths, bytes, open images, data URIs, or URLs where the server fetches any.
        labels : sequence of str or Label, LabelSet, or None
            The classes; or give the option `label_set`.
        **options : Unpack[Options]
            `label_set`: a stored or shipped label set's name, instead of labels. `mode`: "multiclass", "binary",
            "multilabel" or "hierarchical"; the label set's own when None. `threshold`: score that a label needs to be
            the answer. `temperature`: divides the logits. `unknown`: whether an image that shows none of
            the labels is answered "unknown". `templates`: a template set's name, or templates; what the
            model recommends when None. `top_k`: how many labels an answer holds; all when None.

        Returns
        -------
        Classification, or list of Classification or ServerProblem
            Of a list, an image that cannot be used has its problem in its place.

        Raises
        ------
        ServerProblem
            If the server refuses the request, or the one image.
        ServerUnreachable
            If there is no connection to it.
        """
        return self._send(calls.classify(images, labels, options))

    def classify_stream(
        self, images: Iterable[ImageSource], labels: Labels = None, **options: Unpack[Options]
    ) -> Iterator[tuple[ImageSource, Classification | ServerProblem]]:
        """Rank labels for any number of images, some dozens at a time, in fixed memory.

        Parameters
        ----------
        images : iterable of ImageSource
            Read lazily.
        labels : sequence of str or Label, LabelSet, or None
            See ``classify``.
        **options : Unpack[Options]
            See ``classify``.

        Yields
        ------
        (ImageSource, Classification or ServerProblem)
            In order; a bad image has its problem, and the rest go on.
        """
        for part, call in calls.classify_stream(images, labels, options):
            answers = self._send(call)
            yield from zip(part, answers, strict=True)

    def embed_texts(self, texts: Sequence[str], *, model: str | None = None) -> FloatArray:
        """Embed texts as they are: (n, dim) float32 unit rows."""
        return self._send(calls.embed(list(texts), "text", model or self.models()[0]["id"]))

    def embed_images(self, images: Sequence[ImageSource], *, model: str | None = None) -> FloatArray:
        """Embed images: (n, dim) float32 unit rows."""
        inputs = [calls.encode(image) for image in images]
        return self._send(calls.embed(inputs, "image", model or self.models()[0]["id"]))

    def models(self) -> list[dict[str, Any]]:
        """Describe the models that are served."""
        return self._send(calls.models())

    def is_ready(self) -> bool:
        """Whether the server answers, and its encoder does; asked once."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def label_sets(self) -> list[dict[str, Any]]:
        """List the stored and the shipped label sets."""
        return self._send(calls.label_sets())

    def label_set(self, name: str) -> LabelSet:
        """Give a label set: "pets", or "pets@3" for its third version."""
        return self._send(calls.label_set(name))

    def create_label_set(self, name: str, labels: Sequence[str | Label] | LabelSet) -> int:
        """Store a new label set, and give its version."""
        return self._send(calls.create_label_set(name, labels))

    def add_labels(self, name: str, labels: Sequence[str | Label]) -> int:
        """Add labels to a stored set, and give its new version; they are in the next answer."""
        return self._send(calls.add_labels(name, labels))

    def remove_label(self, name: str, label: str) -> int:
        """Take a label out of a stored set, and give its new version."""
        return self._send(calls.remove_label(name, label))

    def delete_label_set(self, name: str) -> None:
        """Delete a stored label set and all its versions."""
        self._send(calls.delete_label_set(name))

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON to what has no method here, and give the JSON of the answer; it is sent once."""
        return self._send(calls.change(method, path, body))

    def _send(self, call: Call[ResultT]) -> ResultT:
        steps = calls.attempts(call, self._retries, self._http.base_url)
        wait_s = next(steps)
        while True:
            time.sleep(wait_s)
            sent: calls.Sent
            try:
                sent = self._http.request(call.method, call.path, **call.arguments())
            except httpx.TransportError as error:
                sent = error
            try:
                wait_s = steps.send(sent)
            except StopIteration as end:
                return cast(ResultT, end.value)
