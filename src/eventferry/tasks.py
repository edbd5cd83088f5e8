"""Ending tasks of the event loop, whatever they are at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels the tasks; again, where a driver made an error of its own of the cancellation."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=1.0)
        await asyncio.gather(*done, return_exceptions=True)
