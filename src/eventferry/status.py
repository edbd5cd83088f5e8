"""How a service's projections are: running or not, how far, what holds them back, what failed.

Reads, and writes nothing; locks nothing that a runner wants. The state is derived, so that a dead
runner does not look alive. The first that is true:

    deleted    somebody has deleted it, and nobody has reset it since
    paused     somebody has paused it, or it has paused itself
    failed     its last attempt has failed, and nobody has retried it
    retrying   an attempt has failed, and the next one is due at a known time
    waiting    a stream that it reads does not exist, or it may not ferry to the shared one
    running    somebody holds its checkpoint now, or a long run has said lately that it lives
    never run  it has no checkpoint yet
    idle       none of these
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row, dict_row

from eventferry import sql
from eventferry.connection import Pool
from eventferry.engine.ferry import refusals
from eventferry.parking import Parked
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.reach import InFlight, Reach, reach
from eventferry.registry import Registered, Registry
from eventferry.runner import BEAT_S, Runner, runners

State = Literal[
    "deleted", "paused", "failed", "retrying", "waiting", "running", "never run", "idle"
]

_STANDING = ("deleted", "paused", "failed", "waiting")
"""The states in which it does not go on by itself, however fast it was."""
LAG_LIMIT = 100_000
"""A lag is counted exactly up to here; one more means "more"."""
PARKED_SHOWN = 3
"""Parked events of a projection of which the errors are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatus:
    """How far a projection is in one stream."""

    stream: str
    exists: bool | None
    """None: the store that would have it is away."""
    position: int | None
    """Of the last event dealt with; None: it has not run, or the store that knows it is away."""
    horizon: int | None
    """Up to where the projection may read; None: a stream of it does not exist."""
    last_position: int | None
    """Of the last event of the stream; 0: it is empty."""
    lag: int | None
    """Events not dealt with; more than `LAG_LIMIT` means at least that many."""
    held_back: int | None
    """How many of them are beyond the horizon."""
    behind_s: float | None
    """How long the first of them has been there, in seconds, by the clock of the store; 0: there is
    none."""


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
    """Of the event, so far; a retry begins to count again."""
    allowed: int
    """How many there are to be."""
    is_final: bool
    """Whether it was the last one, so that the projection stands still until it is retried."""
    next_attempt_at: datetime | None
    """While it is retrying."""
    due_s: float | None
    """Seconds until then, by the clock of the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """That a projection is not to go on."""

    at: datetime
    by: str | None
    """A person, or `eventferry`, where it has paused itself."""
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEvents:
    """What a projection has set aside."""

    events: int
    entities: int
    """Of how many entities they are; an event without one counts as one."""
    first: tuple[Parked, ...]
    """The first ones that have failed; others wait behind them."""


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
    paused: Pause | None
    parked: ParkedEvents | None
    """None: nothing is."""
    runner: str | None
    """Who runs it: host:pid of a long run, or the pid of the backend that has its checkpoint."""
    runners: tuple[Runner, ...]
    """The processes that run it whenever it has work."""
    shared_stream: str | None
    """Producing: where to."""
    rate: float
    """Events a second, over the last minute or two."""

    @property
    def lag(self) -> int | None:
        """Events not dealt with, in all streams; None: it can't be said."""
        lags = [stream.lag for stream in self.streams if stream.lag is not None]
        return sum(lags) if lags else None

    @property
    def behind_s(self) -> float | None:
        """How long the oldest event has waited that is not dealt with, in seconds."""
        return max((s.behind_s for s in self.streams if s.behind_s is not None), default=None)

    @property
    def time_left_s(self) -> float | None:
        """When it will have caught up, at its rate, if nothing is appended; None: can't be said."""
        if self.state in _STANDING or not self.lag or not self.rate:
            return None
        return self.lag / self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkpoint:
    """A row of checkpoints, with who holds it."""

    projection: str
    stream: str
    position: int
    locked_by: int | None


async def status(
    pools: Pools, projections: Sequence[Projection], *, present: Sequence[Runner] | None = None
) -> list[ProjectionStatus]:
    """How the projections are, in their order.

    The number of statements does not grow with that of the projections, but for those that are
    behind. Where the shared store is missing from the pools, what only it knows is None. The
    processes that are `present` are looked for, unless they are known already.

    Raises:
        StoreUnavailable, psycopg.Error: an outage of one of the stores.
    """
    names = [p.name for p in projections]
    registered = await Registry(pools.local).find(names)
    checkpoints = {
        kind: await _checkpoints(
            pools.of(environment),
            pools.config.service,
            [p.name for p in projections if p.kind == kind],
        )
        for kind in {p.kind for p in projections}  # who only consumes may not see shared ones
        if (environment := "shared" if kind == "producing" else "local") in pools.opened
    }
    parked = await _parked(pools.local, names)
    known = await runners(pools.local) if present is None else present
    alive = [runner for runner in known if runner.is_alive]
    rates = await _rates(pools.local, names)
    refused = await _refusals(pools, projections)
    reaches = {
        environment: await reach(
            pools.of(environment),
            sorted({s for p in projections if p.environment == environment for s in p.streams}),
        )
        for environment in {p.environment for p in projections}
        if environment in pools.opened
    }
    return [
        await _status(
            pools,
            p,
            registered.get(p.name),
            checkpoints.get(p.kind),
            reaches.get(p.environment),
            refused=refused.get(p.shared_stream or ""),
            parked=parked.get(p.name),
            runners=tuple(runner for runner in alive if p.name in runner.projections),
            rate=rates.get(p.name, 0.0),
        )
        for p in projections
    ]


