"""One activation of a projection: from the claim to caught up, or failed.

One engine for producing and consuming. What is read comes from a source, what is done with it is
an effect; the steps are the same:

    claim ──> page ──> apply ──> (the next page, read meanwhile) ──> apply ──> … ──> caught up
                         │
                         ├─ busy, moved: another runner is at it
                         └─ failed: the batch again, one by one, up to the failing event

A run holds nothing between batches but pages, and leaves nothing when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from typing import Any

import psycopg
from psycopg.rows import class_row

from eventferry import sql
from eventferry.checkpoint import Checkpoint, Checkpoints
from eventferry.connection import is_outage, translation
from eventferry.engine._async import AsyncBatches, AsyncPoolTransactions, lock
from eventferry.engine._sync import Batches, PoolTransactions
from eventferry.engine.effect import AsyncEffect, Effect, FerryEffect, ThreadEffect
from eventferry.engine.ferry import FROZEN_S, Ferry, refusal
from eventferry.engine.outcome import Applied, Failed, Outcome
from eventferry.errors import UnknownStream
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.registry import HEARTBEAT_S, Registered, Registry
from eventferry.source import EventSource, Page, RowSource, Source
from eventferry.store._async import observe

log = logging.getLogger("eventferry.run")

SLICE_S = 5.0
"""A run gives its place to others after this long."""
SHORT_S = 1.0
"""A run that ends within this time says nothing of itself."""


class End(Enum):
    """How a run ended."""

    CAUGHT_UP = "caught up"
    """No work, and nothing in flight."""
    IN_FLIGHT = "in flight"
    """No work, but appends to its streams are open."""
    BUSY = "busy"
    """Another runner is at it: there may be work."""
    SLICED = "sliced"
    """Its time was up; there is work."""
    STOPPED = "stopped"
    """It was asked to end; there may be work."""
    WAITING = "waiting"
    """A stream of it does not exist (yet), or its role may not ferry to it (yet)."""
    FAILED = "failed"
    """It stands still until it is retried."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run leaves."""

    end: End
    """How it ended."""
    handled: int = 0
    """Events dealt with, whether the handler wanted their type or not."""
    error: str | None = None
    """Why it failed, or what it waits for; None: neither."""
    seconds: float = 0.0
    """How long it took, in seconds."""

    def after(self, earlier: Ended) -> Ended:
        """This run and an `earlier` one as one, which ended like this one."""
        return replace(
            self,
            handled=earlier.handled + self.handled,
            seconds=earlier.seconds + self.seconds,
        )


OnBusy = Callable[[], Awaitable[None]]


