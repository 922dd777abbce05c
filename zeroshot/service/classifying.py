"""The routes that classify pictures."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from zeroshot.service.asked import Asked
from zeroshot.service.context import current
from zeroshot.service.documents import body, problems
from zeroshot.service.pipeline import Pipeline
from zeroshot.service.problems import RequestError, describe
from zeroshot.service.questions import Questions
from zeroshot.service.requests import media_type, parse, read_classify_job
from zeroshot.service.schemas import (
    MULTIPART_SCHEMA,
    QUERY_PARAMETERS,
    Answer,
    Answers,
    ClassifyRequest,
    Question,
    Refusal,
)
from zeroshot.service.streams import NDJSON, lines_of, sent, spooled
from zeroshot.service.waiting import all_of

_OTHER_BODIES = {
    "multipart/form-data": {"schema": MULTIPART_SCHEMA},
    "image/*": {"schema": {"type": "string", "format": "binary"}},
}
_STREAM = {"schema": {"type": "string", "description": "A Question, then StreamLines; a StreamAnswer per picture."}}


def classify_routes(pipeline: Pipeline, questions: Questions, *, max_images: int, timeout_s: float) -> APIRouter:
    """Build the routes."""
    router = APIRouter(tags=["classify"])
    max_image_bytes = pipeline.classifier.limits.max_bytes

    async def ask(question: Question) -> Asked:
        labels, scorer = await questions.ask(question)
        return Asked(pipeline, labels, scorer, question.top_k)

    @router.post(
        "/v1/classify",
        response_model=Answer | Answers,
        summary="Rank labels for one picture or several",
        description=(
            "As JSON, as a form, or with the picture itself as the body and the options in the query. With `images`, "
            "or several files, there is one result per picture, and a bad one harms no other."
        ),
        openapi_extra=body(ClassifyRequest, _OTHER_BODIES, parameters=QUERY_PARAMETERS),
        responses=problems(400, 404, 408, 413, 415, 422, 503, 504),
    )
    async def classify(request: Request) -> Response:
        with pipeline.admitted(1):
            job = await read_classify_job(request, max_image_bytes, max_images)
            current().pictures = len(job.sources)
            with pipeline.admitted(len(job.sources) - 1):
                asked = await ask(job.question)
                if job.is_single:
                    return _json(await asked.answer(job.sources[0]))
                outcomes = await all_of(asked.answer_or_refuse(source) for source in job.sources)
        results = [one if isinstance(one, Answer) else Refusal(problem=describe(one)) for one in outcomes]
        return _json(Answers.model_construct(results=results))

    @router.post(
        "/v1/classify/stream",
        summary="Rank labels for any number of pictures",
        description=(
            "The body is NDJSON of any length: its first line is a `Question`, and each other one a `StreamLine`. The "
            "answer is NDJSON too, one `StreamAnswer` per picture, in order; it is sent when the body is in."
        ),
        response_class=Response,
        openapi_extra={"requestBody": {"required": True, "content": {NDJSON: _STREAM}}},
        responses={200: {"content": {NDJSON: _STREAM}}, **problems(400, 404, 408, 413, 415, 422, 503)},
    )
    async def classify_stream(request: Request) -> Response:
        if media_type(request) != NDJSON:
            raise RequestError(
                415,
                "unsupported-content-type",
                f"The content type is {media_type(request) or 'missing'}.",
                f"Send {NDJSON}: a line with the labels, then a line per picture.",
            )
        window = max(1, min(2 * pipeline.batcher.max_batch, pipeline.max_in_flight // 2))
        with pipeline.admitted(window):
            lines = lines_of(request, max_image_bytes * 4 // 3 + 32 * 2**20)
            first = await anext(lines, None)
            if first is None:
                raise RequestError(422, "invalid-request", "The body is empty.", "Its first line has the labels.")
            asked = await ask(parse(first, Question))
            spool = spooled()
            try:
                async for answer in asked.stream(lines, window=window, timeout_s=timeout_s):
                    spool.write(answer.model_dump_json(exclude_none=True).encode() + b"\n")
            except BaseException:
                spool.close()
                raise
        spool.seek(0)
        return StreamingResponse(sent(spool), media_type=NDJSON)

    return router


def _json(answer: Answer | Answers) -> Response:
    """As JSON by pydantic itself, which is several times faster than through plain values."""
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")
