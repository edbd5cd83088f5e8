"""`/live`: tells open pages when something has changed, by server-sent events.

A page is then fetched again, so that there is one way to make it; where nothing has changed, it is
not. The looks are those that the pages are made from: listening costs the stores nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from eventferry.dashboard.desk import BESIDE, Desk, Look
from eventferry.dashboard.map import SILENT_S

EVENT = "look"


async def live(request: Request) -> StreamingResponse:
    """Goes on until the browser hangs up, or the dashboard ends."""
    desk: Desk = request.app.state.desk
    follows = "follow" in request.query_params  # a page of something that the look does not show
    headers = {"X-Accel-Buffering": "no"}  # nginx would keep the events for itself
    return StreamingResponse(
        _events(desk, follows=follows), media_type="text/event-stream", headers=headers
    )


async def _events(desk: Desk, *, follows: bool) -> AsyncIterator[str]:
    times = BESIDE if follows else 1
    known = _gist(await desk.look(times=times))
    yield "retry: 2000\n\n"
    while not desk.is_closing.is_set():
        try:
            await asyncio.wait_for(desk.is_closing.wait(), desk.settings.look_s)
            return
        except TimeoutError:
            look = await desk.look(times=times)
        if follows or _gist(look) != known:
            known = _gist(look)
            yield f"event: {EVENT}\ndata: {look.number}\n\n"
        else:
            yield ":\n\n"  # so that who has hung up is noticed


def _gist(look: Look) -> Any:
    """What of a look is shown."""
    own = [(p, p.lag) for p in look.projections]
    others = [
        (r.service, r.projection, r.state, r.lag, r.error, r.age_s > SILENT_S) for r in look.reports
    ]
    return own, others, [(r.id, r.is_alive, r.asked_at) for r in look.runners], look.away
