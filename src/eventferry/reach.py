"""How far streams go, for who only looks: their ends, their horizons, and what holds these back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from eventferry import sql
from eventferry.connection import Pool
from eventferry.store._native._async import observe


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """An append to a stream whose transaction is open."""

    stream: str
    pid: int | None
    """Of its backend; None: a prepared transaction."""
    prepared: str | None
    """Its name, if it is a prepared transaction."""
    user: str | None
    application: str | None
    client: str | None
    """Its address; None: a Unix socket."""
    state: str | None
    """What the backend does: `active`, `idle in transaction`, …"""
    since: datetime | None
    """When its transaction began; None: it may not be seen."""
    open_s: float | None
    """Seconds since then, by the clock of the store."""
    unseen_by: str | None
    """The role that may not see the client, the state and the age, which needs a grant."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Of streams of one store, all looked at together."""

    heads: dict[str, int]
    """The position of each one's last event; those that are not there are missing."""
    horizons: dict[str, int]
    """Up to where each may be read."""
    in_flight: tuple[InFlight, ...]

    def horizon(self, streams: Iterable[str]) -> int | None:
        """Up to where streams may be read that are read together; None: one is not there."""
        found = [self.horizons.get(stream) for stream in streams]
        known = [position for position in found if position is not None]
        return min(known) if known and len(known) == len(found) else None


async def reach(pool: Pool, streams: Sequence[str]) -> Reach:
    """Looks, in a number of statements that does not grow with that of the streams."""
    async with pool.connection() as conn:
        cursor = await conn.execute(sql.query("heads"), (list(streams),))
        heads: dict[str, int] = dict(await cursor.fetchall())
        seen = await observe(conn, list(heads))
        if not seen.in_flight:
            return Reach(heads, dict.fromkeys(heads, seen.position), ())
        async with conn.transaction():  # in READ COMMITTED
            cursor = await conn.execute(sql.query("horizons"), (list(heads),))
            horizons: dict[str, int] = dict(await cursor.fetchall())
        async with conn.cursor(row_factory=class_row(InFlight)) as appends:
            await appends.execute(sql.query("in_flight"), (list(heads),))
            return Reach(heads, horizons, tuple(await appends.fetchall()))
