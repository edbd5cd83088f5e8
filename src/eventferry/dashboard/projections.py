"""The projections of this service: all in a table, and each with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from starlette.requests import Request

from eventferry import browse
from eventferry.browse import AlikeFailures, AlikeParked
from eventferry.dashboard import show, trend
from eventferry.dashboard.action import fitting
from eventferry.dashboard.desk import Desk
from eventferry.dashboard.listing import part
from eventferry.dashboard.page import Page, Wrong
from eventferry.errors import EventFerryError
from eventferry.event import RecordedEvent
from eventferry.logline import first_line
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.statistics import minutes
from eventferry.status import ProjectionStatus

STATES = ("failed", "retrying", "waiting", "paused", "running", "never run", "idle", "deleted")
"""What needs somebody comes first."""
CALM = STATES.index("running")
"""From here on, a projection keeps its place, whether it has something to do just now or not."""
PARKED_SHOWN = 10


async def projections(desk: Desk, request: Request) -> Page:
    """All of them, or those in a state; failed ones first."""
    look = await desk.look()
    wanted = request.query_params.get("state") or None
    if wanted is not None and wanted not in STATES:
        raise Wrong(f"there is no state {wanted!r}; expected one of {', '.join(STATES)}")
    found = sorted(look.projections, key=lambda p: (min(STATES.index(p.state), CALM), p.name))
    counts = {state: sum(p.state == state for p in found) for state in STATES}
    return Page(
        template="projections.html",
        title="Projections",
        data={
            "service": desk.config.service,
            "state": wanted,
            "counts": counts,
            "projections": [p for p in found if wanted in (None, p.state)],
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """What goes wrong alike: the attempts that have failed, and the events that are parked."""

    fingerprint: str
    error: str
    traceback: str | None
    event_type: str | None
    event_id: UUID | None
    """Of the latest attempt, or of the first that is parked."""
    failures: int
    """Attempts, of those that are kept."""
    parked: int
    first_at: datetime
    last_at: datetime


async def projection(desk: Desk, request: Request) -> Page:
    """One of them."""
    look, asked = await desk.look(), desk.projection(request.path_params["name"])
    span = trend.SPANS.get(request.query_params.get("span", "1h"))
    if span is None:
        raise Wrong(f"there is no such span; expected one of {', '.join(trend.SPANS)}")
    now = datetime.now(UTC)
    async with desk.pools() as pools:
        moments = trend.moments(
            await minutes(pools.local, asked.name, *span.window(now)), span, now
        )
        failures = await browse.alike_failures(pools, [asked])
        found = look.find(asked.name)
        alike, parked = [], None
        if found is not None and found.parked is not None:
            alike = await browse.alike_parked(pools)
            parked = await browse.parked_page(pools, projection=asked.name, limit=PARKED_SHOWN)
        errors = _errors(failures, alike, asked.name)
        event, event_is_away = await _failing(pools, found, asked)
    zone = show.zone(request.cookies.get("zone"))
    return Page(
        template="projection.html",
        title=asked.name,
        data={
            "projection": found,
            "configured": _configured(asked),
            "span": span.name,
            "history": moments,
            "errors": errors,
            "parked": parked,
            "event": event and _shown(event, desk),
            "event_is_away": event_is_away,
        },
        view={
            "actions": fitting(found) if found else (),
            "spans": trend.SPANS.values(),
            "charts": trend.charts(moments, span, zone),
            "labels": trend.labels(span, now, zone),
            "called": trend.caller(span, zone),
        },
    )


def _errors(
    failures: Sequence[AlikeFailures], parked: Sequence[AlikeParked], name: str
) -> list[Error]:
    """By fingerprint, the latest first."""
    aside = {group.fingerprint: group for group in parked if name in group.projections}
    found = [_error(group, aside.pop(group.fingerprint, None)) for group in failures]
    found += [
        Error(
            fingerprint=group.fingerprint,
            error=group.error,
            traceback=group.traceback,
            event_type=group.event_type,
            event_id=group.event_id,
            failures=0,
            parked=group.events,
            first_at=group.first_at,
            last_at=group.last_at,
        )
        for group in aside.values()
    ]
    return sorted(found, key=lambda error: error.last_at, reverse=True)


def _error(failures: AlikeFailures, parked: AlikeParked | None) -> Error:
    latest = failures.example
    return Error(
        fingerprint=failures.fingerprint,
        error=latest.error,
        traceback=latest.traceback,
        event_type=latest.event_type,
        event_id=latest.event_id,
        failures=failures.count,
        parked=parked.events if parked else 0,
        first_at=min(failures.first_at, parked.first_at) if parked else failures.first_at,
        last_at=max(failures.last_at, parked.last_at) if parked else failures.last_at,
    )


async def _failing(
    pools: Pools, found: ProjectionStatus | None, asked: Projection
) -> tuple[RecordedEvent | None, str | None]:
    """The event at which it fails, if there is one; or why it can't be seen."""
    failure = found.failure if found else None
    if failure is None or failure.event_id is None or failure.stream is None:
        return None, None
    if asked.environment not in pools.opened:
        return None, "its store does not answer"
    try:
        event = await browse.event(
            pools, asked.environment, failure.event_id, stream=failure.stream
        )
    except EventFerryError as error:
        return None, first_line(error)
    return (event.event, None) if event else (None, f"it is not in {failure.stream} any more")


def _shown(event: RecordedEvent, desk: Desk) -> Mapping[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "stream": event.stream,
        "position": event.position,
        "entity_id": event.entity_id,
        "version": event.version,
        "source": event.source,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "data": part("data", event.data_json, desk.redaction),
        "metadata": part("metadata", event.metadata_json, desk.redaction),
    }


def _configured(asked: Projection) -> Mapping[str, Any]:
    return {
        "name": asked.name,
        "kind": asked.kind,
        "environment": asked.environment,
        "streams": asked.streams,
        "shared_stream": asked.shared_stream,
        "event_types": asked.event_types,
        "mode": "background" if asked.background else "on demand",
        "queue": asked.queue,
        "attempts": asked.attempts,
        "on_failure": asked.on_failure,
    }
