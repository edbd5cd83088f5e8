"""`/streams`: the streams of both stores, and `/streams/…`: one of them, who reads it, its end."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from eventferry import browse
from eventferry.dashboard.desk import BESIDE, Desk, Look
from eventferry.dashboard.listing import listed
from eventferry.dashboard.page import Page, failed
from eventferry.pools import Pools

SHOWN = 20
"""Events of a stream that its own page shows."""


async def streams(desk: Desk, request: Request) -> Page:
    """What streams there are; of one store, if that is asked for."""
    wanted = request.query_params.get("environment")
    async with desk.pools() as pools:
        stores = [
            {"environment": environment, "streams": await browse.streams(pools, environment)}
            for environment in environments(pools)
            if wanted in (None, environment)
        ]
    return Page(
        template="streams.html",
        title="Streams",
        data={"stores": stores},
        follows=True,
    )


async def stream(desk: Desk, request: Request) -> Page:
    """One stream."""
    environment, name = request.path_params["environment"], request.path_params["name"]
    async with desk.pools() as pools:
        if environment not in pools.opened:
            return no_store(pools, environment)
        found = next((s for s in await browse.streams(pools, environment) if s.name == name), None)
        if found is None:
            return failed(404, f"the {environment} store has no stream {name!r}")
        page = None
        if found.may_read:
            page = await browse.page(pools, environment, streams=[name], limit=SHOWN)
    return Page(
        template="stream.html",
        title=name,
        data={
            "environment": environment,
            "stream": found,
            "readers": _readers(desk, await desk.look(times=BESIDE), environment, name),
            "events": [listed(event, desk.redaction) for event in page.events] if page else [],
            "horizon": page and page.horizon,
            "in_flight": page and page.in_flight,
        },
        follows=True,
    )


def environments(pools: Pools) -> list[str]:
    """Those that have a store of their own, the local one first."""
    one = pools.opened.get("shared") in (None, pools.local)
    return ["local"] if one else ["local", "shared"]


def no_store(pools: Pools, environment: str) -> Page:
    """Why there is no such environment."""
    if environment == "shared":
        return failed(503, f"the shared store is away: {pools.away}")
    return failed(404, f"there is a local and a shared store, but no {environment!r}")


def _readers(desk: Desk, look: Look, environment: str, name: str) -> list[dict[str, Any]]:
    """The projections that read the stream, or ferry to it, as far as they are known."""
    service = desk.config.service
    found: list[dict[str, Any]] = [
        {"service": service, "projection": p.name, "kind": p.kind, "state": p.state, "lag": p.lag}
        for p in look.projections
        if (p.environment == environment and name in {s.stream for s in p.streams})
        or (environment == "shared" and p.shared_stream == name)
    ]
    if environment == "shared":
        found += [
            {
                "service": report.service,
                "projection": report.projection,
                "kind": report.kind,
                "state": report.state,
                "lag": report.lag,
            }
            for report in look.reports
            if report.service != service
            and (
                report.shared_stream == name
                or (report.environment == "shared" and name in report.streams)
            )
        ]
    return found