async def _status(
    pools: Pools,
    projection: Projection,
    known: Registered | None,
    checkpoints: list[_Checkpoint] | None,
    far: Reach | None,
    *,
    refused: str | None,
    parked: ParkedEvents | None,
    runners: tuple[Runner, ...],
    rate: float,
) -> ProjectionStatus:
    found = [c for c in checkpoints or () if c.projection == projection.name]
    positions = None if checkpoints is None else {c.stream: c.position for c in found}
    streams = tuple(
        [await _stream(pools, projection, s, far, positions) for s in projection.streams]
    )
    # where a ferry's checkpoint can't be seen, the local store says whether there is one
    has_run = bool(found) or (checkpoints is None and known is not None and bool(known.kept_in))
    holder = next((c.locked_by for c in found if c.locked_by is not None), None)
    waiting = _missing(projection, streams) or refused
    runner = known.runner if known and known.is_alive else holder and f"backend {holder}"
    return ProjectionStatus(
        name=projection.name,
        kind=projection.kind,
        environment=projection.environment,
        mode="background" if projection.background else "on demand",
        queue=projection.queue,
        state=state(
            known.state if known else None,
            paused=known is not None and known.paused_at is not None,
            complete=waiting is None,
            runs=runner is not None,
            has_run=has_run,
        ),
        waiting=waiting,
        streams=streams,
        in_flight=tuple(a for a in far.in_flight if a.stream in projection.streams) if far else (),
        failure=_failure(projection, known),
        paused=_pause(known),
        parked=parked,
        runner=runner or None,
        runners=runners,
        shared_stream=projection.shared_stream,
        rate=rate,
    )


def state(
    recorded: Literal["idle", "retrying", "failed", "deleted"] | None,
    *,
    paused: bool,
    complete: bool,
    runs: bool,
    has_run: bool,
) -> State:
    """The word for what is known of a projection; see the head of this module.

    Args:
        recorded: What its service's local store says; None: it does not know it.
        paused: Whether it is not to go on.
        complete: Whether everything is there that it needs.
        runs: Whether somebody runs it now.
        has_run: Whether it has a checkpoint.
    """
    if recorded == "deleted":
        return "deleted"
    if paused:
        return "paused"
    if recorded in ("failed", "retrying"):
        return recorded
    if not complete:
        return "waiting"
    if runs:
        return "running"
    return "idle" if has_run else "never run"


def _missing(projection: Projection, streams: Sequence[StreamStatus]) -> str | None:
    """The streams that it reads and that do not exist, in words."""
    missing = ", ".join(stream.stream for stream in streams if stream.exists is False)
    return f"{missing}: the {projection.environment} store does not have it" if missing else None


def _pause(known: Registered | None) -> Pause | None:
    if known is None or known.paused_at is None:
        return None
    return Pause(at=known.paused_at, by=known.paused_by, reason=known.pause_reason)


def _failure(projection: Projection, known: Registered | None) -> Failure | None:
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
        # what is no event's failure does not go away by itself
        allowed=projection.attempts if known.failing_event_id else 1,
        is_final=known.state == "failed",
        next_attempt_at=known.next_attempt_at,
        due_s=known.due_s,
    )


async def _parked(pool: Pool, names: list[str]) -> dict[str, ParkedEvents]:
    first: dict[str, list[Parked]] = {}
    async with pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql.query("first_parked"), (names, PARKED_SHOWN))
        for row in await cursor.fetchall():
            first.setdefault(row.pop("projection"), []).append(Parked(**row))
        await cursor.execute(sql.query("count_all_parked"), (names,))
        return {
            name: ParkedEvents(**row, first=tuple(first.get(name, ())))
            for row in await cursor.fetchall()
            if (name := row.pop("projection"))
        }


async def _rates(pool: Pool, names: list[str]) -> dict[str, float]:
    async with pool.connection() as conn:
        cursor = await conn.execute(sql.query("rates"), (2 * BEAT_S, names))
        return dict(await cursor.fetchall())


async def _checkpoints(pool: Pool, service: str, names: Iterable[str]) -> list[_Checkpoint]:
    async with (
        pool.connection() as conn,
        conn.cursor(row_factory=class_row(_Checkpoint)) as cursor,
    ):
        await cursor.execute(sql.query("checkpoint_holders"), (service, list(names)))
        return await cursor.fetchall()


async def _refusals(pools: Pools, projections: Sequence[Projection]) -> dict[str, str]:
    """Of the shared streams to which our role may not ferry."""
    shared = sorted({p.shared_stream for p in projections if p.shared_stream})
    if not shared or "shared" not in pools.opened:
        return {}
    async with pools.shared.connection() as conn:
        return await refusals(conn, shared, pools.shown("shared"))


async def _stream(
    pools: Pools,
    projection: Projection,
    name: str,
    far: Reach | None,
    positions: dict[str, int] | None,
) -> StreamStatus:
    head = far.heads.get(name) if far else None
    horizon = far.horizon(projection.streams) if far else None
    lag = held_back = behind_s = None
    if head is not None and positions is not None:
        lag, held_back, behind_s = 0, 0, 0.0
        if head > (after := positions.get(name, 0)):
            async with pools.of(projection.environment).connection() as conn:
                cursor = await conn.execute(
                    sql.on_stream("lag", name),
                    (head if horizon is None else horizon, after, after, LAG_LIMIT + 1),
                )
                lag, held_back, behind_s = await cursor.fetchone() or (0, 0, 0.0)
    return StreamStatus(
        stream=name,
        exists=None if far is None else head is not None,
        position=positions.get(name) if positions else None,
        horizon=horizon,
        last_position=head,
        lag=lag,
        held_back=held_back,
        behind_s=behind_s or (None if lag is None else 0.0),
    )
