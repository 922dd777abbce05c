"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar, cast, overload

import httpx

from zeroshot.client import calls
from zeroshot.client.calls import CHUNK, RETRIED, Call, FloatArray, Picture, problem_of, wait_s
from zeroshot.errors import ServerProblem, ServerUnreachable
from zeroshot.labels import Label, LabelSet, Mode
from zeroshot.scoring import Classification

ResultT = TypeVar("ResultT")


class Client:
    """Ask a ``zeroshot serve``; answers are what ``ZeroShotClassifier`` gives.

    A server that is overloaded (503, 429) or away is asked again, after the time it names; what may not be done twice
    is not sent twice. Safe to use from several threads.

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
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._http = httpx.Client(base_url=base_url, headers=headers, timeout=timeout_s, transport=transport)
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
    def classify(
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
    def classify(
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
        """Rank labels for one picture, or for each of a list.

        Parameters
        ----------
        images : Picture, or list or tuple of Picture
            Paths, bytes, open pictures, data URIs, or URLs where the server fetches any.
        labels : sequence of str or Label, LabelSet, or None
            The classes; or give `label_set`.
        label_set : str or None
            A stored or shipped label set's name.
        mode : Mode, str or None
            "multiclass", "binary", "multilabel" or "hierarchical"; the label set's own when None.
        threshold : float or None
            Score that a label needs to be the answer.
        temperature : float or None
            Divides the logits.
        templates : str, sequence of str, or None
            A template set's name, or templates; what the model recommends when None.
        top_k : int or None
            How many labels an answer holds; all when None.

        Returns
        -------
        Classification, or list of Classification or ServerProblem
            Of a list, a picture that cannot be used has its problem in its place.

        Raises
        ------
        ServerProblem
            If the server refuses the request, or the one picture.
        ServerUnreachable
            If there is no connection to it.
        """
        options = calls.question(
            labels, label_set, mode=mode, threshold=threshold, temperature=temperature, templates=templates, top_k=top_k
        )
        call = cast("Call[Classification | list[Classification | ServerProblem]]", calls.classify(images, options))
        return self._send(call)

    def classify_stream(
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
    ) -> Iterator[tuple[Picture, Classification | ServerProblem]]:
        """Rank labels for any number of pictures, some dozens at a time, in fixed memory.

        Parameters
        ----------
        images : iterable of Picture
            Read lazily.
        labels : sequence of str or Label, LabelSet, or None
            See ``classify``.
        label_set : str or None
            See ``classify``.
        mode : Mode, str or None
            See ``classify``.
        threshold : float or None
            See ``classify``.
        temperature : float or None
            See ``classify``.
        templates : str, sequence of str, or None
            See ``classify``.
        top_k : int or None
            See ``classify``.

        Yields
        ------
        (Picture, Classification or ServerProblem)
            In order; a bad picture has its problem, and the rest go on.
        """
        options = calls.question(
            labels, label_set, mode=mode, threshold=threshold, temperature=temperature, templates=templates, top_k=top_k
        )
        remaining = iter(images)
        while part := list(islice(remaining, CHUNK)):
            answers = self._send(calls.classify_lines(part, options))
            yield from zip(part, answers, strict=True)

    def embed_texts(self, texts: Sequence[str], *, model: str | None = None) -> FloatArray:
        """Embed texts as they are: (n, dim) float32 unit rows."""
        return self._send(calls.embed(texts, "text", model or self.models()[0]["id"]))

    def embed_images(self, images: Sequence[Picture], *, model: str | None = None) -> FloatArray:
        """Embed pictures: (n, dim) float32 unit rows."""
        inputs = [calls.encode(image) for image in images]
        return self._send(calls.embed(inputs, "image", model or self.models()[0]["id"]))

    def models(self) -> list[dict[str, Any]]:
        """Describe the models that are served."""
        return list(self._send(calls.get("/v1/models"))["data"])

    def is_ready(self) -> bool:
        """Whether the server answers, and its encoder does; asked once."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def label_sets(self) -> list[dict[str, Any]]:
        """List the stored and the shipped label sets."""
        return list(self._send(calls.get("/v1/label-sets"))["label_sets"])

    def label_set(self, name: str) -> LabelSet:
        """Give a label set: "pets", or "pets@3" for its third version."""
        return calls.read_label_set(self._send(calls.get(calls.label_set_path(name))))

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
        self._send(calls.change("DELETE", calls.label_set_path(name)))

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON to what has no method here, and give the JSON of the answer; it is sent once."""
        return self._send(calls.change(method, path, body))

    def _send(self, call: Call[ResultT]) -> ResultT:
        attempt = 0
        while True:
            answer: httpx.Response | None = None
            try:
                answer = self._http.request(call.method, call.path, **call.arguments())
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
            time.sleep(wait_s(attempt, answer))
            attempt += 1
