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
    from eventferry.parking import Parked, Unparked, Which


def add_to(projections: typer.Typer) -> None:
    """Adds the command to the group `projections`."""

    @command(
        projections,
        "unpark",
        examples=(
            "eventferry projections unpark mails-projection --all --dry-run",
            "eventferry projections unpark mails-projection --entity 42",
            "eventferry projections unpark mails-projection --error 0f1e2d3c4b5a",
        ),
    )
    def unpark(
        call: Call,
        name: NameArgument,
        entity: Annotated[
            str | None, typer.Option("--entity", metavar="ID", help="All that is parked of it.")
        ] = None,
        events: Annotated[
            list[UUID] | None,
            typer.Option(
                "--event", metavar="ID", help="One, the first of its entity; several: repeat it."
            ),
        ] = None,
        error: Annotated[
            str | None,
            typer.Option(
                "--error", metavar="FINGERPRINT", help="All of entities that have failed with it."
            ),
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
        if [entity is not None, bool(events), error is not None, everything].count(True) != 1:
            raise typer.BadParameter("say which: one of --entity, --event, --error and --all")

        async def use(control: Control) -> Report:
            from eventferry.parking import Which

            which = Which(entity=entity, events=tuple(events or ()), error=error)
            count = await control.count_parked(which)
            if not count and not everything:
                return _nothing(name, which)
            if dry_run:
                return _listed(name, await control.unparked_next(which), count)
            until = f"{BATCH}, or for the handler"
            return _unparked(name, await patiently(call, control.unpark(which), until=until))

        return controlled(call, name, use, import_handlers=not dry_run, reads=not dry_run)


def _nothing(name: str, which: Which) -> Report:
    if which.error is not None:
        message = (
            f"no event is parked in projection {name} with error {which.error!r}; "
            f"eventferry projections status {name} says which there are"
        )
    elif which.entity is not None:
        message = f"no event of entity {which.entity!r} is parked in projection {name}"
    else:
        ids = ", ".join(map(str, which.events))
        what = "is not" if len(which.events) == 1 else "are not"
        message = f"event {ids} {what} parked in projection {name}"
    return Report(problems=(Problem("NotParked", message),), code=FAILED)


def _listed(name: str, first: Sequence[Parked], count: int) -> Report:
    columns = ("position", "stream", "event", "type", "entity", "attempts", "error", "message")

    def show(screen: Screen) -> None:
        rows: list[tuple[Any, ...]] = [
            (
                p.position,
                p.stream,
                p.event_id,
                p.event_type,
                p.entity_id,
                p.attempts,
                p.fingerprint,
                p.error and in_one_line(p.error),
            )
            for p in first
        ]
        screen.table(columns, rows)
        if count > len(first):
            screen.line(f"… and {count - len(first):,} more")
        screen.line(f"{name}: {count:,} events would be handed to the handler, in this order")

    return Report(data={"projection": name, "events": first, "count": count}, show=show)


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
