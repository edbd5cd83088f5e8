"""How many projections a process runs at a time, and how one of them can be alone in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """Places in which projections run."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = asyncio.Semaphore(count)
        self._alone = asyncio.Lock()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A place."""
        async with self._free:
            yield

    @asynccontextmanager
    async def all(self) -> AsyncIterator[None]:
        """All places, for who has one: nothing else runs in this process meanwhile."""
        self._free.release()
        try:
            async with self._alone:
                taken = 0
                try:
                    for _ in range(self._count):
                        await self._free.acquire()
                        taken += 1
                    yield
                finally:
                    for _ in range(taken):
                        self._free.release()
        finally:
            await self._free.acquire()
