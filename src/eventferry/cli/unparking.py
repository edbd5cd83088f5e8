"""`eventferry projections unpark`: what was set aside is handed to the handler again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from eventferry.cli.call import Call, NameArgument, command
from eventferry.cli.controlling import BATCH, controlled, patiently
from eventferry.cli.report import FAILED, Problem, Report, Screen, in_one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventferry.control import Control
    from eventferry.parking import Parked, Unparked


def add_to(projections: typer.Typer) -> None:
    """Adds the command to the group `projections`."""

    @command(
        projections,
        "unpark",
        examples=(
            "eventferry projections unpark mails-projection --all --dry-run",
            "eventferry projections unpark mails-projection --entity 42",
        ),
    )
    def unpark(
        call: Call,
        name: NameArgument,
        entity: Annotated[
            str | None, typer.Option("--entity", metavar="ID", help="All that is parked of it.")
        ] = None,
        event: Annotated[
            UUID | None,
            typer.Option("--event", metavar="ID", help="One, the first of its entity."),
        ] = None,
        everything: Annotated[bool, typer.Option("--all", help="All parked events.")] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only list them, in order.")
        ] = False,
    ) -> Report:
        """Hand parked events to the handler again.

        In order. Where one fails again, it stays parked, and the later ones of its entity behind
        it; the exit code is 1 then.
        """
        if [entity is not None, event is not None, everything].count(True) != 1:
            raise typer.BadParameter("say which: one of --entity, --event and --all")

        async def use(control: Control) -> Report:
            asked = await control.unparked_next(entity=entity, event=event)
            if not asked and not everything:
                which = f"event {event}" if event else f"no event of entity {entity!r}"
                is_parked = "is not parked" if event else "is parked"
                return _nothing(f"{which} {is_parked} in projection {name}")
            if dry_run:
                return _listed(name, asked)
            until = f"{BATCH}, or for the handler"
            work = control.unpark(entity=entity, event=event)
            return _unparked(name, await patiently(call, work, until=until))

        return controlled(call, name, use, import_handlers=not dry_run, reads=not dry_run)


def _nothing(message: str) -> Report:
    return Report(problems=(Problem("NotParked", message),), code=FAILED)


def _listed(name: str, asked: Sequence[Parked]) -> Report:
    def show(screen: Screen) -> None:
        columns = ("stream", "position", "event", "type", "entity", "attempts", "error")
        rows: list[tuple[Any, ...]] = [
            (
                p.stream,
                p.position,
                p.event_id,
                p.event_type,
                p.entity_id,
                p.attempts,
                p.error and in_one_line(p.error),
            )
            for p in asked
        ]
        screen.table(columns, rows)
        screen.line(f"{name}: {len(asked):,} events would be handed to the handler, in this order")

    return Report(data={"projection": name, "events": asked}, show=show)


def _unparked(name: str, found: Unparked) -> Report:
    problems = [
        Problem("ProjectionFailed", f"{event} failed again: {in_one_line(error)}")
        for event, error in found.failed
    ]
    if found.left and not problems:
        problems = [Problem("StillParked", f"{name}: {found.left:,} events are still parked")]
    left = f", {found.left:,} are still parked" if found.left else ""
    events = "event" if found.handled == 1 else "events"

    return Report(
        data={
            "projection": name,
            "handled": found.handled,
            "left": found.left,
            "failed": [{"event": event, "error": error} for event, error in found.failed],
        },
        show=lambda screen: screen.line(f"{name}: {found.handled:,} {events} handled{left}"),
        problems=tuple(problems),
        code=FAILED if problems else 0,
    )
