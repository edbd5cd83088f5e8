"""What stands still, by what went wrong: projections that have failed, events that are parked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from starlette.requests import Request

from eventferry import browse
from eventferry.browse import AlikeParked, ParkedPlace
from eventferry.dashboard.desk import Desk
from eventferry.dashboard.page import Page, Wrong, position
from eventferry.fingerprint import fingerprint
from eventferry.status import ProjectionStatus

PAGE = 50
FILTERS = ("projection", "type", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A projection that has failed, or is about to."""

    name: str
    state: str
    attempts: int
    allowed: int
    failed_at: datetime | None
    event_id: UUID | None
    event_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlikeStanding:
    """Projections that stand still with one error."""

    fingerprint: str
    error: str
    """Of the first one."""
    traceback: str | None
    projections: tuple[Standing, ...]

    @property
    def others(self) -> list[tuple[str, str]]:
        """All but the first one, as the button says them that is for all."""
        return [("also", projection.name) for projection in self.projections[1:]]


async def parked(desk: Desk, request: Request) -> Page:
    """Both; a filter is for both, too."""
    look, wanted = await desk.look(), _wanted(request)
    async with desk.pools() as pools:
        alike = await browse.alike_parked(pools)
        page = await browse.parked_page(
            pools,
            projection=wanted["projection"],
            type=wanted["type"],
            fingerprint=wanted["error"],
            after=_place(request.query_params.get("after")),
            limit=PAGE,
        )
    standing = [s for s in standing_alike(look.projections) if _is_wanted(s, wanted)]
    return Page(
        template="parked.html",
        title="Parked and failed",
        data={
            "filters": wanted,
            "failed": standing,
            "errors": [e for e in alike if _is_among(e, wanted)],
            "parked": page.parked,
            "count": page.count,
            "looked_at": page.looked_at,
            "after": _written(page.following),
        },
        view={
            "names": sorted({p.name for p in look.projections}),
            "known": {e.fingerprint: e.error for e in alike}
            | {s.fingerprint: s.error for s in standing},
            "by_projection": _by_projection(page.parked),
            "is_filtered": any(wanted.values()),
            "is_first": "after" not in request.query_params,
            "filters_query": {k: v for k, v in wanted.items() if v is not None},
            "following": _link(wanted, page.following),
            # a projection that is paused, or is not known any more, has nothing unparked
            "can_unpark": {
                p.name for p in look.projections if p.state not in ("paused", "deleted")
            },
        },
    )


def standing_alike(projections: Sequence[ProjectionStatus]) -> list[AlikeStanding]:
    """The projections that have failed, those with the same error together; most of them first."""
    groups: dict[str, list[ProjectionStatus]] = defaultdict(list)
    for projection in projections:
        if failure := projection.failure:
            groups[fingerprint(failure.error, failure.traceback)].append(projection)
    return [
        AlikeStanding(
            fingerprint=key,
            error=group[0].failure.error if group[0].failure else "",
            traceback=group[0].failure.traceback if group[0].failure else None,
            projections=tuple(_standing(projection) for projection in group),
        )
        for key, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]


def _standing(projection: ProjectionStatus) -> Standing:
    failure = projection.failure
    assert failure is not None
    return Standing(
        name=projection.name,
        state=projection.state,
        attempts=failure.attempts,
        allowed=failure.allowed,
        failed_at=failure.failed_at,
        event_id=failure.event_id,
        event_type=failure.event_type,
    )


Wanted = dict[str, str | None]


def _wanted(request: Request) -> Wanted:
    return {name: request.query_params.get(name, "").strip() or None for name in FILTERS}


def _is_wanted(standing: AlikeStanding, wanted: Wanted) -> bool:
    return (
        wanted["error"] in (None, standing.fingerprint)
        and (wanted["projection"] in (None, *(p.name for p in standing.projections)))
        and (wanted["type"] in (None, *(p.event_type for p in standing.projections)))
    )


def _is_among(errors: AlikeParked, wanted: Wanted) -> bool:
    """Whether some of the events that are parked with an error may be wanted."""
    return wanted["error"] in (None, errors.fingerprint) and (
        wanted["projection"] in (None, *errors.projections)
    )


def _by_projection(events: Sequence[browse.ParkedSummary]) -> dict[str, list[browse.ParkedSummary]]:
    """A page's events: they are in the order of their projections."""
    found: dict[str, list[browse.ParkedSummary]] = defaultdict(list)
    for event in events:
        found[event.projection].append(event)
    return found


def _place(text: str | None) -> ParkedPlace | None:
    """Where a page ends, as its link says it: projection, position, stream."""
    if text is None:
        return None
    try:
        projection, at, stream = text.split()
        return projection, position(at), stream
    except ValueError:
        raise Wrong(
            f"after: expected a projection, a position and a stream, not {text!r}"
        ) from None


def _written(place: ParkedPlace | None) -> str | None:
    return place and f"{place[0]} {place[1]} {place[2]}"


def _link(wanted: Wanted, following: ParkedPlace | None) -> dict[str, str]:
    """The query of the next page; empty: there is none."""
    if following is None:
        return {}
    given = {name: value for name, value in wanted.items() if value is not None}
    return given | {"after": _written(following) or ""}
