"""The first page: the map of all services, this one's projections, and what holds readers back."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from eventferry.dashboard import map as drawing
from eventferry.dashboard.desk import Desk, Look
from eventferry.dashboard.page import Page

STANDING = ("failed", "retrying", "waiting", "paused")


async def overview(desk: Desk, request: Request) -> Page:
    """How everything is, at one look."""
    look, service = await desk.look(), desk.config.service
    found = drawing.flows(look, service)
    everything = request.query_params.get("show") == "all"
    return Page(
        template="overview.html",
        title="Overview",
        data={
            "service": service,
            "totals": totals(look, found),
            "flows": found,
            "projections": look.projections,
            "in_flight": _in_flight(look),
        },
        view={
            "standing": [p for p in look.projections if p.state in STANDING],
            "standing_elsewhere": [f for f in found if not f.is_own and f.state == "failed"],
            "map": drawing.drawn(found, service, everything=everything),
            "WIDTH": drawing.WIDTH,
            "HEIGHT": drawing.HEIGHT,
        },
    )


def totals(look: Look, found: list[drawing.Flow]) -> dict[str, Any]:
    """Of this service, and how many projections of all services stand still."""
    lags = [p.lag for p in look.projections if p.lag is not None]
    return {
        "projections": len(look.projections),
        "services": len({flow.service for flow in found}),
        "rate": sum(p.rate for p in look.projections),
        "lag": sum(lags) if lags else None,
        "behind_s": max((p.behind_s or 0.0 for p in look.projections), default=None),
        "failed": sum(p.state == "failed" for p in look.projections),
        "failed_elsewhere": sum(f.state == "failed" and not f.is_own for f in found),
        "parked": sum(p.parked.events for p in look.projections if p.parked),
        "processes": sum(r.is_alive for r in look.runners),
        "standing": sum(p.state in STANDING for p in look.projections),
    }


def _in_flight(look: Look) -> list[Any]:
    """Each open append once, though several projections read its stream; the oldest first."""
    found = {(a.stream, a.pid, a.prepared): a for p in look.projections for a in p.in_flight}
    return sorted(found.values(), key=lambda a: -(a.open_s or 0.0))
