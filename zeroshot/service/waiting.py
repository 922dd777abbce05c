"""Wait for several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def all_of(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """Wait for all; where one raises, the others are dropped and that is raised."""
    tasks: list[asyncio.Future[ResultT]] = []
    try:
        tasks.extend(asyncio.ensure_future(one) for one in work)  # `work` itself may raise, when some have begun
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
