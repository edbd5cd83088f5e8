"""What is done with a page of work: ferried, or handled, on the loop or in a thread.

The seam between the run, which is async, and the handlers, which are what their authors made them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from eventferry.checkpoint import Checkpoints
from eventferry.engine._async import AsyncBatches, Change
from eventferry.engine._sync import Batches
from eventferry.engine.ferry import Ferry
from eventferry.engine.outcome import Outcome
from eventferry.event import RecordedEvent
from eventferry.source import Page


class Effect(Protocol):
    """What is done with a page."""

    async def apply(self, page: Page, *, attempt: int) -> Outcome:
        """Deals with the page, or its beginning, and moves the checkpoints: one transaction."""

    def close(self) -> None:
        """Leaves nothing behind."""


class HandlerEffect(Effect, Protocol):
    """What is done with a page by a handler, which can do more."""

    async def unpark(
        self, checkpoints: Checkpoints, events: Sequence[RecordedEvent], *, attempt: int
    ) -> Outcome:
        """Handles parked events: one transaction."""

    async def start_over(self, changes: Sequence[Change]) -> None:
        """Lets the handler undo what it has written, and makes the changes: one transaction."""


@dataclass(frozen=True, slots=True)
class AsyncEffect:
    """An `async def` handler, on the loop."""

    batches: AsyncBatches

    async def apply(self, page: Page, *, attempt: int) -> Outcome:
        return await self.batches.apply(page.begin, page.work, attempt=attempt)

    async def unpark(
        self, checkpoints: Checkpoints, events: Sequence[RecordedEvent], *, attempt: int
    ) -> Outcome:
        return await self.batches.unpark(checkpoints, events, attempt=attempt)

    async def start_over(self, changes: Sequence[Change]) -> None:
        await self.batches.start_over(changes)

    def close(self) -> None:
        pass


@dataclass(slots=True)
class ThreadEffect:
    """A `def` handler, in a thread that lives as long as the run."""

    batches: Batches
    _thread: ThreadPoolExecutor | None = None

    async def apply(self, page: Page, *, attempt: int) -> Outcome:
        apply = partial(self.batches.apply, page.begin, page.work, attempt=attempt)
        outcome: Outcome = await self._in_thread(apply)
        return outcome

    async def unpark(
        self, checkpoints: Checkpoints, events: Sequence[RecordedEvent], *, attempt: int
    ) -> Outcome:
        unpark = partial(self.batches.unpark, checkpoints, events, attempt=attempt)
        outcome: Outcome = await self._in_thread(unpark)
        return outcome

    async def start_over(self, changes: Sequence[Change]) -> None:
        await self._in_thread(partial(self.batches.start_over, changes))

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, f"eventferry {self.batches.projection.name}")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()


@dataclass(frozen=True, slots=True)
class FerryEffect:
    """The shared stream of a producing projection."""

    ferry: Ferry

    async def apply(self, page: Page, *, attempt: int) -> Outcome:
        return await self.ferry.apply(page)

    def close(self) -> None:
        pass
