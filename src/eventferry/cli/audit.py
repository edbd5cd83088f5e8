"""`eventferry projections audit`: who did what to projections, when and why."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from eventferry.cli.call import Call, NamesArgument, chosen_or_all, command
from eventferry.cli.failure import missing
from eventferry.cli.report import Report, Screen

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.errors import EventFerryError
    from eventferry.history import Action
    from eventferry.projection import Projection


def add_to(projections: typer.Typer) -> None:
    """Adds the command to the group `projections`."""

    @command(
        projections,
        "audit",
        examples=("eventferry projections audit mails-projection --limit 20",),
    )
    def audit(
        call: Call,
        names: NamesArgument = None,
        limit: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    ) -> Report:
        """Show what has been done to projections.

        Who did it, when and why, the latest first. What a projection's policy did, `eventferry`
        has done.
        """
        config = call.config()
        found, away = asyncio.run(_actions(config, chosen_or_all(config, names), limit))

        def show(screen: Screen) -> None:
            screen.table(
                ("at", "who", "projection", "action", "reason", "details"),
                [
                    (
                        f"{action.at:%Y-%m-%d %H:%M:%S%z}",
                        action.who,
                        action.projection,
                        action.action,
                        action.reason,
                        json.dumps(action.details) if action.details else None,
                    )
                    for action in found
                ],
            )

        return replace(missing(away), data=found, show=show)


async def _actions(
    config: Config, projections: list[Projection], limit: int
) -> tuple[list[Action], EventFerryError | None]:
    from eventferry.history import actions
    from eventferry.pools import Pools

    # what has been done to a consuming projection, stands where its checkpoint is
    asked = any(p.kind == "producing" for p in projections)
    async with Pools(config, size=2, shared_is="optional" if asked else "unused") as pools:
        return await actions(pools, projections, limit), pools.away
