"""A projection's parts: what it reads from, and what is done with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from psycopg.rows import class_row

from eventferry import sql
from eventferry.checkpoint import Checkpoint
from eventferry.connection import Pool
from eventferry.engine._async import AsyncBatches, AsyncPoolTransactions
from eventferry.engine._sync import Batches, PoolTransactions
from eventferry.engine.effect import (
    AsyncEffect,
    Effect,
    FerryEffect,
    HandlerEffect,
    ThreadEffect,
)
from eventferry.engine.ferry import Ferry
from eventferry.handler import Handler
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.registry import Registry
from eventferry.source import EventSource, RowSource, Source


def source_of(pools: Pools, projection: Projection) -> Source:
    """What the projection reads."""
    pool = pools.of(projection.environment)
    store = pools.shown(projection.environment)
    if projection.kind == "producing":
        return RowSource(
            pool=pool, store=store, projection=projection.name, stream=projection.streams[0]
        )
    return EventSource(
        pool=pool, store=store, projection=projection.name, streams=projection.streams
    )


def target_of(pools: Pools, projection: Projection) -> Pool:
    """The pool of the store that its effect and its checkpoints are in."""
    return pools.shared if projection.kind == "producing" else pools.local


async def checkpoints_of(pools: Pools, projection: Projection) -> dict[str, Checkpoint]:
    """Where it is, by stream; empty before its first run."""
    async with (
        target_of(pools, projection).connection() as conn,
        conn.cursor(row_factory=class_row(Checkpoint)) as cursor,
    ):
        await cursor.execute(sql.query("checkpoints"), (pools.config.service, projection.name))
        return {row.stream: row for row in await cursor.fetchall()}


def shared_stream_of(projection: Projection) -> str:
    """The shared stream of a producing projection."""
    return projection.shared_stream or projection.streams[0]


def effect_of(
    pools: Pools, projection: Projection, on_calls: Callable[[Sequence[float]], None]
) -> Effect:
    """What is done with what it reads; `on_calls` is told the seconds of the handler's calls."""
    if projection.handler is not None:
        return handler_effect_of(pools, projection, projection.handler, on_calls=on_calls)
    return FerryEffect(
        Ferry(
            service=pools.config.service,
            projection=projection,
            target=shared_stream_of(projection),
            transactions=AsyncPoolTransactions(pools.shared),
        )
    )


def handler_effect_of(
    pools: Pools, projection: Projection, handler: Handler, **more: Any
) -> HandlerEffect:
    """The same of a consuming projection."""
    common: dict[str, Any] = {
        "service": pools.config.service,
        "projection": projection,
        "handle": handler.handle,
        "handle_batch": handler.handle_batch,
        "reset": handler.reset,
        **more,
    }
    if handler.is_async:
        on_loop = AsyncPoolTransactions(pools.local)
        return AsyncEffect(AsyncBatches(**common, transactions=on_loop))
    transactions = pools.hosted or PoolTransactions(pools.handlers)
    return ThreadEffect(Batches(**common, transactions=transactions))


class Parts:
    """For what has pools and a projection: what these come down to."""

    __slots__ = ()
    pools: Pools
    projection: Projection

    @property
    def _name(self) -> str:
        return self.projection.name

    @property
    def _service(self) -> str:
        return self.pools.config.service

    @property
    def _target(self) -> Pool:
        return target_of(self.pools, self.projection)

    @property
    def _registry(self) -> Registry:
        return Registry(self.pools.local)
