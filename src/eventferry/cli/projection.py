"""`eventferry projections …`: what there is, how it is, and retrying what has failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventferry.cli.call import (
    Call,
    NamesArgument,
    ReasonOption,
    chosen_or_all,
    command,
    seconds,
)
from eventferry.cli.report import Report, Screen

if TYPE_CHECKING:
    from eventferry.projection import Projection


def add_to(app: typer.Typer) -> typer.Typer:
    """Adds the commands; the group that they are in."""
    projections = typer.Typer(
        no_args_is_help=True, help="Projections: how they are, and what can be done to them."
    )
    app.add_typer(projections, name="projections")

    @command(projections, "list", examples=("eventferry projections list",))
    def list_(call: Call) -> Report:
        """List what the configuration says."""
        config = call.config()
        found = [_configured(p) for p in config.projections.values()]

        def show(screen: Screen) -> None:
            screen.table(
                ("projection", "kind", "mode", "queue", "reads", "from", "to"),
                [
                    (
                        row["name"],
                        row["kind"],
                        row["mode"],
                        row["queue"],
                        ", ".join(row["streams"]),
                        row["environment"],
                        row["shared_stream"] or "its handler",
                    )
                    for row in found
                ],
            )

        return Report(data=found, show=show)

    @command(
        projections,
        "status",
        examples=(
            "eventferry projections status",
            "eventferry projections status users-projection --verbose",
            "eventferry projections status --watch",
        ),
    )
    def status_(
        call: Call,
        names: NamesArgument = None,
        verbose: Annotated[
            bool,
            typer.Option("--verbose", "-v", help="Tracebacks too, and all attempts that failed."),
        ] = False,
        watch: Annotated[
            bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")
        ] = False,
        every_s: Annotated[
            float | None,
            typer.Option(
                "--every", metavar="DURATION", parser=seconds, help="Of --watch: 2s by default."
            ),
        ] = None,
    ) -> Report:
        """Show how projections are.

        Running or not, how far and how far behind, how fast, what holds them back, what failed, and
        which processes run them, with which version of the code.

        The exit code is 1 if one has failed, or waits for a stream that does not exist, and 2 if a
        store is away; without the shared one, what the local one knows is shown.
        """
        from eventferry.cli import status
        from eventferry.cli.watching import EVERY_S

        config = call.config()
        chosen = chosen_or_all(config, names)
        watch_s = (every_s or EVERY_S) if watch else None
        shown = status.report(call, config, chosen, verbose=verbose, watch_s=watch_s)
        try:
            return asyncio.run(shown)
        except KeyboardInterrupt:
            if not watch:
                raise
            return Report(is_printed=True)

    @command(
        projections,
        "retry",
        examples=(
            "eventferry projections retry",
            "eventferry projections retry users-projection --wait --timeout 5m",
        ),
    )
    def retry(
        call: Call,
        names: NamesArgument = None,
        wait: Annotated[
            bool, typer.Option("--wait", help="Follow them; run them here if no worker does.")
        ] = False,
        timeout_s: Annotated[
            float | None,
            typer.Option(
                "--timeout", metavar="DURATION", parser=seconds, help="Of --wait: 60s by default."
            ),
        ] = None,
        why: ReasonOption = None,
    ) -> Report:
        """Let failed projections run again.

        Their workers are woken.

        With --wait the exit code is 1 if one failed again, or is not done in time.
        """
        from eventferry.cli import retrying

        config = call.config()
        chosen = chosen_or_all(config, names)
        return asyncio.run(
            retrying.retry(
                call,
                config,
                chosen,
                named=bool(names),
                wait_s=(timeout_s or 60.0) if wait else None,
                reason=why,
            )
        )

    return projections


def _configured(projection: Projection) -> dict[str, Any]:
    return {
        "name": projection.name,
        "kind": projection.kind,
        "mode": "background" if projection.background else "on demand",
        "queue": projection.queue,
        "streams": projection.streams,
        "environment": projection.environment,
        "shared_stream": projection.shared_stream,
        "event_types": projection.event_types,
    }
