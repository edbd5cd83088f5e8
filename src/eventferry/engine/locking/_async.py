"""A projection's checkpoints in the transaction of a batch: locked, and moved.

Their row locks are what keeps two runners of a projection apart, and go with the transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from eventferry import sql
from eventferry.checkpoint import Checkpoint, Checkpoints
from eventferry.engine.outcome import Busy, Halted, Moved


@dataclass(frozen=True, slots=True)
class Locked:
    """Checkpoints that this transaction holds, where they should be."""

    transaction: str
    """Its id."""
    batch: int | None
    """Its number among the projection's batches; None: they are not counted."""
    has_parked: bool
    """Whether the projection has parked events."""


async def lock(
    conn: AsyncConnection[Any],
    service: str,
    projection: str,
    checkpoints: Checkpoints,
    *,
    idle_timeout_s: float,
    statement_timeout_s: float | None = None,
    is_counted: bool = False,
) -> Locked | Busy | Moved | Halted:
    """Locks a projection's checkpoints, if nobody else has; `is_counted`: a batch begins."""
    timeouts = [s and f"{s * 1000:.0f}" for s in (idle_timeout_s, statement_timeout_s)]
    cursor = await conn.execute(
        sql.query("lock_checkpoints"),
        (
            *timeouts,
            *(service, projection) * 2,
            sql.array(c.stream for c in checkpoints),
            sql.array(c.store.hex for c in checkpoints),
            sql.array(c.incarnation.hex for c in checkpoints),
            sql.array(c.position for c in checkpoints),
            sql.array(c.event_id and c.event_id.hex for c in checkpoints),
            sql.array(c.stops for c in checkpoints),
            is_counted,
            projection,
        ),
    )
    row = await cursor.fetchone()
    assert row is not None
    all_locked, in_place, halted, *locked = row
    if not all_locked:
        return Busy()
    if halted:
        return Halted()
    return Locked(*locked) if in_place else Moved()


async def wait(conn: AsyncConnection[Any], service: str, projection: str, idle: str) -> str:
    """Locks a projection's checkpoints, after whoever has; the transaction's id.

    `idle`: milliseconds that the transaction may then be idle.
    """
    cursor = await conn.execute(sql.query("wait_for_checkpoints"), (service, projection, idle))
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])


async def move(
    conn: AsyncConnection[Any],
    service: str,
    projection: str,
    before: Checkpoints,
    after: Checkpoints,
    locked: Locked,
) -> bool:
    """Moves the checkpoints; False: they are not where this transaction has locked them."""
    changes: list[tuple[Checkpoint, Checkpoint]] = [
        (old, new) for old, new in zip(before, after, strict=True) if old is not new
    ]
    cursor = await conn.execute(
        sql.query("move_checkpoints"),
        (
            locked.batch,
            sql.array(new.stream for _, new in changes),
            sql.array(new.store.hex for _, new in changes),
            sql.array(old.position for old, _ in changes),
            sql.array(new.position for _, new in changes),
            sql.array(new.event_id and new.event_id.hex for _, new in changes),
            service,
            projection,
            locked.transaction,
        ),
    )
    return cursor.rowcount == len(changes)
