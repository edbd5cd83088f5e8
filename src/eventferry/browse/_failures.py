"""Failed attempts and parked events by what went wrong, and page by page.

Of failures only the latest are kept, so they are put together here. Of parked events there may be
very many with one error: each has its fingerprint beside it, with an index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql as pgsql
from psycopg.rows import class_row, dict_row

from eventferry import sql
from eventferry.browse._look import looking
from eventferry.fingerprint import fingerprint
from eventferry.history import Failure
from eventferry.pools import Pools
from eventferry.projection import Projection

FAILURES_LOOKED_AT = 100, 2_000
"""Of each projection, and of all: the latest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlikeFailures:
    """Failed attempts that have the same error at the same place."""

    fingerprint: str
    count: int
    """Of those that are kept."""
    first_at: datetime
    last_at: datetime
    projections: tuple[str, ...]
    example: Failure
    """The latest."""


async def alike_failures(pools: Pools, projections: Sequence[Projection]) -> list[AlikeFailures]:
    """The latest failed attempts of the projections, those that are alike together."""
    async with (
        pools.local.connection() as conn,
        conn.cursor(row_factory=class_row(Failure)) as cursor,
    ):
        asked = [p.name for p in projections], *FAILURES_LOOKED_AT
        await cursor.execute(sql.query("latest_failures"), asked)
        return alike(await cursor.fetchall())


def alike(failures: Sequence[Failure]) -> list[AlikeFailures]:
    """Failures by fingerprint; the first of each is its example, and the order is theirs."""
    groups: dict[str, list[Failure]] = defaultdict(list)
    for failure in failures:
        groups[fingerprint(failure.error, failure.traceback)].append(failure)
    return [
        AlikeFailures(
            fingerprint=key,
            count=len(group),
            first_at=min(failure.failed_at for failure in group),
            last_at=max(failure.failed_at for failure in group),
            projections=tuple(sorted({failure.projection for failure in group})),
            example=group[0],
        )
        for key, group in groups.items()
    ]


PARKED_LOOKED_AT = 20_000
"""Parked events that are looked at for a page, at most."""
PARKED_COUNTED = 100_001
"""Parked events are counted exactly below; so many mean "at least"."""
ERRORS_SHOWN = 100
"""Fingerprints of parked events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlikeParked:
    """Parked events that have failed with the same error at the same place."""

    fingerprint: str
    events: int
    """How many; `PARKED_COUNTED` means at least that many."""
    first_at: datetime
    """Of those that were counted."""
    last_at: datetime
    projections: tuple[str, ...]
    error: str
    """Of the first one."""
    traceback: str
    projection: str
    event_id: UUID
    event_type: str


async def alike_parked(pools: Pools) -> list[AlikeParked]:
    """The errors with which events of this service are parked, that of most events first."""
    async with (
        looking(pools.local, pools.shown("local")) as conn,
        conn.cursor(row_factory=dict_row) as cursor,
    ):
        asked = {"groups": ERRORS_SHOWN, "count": PARKED_COUNTED}
        await cursor.execute(sql.query("parked_alike"), asked)
        return [
            AlikeParked(**row | {"projections": tuple(row["projections"])})
            for row in await cursor.fetchall()
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedSummary:
    """A parked event, as a list shows it."""

    projection: str
    stream: str
    position: int
    event_id: UUID
    event_type: str
    entity_id: str | None
    attempts: int
    """Of this event; 0: it waits behind an earlier one of its entity."""
    error: str | None
    """The last one's; None: it has not been tried."""
    fingerprint: str | None
    """None: it has not been tried, or was parked by older code."""
    parked_at: datetime


ParkedPlace = tuple[str, int, str]
"""Where a page ends: projection, position and stream of a parked event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedPage:
    """Some parked events, by projection, and in the order in which they were to be handled."""

    parked: list[ParkedSummary]
    following: ParkedPlace | None
    """Go on with this `after`; None: these are the last ones."""
    looked_at: int
    """How many were read to find them."""
    count: int
    """How many there are, of whatever type; `PARKED_COUNTED` means at least that many."""


async def parked_page(
    pools: Pools,
    *,
    projection: str | None = None,
    type: str | None = None,  # noqa: A002 - an event's
    fingerprint: str | None = None,
    after: ParkedPlace | None = None,
    limit: int = 50,
) -> ParkedPage:
    """What projections of this service have set aside.

    Args:
        pools: Connections to the stores.
        projection: By this one; None: by any.
        type: Of this type; None: of all.
        fingerprint: With this error; None: with any, and those that wait too.
        after: Only what is behind the end of a page.
        limit: How many at most.
    """
    asked = {"type": type, "look": PARKED_LOOKED_AT, "limit": limit + 1}
    async with (
        looking(pools.local, pools.shown("local")) as conn,
        conn.cursor(row_factory=dict_row) as cursor,
    ):
        query, place = parked_query("parked_page", projection, fingerprint, after)
        await cursor.execute(query, asked | place)
        rows = await cursor.fetchall()
        query, place = parked_query("count_parked_upto", projection, fingerprint, None)
        await cursor.execute(query, {"look": PARKED_COUNTED} | place)
        (count,) = (await cursor.fetchone() or {"count": 0}).values()
    return _parked_page(rows, limit, count)


def parked_query(
    name: str, projection: str | None, fingerprint: str | None, after: ParkedPlace | None
) -> tuple[pgsql.Composed, dict[str, Any]]:
    """A statement on parked events, and where it begins and ends in an index.

    What is wanted is written as the piece of an index in which it is: else the planner might take
    another one, and go through very many rows for few.
    """
    start = after or (projection or "", -1, "")
    place = dict(zip(("projection", "position", "stream"), start, strict=True))
    keys, ends = list(place), {}
    if projection is not None:
        ends["projection"] = projection
    if fingerprint is not None:
        keys.insert(0, "fingerprint")
        place["fingerprint"] = fingerprint
        ends = {"fingerprint": fingerprint, **ends}
    which = pgsql.SQL("({}) <= ({})").format(_names(ends), _values(f"last_{key}" for key in ends))
    query = sql.composed(
        name,
        keys=_names(keys),
        first=_values(keys),
        which=which if ends else pgsql.SQL("TRUE"),
    )
    return query, place | {f"last_{key}": value for key, value in ends.items()}


def _names(keys: Iterable[str]) -> pgsql.Composed:
    return pgsql.SQL(", ").join(map(pgsql.Identifier, keys))


def _values(keys: Iterable[str]) -> pgsql.Composed:
    return pgsql.SQL(", ").join(map(pgsql.Placeholder, keys))


def _parked_page(rows: Sequence[dict[str, Any]], limit: int, count: int) -> ParkedPage:
    looked_at, parked = 0, []
    last: ParkedPlace | None = None
    for row in rows:
        looked_at = row.pop("place")
        last = row["projection"], row["position"], row["stream"]
        if row.pop("is_wanted"):
            parked.append(ParkedSummary(**row))
    shown = parked[:limit]
    if len(parked) > limit:
        last = shown[-1].projection, shown[-1].position, shown[-1].stream
    elif looked_at < PARKED_LOOKED_AT:
        last = None
    return ParkedPage(parked=shown, following=last, looked_at=looked_at, count=count)
