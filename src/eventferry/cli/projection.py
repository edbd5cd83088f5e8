"""`eventferry projections …`: what there is, how it is, and retrying what has failed."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventferry.cli.call import Call, command, seconds
from eventferry.cli.report import FAILED, Problem, Report, Screen, in_one_line

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.projection import Projection
    from eventferry.status import InFlight, ProjectionStatus, StreamStatus

NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Of projections; all by default.")
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    projections = typer.Typer(no_args_is_help=True, help="Projections: how they are, retrying.")
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
        ),
    )
    def status(
        call: Call,
        names: NamesArgument = None,
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks too.")] = False,
    ) -> Report:
        """Show how projections are.

        Running or not, how far, what holds them back, what failed.

        The exit code is 1 if one has failed, or waits for a stream that does not exist.
        """
        config = call.config()
        found = asyncio.run(_status(config, _chosen(config, names)))
        return _status_report(found, verbose=verbose)

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
    ) -> Report:
        """Let failed projections run again.

        Their workers are woken.

        With --wait the exit code is 1 if one failed again, or is not done in time.
        """
        from eventferry.cli import retrying

        config = call.config()
        chosen = _chosen(config, names)
        return asyncio.run(
            retrying.retry(
                call,
                config,
                chosen,
                named=bool(names),
                wait_s=(timeout_s or 60.0) if wait else None,
            )
        )


def _chosen(config: Config, names: list[str] | None) -> list[Projection]:
    from eventferry.worker import chosen

    return chosen(config, names) if names else list(config.projections.values())


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


# ---- status


async def _status(config: Config, projections: list[Projection]) -> list[ProjectionStatus]:
    from eventferry.pools import Pools
    from eventferry.status import status

    async with Pools(config, size=2) as pools:
        return await status(pools, projections)


def _status_report(found: list[ProjectionStatus], *, verbose: bool) -> Report:
    wrong = tuple(problem for status in found if (problem := _problem(status)))
    now = datetime.now(UTC)

    def show(screen: Screen) -> None:
        screen.table(
            ("projection", "kind", "mode", "state", "stream", "position", "horizon", "lag"),
            [_row(status, stream) for status in found for stream in status.streams],
        )
        for status in found:
            _show_details(screen, status, now=now, verbose=verbose)

    return Report(
        data=[
            {f.name: getattr(status, f.name) for f in fields(status)} | {"lag": status.lag}
            for status in found
        ],
        show=show,
        problems=wrong,
        code=FAILED if wrong else 0,
    )


def _problem(status: ProjectionStatus) -> Problem | None:
    if status.state == "failed" and status.failure:
        message = f"projection {status.name} has failed: {in_one_line(status.failure.error)}"
        return Problem("ProjectionFailed", message)
    if status.state == "waiting":
        message = f"projection {status.name} waits: {status.waiting}"
        return Problem("UnknownStream", message)
    return None


def _row(status: ProjectionStatus, stream: StreamStatus) -> tuple[object, ...]:
    return (
        status.name,
        status.kind,
        status.mode,
        status.state,
        stream.stream,
        "-" if stream.position is None else stream.position,
        "-" if stream.horizon is None else stream.horizon,
        shown_lag(stream.lag),
    )


def shown_lag(lag: int | None) -> str:
    """The lag for people; `-` where it can't be said."""
    from eventferry.status import LAG_LIMIT

    if lag is None:
        return "-"
    return f"{lag:,}" if lag <= LAG_LIMIT else f"≥ {LAG_LIMIT:,}"


def _show_details(
    screen: Screen, status: ProjectionStatus, *, now: datetime, verbose: bool
) -> None:
    if status.runner:
        screen.line(f"{status.name} is run by {status.runner}")
    for append in status.in_flight:
        screen.line(f"{status.name} is held back by {_holder(append, now)}", "yellow")
    failure = status.failure
    if failure is None:
        return
    is_failed = status.state == "failed"
    what = "failed" if is_failed else "was retried, and failed before"
    when = f", {_ago(failure.failed_at, now)}" if failure.failed_at else ""
    screen.line(
        f"{status.name} {what}{when} (attempt {failure.attempts})",
        "bold red" if is_failed else None,
    )
    if failure.event_id:
        place = f"{failure.stream} at position {failure.position}"
        screen.line(f"  event  {failure.event_type} {failure.event_id} of {place}")
    screen.line(f"  error  {_indented(failure.error)}")
    if verbose and failure.traceback:
        screen.line(f"  {_indented(failure.traceback.rstrip(), '  ')}")
    if is_failed:
        screen.line(f"  when it is fixed: eventferry projections retry {status.name}")


def _holder(append: InFlight, now: datetime) -> str:
    if append.pid is None:
        return f"an append to {append.stream} of a prepared transaction"
    who = ", ".join(
        part
        for part in (
            append.application,
            append.user and f"user {append.user}",
            append.client and f"from {append.client}",
            append.state,
            append.since and f"its transaction began {_ago(append.since, now)}",
        )
        if part
    )
    return f"an append to {append.stream} by backend {append.pid} ({who})"


def _indented(text: str, by: str = "         ") -> str:
    return f"\n{by}".join(text.splitlines())


def _ago(moment: datetime, now: datetime) -> str:
    age = max(0.0, (now - moment).total_seconds())
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if age < limit:
            return f"{age / unit:.0f} {name} ago"
    return f"{age / 86_400:.0f} days ago"
