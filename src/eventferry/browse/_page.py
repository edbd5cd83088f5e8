"""Events page by page, in the order of their store, of one stream or of several.

A page is looked for from a position on, in at most `LOOK` events: there is no index by type or
time. What is wanted of them is answered, and where to go on. A time becomes a position first, as
positions are drawn in about the order of time. An entity has an index, and is found by it unless it
has more events than that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg import sql as pgsql

from eventferry import sql
from eventferry.browse._look import asked, direction, looking, on_each, readable
from eventferry.event import RecordedEvent
from eventferry.pools import Pools
from eventferry.store._native._async import horizon

LOOK = 20_000
"""Events that are looked at for a page, at most."""
SMALL_BYTES = 4096
"""What JSON of an event a page has, at most, as the store keeps it."""
SLACK = timedelta(seconds=10)
"""A statement that takes as long to append its events may put them out of the order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSummary:
    """An event, as a list shows it."""

    stream: str
    position: int
    id: UUID
    type: str
    source: str
    entity_id: str | None
    version: int | None
    occurred_at: datetime
    recorded_at: datetime
    data_json: str | None
    """As the store keeps it; None: it is large."""
    metadata_json: str | None
    """The same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events next to each other, of those that were asked for; the newest first."""

    events: list[EventSummary]
    older: int | None
    """Go on with this `before`; None: there are no older ones."""
    newer: int | None
    """Go on with this `after`; None: there are no newer ones, up to the horizon."""
    looked_at: int
    """How many events were read to find them."""
    is_exhausted: bool
    """Whether there is nothing else in this direction; else one may go on, though the page is
    short, or empty."""
    horizon: int
    """Up to where the streams may be read, all together: newer events are not shown yet."""
    in_flight: int
    """Appends to them that are open, which may hold the horizon back."""


async def page(
    pools: Pools,
    environment: str,
    *,
    streams: Sequence[str] | None = None,
    types: Collection[str] | None = None,
    entity_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    after: int | None = None,
    limit: int = 50,
) -> Page:
    """The newest events; or those next to a position.

    Args:
        pools: Connections to the stores.
        environment: Which store.
        streams: Of these streams; None: of all that our role may read.
        types: Of these types; None: of all.
        entity_id: Of this entity; None: of all.
        since: Recorded then or later; an aware datetime.
        until: Recorded before; an aware datetime.
        before: The newest ones before this position.
        after: The oldest ones after this position. Not both.
        limit: How many at most.

    Raises:
        ValueError: a time has no zone, or both `before` and `after` are given.
        UnknownStream, InvalidStreamName: there is no such stream.
        StoreUnavailable, StoreError: the store is away, or refuses.
    """
    if before is not None and after is not None:
        raise ValueError("a page begins before a position or after one: give one of them")
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.utcoffset() is None:
            raise ValueError(f"{name} needs a time zone: {moment.isoformat()} has none")
    store = pools.shown(environment)
    async with looking(pools.of(environment), store) as conn:
        names = tuple(await readable(conn)) if streams is None else tuple(streams)
        seen = await horizon(conn, names, store)
        low, high = -1 if after is None else after, seen.position + 1
        if before is not None:
            high = min(high, before)
        if names and since is not None:
            low = max(low, await moment_in(conn, names, since - SLACK, seen.position))
        if names and until is not None:
            high = min(high, 1 + await moment_in(conn, names, until + SLACK, seen.position))
        looked = await look(
            conn,
            names,
            low=low,
            high=high,
            down=after is None,
            limit=limit + 1,
            at_most=LOOK,
            types=types,
            entity_id=entity_id,
            since=since,
            until=until,
        )
    return _page(looked, limit, before, after, seen.position, seen.in_flight)


@dataclass(frozen=True, slots=True)
class Looked:
    """What was found of what was looked at, in the order in which that was done."""

    events: list[EventSummary]
    last: int | None
    """The position of the last event that was looked at."""
    count: int
    """How many were looked at."""


async def look(
    conn: AsyncConnection[Any],
    streams: tuple[str, ...],
    *,
    low: int,
    high: int,
    down: bool,
    limit: int,
    at_most: int,
    types: Collection[str] | None = None,
    entity_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    patterns: Sequence[str] | None = None,
) -> Looked:
    """Looks at the events between two positions, at most so many, for those that are wanted."""
    if not streams or high - low < 2:
        return Looked([], None, 0)
    name = "look_at"
    if entity_id is not None and await _is_rare(conn, streams, entity_id, at_most):
        name = "look_at_entity"
    rows = await asked(
        conn,
        _statement(name, streams, down),
        low,
        high,
        at_most,
        limit,
        None if types is None else list(types),
        entity_id,
        since,
        until,
        patterns,
    )
    if not rows:
        return Looked([], None, 0)
    events = [summary(row) for row in rows if row[-1]]
    return Looked(events, rows[-1][1], rows[-1][-2])


async def moment_in(
    conn: AsyncConnection[Any], streams: tuple[str, ...], moment: datetime, upto: int
) -> int:
    """A position up to which the events were recorded before the moment; about the last one."""
    ((position,),) = await asked(conn, _finding(streams), upto, moment)
    return int(position)


async def _is_rare(
    conn: AsyncConnection[Any], streams: tuple[str, ...], entity_id: str, at_most: int
) -> bool:
    statement = on_each("count_entity", streams).as_bytes(None)
    counts = await asked(conn, statement, entity_id, at_most + 1)
    return sum(int(count) for (count,) in counts) <= at_most


@lru_cache(maxsize=1024)
def _statement(name: str, streams: tuple[str, ...], down: bool) -> bytes:
    return sql.composed(
        "looked_page",
        events=on_each(name, streams, down=down),
        direction=direction(down),
        size=pgsql.Literal(SMALL_BYTES),
    ).as_bytes(None)


@lru_cache(maxsize=1024)
def _finding(streams: tuple[str, ...]) -> bytes:
    return sql.composed("find_moment", events=on_each("first_from", streams)).as_bytes(None)


def summary(row: tuple[Any, ...]) -> EventSummary:
    """What a row of `looked_page` or `correlated` says."""
    stream, position, id_, type_, source, entity_id, version, occurred, recorded, *rest = row
    return EventSummary(
        stream=stream,
        position=position,
        id=id_,
        type=type_,
        source=source,
        entity_id=entity_id,
        version=version,
        occurred_at=occurred.astimezone(UTC),
        recorded_at=recorded.astimezone(UTC),
        data_json=rest[0],
        metadata_json=rest[1],
    )


def summary_of(event: RecordedEvent) -> EventSummary:
    """The same of an event that has been read."""
    return EventSummary(
        stream=event.stream,
        position=event.position,
        id=event.id,
        type=event.type,
        source=event.source,
        entity_id=event.entity_id,
        version=event.version,
        occurred_at=event.occurred_at,
        recorded_at=event.recorded_at,
        data_json=event.data_json,
        metadata_json=event.metadata_json,
    )


def _page(
    looked: Looked, limit: int, before: int | None, after: int | None, horizon: int, in_flight: int
) -> Page:
    """The page of what was looked at; one event more than it may have says that there are more."""
    events = looked.events[:limit]
    on: int | None = None
    if len(looked.events) > limit:
        on = events[-1].position
    elif looked.count >= LOOK:
        on = looked.last
    if after is None:
        older, newer = on, None if before is None else before - 1
    else:
        events.reverse()
        older, newer = after + 1, on
    return Page(
        events=events,
        older=older,
        newer=newer,
        looked_at=looked.count,
        is_exhausted=on is None,
        horizon=horizon,
        in_flight=in_flight,
    )
