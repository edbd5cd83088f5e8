"""What projections have done with an event.

Of this service's, the tables say so. Of those of other services, no more is known than what they
last reported: whether they had got past it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from psycopg.rows import dict_row

from eventferry import sql
from eventferry.assembly import target_of
from eventferry.browse._event import Found, Place
from eventferry.browse._look import looking
from eventferry.browse._page import SLACK
from eventferry.connection import Pool
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.registry import Registered, Registry
from eventferry.store._native._async import horizon

Outcome = Literal[
    "handled", "ferried", "passed", "not yet", "failing", "parked", "waiting", "skipped",
    "not wanted", "before its start", "not known",
]  # fmt: skip
"""`passed`: another service's projection has got past it, and may have handled, parked or skipped
it. `waiting`: parked behind an earlier one of its entity. `not wanted`: the handler does not get
events of its type."""

AUDIT_LOOKED_AT = 1_000
"""Of each projection, so many of the latest lines of the audit are looked at for a skip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """What a projection has done with an event."""

    service: str
    projection: str
    kind: Literal["producing", "consuming"]
    place: Place
    """Where it reads the event; of another service's producing one: where it has put it."""
    outcome: Outcome
    detail: str | None
    """The error, the reason, or why it is not known."""
    at: datetime | None
    """When that was said; None: it holds now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What the tables know of one event."""

    registered: Mapping[str, Registered]
    parked: Mapping[str, str | None]
    skipped: Mapping[str, tuple[datetime, str]]


async def handled_by(pools: Pools, found: Found) -> list[Handling]:
    """What each projection has done with the event that reads a stream where it is.

    In a number of statements that does not grow with that of the projections.

    Raises:
        StoreUnavailable, StoreError: a store is away, or refuses.
    """
    made = await _own(pools, found)
    if "shared" in pools.opened and (place := _shared(pools, found)):
        made += await _of_others(pools, place)
    return made


def _shared(pools: Pools, found: Found) -> Place | None:
    """Where the event is in the shared store, which may be the local one too."""
    return next(
        (p for p in found.places if pools.of(p.environment) is pools.opened.get("shared")), None
    )


async def _own(pools: Pools, found: Found) -> list[Handling]:
    reading = [
        (projection, place)
        for projection in pools.config.projections.values()
        for place in found.places
        if place.stream in projection.streams
        and pools.opened.get(projection.environment) is pools.of(place.environment)
    ]
    if not reading:
        return []
    known = await _known(pools, found, sorted({p.name for p, _ in reading}))
    checkpoints = await _checkpoints(pools, reading)
    return [
        Handling(
            service=pools.config.service,
            projection=projection.name,
            kind=projection.kind,
            place=place,
            **_outcome(projection, found, place, checkpoints, known),
        )
        for projection, place in reading
    ]


async def _known(pools: Pools, found: Found, names: list[str]) -> _Known:
    id_ = found.event.id
    async with looking(pools.local, pools.shown("local")) as conn:
        positions, streams = [p.position for p in found.places], [p.stream for p in found.places]
        cursor = await conn.execute(sql.query("parked_by"), (names, positions, streams, id_))
        parked = dict(await cursor.fetchall())
        skips = {
            "service": pools.config.service,
            "projections": names,
            "limit": AUDIT_LOOKED_AT,
            "event": str(id_),
        }
        cursor = await conn.execute(sql.query("skipped"), skips)
        skipped = {
            name: (at, f"{who}: {reason}" if reason else who)
            for name, at, who, reason in await cursor.fetchall()
        }
    registered = await Registry(pools.local).find(names)
    return _Known(registered=registered, parked=parked, skipped=skipped)


async def _checkpoints(
    pools: Pools, reading: Sequence[tuple[Projection, Place]]
) -> dict[tuple[str, str], Any]:
    """By projection and stream, in the very streams that the event is in; a row each."""
    found: dict[tuple[str, str], Any] = {}
    for environment in {place.environment for _, place in reading}:
        read = [(p, place.stream) for p, place in reading if place.environment == environment]
        streams = sorted({stream for _, stream in read})
        async with looking(pools.of(environment), pools.shown(environment)) as conn:
            seen = await horizon(conn, streams, pools.shown(environment))
        incarnations = dict(zip(streams, seen.incarnations, strict=True))
        for kind in {p.kind for p, _ in read}:
            if kind == "producing" and "shared" not in pools.opened:
                continue
            names = sorted({p.name for p, _ in read if p.kind == kind})
            pool: Pool = target_of(pools, next(p for p, _ in read if p.kind == kind))
            async with pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
                asked = pools.config.service, names, seen.store, streams
                await cursor.execute(sql.query("checkpoints_in"), asked)
                found |= {
                    (row["projection"], row["stream"]): row
                    for row in await cursor.fetchall()
                    if row["incarnation"] == incarnations[row["stream"]]
                }
    return found


def _outcome(
    projection: Projection,
    found: Found,
    place: Place,
    checkpoints: Mapping[tuple[str, str], Any],
    known: _Known,
) -> dict[str, Any]:
    """What is known of one of our own, by the names of `Handling`'s fields."""
    name, event = projection.name, found.event
    said: dict[str, Any] = {"detail": None, "at": None}
    registered = known.registered.get(name)
    if registered is not None and registered.failing_event_id == event.id:
        return said | {
            "outcome": "failing", "detail": registered.error, "at": registered.failed_at
        }  # fmt: skip
    if name in known.parked:
        error = known.parked[name]
        return said | {"outcome": "waiting" if error is None else "parked", "detail": error}
    if name in known.skipped:
        at, reason = known.skipped[name]
        return said | {"outcome": "skipped", "detail": reason, "at": at}
    checkpoint = checkpoints.get((name, place.stream))
    if checkpoint is None or checkpoint["position"] < place.position:
        return said | {"outcome": "not yet"}
    if not projection.wants(event):
        return said | {"outcome": "not wanted"}
    if projection.start != "start" and place.position <= (
        checkpoint["replay_until"] if projection.start == "now" else projection.start
    ):
        return said | {"outcome": "before its start", "detail": f"it begins at {projection.start}"}
    return said | {"outcome": "ferried" if projection.kind == "producing" else "handled"}


async def _of_others(pools: Pools, place: Place) -> list[Handling]:
    async with (
        looking(pools.shared, pools.shown("shared")) as conn,
        conn.cursor(row_factory=dict_row) as cursor,
    ):
        of = {"service": pools.config.service, "stream": place.stream}
        await cursor.execute(sql.query("readers"), of)
        return [
            Handling(
                service=row["service"],
                projection=row["projection"],
                kind=row["kind"],
                place=place,
                **_reported(row, place),
            )
            for row in await cursor.fetchall()
        ]


def _reported(row: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """What follows from a report: what had not been dealt with then was younger than it says."""
    said = {"at": row["reported_at"], "detail": f"{row['state']} when it last reported"}
    if row["kind"] == "producing":
        return said | {"outcome": "not known", "detail": "ferries to this stream"}
    lag, behind_s = row["lag"], row["behind_s"]
    first = row["reported_at"] - timedelta(seconds=behind_s or 0)
    if lag is not None and place.recorded_at < first - SLACK:
        return said | {"outcome": "passed"}
    return said | {"outcome": "not known"}
