"""What streams a store has, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import dict_row

from eventferry import sql
from eventferry.browse._look import asked, looking, readable, statement_on_each
from eventferry.connection import translated
from eventferry.pools import Pools


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """A stream, as a list shows it."""

    name: str
    owner: str | None
    """The service that it belongs to."""
    description: str | None
    created_at: datetime
    events: int
    """About how many, as the statistics of the database have it: not counted."""
    bytes: int | None
    """On disk, with its indexes; None: its table is missing."""
    may_read: bool
    """Whether our role may; else what follows is None."""
    head: int | None
    """The position of its last event; None: it is empty."""
    last_at: datetime | None
    """When that was recorded."""


async def streams(pools: Pools, environment: str) -> list[StreamSummary]:
    """The streams of a store, oldest first; in two statements, however many they are.

    Raises:
        StoreUnavailable, StoreError: the store is away, or refuses.
    """
    async with looking(pools.of(environment), pools.shown(environment)) as conn:
        async with conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(sql.query("stream_sizes"))
            rows = await cursor.fetchall()
        last = {}
        if names := tuple(row["name"] for row in rows if row["may_read"]):
            found = await asked(conn, statement_on_each("last_event", names))
            last = {stream: (head, at) for stream, head, at in found}
    made = []
    for row in rows:
        head, last_at = last.get(row["name"], (None, None))
        made.append(
            StreamSummary(**row | {"events": row["events"] or 0}, head=head, last_at=last_at)
        )
    return made


async def names(pools: Pools, environment: str) -> list[str]:
    """The names of the streams that our role may read, oldest first.

    Raises:
        StoreUnavailable, StoreError: the store is away, or refuses.
    """
    with translated(pools.shown(environment)):
        async with pools.of(environment).connection() as conn:
            return list(await readable(conn))
