"""One activation of a projection: from the claim to caught up, or failed.

One engine for producing and consuming. What is read comes from a source, what is done with it is
an effect; the steps are the same:

    claim ──> page ──> apply ──> (the next page, read meanwhile) ──> apply ──> … ──> caught up
                         │
                         ├─ busy, moved: another runner is at it
                         ├─ halted: somebody has paused it, or asked its runs to end
                         └─ failed: the batch again, one by one, up to the failing event (settle.py)

A run holds nothing between batches but pages, and leaves nothing when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import psycopg

from eventferry import logline, sql, timing
from eventferry.assembly import (
    Parts,
    effect_of,
    shared_stream_of,
    source_of,
)
from eventferry.audit import ITSELF
from eventferry.checkpoint import Checkpoints, Mark
from eventferry.claim import Claim, Outdated
from eventferry.connection import is_outage, translation
from eventferry.ended import NOTHING, End, Ended, way_out
from eventferry.engine.effect import Effect
from eventferry.engine.ferry import refusals
from eventferry.engine.outcome import Applied, Busy, Failed, Halted, Interrupted, Outcome
from eventferry.errors import UnknownStream
from eventferry.journal import Journal, say
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.registry import HEARTBEAT_S, Registered
from eventferry.settle import Storm, settle
from eventferry.source import Page, Source

SLICE_S = 5.0
"""A run gives its place to others after this long."""
DEATHS = 3
"""So many processes in a row that end at an event without a word are the event's fault."""
TROUBLES = 10
"""So many outages in a row at an event, of a store that answers, are the event's fault."""
FROZEN_COPY_S = 60.0
"""A ferry that has stopped in the middle of a COPY for so long is ended by another one."""
PAGE_BATCHES = 4
PAGE_SIZE = 4000
"""After its first page, a handler's run reads so many batches at a time, but no more events than
this."""
SHORT_S = 1.0
"""A run that ends within this time says nothing of itself."""


OnBacklog = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """What a run does about more work than a page, where nobody cares."""


@dataclass(slots=True)
class Troubles:
    """Outages inside of batches, in a row; kept from run to run, by whoever survives them."""

    at: Checkpoints = ()
    count: int = 0
    is_open: bool = False
    """Whether the database still counts the batch as one that has ended without a word."""

    def happened(self, at: Checkpoints) -> int:
        """One more; how many in a row there were at these checkpoints."""
        self.count = self.count + 1 if at == self.at else 1
        self.at, self.is_open = at, True
        return self.count


