"""Streams of JSON objects, one a line: bodies and answers of any length."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator

from anyio.to_thread import run_sync
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import StreamingResponse

from zeroshot.service.problems import RequestError

NDJSON = "application/x-ndjson"

_SPOOLED = 4 * 2**20  # answers are kept in memory up to here, in bytes
_CHUNK = 64 * 1024


async def lines_of(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Split a streamed body into lines."""
    rest = bytearray()
    async for chunk in request.stream():
        *ends, tail = chunk.split(b"\n")
        for end in ends:
            rest += end
            if rest.strip():
                yield bytes(rest)
            rest.clear()
        rest += tail
        if len(rest) > max_bytes:
            raise RequestError(413, "body-too-large", f"A line has more than {max_bytes:,} bytes.", "Send less.")
    if rest.strip():
        yield bytes(rest)


async def respond_in_lines(answers: AsyncIterator[BaseModel]) -> StreamingResponse:
    """Collect answers until the body is in, in memory while they are few, and send them then, one a line."""
    spool = tempfile.SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115 (closed when it is sent)
    try:
        async for answer in answers:
            spool.write(answer.model_dump_json(exclude_none=True).encode() + b"\n")
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return StreamingResponse(_sent(spool), media_type=NDJSON)


async def _sent(spool: tempfile.SpooledTemporaryFile[bytes]) -> AsyncIterator[bytes]:
    try:
        while chunk := await run_sync(spool.read, _CHUNK):
            yield chunk
    finally:
        spool.close()
