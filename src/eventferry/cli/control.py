"""`eventferry projections pause|resume|skip|delete|add-stream|remove-stream`, and `… stop`.

What a person does to a projection, wherever it runs; when a command returns, it is so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from eventferry.cli.call import (
    Call,
    NameArgument,
    ReasonOption,
    StreamArgument,
    command,
    position_or,
    reason,
)
from eventferry.cli.controlling import (
    YesOption,
    agreed,
    controlled,
    done,
    patiently,
    require_consent,
    unchanged,
)
from eventferry.cli.report import Report

if TYPE_CHECKING:
    from eventferry.checkpoint import Mark
    from eventferry.control import Control

WhyOption = Annotated[
    str,
    typer.Option("--reason", parser=reason, metavar="TEXT", help="For others, and the audit."),
]
AN_ID = "019c1234-0000-7000-8000-000000000003"


def add_to(projections: typer.Typer) -> None:
    """Adds the commands to the group `projections`."""
    _add_pausing(projections)
    _add_leaving_out(projections)
    _add_streams(projections)


def _add_pausing(projections: typer.Typer) -> None:
    @command(
        projections,
        "pause",
        examples=('eventferry projections pause users-projection --reason "moving the database"',),
    )
    def pause(call: Call, name: NameArgument, why: WhyOption) -> Report:
        """Let a projection rest.

        The batch that is being handled is finished; then no worker, and no start, goes on with it
        until it is resumed.
        """

        async def use(control: Control) -> Report:
            await patiently(call, control.pause(why))
            text = f"{name} is paused; to let it go on: eventferry projections resume {name}"
            return done(text, projection=name, paused_by=control.who, reason=why)

        return controlled(call, name, use)

    @command(projections, "resume", examples=("eventferry projections resume users-projection",))
    def resume(call: Call, name: NameArgument) -> Report:
        """Let a paused projection go on.

        Nothing happens if it is not paused.
        """

        async def use(control: Control) -> Report:
            resumed = await patiently(call, control.resume())
            text = f"{name} goes on" if resumed else f"{name} was not paused"
            return done(text, projection=name, resumed=resumed)

        return controlled(call, name, use)


def _add_leaving_out(projections: typer.Typer) -> None:
    @command(
        projections,
        "skip",
        examples=(f"eventferry projections skip users-projection --event {AN_ID} --reason double",),
    )
    def skip(
        call: Call,
        name: NameArgument,
        events: Annotated[
            list[UUID],
            typer.Option(
                "--event",
                metavar="ID",
                help="The failing or a parked one; several parked: repeat it.",
            ),
        ],
        why: WhyOption,
    ) -> Report:
        """Leave out the event at which a projection fails, or parked ones.

        They are never handled. The exit code is 1 if one is neither; nothing is skipped then.
        """

        async def use(control: Control) -> Report:
            event, *others = dict.fromkeys(events)
            if others:
                marks = await patiently(call, control.forget([event, *others], why))
                return done(
                    f"{name} forgets {len(marks):,} parked events; what waits behind them is "
                    f"handled on: eventferry projections unpark {name} --all",
                    projection=name,
                    events=[
                        {"event_id": m.event_id, "stream": m.stream, "position": m.position}
                        for m in marks
                    ],
                    parked=True,
                )
            mark, is_parked, entity, left = await patiently(call, _skip(control, event, why))
            what = "forgets the parked event" if is_parked else "goes on after event"
            waiting = (
                f"; {left:,} parked behind it wait on: "
                f"eventferry projections unpark {name} --entity {entity}"
                if left
                else ""
            )
            return done(
                f"{name} {what} {event} of {mark.stream} at position {mark.position}{waiting}",
                projection=name,
                event_id=event,
                stream=mark.stream,
                position=mark.position,
                parked=is_parked,
            )

        return controlled(call, name, use)

    @command(
        projections, "delete", examples=("eventferry projections delete users-projection --yes",)
    )
    def delete(
        call: Call, name: NameArgument, yes: YesOption = False, why: ReasonOption = None
    ) -> Report:
        """Forget where a projection was, and what it has parked.

        Nobody brings it back by starting it; `projections reset` does. What its handler has
        written stays.
        """
        require_consent(call, yes)

        async def use(control: Control) -> Report:
            if not (yes or agreed(f"Forget where {name} was, and what it has parked?")):
                return unchanged()
            await patiently(call, control.delete(why))
            text = f"{name} is deleted; to bring it back: eventferry projections reset {name}"
            return done(text, projection=name, deleted=True)

        return controlled(call, name, use)


async def _skip(control: Control, event: UUID, why: str) -> tuple[Mark, bool, str | None, int]:
    """Its place, whether it was parked, of which entity, and how many of that are left."""
    from eventferry.parking import Which

    parked = await control.parked([event])
    mark = await control.skip(event, why)
    entity = parked[0].entity_id if parked else None
    left = await control.count_parked(Which(entity=entity)) if entity is not None else 0
    return mark, bool(parked), entity, left


def _add_streams(projections: typer.Typer) -> None:
    @command(
        projections,
        "add-stream",
        examples=("eventferry projections add-stream mails-projection jobs-stream --from now",),
    )
    def add_stream(
        call: Call,
        name: NameArgument,
        stream: StreamArgument,
        start: Annotated[
            Any,
            typer.Option(
                "--from",
                parser=position_or("start", "now"),
                metavar="start|now|POSITION",
                help="Where it begins.",
            ),
        ] = "start",
    ) -> Report:
        """Let a consuming projection read another stream too.

        Its configuration must name the stream as well: that is what a worker goes by.
        """

        async def use(control: Control) -> Report:
            position = await patiently(call, control.add_stream(stream, start))
            text = f"{name} reads {stream} too, after position {position}{_configured(control)}"
            return done(text, projection=name, stream=stream, position=position)

        return controlled(call, name, use, reads=True)

    @command(
        projections,
        "remove-stream",
        examples=("eventferry projections remove-stream mails-projection jobs-stream --yes",),
    )
    def remove_stream(
        call: Call, name: NameArgument, stream: StreamArgument, yes: YesOption = False
    ) -> Report:
        """Let a consuming projection read a stream no longer.

        Where it was there is forgotten, and what it has parked of it.
        """
        require_consent(call, yes)

        async def use(control: Control) -> Report:
            if not (yes or agreed(f"Forget where {name} was in {stream}?")):
                return unchanged()
            await patiently(call, control.remove_stream(stream))
            text = f"{name} reads {stream} no longer{_configured(control)}"
            return done(text, projection=name, stream=stream)

        return controlled(call, name, use)


def _configured(control: Control) -> str:
    return f"; its stream_names in {control.pools.config.path.name} must say the same"


def add_stop(group: typer.Typer, kind: str) -> None:
    """Adds `stop` to the group `producing` or `consuming`."""

    @command(group, "stop", examples=(f"eventferry {kind} stop users-projection",))
    def stop(call: Call, name: NameArgument) -> Report:
        """End the `start` that runs a projection.

        The batch that is being handled is finished. Workers go on with it: `projections pause`
        is what keeps them from it. Where nobody runs it, nothing happens.
        """

        async def use(control: Control) -> Report:
            await patiently(call, control.stop())
            return done(f"{name} is stopped", projection=name)

        return controlled(call, name, use, kind=kind)