@dataclass(slots=True, kw_only=True)
class Run(Parts):
    """One activation of a projection; call it once."""

    pools: Pools
    projection: Projection
    should_stop: Callable[[], bool] = lambda: False
    on_backlog: OnBacklog = nothing
    """Called when there turns out to be more than one page of work."""
    is_told: Callable[[], bool] = lambda: False
    """Whether somebody would have told of whatever has been appended since the run began, and
    nobody has."""
    alone: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """Lets nothing else run in this process meanwhile."""
    troubles: Troubles = field(default_factory=Troubles)
    journal: Journal = field(default_factory=Journal)
    stops: int | None = None
    """How often its runs may have been asked to end; once more, and this one does not begin. None:
    however often."""
    reached: Checkpoints = ()
    """Where the run before was caught up, and then this one; empty: it was not."""
    clock: Callable[[], float] = time.monotonic
    _done: Ended = NOTHING
    """What it has committed, and what it took."""
    _pages: int = 0
    _begun: float = 0.0
    _beat_at: float = 0.0
    _deaths: int = 0
    """Batches that had ended without a word where this run began."""
    _late: Mark | None = None
    """The event at which the last batch was late."""
    _stops: int | None = None
    _is_new: bool = False
    """Whether this run has made its checkpoints."""
    _registered: Registered | None = None
    _ahead: asyncio.Task[Page] | None = field(default=None)

    async def __call__(self) -> Ended:
        """Runs the projection.

        Raises:
            StoreUnavailable, psycopg.Error: an outage of one of the stores; run it again later.
        """
        self._begun = self.clock()
        effect = effect_of(self.pools, self.projection, self._called)
        try:
            return await self._run_if_allowed(effect)
        except UnknownStream as error:
            await Claim(self.pools, self.projection, self._registered).wait()
            return self._waits(str(error))
        except Outdated as error:
            return self._waits(str(error))
        except Exception as error:
            if is_outage(error):
                raise
            failed = Failed.because(self._explained(error))
            said = f"failed: {failed.summary}. {way_out(self._name)}"
            say(logging.ERROR, self._name, said, **failed.fields)
            await self._registry.failed(self.projection, failed)
            return self._ended(End.FAILED, failed.error)
        finally:
            effect.close()
            await self._drop_ahead()
            if self._beat_at:
                with suppress(Exception):  # an outage: the heartbeat grows old by itself
                    await self._registry.beat(self._name, alive=False)

    async def _run_if_allowed(self, effect: Effect) -> Ended:
        """Waits, instead of failing, where our role can't ferry to the shared stream."""
        denied = psycopg.errors.InsufficientPrivilege
        try:
            return await self._run(effect)
        except denied:
            if self.projection.kind != "producing":
                raise
            with suppress(denied):  # to see the streams, say: then it fails again
                async with self.pools.shared.connection() as conn:
                    store = self.pools.shown("shared")
                    refused = (await refusals(conn, [self._stream], store)).get(self._stream)
                if refused:
                    return self._waits(refused)
        # it has been granted meanwhile; or it is another privilege, and fails again
        return await self._run(effect)

    async def _run(self, effect: Effect) -> Ended:
        source = source_of(self.pools, self.projection)
        before, self.reached = self.reached, ()
        if before:  # nobody else has moved on, usually: ADR 0014
            self._ahead = asyncio.create_task(self._page(source, before))
        if still := await self._still():
            return still
        if self.troubles.is_open:
            await self._excuse()
        checkpoints = await self._claim()
        is_held = any(c.held for c in checkpoints)
        if self._is_new or is_held:  # it may have been paused before there was anything to hold
            still = await self._still()
            if still or is_held:
                return still or self._ended(End.PAUSED)
        self._deaths = max(c.deaths for c in checkpoints)
        if (before, _stops(before)) != (checkpoints, _stops(checkpoints)):
            await self._drop_ahead()
        for number in count():
            page = await self._next_page(source, checkpoints)
            if not page.count:
                await self._recovered()  # what was wrong with the store, say, is no more
                return self._caught_up(checkpoints, page)
            if page.full or number == 1:  # events come faster than runs
                await self.on_backlog()
            if page.full:
                self._ahead = asyncio.create_task(self._page(source, page.end))
            outcome = await self._deal(effect, page)
            if isinstance(outcome, Ended):
                return outcome
            checkpoints = outcome.checkpoints
            if not (page.full or page.in_flight) and self.is_told():
                return self._caught_up(checkpoints, page)
            if self._is_over():
                break
        return self._ended(End.SLICED)

    def _is_over(self) -> bool:
        """Whether it has had its slice; the first batch is always a part of that."""
        return self._done.handled > 0 and self.clock() - self._begun > SLICE_S

    def _caught_up(self, checkpoints: Checkpoints, page: Page) -> Ended:
        self.reached = checkpoints
        return self._ended(End.IN_FLIGHT if page.in_flight else End.CAUGHT_UP)

    async def _still(self) -> Ended | None:
        """Why it is not to run now; None: it is."""
        found = await self._registry.find([self._name])
        known = self._registered = found.get(self._name)
        if known is None:
            return None
        self._stops = known.stops
        if self.stops not in (None, known.stops):
            return self._ended(End.STOPPED)
        if known.state == "deleted":
            return self._stands(End.PAUSED, "does not run", "it has been deleted")
        if known.paused_at is not None:
            end = End.FAILED if known.paused_by == ITSELF else End.PAUSED
            return self._stands(end, "is paused", f"by {known.paused_by}: {known.pause_reason}")
        if known.state == "failed":
            return self._stands(End.FAILED, "stands still", known.error, **known.failing)
        if known.due_s:
            return replace(self._ended(End.RETRYING, known.error), due_s=known.due_s)
        return None

    def _stands(self, end: End, how: str, why: str | None, **fields: Any) -> Ended:
        """It is found not to go on."""
        out = f". {way_out(self._name)}" if end is End.FAILED else ""
        said = f"{how}: {logline.first_line(why)}{out}"
        self.journal.stands(self._name, end, said, **fields)
        return self._ended(end, why)

    def _waits(self, why: str) -> Ended:
        return self._stands(End.WAITING, "waits", why)

    async def _deal(self, effect: Effect, page: Page) -> Applied | Ended:
        """Deals with a page, batch by batch.

        When a batch fails, its events are tried one by one, so that the good ones before the
        failing one are kept. So is what has failed before, or ended with its process.
        """
        known = self._registered
        attempts = known.attempts if known and known.failing_event_id else 0
        deaths, self._deaths = self._deaths, 0
        one_by_one = 1 if attempts else 0
        if deaths or self.troubles.at == page.begin:
            one_by_one = page.count
        while page.count:
            if self.should_stop():
                return self._ended(End.STOPPED)
            if self._is_over():
                return self._ended(End.SLICED)
            outcome: Outcome
            if deaths and (died := self._died(page, deaths)):
                outcome = died
            elif deaths or (attempts and self._is_known_to_die):
                async with self.alone():  # so that nobody else dies with it
                    outcome = await self._apply(effect, page.first(1), attempt=attempts + 1)
            else:
                batch = page.first(1) if one_by_one else page.first(self.projection.batch_size)
                outcome = await self._apply(effect, batch, attempt=attempts + 1)
            deaths = 0
            if isinstance(outcome, Failed):
                if self._is_late_for_once(outcome) or not outcome.alone:
                    await self._excuse()
                    one_by_one = outcome.index + 1
                    continue
                settled = await self._settle(outcome, page)
                if isinstance(settled, Ended):
                    return settled
                outcome = settled
            if isinstance(outcome, Halted):
                return await self._still() or self._ended(End.STOPPED)
            if not isinstance(outcome, Applied):
                await self._end_frozen()
                return self._ended(End.BUSY)
            await self._applied(outcome)
            attempts = 0
            one_by_one = max(0, one_by_one - outcome.count)
            page = page.rest(outcome.count, outcome.checkpoints)
        return Applied(page.begin, page.count)

    async def _apply(self, effect: Effect, page: Page, *, attempt: int) -> Outcome:
        """Applies the page. An outage that always comes at the same event is its failure.

        Raises:
            psycopg.Error, StoreUnavailable: an outage that does not.
        """
        begun = self.clock()
        try:
            outcome = await effect.apply(page, attempt=attempt)
        except Interrupted as interrupted:
            count = self.troubles.happened(page.begin)
            with suppress(
                Exception
            ):  # an outage: another runner counts a death, or this one excuses
                await self._excuse()
            if count < TROUBLES or len(page.work) > 1:
                raise
            self.troubles.count = 0
            error = interrupted.__cause__ or interrupted
            error.add_note(f"{count} times in a row at this event, while the store answers")
            outcome = Failed.at(page.work[0], error)
        if isinstance(outcome, Applied):
            self._add(batches=timing.of([self.clock() - begun]))
        if attempt > 1 and isinstance(outcome, Applied | Failed):
            self._add(retried=1)
        return outcome

    def _died(self, page: Page, deaths: int) -> Failed | None:
        """The failure of an event that ends the processes that handle it, if it is one.

        Once it is known to, each further death is a failed attempt.
        """
        if self.projection.handler is None or not self.projection.wants(page.work[0]):
            return None
        if deaths < DEATHS and not self._is_known_to_die:
            return None
        times = "again" if self._is_known_to_die else f"{deaths} times in a row"
        error = ProcessDied(
            f"the process that handled the event has ended without a word, {times}: killed, "
            "out of memory, or by os._exit?"
        )
        return Failed.at(page.work[0], error)

    @property
    def _is_known_to_die(self) -> bool:
        error = self._registered and self._registered.error
        return bool(error and error.startswith(ProcessDied.__name__))

    def _is_late_for_once(self, failed: Failed) -> bool:
        """Whether the event was late, and not in the batch before: this process may have been
        frozen meanwhile, or cut off. Twice in a row, it is the handler that takes too long."""
        before, self._late = self._late, failed.mark if failed.is_late else None
        return failed.is_late and failed.mark != before

    async def _end_frozen(self) -> None:
        """Ends a ferry that has stopped in the middle of its COPY, and holds the shared stream."""
        if self.projection.kind == "producing":
            found = self._service, self._name, FROZEN_COPY_S
            with suppress(psycopg.errors.InsufficientPrivilege):  # it runs as another role
                async with self._target.connection() as conn:
                    await conn.execute(sql.query("end_frozen"), found)

    async def _excuse(self) -> None:
        """Says that the batches that have begun and not committed have not died."""
        if self.projection.kind == "consuming":
            async with self._target.connection() as conn:
                await conn.execute(sql.query("excuse_batches"), (self._service, self._name))
        self.troubles.is_open = False

    def _called(self, calls_s: Sequence[float]) -> None:
        self._add(calls=timing.of(calls_s))

    async def _applied(self, outcome: Applied) -> None:
        self._add(handled=outcome.count, parked=outcome.parked)
        await self._recovered()
        now = self.clock()
        if now - self._begun > SHORT_S and now - self._beat_at > HEARTBEAT_S:
            await self._registry.beat(self._name)
            self._beat_at = now

    async def _recovered(self) -> None:
        if self._registered and self._registered.error is not None:
            known, self._registered = self._registered, None
            await self._registry.recovered(self._name, known.failing_event_id)
            say(logging.INFO, self._name, "goes on: it has got past its failure", **known.failing)

    async def _settle(self, failed: Failed, page: Page) -> Applied | Ended:
        """What becomes of the failing event, unless another runner has got past it meanwhile."""
        settled = await settle(self.pools, self.projection, failed, page.begin)
        if isinstance(settled, Halted):
            return await self._still() or self._ended(End.STOPPED)
        if isinstance(settled, Busy):
            return self._ended(End.BUSY)
        self._add(failed=1)
        if isinstance(settled, Applied):
            return settled
        if isinstance(settled, Storm):
            say(logging.ERROR, self._name, f"pauses itself: {settled.reason}", **failed.fields)
            return self._ended(End.FAILED, settled.reason)
        which = f"{settled.attempts} of {self.projection.attempts}"
        said = f"failed at {failed.event}, attempt {which}: {failed.summary}"
        fields = {**failed.fields, "attempt": settled.attempts}
        if settled.due_s is not None:
            again = f"{said}; again in {settled.due_s:.1f} s"
            say(logging.WARNING, self._name, again, **fields)
            return replace(self._ended(End.RETRYING, failed.error), due_s=settled.due_s)
        say(logging.ERROR, self._name, f"{said}. {way_out(self._name)}", **fields)
        return self._ended(End.FAILED, failed.error)

    @property
    def so_far(self) -> Ended:
        """What it has committed, for when it ends with an exception."""
        return self._ended(End.STOPPED)

    def _ended(self, end: End, error: str | None = None) -> Ended:
        seconds = self.clock() - self._begun
        return replace(self._done, end=end, error=error, seconds=seconds, stops=self._stops)

    def _add(self, **more: Any) -> None:
        """It has done so much more."""
        self._done = replace(NOTHING, **more).after(self._done)

    def _explained(self, error: Exception) -> Exception:
        """The error in our words, where we have some."""
        if not isinstance(error, psycopg.Error):
            return error
        ours = translation(error, f"a store of service {self._service!r}")
        if ours is not None:
            ours.__cause__ = error
        return ours or error

    async def _next_page(self, source: Source, checkpoints: Checkpoints) -> Page:
        ahead, self._ahead = self._ahead, None
        page = await (ahead or self._page(source, checkpoints))
        if page.begin != checkpoints:  # only a part of the page before was applied
            page = await self._page(source, checkpoints)
        return page

    async def _page(self, source: Source, checkpoints: Checkpoints) -> Page:
        size = self.projection.batch_size
        if self._pages and size < PAGE_SIZE and self.projection.kind == "consuming":
            size = min(PAGE_BATCHES * size, PAGE_SIZE)
        self._pages += 1
        return await source.page(checkpoints, size)

    async def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            # to its end: a statement that is cancelled would cost the pool its connection
            with suppress(Exception):
                await ahead

    async def _claim(self) -> Checkpoints:
        claim = Claim(self.pools, self.projection, self._registered)
        checkpoints, is_new = await claim()
        self._is_new |= is_new
        return checkpoints

    @property
    def _stream(self) -> str:
        return shared_stream_of(self.projection)


def _stops(checkpoints: Checkpoints) -> list[int]:
    """What a batch must find unchanged, beside the places: how often it has been asked to end."""
    return [c.stops for c in checkpoints]


class ProcessDied(Exception):
    """What is recorded as the error of an event on which process after process has died."""
