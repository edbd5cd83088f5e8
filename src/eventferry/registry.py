"""What a service's local store knows of its projections: registered, failed, retried.

Owns the table `eventferry.projections`. Where a projection is, its checkpoints say; here is what
it is, and why it stands still if it does. `running` is not recorded but derived, so that a dead
runner does not look alive.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from eventferry import logline, sql
from eventferry.audit import entry
from eventferry.connection import Pool, runner_name
from eventferry.engine.outcome import Failed
from eventferry.errors import ProjectionError
from eventferry.projection import Projection
from eventferry.store import Horizon

FAILURES_KEPT = 50
"""Of each projection's last attempts at an event, and of its other ones, at least."""
HEARTBEAT_S = 5.0
"""A long run says this often that it lives; three times as long without, and it is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A projection as its service's local store knows it."""

    name: str
    streams: list[str]
    """The ones that it has run with."""
    state: Literal["idle", "retrying", "failed", "deleted"]
    attempts: int
    """Of the failing event, so far; a retry begins to count again."""
    error: str | None
    traceback: str | None
    failing_stream: str | None
    failing_position: int | None
    failing_event_id: UUID | None
    failing_event_type: str | None
    failed_at: datetime | None
    began_horizon: int | None
    """Of the store that it reads, when it was first to run and a stream of it was missing."""
    began_head: int | None
    next_attempt_at: datetime | None
    due_s: float | None
    """Seconds until then, by the clock of the store."""
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    stops: int
    """How often its runs have been asked to end."""
    kept_in: UUID | None
    """Producing: the identity of the shared store that has its checkpoint; None: not known."""
    runner: str | None
    """host:pid of the last run that was long enough to say so."""
    heartbeat_at: datetime | None
    is_alive: bool
    """Whether that run has said so lately."""

    @property
    def failing(self) -> dict[str, Any]:
        """What a log line about its failure carries."""
        event = self.failing_stream, self.failing_position, self.failing_event_id
        return logline.fields(*event, self.failing_event_type)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What follows from a failure."""

    state: Literal["retrying", "failed", "deleted"]
    attempts: int
    """Of its event, so far."""
    due_s: float | None
    """Seconds until the next one; None: that was the last."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The projections of one local store."""

    pool: Pool

    async def register(self, projection: Projection) -> None:
        """Makes the projection known, or brings what is known of it up to date.

        Raises:
            ProjectionError: it has run with other streams before.
        """
        async with self.pool.connection() as conn:
            cursor = await conn.execute(
                sql.query("register_projection"),
                (
                    projection.name,
                    projection.kind,
                    projection.environment,
                    list(projection.streams),
                    projection.background,
                    projection.queue,
                ),
            )
            row = await cursor.fetchone()
        if row and (row[0] != projection.kind or set(row[1]) != set(projection.streams)):
            raise ProjectionError(_changed(projection, *row[:2]))

    async def find(self, names: Iterable[str]) -> dict[str, Registered]:
        """What is known of the projections of these names; those that never ran are missing."""
        async with (
            self.pool.connection() as conn,
            conn.cursor(row_factory=class_row(Registered)) as cursor,
        ):
            await cursor.execute(sql.query("projections"), (HEARTBEAT_S * 3, list(names)))
            return {row.name: row for row in await cursor.fetchall()}

    async def failed(
        self,
        projection: Projection,
        failed: Failed,
        *,
        connection: AsyncConnection[Any] | None = None,
    ) -> Recorded:
        """Records a failure, and when to try again.

        Args:
            projection: Whose policy says how often, and after which pauses.
            failed: What has happened.
            connection: To the local store; None: one of its own.
        """
        async with nullcontext(connection) if connection else self.pool.connection() as conn:
            cursor = await conn.execute(
                sql.query("record_failure"),
                (
                    projection.name,
                    failed.error_type,
                    failed.error,
                    failed.traceback,
                    *(failed.mark or (None, None, None)),
                    failed.event_type,
                    failed.entity_id,
                    # what is no event's failure does not go away by itself
                    projection.attempts if failed.mark else 1,
                    projection.backoff.total_seconds(),
                    projection.backoff_max.total_seconds(),
                    random.uniform(0.5, 1.0),
                    max(FAILURES_KEPT, projection.storm),
                ),
            )
            return Recorded(*(await cursor.fetchone() or ("deleted", 1, None)))

    async def recovered(
        self,
        name: str,
        event_id: UUID | None,
        *,
        gave_up: bool = False,
        connection: AsyncConnection[Any] | None = None,
    ) -> None:
        """Forgets the failure of this event: it has been dealt with, or given up."""
        async with nullcontext(connection) if connection else self.pool.connection() as conn:
            await conn.execute(sql.query("forget_failure"), (name, event_id, gave_up))

    async def pause(
        self, connection: AsyncConnection[Any], service: str, name: str, *, by: str, reason: str
    ) -> None:
        """Lets no run go on, as part of a transaction of the local store, until it is resumed."""
        await connection.execute(sql.query("pause_projection"), (by, reason, name))
        await connection.execute(sql.query("hold_checkpoints"), (True, service, name))
        await connection.execute(*entry(by, service, name, "pause", reason))

    async def retry(
        self,
        names: Sequence[str] | None = None,
        *,
        who: str,
        service: str,
        reason: str | None = None,
    ) -> list[str]:
        """Sets failed projections to run again, and wakes their workers; all of them for None.

        Returns:
            The names of those that had failed.
        """
        async with self.pool.connection() as conn, conn.transaction():
            cursor = await conn.execute(
                sql.query("retry_projections"), (names is None, list(names or ()))
            )
            retried = sorted(row[0] for row in await cursor.fetchall())
            for name in retried:
                await conn.execute(*entry(who, service, name, "retry", reason))
        return retried

    async def wake(self, name: str) -> None:
        """Lets its workers look again."""
        async with self.pool.connection() as conn:
            await conn.execute(sql.query("wake_projection"), (name,))

    async def began(self, name: str, seen: Horizon) -> None:
        """Remembers where a projection is to begin, whose streams are not all there yet."""
        async with self.pool.connection() as conn:
            await conn.execute(sql.query("remember_beginning"), (seen.position, seen.head, name))

    async def kept_in(self, name: str, store: UUID | None) -> None:
        """Remembers which shared store has the checkpoint of a producing projection."""
        async with self.pool.connection() as conn:
            await conn.execute(sql.query("keep_in"), (store, name))

    async def beat(self, name: str, *, alive: bool = True) -> None:
        """Says that a run goes on here, or that it has ended."""
        async with self.pool.connection() as conn:
            await conn.execute(
                sql.query("heartbeat"), (runner_name(), alive, name, runner_name(), alive)
            )


def _changed(projection: Projection, kind: str, streams: Sequence[str]) -> str:
    """What to do where the configuration is not what the projection has run with."""
    name, new = projection.name, projection.streams
    said = (
        f"projection {name!r} has run as {kind} on {', '.join(streams)}; now it is "
        f"{projection.kind} on {', '.join(new)}. What it reads is fixed once it has run"
    )
    if kind == "producing" or projection.kind == "producing":
        return f"{said}: give it a new name"
    ways = [
        f"add-stream {name} {stream} --from start|now|POSITION"
        for stream in new
        if stream not in streams
    ]
    ways += [f"remove-stream {name} {stream}" for stream in streams if stream not in new]
    commands = ", ".join(f"`eventferry projections {way}`" for way in ways)
    return f"{said}: give it a new name, or say so by {commands}"
