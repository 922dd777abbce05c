"""A question that is ready, and the pictures it is asked of: one, several, or a stream of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from anyio.to_thread import run_sync

from zeroshot.encoders import FloatArray
from zeroshot.errors import ImageError, ModelError, ServiceError, ZeroshotError
from zeroshot.labels import LabelSet
from zeroshot.scoring import Scorer
from zeroshot.service.context import current, timed
from zeroshot.service.pipeline import Pipeline
from zeroshot.service.problems import RequestError, describe
from zeroshot.service.requests import parse, to_source
from zeroshot.service.schemas import Answer, StreamAnswer, StreamLine

_FEW_LABELS = 1_000  # more are ranked off the event loop


@dataclass(frozen=True, eq=False)
class Asked:
    """Labels that are embedded and wait for pictures."""

    pipeline: Pipeline
    labels: LabelSet
    scorer: Scorer
    top_k: int | None

    async def answer(self, source: str | bytes) -> Answer:
        """Answer for one picture."""
        vector = await self.pipeline.embed(to_source(source))
        with timed("rank"):
            return self._rank(vector) if len(self.scorer.names) <= _FEW_LABELS else await run_sync(self._rank, vector)

    def _rank(self, vector: FloatArray) -> Answer:
        found = self.scorer.answer(vector, self.top_k)
        return Answer.of(found, self.labels, self.pipeline.classifier.encoder.spec, self.scorer.warnings)

    async def answer_or_refuse(self, source: str | bytes) -> Answer | ZeroshotError:
        """Answer for one of several pictures; one that cannot be used is its own fault and nobody else's."""
        try:
            return await self.answer(source)
        except (ImageError, ModelError) as error:
            return error

    async def stream(
        self, lines: AsyncIterator[bytes], *, window: int, timeout_s: float
    ) -> AsyncIterator[StreamAnswer]:
        """Answer for any number of pictures, in order."""
        waiting: deque[tuple[str | None, asyncio.Future[Answer | ZeroshotError]]] = deque()
        index = 0
        try:
            async for line in lines:
                if len(waiting) >= window:
                    yield await _first(waiting, index)
                    index += 1
                current().deadline = time.monotonic() + timeout_s
                current().pictures += 1
                waiting.append(self._begin(line))
            while waiting:
                yield await _first(waiting, index)
                index += 1
        finally:
            for _, task in waiting:
                task.cancel()

    def _begin(self, line: bytes) -> tuple[str | None, asyncio.Future[Answer | ZeroshotError]]:
        try:
            entry = parse(line, StreamLine)
        except RequestError as error:
            refused: asyncio.Future[Answer | ZeroshotError] = asyncio.get_running_loop().create_future()
            refused.set_result(error)
            return None, refused
        return entry.id, asyncio.ensure_future(self._answer_line(entry))

    async def _answer_line(self, line: StreamLine) -> Answer | ZeroshotError:
        try:
            return await self.answer_or_refuse(line.image)
        except ServiceError as error:
            return error


async def _first(waiting: deque[tuple[str | None, asyncio.Future[Answer | ZeroshotError]]], index: int) -> StreamAnswer:
    identity, task = waiting.popleft()
    outcome = await task
    if isinstance(outcome, Answer):
        return StreamAnswer.model_construct(index=index, id=identity, answer=outcome, problem=None)
    return StreamAnswer(index=index, id=identity, problem=describe(outcome))
