"""Bodies and answers of any length, a line at a time."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request

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


def spooled() -> Any:
    """Make a file for answers that wait until the body is in: in memory while it is small."""
    return tempfile.SpooledTemporaryFile(max_size=_SPOOLED)


async def sent(spool: Any) -> AsyncIterator[bytes]:
    """Read a file of answers piece by piece, and close it."""
    try:
        while chunk := await run_sync(spool.read, _CHUNK):
            yield chunk
    finally:
        spool.close()
