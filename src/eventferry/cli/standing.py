"""Why a projection stands still, and how it goes on, for who would start it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventferry.cli.report import Problem
from eventferry.ended import way_out

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.registry import Registered


async def known(config: Config, name: str) -> Registered | None:
    """What the local store knows of the projection; None: it has never run."""
    from eventferry.pools import Pools
    from eventferry.registry import Registry

    async with Pools(config, size=1) as pools:
        return (await Registry(pools.local).find([name])).get(name)


def problem(known: Registered) -> Problem | None:
    """Why it would not run; None: it would."""
    from eventferry.logline import first_line

    name = known.name
    if known.state == "deleted":
        message = f"it has been deleted; `eventferry projections reset {name}` brings it back"
        return Problem("ProjectionDeleted", f"projection {name} does not run: {message}")
    if known.paused_at is not None:
        message = (
            f"{known.paused_by} has paused it at {known.paused_at:%Y-%m-%d %H:%M:%S%z}: "
            f"{known.pause_reason}. `eventferry projections resume {name}` lets it go on"
        )
        return Problem("ProjectionPaused", f"projection {name} does not run: {message}")
    if known.state == "failed":
        message = f"projection {name} has failed: {first_line(known.error)}. {way_out(name)}"
        return Problem("ProjectionFailed", message)
    return None
