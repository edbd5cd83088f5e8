"""Where events are that a projection has not dealt with in time, in words for who waits."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from eventferry import sql
from eventferry.config import Config
from eventferry.connection import options
from eventferry.ended import way_out
from eventferry.errors import ProjectionError, UnknownProjection
from eventferry.logline import first_line
from eventferry.pools import Pools
from eventferry.status import LAG_LIMIT, ProjectionStatus, status
from eventferry.waiting._place import Answer, ferries

SILENT_S = 180.0
"""Who runs a projection reports it every minute; after this long without, nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What another service last said of its projection, in the shared store."""

    kind: str
    environment: str
    streams: list[str]
    state: str
    lag: int | None
    error: str | None
    age_s: float


@dataclass(frozen=True, slots=True)
class Search:
    """How far a wait has come."""

    whose: str
    """What messages call the projection."""
    projection: str
    service: str | None = None
    """The other service that it belongs to; None: our own."""
    arrived: bool = False
    """Whether the events are in the store that the projection reads."""
    parked: bool = False
    """Whether the projection is past them, and has set one of them aside."""

    def answered(self, answers: Collection[Answer | None]) -> Search:
        """The same after a look."""
        return replace(self, parked="parked" in answers)


def require_consuming(whose: str, reported: Reported) -> None:
    """Refuses another service's projection that reads that service's own store.

    Raises:
        ProjectionError: our events are never there.
    """
    if reported.environment != "shared":
        raise ProjectionError(
            f"{whose} never gets these events: it is a {reported.kind} one that reads the local "
            "store of that service. Wait for one that consumes from the shared store"
        )


def unknown(
    service: str, projection: str, reporting: Mapping[str, Sequence[str]]
) -> UnknownProjection:
    """The error where nobody has said anything of the projection."""
    if service not in reporting:
        missing, near, there = f"service {service!r}", service, sorted(reporting)
    else:
        missing = f"projection {projection!r} of service {service!r}"
        near, there = projection, list(reporting[service])
    close = difflib.get_close_matches(near, there, n=1)
    return UnknownProjection(
        f"the shared store knows no {missing}; "
        + (f"did you mean {close[0]!r}? " if close else "")
        + f"it knows {', '.join(there) or 'none'}. A service is known when a worker of it has run, "
        "and may write eventferry.reports"
    )


async def async_whereabouts(config: Config, streams: Iterable[str], search: Search) -> str:
    """Where the events are that were appended to these streams, and what to do."""
    try:
        if not search.arrived:
            return await _on_the_way(config, streams)
        if search.service is not None:
            return await _at_other(config, search)
        return _standing(*await _status(config, [search.projection]), parked=search.parked)
    except Exception as error:  # that they are not dealt with is what counts
        return f"where they are can't be said: {first_line(error)}"


def whereabouts(config: Config, streams: Iterable[str], search: Search) -> str:
    """The same; in a thread of its own, as there may be a loop that runs in this one."""
    with ThreadPoolExecutor(1, "eventferry whereabouts") as thread:
        return thread.submit(asyncio.run, async_whereabouts(config, streams, search)).result()


async def _status(config: Config, names: Sequence[str]) -> list[ProjectionStatus]:
    async with Pools(config, size=2, shared_is="optional") as pools:
        return await status(pools, config.named(names))


async def _on_the_way(config: Config, streams: Iterable[str]) -> str:
    """Of events that are not in the shared store yet."""
    said = []
    for stream in streams:
        names = list(ferries(config, stream))
        if not names:
            said.append(
                f"no producing projection of service {config.service!r} ferries {stream}, and the "
                "shared store does not have them"
            )
        found = await _status(config, names)
        said += [f"not ferried yet by {one.name!r}: {_standing(one)}" for one in found]
    return "; ".join(said)


async def _at_other(config: Config, search: Search) -> str:
    service, name = search.service, search.projection
    if search.parked:
        return f"it has parked them. In {service!r}: `eventferry projections unpark {name}`"
    arguments = options("wait")
    async with (
        await AsyncConnection[Any].connect(config.shared_url, **arguments) as conn,
        conn.cursor(row_factory=class_row(Reported)) as cursor,
    ):
        await cursor.execute(sql.query("reported"), (service, name))
        reported = await cursor.fetchone()
    if reported is None or reported.age_s > SILENT_S:
        when = "for a week" if reported is None else f"for {reported.age_s:.0f} s"
        return f"nobody has said anything of it {when}: does a worker of {service!r} run?"
    why = f": {first_line(reported.error)}" if reported.error else ""
    return (
        f"no worker of it has answered; {reported.age_s:.0f} s ago it was {reported.state}"
        f"{_behind(reported.lag)}{why}. In {service!r}: `eventferry projections status {name}` "
        "says more"
    )


def _standing(found: ProjectionStatus, *, parked: bool = False) -> str:
    """How a projection of our own is, and what to do."""
    name, failure, behind = found.name, found.failure, _behind(found.lag)
    if parked:
        return f"it has parked them: `eventferry projections unpark {name}`"
    if found.state == "deleted":
        return "it has been deleted"
    if found.state == "paused" and found.paused is not None:
        why = f"it is paused by {found.paused.by}: {found.paused.reason}"
        return f"{why}. `eventferry projections resume {name}`"
    if failure is not None and failure.is_final:
        return f"it has failed{_at(found)}: {first_line(failure.error)}. {way_out(name)}"
    if failure is not None:
        which = f"attempt {failure.attempts} of {failure.allowed} has failed{_at(found)}"
        due = f"; again in {failure.due_s:.1f} s" if failure.due_s else ""
        return f"{which}: {first_line(failure.error)}{due}"
    if found.waiting is not None:
        return f"it waits: {found.waiting}"
    if not found.runners and found.runner is None:
        return f"nobody runs it (state: {found.state}{behind}). Start one: `eventferry worker`"
    return f"it is {found.state}{behind}"


def _behind(lag: int | None) -> str:
    if not lag:
        return ""
    return f", more than {LAG_LIMIT} events behind" if lag > LAG_LIMIT else f", {lag} behind"


def _at(found: ProjectionStatus) -> str:
    failure = found.failure
    if failure is None or failure.event_id is None:
        return ""
    return f" at {failure.event_type} {failure.event_id} ({failure.stream}:{failure.position})"
