"""How a service's projections are: running or not, how far, what holds them back, what failed.

Reads, and writes nothing; locks nothing that a runner wants. The state is derived, so that a dead
runner does not look alive:

    failed     its failure is recorded, and nobody has retried it
    waiting    a stream that it reads does not exist, or it may not ferry to the shared one
    running    somebody holds its checkpoint now, or a long run has said lately that it lives
    never run  it has no checkpoint yet
    idle       none of these
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from eventferry import sql
from eventferry.engine.ferry import refusal
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.registry import Registered, Registry
from eventferry.store._async import observe

Pool = AsyncConnectionPool[AsyncConnection[Any]]
State = Literal["failed", "waiting", "running", "never run", "idle"]

LAG_LIMIT = 100_000
"""A lag is counted exactly up to here; one more means "more"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """An append to a stream whose transaction is open."""

    stream: str
    pid: int | None
    """Of its backend; None: a prepared transaction, or one that may not be seen."""
    user: str | None
    application: str | None
    client: str | None
    """Its address; None: a Unix socket."""
    state: str | None
    """What the backend does: `active`, `idle in transaction`, …"""
    since: datetime | None
    """When its transaction began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """How far a projection is in one stream."""

    stream: str
    exists: bool
    position: int | None
    """Of the last event dealt with; None: it has not run."""
    horizon: int | None
    """Up to where the projection may read; None: a stream of it does not exist."""
    last_position: int | None
    """Of the last event of the stream; 0: it is empty."""
    lag: int | None
    """Events not dealt with; more than `LAG_LIMIT` means at least that many."""
    held_back: int | None
    """How many of them are beyond the horizon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a projection stands still, or what it is getting over."""

    error: str
    traceback: str | None
    stream: str | None
    position: int | None
    event_id: UUID | None
    """The failing event's; None: it is no single event's failure."""
    event_type: str | None
    failed_at: datetime | None
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStatus:
    """How a projection is, at one moment."""

    name: str
    kind: Literal["producing", "consuming"]
    environment: Literal["local", "shared"]
    mode: Literal["on demand", "background"]
    queue: str
    state: State
    waiting: str | None
    """Why it can't run yet, in words; None: it can."""
    streams: tuple[StreamStatus, ...]
    in_flight: tuple[InFlight, ...]
    """What holds its reading back."""
    failure: Failure | None
    """The last one, until its event has been dealt with."""
    runner: str | None
    """Who runs it: host:pid of a long run, or the pid of the backend that has its checkpoint."""

    @property
    def lag(self) -> int | None:
        """Events not dealt with, in all streams; None: it can't be said."""
        lags = [stream.lag for stream in self.streams if stream.lag is not None]
        return sum(lags) if lags else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkpoint:
    """A row of checkpoints, with who holds it."""

    projection: str
    stream: str
    position: int
    locked_by: int | None


async def status(pools: Pools, projections: Sequence[Projection]) -> list[ProjectionStatus]:
    """How the projections are, in their order.

    Raises:
        StoreUnavailable, psycopg.Error: an outage of one of the stores.
    """
    registered = await Registry(pools.local).find(p.name for p in projections)
    service = pools.config.service
    checkpoints = {
        kind: await _checkpoints(
            pools.shared if kind == "producing" else pools.local,
            service,
            [p.name for p in projections if p.kind == kind],
        )
        for kind in ("producing", "consuming")
    }
    return [
        await _status(
            pools,
            p,
            registered.get(p.name),
            [c for c in checkpoints[p.kind] if c.projection == p.name],
        )
        for p in projections
    ]


async def _status(
    pools: Pools, projection: Projection, known: Registered | None, found: list[_Checkpoint]
) -> ProjectionStatus:
    pool = pools.of(projection.environment)
    streams = await _streams(pool, projection.streams, {c.stream: c.position for c in found})
    holder = next((c.locked_by for c in found if c.locked_by is not None), None)
    waiting = _missing(projection, streams)
    if waiting is None and projection.shared_stream:
        async with pools.shared.connection() as conn:
            waiting = await refusal(conn, projection.shared_stream, pools.shown("shared"))
    runner = known.runner if known and known.is_alive else holder and f"backend {holder}"
    return ProjectionStatus(
        name=projection.name,
        kind=projection.kind,
        environment=projection.environment,
        mode="background" if projection.background else "on demand",
        queue=projection.queue,
        state=state(
            failed=known is not None and known.state == "failed",
            complete=waiting is None,
            runs=runner is not None,
            has_run=bool(found),
        ),
        waiting=waiting,
        streams=streams,
        in_flight=await _in_flight(pool, projection.streams),
        failure=_failure(known),
        runner=runner or None,
    )


def state(*, failed: bool, complete: bool, runs: bool, has_run: bool) -> State:
    """The word for what is known of a projection; see the head of this module."""
    if failed:
        return "failed"
    if not complete:
        return "waiting"
    if runs:
        return "running"
    return "idle" if has_run else "never run"


def _missing(projection: Projection, streams: Sequence[StreamStatus]) -> str | None:
    """The streams that it reads and that do not exist, in words."""
    missing = ", ".join(stream.stream for stream in streams if not stream.exists)
    return f"{missing}: the {projection.environment} store does not have it" if missing else None


def _failure(known: Registered | None) -> Failure | None:
    if known is None or known.error is None:
        return None
    return Failure(
        error=known.error,
        traceback=known.traceback,
        stream=known.failing_stream,
        position=known.failing_position,
        event_id=known.failing_event_id,
        event_type=known.failing_event_type,
        failed_at=known.failed_at,
        attempts=known.attempts,
    )


async def _checkpoints(pool: Pool, service: str, names: Iterable[str]) -> list[_Checkpoint]:
    async with (
        pool.connection() as conn,
        conn.cursor(row_factory=class_row(_Checkpoint)) as cursor,
    ):
        await cursor.execute(sql.query("checkpoint_holders"), (service, list(names)))
        return await cursor.fetchall()


async def _streams(
    pool: Pool, names: Sequence[str], positions: dict[str, int]
) -> tuple[StreamStatus, ...]:
    async with pool.connection() as conn:
        cursor = await conn.execute(sql.query("heads"), (list(names),))
        heads = dict(await cursor.fetchall())
        horizon = None
        if heads.keys() == set(names):
            horizon = (await observe(conn, names)).position
        return tuple(
            [await _stream(conn, name, heads.get(name), horizon, positions) for name in names]
        )


async def _stream(
    conn: AsyncConnection[Any],
    name: str,
    head: int | None,
    horizon: int | None,
    positions: dict[str, int],
) -> StreamStatus:
    position = positions.get(name)
    lag = held_back = None
    if head is not None:
        cursor = await conn.execute(
            sql.on_stream("lag", name),
            (head if horizon is None else horizon, position or 0, LAG_LIMIT + 1),
        )
        lag, held_back = await cursor.fetchone() or (0, 0)
    return StreamStatus(
        stream=name,
        exists=head is not None,
        position=position,
        horizon=horizon,
        last_position=head,
        lag=lag,
        held_back=held_back,
    )


async def _in_flight(pool: Pool, names: Sequence[str]) -> tuple[InFlight, ...]:
    async with pool.connection() as conn, conn.cursor(row_factory=class_row(InFlight)) as cursor:
        await cursor.execute(sql.query("in_flight"), (list(names),))
        return tuple(await cursor.fetchall())
