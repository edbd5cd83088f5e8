"""What commands that do something to a projection have in common: consent, patience, a control."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from eventferry.cli.call import Call, who
from eventferry.cli.report import FAILED, WRONG, Problem, Report

if TYPE_CHECKING:
    from eventferry.control import Control

T = TypeVar("T")

WAITING_S = 1.0
"""A control that takes longer says what it waits for."""
BATCH = "the batch that is being handled"

YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def controlled(
    call: Call,
    name: str,
    use: Callable[[Control], Coroutine[Any, Any, Report]],
    *,
    kind: str | None = None,
    import_handlers: bool = False,
    reads: bool = False,
) -> Report:
    """Does something with the control of a projection.

    Args:
        call: Who gives the command.
        name: The projection's.
        use: What is done.
        kind: Of which it must be; None: of any.
        import_handlers: Whether its handler is called.
        reads: Whether its streams are looked at. The shared store may be away where neither they
            nor its checkpoint are there.

    Raises:
        UnknownProjection, ConfigurationError, StoreError
    """
    from eventferry.program import chosen

    config = call.config(import_handlers=import_handlers)
    (projection,) = chosen(config, [name])
    if kind not in (None, projection.kind):
        return wrong_kind(call, name, projection.kind)

    async def main() -> Report:
        from eventferry.control import Control
        from eventferry.pools import Pools, needs_shared

        needed = projection.kind == "producing" or (reads and needs_shared(projection))
        async with Pools(config, size=4, shared_is="required" if needed else "unused") as pools:
            return await use(Control(pools=pools, projection=projection, who=who()))

    return asyncio.run(main())


def wrong_kind(call: Call, name: str, kind: str) -> Report:
    """What `producing …` says of a consuming projection, and the other way round."""
    verb = call.command.rpartition(" ")[2]
    message = f"{name!r} is a {kind} projection: eventferry {kind} {verb} {name}"
    return Report(problems=(Problem("WrongKind", message),), code=WRONG)


async def patiently(call: Call, work: Coroutine[Any, Any, T], *, until: str = BATCH) -> T:
    """The work's result; what takes its time says what for."""
    task = asyncio.create_task(work)
    await asyncio.wait({task}, timeout=WAITING_S)
    if not task.done():
        call.messages.line(f"waiting for {until} …")
    return await task


def require_consent(call: Call, given: bool) -> None:
    """Refuses what can't be undone where nobody can be asked.

    Raises:
        typer.BadParameter: there is no `--yes`, and no terminal.
    """
    if not given and (call.json or not sys.stdin.isatty()):
        raise typer.BadParameter("nobody can be asked here whether to do it: add --yes")


def agreed(question: str) -> bool:
    """Asks on the terminal."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False


def unchanged() -> Report:
    """The report of what nobody has agreed to."""
    return Report(problems=(Problem("NotAgreed", "nothing is changed"),), code=FAILED)


def done(text: str, **data: Any) -> Report:
    """The report of what has been done."""
    return Report(data=data, show=lambda screen: screen.line(text))
