"""The routes that classify images: one, several, or a stream of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response

from zeroshot.encoders import FloatArray
from zeroshot.errors import ImageError, ModelError, ServiceError, ZeroshotError
from zeroshot.labels import Mode
from zeroshot.scoring import Prediction, ScoringOptions
from zeroshot.service.context import current
from zeroshot.service.inference.pipeline import Pipeline, Prepared, gather
from zeroshot.service.ndjson import NDJSON, lines_of, respond_in_lines
from zeroshot.service.openapi import body, problems
from zeroshot.service.problems import RequestError, describe
from zeroshot.service.requests import invalid, media_type, parse, read_classify_job, read_question
from zeroshot.service.schemas.classify import (
    MULTIPART_SCHEMA,
    QUERY_PARAMETERS,
    Answer,
    Answers,
    ClassifyRequest,
    PredictionObject,
    Question,
    Refusal,
    StreamAnswer,
    StreamLine,
)
from zeroshot.service.state import ServiceState

router = APIRouter(tags=["classify"])

_OTHER_BODIES = {
    "multipart/form-data": {"schema": MULTIPART_SCHEMA},
    "image/*": {"schema": {"type": "string", "format": "binary"}},
}
_STREAM = {"schema": {"type": "string", "description": "A Question, then StreamLines; a StreamAnswer per image."}}
_Outcome = Answer | ZeroshotError


@router.post(
    "/v1/classify",
    response_model=Answer | Answers,
    summary="Rank labels for one image or several",
    description=(
        "As JSON, as a form, or with the image itself as the body and the options in the query. With `images`, "
        "or several files, there is one result per image, and a bad one harms no other."
    ),
    openapi_extra=body(ClassifyRequest, _OTHER_BODIES, parameters=QUERY_PARAMETERS),
    responses=problems(400, 404, 408, 413, 415, 422, 503, 504),
)
async def classify(request: Request) -> Response:
    state: ServiceState = request.app.state.service
    job = await read_classify_job(request, state)
    current.get().images = len(job.sources)
    if job.is_single:
        ranking = await prepare(state.pipeline, job.question)
        return _json(await ranking.rank(await state.pipeline.embed(job.sources[0])))
    with state.pipeline.admitted(len(job.sources) - 1):
        ranking = await prepare(state.pipeline, job.question)
        outcomes = await gather(ranking.answer_or_error(source) for source in job.sources)
    results = [one if isinstance(one, Answer) else Refusal(problem=describe(one)) for one in outcomes]
    return _json(Answers.model_construct(results=results))


@router.post(
    "/v1/classify/stream",
    summary="Rank labels for any number of images",
    description=(
        "The body is NDJSON of any length: its first line is a `Question`, and each other one a `StreamLine`. The "
        "answer is NDJSON too, one `StreamAnswer` per image, in order; it is sent when the body is in."
    ),
    response_class=Response,
    openapi_extra={"requestBody": {"required": True, "content": {NDJSON: _STREAM}}},
    responses={200: {"content": {NDJSON: _STREAM}}, **problems(400, 404, 408, 413, 415, 422, 503)},
)
async def classify_stream(request: Request) -> Response:
    state: ServiceState = request.app.state.service
    if media_type(request) != NDJSON:
        raise RequestError(
            415,
            "unsupported-content-type",
            f"The content type is {media_type(request) or 'missing'}.",
            f"Send {NDJSON}: a line with the labels, then a line per image.",
        )
    pipeline, config = state.pipeline, state.config
    with pipeline.admitted(config.stream_window - 1):
        lines = lines_of(request, pipeline.classifier.limits.max_bytes * 4 // 3 + config.label_bytes)
        first = await anext(lines, None)
        if first is None:
            raise invalid("The body is empty.", "Its first line has the labels.")
        ranking = await prepare(pipeline, await read_question(first, Question, config.few_labels))
        return await respond_in_lines(
            ranking.stream(lines, window=config.stream_window, timeout_s=config.request_timeout_s)
        )


@dataclass(frozen=True, eq=False)
class Ranking:
    """Labels that are embedded, for any number of images."""

    pipeline: Pipeline
    prepared: Prepared
    top_k: int | None

    async def rank(self, vector: FloatArray) -> Answer:
        """Rank the labels for one image; many of them off the event loop."""
        start = time.monotonic()
        if len(self.prepared.scorer.names) <= self.pipeline.config.few_labels:
            answer = self._rank(vector)
        else:
            answer = await run_sync(self._rank, vector)
        current.get().add("rank", start, time.monotonic())
        return answer

    def _rank(self, vector: FloatArray) -> Answer:
        labels, scorer = self.prepared
        found = scorer.answer(vector, self.top_k)
        return Answer.model_construct(
            mode=found.mode,
            labels=list(found.labels),
            predictions=_predictions(found.predictions),
            levels=_predictions(found.levels) if found.mode is Mode.HIERARCHICAL else None,
            label_set=None if labels.version is None else f"{labels.name}@{labels.version}",
            model=self.pipeline.classifier.encoder.spec,
            warnings=list(scorer.warnings) or None,
        )

    async def answer_or_error(self, source: str | bytes) -> _Outcome:
        """Answer for one of several images; an image that cannot be used fails alone."""
        try:
            return await self.rank(await self.pipeline.embed(source))
        except (ImageError, ModelError) as error:
            return error

    async def stream(
        self, lines: AsyncIterator[bytes], *, window: int, timeout_s: float
    ) -> AsyncIterator[StreamAnswer]:
        """Answer for any number of images, in order."""
        pending: deque[tuple[str | None, asyncio.Future[_Outcome]]] = deque()
        index = 0
        try:
            async for line in lines:
                if len(pending) >= window:
                    yield await _first(pending, index)
                    index += 1
                current.get().deadline = time.monotonic() + timeout_s
                current.get().images += 1
                pending.append(self._begin(line))
            while pending:
                yield await _first(pending, index)
                index += 1
        finally:
            for _, task in pending:
                task.cancel()

    def _begin(self, line: bytes) -> tuple[str | None, asyncio.Future[_Outcome]]:
        try:
            entry = parse(line, StreamLine)
        except RequestError as error:
            refused: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
            refused.set_result(error)
            return None, refused
        return entry.id, asyncio.ensure_future(self._answer_line(entry))

    async def _answer_line(self, line: StreamLine) -> _Outcome:
        try:
            return await self.answer_or_error(line.image)
        except ServiceError as error:
            return error


async def prepare(pipeline: Pipeline, question: Question) -> Ranking:
    """Make a question ready for images."""
    options = ScoringOptions(question.mode, question.threshold, question.temperature, question.unknown)
    prepared = await pipeline.prepare(question.labels, question.label_set, question.templates, options)
    return Ranking(pipeline, prepared, question.top_k)


def _predictions(found: tuple[Prediction, ...]) -> list[PredictionObject]:
    return [
        PredictionObject.model_construct(label=one.label, score=one.score, similarity=one.similarity) for one in found
    ]


async def _first(pending: deque[tuple[str | None, asyncio.Future[_Outcome]]], index: int) -> StreamAnswer:
    identity, task = pending.popleft()
    outcome = await task
    if isinstance(outcome, Answer):
        return StreamAnswer.model_construct(index=index, id=identity, answer=outcome, problem=None)
    return StreamAnswer(index=index, id=identity, problem=describe(outcome))


def _json(answer: Answer | Answers) -> Response:
    """As JSON by pydantic itself, which is several times faster than through plain values."""
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")
