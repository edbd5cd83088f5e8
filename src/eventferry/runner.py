"""The processes that run a service's projections, as they last said of themselves (presence.py)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from eventferry import sql
from eventferry.connection import Pool

BEAT_S = 10.0
"""A process says this often that it is there; three times as long without, and it is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A process that runs projections of a service."""

    id: UUID
    host: str
    pid: int
    command: str
    """What it is: `worker`, `start`, or `program`, where that is somebody's own."""
    projections: list[str]
    """Those that it runs, whenever they have work."""
    version: str
    """Of the service's code."""
    started_at: datetime
    seen_at: datetime
    """When it last said that it is there."""
    asked_at: datetime | None
    """When it was asked to end; None: it was not."""
    is_alive: bool
    """Whether it has said so lately."""
    newest_version: str
    """The newest version that has been seen since it started, or that is run now; or its own."""

    @property
    def is_outdated(self) -> bool:
        """Whether newer code than that of this process has been seen."""
        return self.version != self.newest_version


async def runners(pool: Pool) -> list[Runner]:
    """The processes, the first first; those that have died are kept for a day."""
    async with pool.connection() as conn, conn.cursor(row_factory=class_row(Runner)) as cursor:
        await cursor.execute(sql.query("runners"), (3 * BEAT_S,))
        return await cursor.fetchall()


async def ask_to_end(pool: Pool) -> None:
    """Asks all of them to end after the batches that they are at."""
    async with pool.connection() as conn:
        await conn.execute(sql.query("ask_runners"))
