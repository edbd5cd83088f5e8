"""What a service's local store knows of its projections: registered, failed, retried.

Owns the table `eventferry.projections`. Where a projection is, its checkpoints say; here is what
it is, and why it stands still if it does. `running` is not recorded but derived, so that a dead
runner does not look alive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from eventferry import sql
from eventferry.connection import runner_name
from eventferry.engine.outcome import Failed
from eventferry.errors import ProjectionError
from eventferry.projection import Projection
from eventferry.store import Horizon

HEARTBEAT_S = 5.0
"""A long run says this often that it lives; three times as long without, and it is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A projection as its service's local store knows it."""

    name: str
    state: Literal["idle", "failed"]
    attempts: int
    """Of the failing event, so far."""
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
    runner: str | None
    """host:pid of the last run that was long enough to say so."""
    heartbeat_at: datetime | None
    is_alive: bool
    """Whether that run has said so lately."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The projections of one local store."""

    pool: AsyncConnectionPool[AsyncConnection[Any]]

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
            raise ProjectionError(
                f"projection {projection.name!r} has run as {row[0]} on "
                f"{', '.join(row[1])}; now it is {projection.kind} on "
                f"{', '.join(projection.streams)}. What it reads is fixed once it has run: "
                "give it a new name"
            )

    async def find(self, names: Iterable[str]) -> dict[str, Registered]:
        """What is known of the projections of these names; those that never ran are missing."""
        async with (
            self.pool.connection() as conn,
            conn.cursor(row_factory=class_row(Registered)) as cursor,
        ):
            await cursor.execute(sql.query("projections"), (HEARTBEAT_S * 3, list(names)))
            return {row.name: row for row in await cursor.fetchall()}

    async def failed(
        self, name: str, failed: Failed, *, connection: AsyncConnection[Any] | None = None
    ) -> None:
        """Records the failure of an event; on this connection to the local store, or on its own."""
        async with nullcontext(connection) if connection else self.pool.connection() as conn:
            await conn.execute(
                sql.query("record_failure"),
                (
                    failed.error,
                    failed.traceback,
                    *(failed.mark or (None, None, None)),
                    failed.event_type,
                    failed.mark and failed.mark.event_id,
                    name,
                ),
            )

    async def recovered(self, name: str) -> None:
        """Forgets the failure: its event has been dealt with."""
        async with self.pool.connection() as conn:
            await conn.execute(sql.query("forget_failure"), (name,))

    async def retry(self, names: Sequence[str] | None = None) -> list[str]:
        """Sets failed projections to run again, and wakes their workers; all of them for None.

        Returns:
            The names of those that had failed.
        """
        async with self.pool.connection() as conn:
            cursor = await conn.execute(
                sql.query("retry_projections"), (names is None, list(names or ()))
            )
            return sorted(row[0] for row in await cursor.fetchall())

    async def began(self, name: str, seen: Horizon) -> None:
        """Remembers where a projection is to begin, whose streams are not all there yet."""
        async with self.pool.connection() as conn:
            await conn.execute(sql.query("remember_beginning"), (seen.position, seen.head, name))

    async def beat(self, name: str, *, alive: bool = True) -> None:
        """Says that a run goes on here, or that it has ended."""
        async with self.pool.connection() as conn:
            await conn.execute(
                sql.query("heartbeat"), (runner_name(), alive, name, runner_name(), alive)
            )
