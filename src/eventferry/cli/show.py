"""`eventferry demo`: everything at once, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventferry.cli.call import Call, command
from eventferry.cli.report import Report


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(app, "demo", examples=("eventferry demo", "eventferry demo --events 5000 --keep"))
    def demo(
        call: Call,
        events: Annotated[int, typer.Option(min=1, help="How many events are appended.")] = 20_000,
        file: Annotated[
            Path | None,
            typer.Option(help="CloudEvents lines to append, instead of made-up events."),
        ] = None,
        keep: Annotated[
            bool, typer.Option("--keep", help="Leave the databases running; prints their URLs.")
        ] = False,
    ) -> Report:
        """See it at work on this machine.

        Two services and a shared store: events cross while workers are killed.

        Exit code 1 if an event was lost, doubled, or out of order. Needs the extra `embedded`.
        """
        from eventferry.demo import main

        code = main(events=events, file=file, keep=keep, json=call.json)
        return Report(code=code, is_printed=True)
