"""`/events`: events page by page, and `/events/…`: one, with all that is known of it.

A page is found by its position, so the addresses of older and newer ones stay what they are. The
newest one follows what is appended.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import Request

from eventferry import browse
from eventferry.dashboard import show
from eventferry.dashboard.desk import Desk
from eventferry.dashboard.listing import listed, whole
from eventferry.dashboard.page import Page, Wrong, failed, position
from eventferry.dashboard.redaction import Redaction
from eventferry.dashboard.streams import environments, no_store
from eventferry.pools import Pools

SHOWN = 50
FILTERS = ("environment", "stream", "type", "entity", "since", "until")


async def events(desk: Desk, request: Request) -> Page:
    """The newest events, or those that are asked for."""
    asked = {
        name: value for name in FILTERS if (value := request.query_params.get(name, "").strip())
    }
    before, after = _position(request, "before"), _position(request, "after")
    async with desk.pools() as pools:
        if id_ := request.query_params.get("id", "").strip():
            return await _found(desk, pools, _id(id_), {})
        environment = asked.get("environment", "local")
        if environment not in pools.opened:
            return no_store(pools, environment)
        names = await browse.names(pools, environment)
        stream = asked.get("stream")
        if stream is not None and stream not in names:
            return failed(404, f"the {environment} store has no stream {stream!r} that we may read")
        found = await browse.page(
            pools,
            environment,
            streams=None if stream is None else [stream],
            types=[asked["type"]] if "type" in asked else None,
            entity_id=asked.get("entity"),
            since=_moment(request, "since"),
            until=_moment(request, "until"),
            before=before,
            after=after,
            limit=SHOWN,
        )
        stores = environments(pools)
    is_newest = before is None and after is None
    return Page(
        template="events.html",
        title="Events",
        data={
            "environment": environment,
            "events": [listed(event, desk.redaction) for event in found.events],
            "older": found.older,
            "newer": found.newer,
            "looked_at": found.looked_at,
            "is_exhausted": found.is_exhausted,
            "horizon": found.horizon,
            "in_flight": found.in_flight,
        },
        view={
            "asked": dict.fromkeys(FILTERS, "") | asked,
            "is_asked": bool(asked),
            "is_filtered": bool(asked.keys() - {"environment"}),
            "stores": stores,
            "names": names,
            "is_newest": is_newest,
            "is_short": len(found.events) < SHOWN,
            "goes_up": after is not None,
            "older_link": _link(asked, before=found.older),
            "newer_link": _link(asked, after=found.newer),
            "newest_link": _link(asked),
        },
        is_live=is_newest,
        follows=True,
    )


async def event(desk: Desk, request: Request) -> Page:
    """One event."""
    further = {
        environment: after
        for environment in ("local", "shared")
        if (after := _position(request, environment)) is not None
    }
    async with desk.pools() as pools:
        return await _found(desk, pools, _id(request.path_params["id"]), further)


async def _found(desk: Desk, pools: Pools, id_: UUID, further: Mapping[str, int]) -> Page:
    found = await browse.event(pools, None, id_)
    if found is None:
        stores = " and ".join(environments(pools))
        return failed(
            404,
            f"no stream of the {stores} store that we may read has an event {id_}. "
            "One that is still in its service's transaction is not there yet",
        )
    handled = await browse.handled_by(pools, found)
    related = await browse.related(pools, found, after=further or None)
    shown = whole(found.event, desk.redaction)
    return Page(
        template="event.html",
        title=f"{found.event.type} {found.event.id}",
        data={
            "event": shown,
            "places": found.places,
            "handled_by": handled,
            "related": _related(related, desk.redaction),
        },
        view={
            "more": {f.environment: f.after for f in related.further},
            "is_further": bool(further),
        },
    )


def _related(related: browse.Related, redaction: Redaction) -> dict[str, Any]:
    """The tree, with what may be seen of each event."""
    ties = {"correlation_id": related.correlation_id, "causation_id": related.missing_cause}
    known = {name: value for name, value in ties.items() if value is not None}
    may_see = redaction.shown("metadata", known) or {}
    return {
        "correlation_id": may_see.get("correlation_id"),
        "events": [
            listed(relative.event, redaction) | {"depth": relative.depth, "places": relative.places}
            for relative in related.events
        ],
        "missing_cause": may_see.get("causation_id"),
        "looked_at": related.looked_at,
        "further": related.further,
    }


def _link(asked: Mapping[str, str], **place: int | None) -> str | None:
    """The same page at another position; None: there is none."""
    if None in place.values():
        return None
    return f"/events?{urlencode({**asked, **place})}"


def _position(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    try:
        return position(text)
    except ValueError:
        raise Wrong(f"{name} must be a position, a whole number from 0 on, not {text!r}") from None


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Wrong(
            f"an event's id is a UUID, such as 01985f3e-0000-7000-8000-000000000000, not {text!r}"
        ) from None


def _moment(request: Request, name: str) -> datetime | None:
    """A time without a zone is one of the viewer's."""
    text = request.query_params.get(name, "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.utcoffset() is None:
            moment = moment.replace(tzinfo=show.zone(request.cookies.get("zone")))
        if not 1 < moment.year < 9999:  # a little before or after it must be a time, too
            raise ValueError
    except ValueError:
        raise Wrong(f"{name} must be a time, such as 2026-01-31T12:00, not {text!r}") from None
    return moment