async def nothing() -> None:
    """What a run does about being busy, where nobody cares."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One activation of a projection; call it once."""

    pools: Pools
    projection: Projection
    should_stop: Callable[[], bool] = lambda: False
    on_busy: OnBusy = nothing
    """Called when there turns out to be more than one page of work."""
    clock: Callable[[], float] = time.monotonic
    _handled: int = 0
    _begun: float = 0.0
    _beat_at: float = 0.0
    _registered: Registered | None = None
    _ahead: asyncio.Task[Page] | None = field(default=None)

    async def __call__(self) -> Ended:
        """Runs the projection.

        Raises:
            StoreUnavailable, psycopg.Error: an outage of one of the stores; run it again later.
        """
        self._begun = self.clock()
        effect = self._effect()
        try:
            return await self._run_if_allowed(effect)
        except UnknownStream as error:
            await self._remember_beginning()
            return self._ended(End.WAITING, str(error))
        except Exception as error:
            if is_outage(error):
                raise
            log.exception("projection %s failed", self._name)
            return await self._fail(Failed.because(self._explained(error)), None)
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
                    refused = await refusal(conn, self._stream, self.pools.shown("shared"))
                if refused:
                    return self._ended(End.WAITING, refused)
        # it has been granted meanwhile; or it is another privilege, and fails again
        return await self._run(effect)

    async def _run(self, effect: Effect) -> Ended:
        source = self._source()
        known = await self._registry.find([self._name])
        self._registered = known.get(self._name)
        if self._registered and self._registered.state == "failed":
            return self._ended(End.FAILED, self._registered.error)
        checkpoints = await self._claim(source)
        for number in count():
            page = await self._next_page(source, checkpoints)
            if not page.count:
                await self._recovered()  # what was wrong with the store, say, is no more
                return self._ended(End.IN_FLIGHT if page.in_flight else End.CAUGHT_UP)
            if page.full or number == 1:  # events come faster than runs
                await self.on_busy()
            if page.full:
                self._ahead = asyncio.create_task(self._page(source, page.end))
            outcome = await self._deal(effect, page)
            if isinstance(outcome, Failed):
                return await self._fail(outcome, page)
            if not isinstance(outcome, Applied):
                return self._ended(End.STOPPED if outcome is None else End.BUSY)
            checkpoints = outcome.checkpoints
            if self.clock() - self._begun > SLICE_S:
                break
        return self._ended(End.SLICED)

    async def _deal(self, effect: Effect, page: Page) -> Outcome | None:
        """Deals with a page, batch by batch; None: the run was asked to stop.

        When a batch fails, its events are tried one by one, so that the good ones before the
        failing one are kept. What has failed before is tried alone at once.
        """
        known = self._registered
        attempts = known.attempts if known and known.failing_event_id else 0
        one_by_one = 1 if attempts else 0
        while page.count:
            if self.should_stop():
                return None
            batch = page.first() if one_by_one else page
            outcome = await effect.apply(batch, attempt=attempts + 1)
            if isinstance(outcome, Failed) and not outcome.alone:
                one_by_one = outcome.index + 1
                continue
            if not isinstance(outcome, Applied):
                return outcome
            await self._applied(outcome)
            attempts = 0
            one_by_one = max(0, one_by_one - outcome.count)
            page = page.rest(outcome.count, outcome.checkpoints)
        return Applied(page.begin, page.count)

    async def _applied(self, outcome: Applied) -> None:
        self._handled += outcome.count
        await self._recovered()
        now = self.clock()
        if now - self._begun > SHORT_S and now - self._beat_at > HEARTBEAT_S:
            await self._registry.beat(self._name)
            self._beat_at = now

    async def _recovered(self) -> None:
        if self._registered and self._registered.error is not None:
            await self._registry.recovered(self._name)
            self._registered = None

    async def _fail(self, failed: Failed, page: Page | None) -> Ended:
        """Records the failure, unless another runner has got past it meanwhile."""
        if page is None:
            await self._registry.failed(self._name, failed)
            return self._ended(End.FAILED, failed.error)
        current = await self._claim(self._source())
        async with AsyncPoolTransactions(self._target).begin() as conn:
            locked = await lock(conn, self._service, self._name, current, idle_timeout_s=FROZEN_S)
            at = {c.stream: c.position for c in current}
            mark = failed.mark
            if not isinstance(locked, str) or (mark and at[mark.stream] >= mark.position):
                return self._ended(End.BUSY)
            # in this transaction, where it may be: with another connection each, many that fail
            # at once could wait for each other's in a pool
            own = conn if self._target is self.pools.local else None
            await self._registry.failed(self._name, failed, connection=own)
        log.error("projection %s failed at %s: %s", self._name, failed.event, failed.error)
        return self._ended(End.FAILED, failed.error)

    def _ended(self, end: End, error: str | None = None) -> Ended:
        return Ended(end, self._handled, error, self.clock() - self._begun)

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
        return await source.page(checkpoints, self.projection.batch_size)

    async def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            # to its end: a statement that is cancelled would cost the pool its connection
            with suppress(Exception):
                await ahead

    async def _claim(self, source: Source) -> Checkpoints:
        """The projection's checkpoints, which are made when it runs for the first time."""
        found = await self._checkpoints()
        missing = set(self.projection.streams) - found.keys()
        if missing:
            await self._create_checkpoints(source, missing)
            found = await self._checkpoints()
        return tuple(found[stream] for stream in self.projection.streams)

    async def _checkpoints(self) -> dict[str, Checkpoint]:
        async with (
            self._target.connection() as conn,
            conn.cursor(row_factory=class_row(Checkpoint)) as cursor,
        ):
            await cursor.execute(sql.query("checkpoints"), (self._service, self._name))
            return {row.stream: row for row in await cursor.fetchall()}

    async def _remember_beginning(self) -> None:
        """What is appended from now on is not missed, when the missing stream appears."""
        if self._registered is None or self._registered.began_head is None:
            async with self.pools.of(self.projection.environment).connection() as conn:
                seen = await observe(conn, self.projection.streams)
            await self._registry.began(self._name, seen)

    async def _create_checkpoints(self, source: Source, missing: set[str]) -> None:
        known = self._registered
        began = None
        if known and known.began_horizon is not None and known.began_head is not None:
            began = known.began_horizon, known.began_head
        origin = await source.origin(self.projection.start, began)
        async with self._target.connection() as conn, conn.transaction():
            if self.projection.kind == "producing":
                await conn.execute(sql.query("create_shared_stream"), (self._stream, self._service))
            for c in origin:
                if c.stream in missing:
                    await conn.execute(
                        sql.query("create_checkpoint"),
                        (
                            self._service,
                            self._name,
                            c.stream,
                            c.store,
                            c.incarnation,
                            c.position,
                            c.event_id,
                            c.replay_until,
                        ),
                    )

    def _source(self) -> Source:
        projection = self.projection
        pool = self.pools.of(projection.environment)
        store = self.pools.shown(projection.environment)
        if projection.kind == "producing":
            return RowSource(
                pool=pool, store=store, projection=self._name, stream=projection.streams[0]
            )
        return EventSource(
            pool=pool, store=store, projection=self._name, streams=projection.streams
        )

    def _effect(self) -> Effect:
        handler = self.projection.handler
        if handler is None:
            return FerryEffect(
                Ferry(
                    service=self._service,
                    projection=self.projection,
                    target=self._stream,
                    transactions=AsyncPoolTransactions(self.pools.shared),
                )
            )
        common: dict[str, Any] = {
            "service": self._service,
            "projection": self.projection,
            "handle": handler.handle,
            "handle_batch": handler.handle_batch,
        }
        if handler.is_async:
            transactions = AsyncPoolTransactions(self.pools.local)
            return AsyncEffect(AsyncBatches(**common, transactions=transactions))
        return ThreadEffect(Batches(**common, transactions=PoolTransactions(self.pools.handlers)))

    @property
    def _name(self) -> str:
        return self.projection.name

    @property
    def _service(self) -> str:
        return self.pools.config.service

    @property
    def _stream(self) -> str:
        """The shared stream of a producing projection."""
        return self.projection.shared_stream or self.projection.streams[0]

    @property
    def _target(self) -> Any:
        """The pool of the store that the effect and the checkpoint are in."""
        return self.pools.shared if self.projection.kind == "producing" else self.pools.local

    @property
    def _registry(self) -> Registry:
        return Registry(self.pools.local)
