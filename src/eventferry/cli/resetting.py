"""`eventferry projections reset`: a projection begins again, elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventferry.cli.call import Call, NameArgument, ReasonOption, command, position_or
from eventferry.cli.controlling import (
    BATCH,
    YesOption,
    agreed,
    controlled,
    patiently,
    require_consent,
    unchanged,
)
from eventferry.cli.failure import DEBUG_VARIABLE, failure
from eventferry.cli.report import FAILED, Problem, Report, Screen, in_one_line

if TYPE_CHECKING:
    from eventferry.control import Control, Move, To
    from eventferry.projection import Projection


def add_to(projections: typer.Typer) -> None:
    """Adds the command to the group `projections`."""

    @command(
        projections,
        "reset",
        examples=(
            "eventferry projections reset mails-projection --dry-run",
            "eventferry projections reset mails-projection --to now --stop --yes",
        ),
    )
    def reset(
        call: Call,
        name: NameArgument,
        to: Annotated[
            Any,
            typer.Option(
                "--to",
                parser=position_or("start", "now", "last-common"),
                metavar="start|now|POSITION|last-common",
                help="Where it goes on; last-common: at the last event that it has read and the "
                "store still has.",
            ),
        ] = "start",
        yes: YesOption = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only say what would happen.")
        ] = False,
        stop: Annotated[
            bool, typer.Option("--stop", help="Even if somebody runs it: that run is ended.")
        ] = False,
        why: ReasonOption = None,
    ) -> Report:
        """Let a projection begin again, or go on elsewhere.

        First its handler's `reset(context)` is called, if it has one, in the same transaction.
        What failed is forgotten, and so is what is parked behind the new place, as it comes again;
        a deleted projection is back. With last-common, if there is such an event, the projection
        goes on, and `reset` is not called.
        """
        require_consent(call, yes or dry_run)

        async def use(control: Control) -> Report:
            plan = await _plan(control, to)
            if dry_run:
                return plan.report(is_done=False)
            if not stop and (refused := await _running(control)):
                return refused
            if not yes:
                plan.show(Screen(sys.stdout))
                if not agreed("Do it?"):
                    return unchanged()
            if stop:
                await patiently(call, control.stop())
            until = f"{BATCH}, or for the handler's reset"
            try:
                moves = await patiently(call, control.reset(to, why), until=until)
            except Exception as error:
                return _failed(name, error)
            return replace(plan, moves=moves, is_shown=not yes).report(is_done=True)

        return controlled(call, name, use, import_handlers=True, reads=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a reset does."""

    projection: Projection
    to: To
    moves: list[Move]
    parked: int
    """Parked events that are dropped, as they come again."""
    is_shown: bool = False

    @property
    def has_reset(self) -> bool:
        """Whether its handler has one that is called."""
        handler = self.projection.handler
        return handler is not None and handler.reset is not None and not self.goes_on

    @property
    def goes_on(self) -> bool:
        """Whether it does not begin again, but goes on at an event that it has read."""
        return self.to == "last-common" and any(move.after for move in self.moves)

    def report(self, *, is_done: bool) -> Report:
        name = self.projection.name

        def show(screen: Screen) -> None:
            if not self.is_shown:
                self.show(screen)
            screen.line(f"{name} is reset" if is_done else "a dry run: nothing is changed")

        return Report(
            data={
                "projection": name,
                "to": self.to,
                "streams": self.moves,
                "has_reset": self.has_reset,
                "parked": self.parked,
                "done": is_done,
            },
            show=show,
        )

    def show(self, screen: Screen) -> None:
        """In words."""
        for move in self.moves:
            screen.line(f"{self.projection.name}: {move.stream} {_moved(move, self.to)}")
        for line in self._side_effects():
            screen.line(f"{self.projection.name}: {line}")

    def _side_effects(self) -> Iterator[str]:
        if self.projection.kind == "producing":
            yield f"what is in {self.projection.shared_stream} already is not appended again"
        elif self.has_reset:
            yield "its handler's reset is called, in the same transaction"
        else:
            without = "goes on" if self.goes_on else "has no reset"
            yield f"its handler {without}: what it has written stays"
        if self.parked:
            yield f"{self.parked:,} parked events are dropped, as they come again"


def _moved(move: Move, to: To) -> str:
    if move.before is None:
        return f"begins after position {move.after}; it has not run there"
    way = f"goes from position {move.before} to {move.after}"
    if to == "last-common" and move.after == 0:
        way = f"has nothing in common with what was read up to position {move.before}; {way}"
    if move.after == move.before:
        return f"stays at position {move.after}"
    what = "handled again" if move.after < move.before else "left out"
    return f"{way}: {move.events:,} events are {what}"


async def _plan(control: Control, to: To) -> Plan:
    moves = await control.plan(to)
    parked = await control.dropped(moves)
    return Plan(projection=control.projection, to=to, moves=moves, parked=parked)


async def _running(control: Control) -> Report | None:
    """The refusal, where somebody runs the projection."""
    from eventferry.status import status

    (found,) = await status(control.pools, [control.projection])
    if found.runner is None:
        return None
    message = (
        f"projection {found.name} is run by {found.runner}; --stop ends that run first. "
        "Nothing is changed"
    )
    return Report(problems=(Problem("Running", message),), code=FAILED)


def _failed(name: str, error: Exception) -> Report:
    """What the handler's reset has raised is none of ours."""
    from eventferry.connection import is_outage
    from eventferry.errors import EventFerryError

    if isinstance(error, EventFerryError) or is_outage(error):
        raise error
    type_ = type(error).__name__
    message = (
        f"the reset of projection {name} has raised {type_}: {in_one_line(error)}. Nothing is "
        f"changed. {DEBUG_VARIABLE}=1 shows the traceback"
    )
    return replace(failure(error), problems=(Problem(type_, message),), code=FAILED)
