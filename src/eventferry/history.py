"""What has happened to projections: failed attempts, and what somebody has done to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from eventferry import sql
from eventferry.pools import Pools
from eventferry.projection import Projection


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An attempt that has failed."""

    projection: str
    attempt: int
    stream: str | None
    position: int | None
    event_id: UUID | None
    """The failing event's; None: it is no single event's failure."""
    event_type: str | None
    entity_id: str | None
    error_type: str
    error: str
    traceback: str
    gave_up: bool
    """Whether it was the last attempt."""
    failed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What somebody has done to a projection."""

    at: datetime
    who: str
    """A person, or `eventferry`, where the projection's policy did it."""
    projection: str
    action: str
    reason: str | None
    details: dict[str, Any]


async def actions(pools: Pools, projections: Sequence[Projection], limit: int) -> list[Action]:
    """What has been done to the projections, in the stores that are there; the latest first."""
    found: list[Action] = []
    names = [p.name for p in projections]
    for pool in set(pools.opened.values()):
        async with pool.connection() as conn, conn.cursor(row_factory=class_row(Action)) as cursor:
            await cursor.execute(sql.query("audit"), (pools.config.service, names, limit))
            found += await cursor.fetchall()
    return sorted(found, key=lambda action: action.at, reverse=True)[:limit]


async def failures(
    pools: Pools, projections: Sequence[Projection], limit: int | None
) -> list[Failure]:
    """The failed attempts of the projections, at most so many of each; the latest first."""
    async with (
        pools.local.connection() as conn,
        conn.cursor(row_factory=class_row(Failure)) as cursor,
    ):
        await cursor.execute(sql.query("failures"), ([p.name for p in projections], limit))
        return await cursor.fetchall()
