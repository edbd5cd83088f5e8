"""One event, in all places where it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from eventferry.browse._look import asked, looking, readable, statement_on_each
from eventferry.event import RecordedEvent, event_of
from eventferry.pools import Pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an event is."""

    environment: str
    stream: str
    position: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An event that was found."""

    event: RecordedEvent
    """As the first of its places has it."""
    places: tuple[Place, ...]
    """Where it is: in the local store first, where it was before it was ferried."""


async def event(
    pools: Pools, environment: str | None, event_id: UUID, *, stream: str | None = None
) -> Found | None:
    """The event of this id; None: there is none that our role may read.

    Args:
        pools: Connections to the stores.
        environment: The store that it is in; None: in whichever.
        event_id: The event's, the same in all stores.
        stream: The stream that it is in; None: whichever.

    Raises:
        UnknownStream, InvalidStreamName: there is no such stream.
        StoreUnavailable, StoreError: a store is away, or refuses.
    """
    copies: list[tuple[str, RecordedEvent]] = []
    for name in environments(pools) if environment is None else (environment,):
        async with looking(pools.of(name), pools.shown(name)) as conn:
            streams = tuple(await readable(conn)) if stream is None else (stream,)
            copies += [(name, copy) for copy in await by_id(conn, streams, event_id)]
    if not copies:
        return None
    places = tuple(
        Place(
            environment=name,
            stream=copy.stream,
            position=copy.position,
            recorded_at=copy.recorded_at,
        )
        for name, copy in copies
    )
    return Found(event=copies[0][1], places=places)


def environments(pools: Pools) -> list[str]:
    """Those whose stores are there, each store once: the local one, then the shared one."""
    first = {pool: name for name, pool in reversed(pools.opened.items())}
    return sorted(first.values())


async def by_id(
    conn: AsyncConnection[Any], streams: tuple[str, ...], event_id: UUID
) -> list[RecordedEvent]:
    """The copies of an event in streams of a store, in order."""
    if not streams:
        return []
    rows = await asked(conn, statement_on_each("event_by_id", streams), event_id)
    return [event_of(row) for row in sorted(rows, key=lambda row: row[1])]
