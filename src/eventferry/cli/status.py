"""`eventferry projections status`: how projections are, in words.

A table for all, then of each what somebody should know or do, with the commands.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from eventferry.cli.failure import missing
from eventferry.cli.report import FAILED, Problem, Report, Screen, in_one_line

if TYPE_CHECKING:
    from eventferry.cli.call import Call
    from eventferry.config import Config
    from eventferry.history import Failure as Attempt
    from eventferry.projection import Projection
    from eventferry.reach import InFlight
    from eventferry.runner import Runner
    from eventferry.status import Failure, ParkedEvents, ProjectionStatus, StreamStatus

COLUMNS = (
    *("projection", "kind", "mode", "state"),
    *("stream", "position", "horizon", "lag", "behind", "rate", "left"),
)
ATTEMPTS_SHOWN = 3
"""Failed attempts of a projection, without --verbose."""


async def report(
    call: Call,
    config: Config,
    projections: list[Projection],
    *,
    verbose: bool,
    watch_s: float | None = None,
) -> Report:
    """How the projections are.

    Args:
        call: Who asks: a program gets everything.
        config: Whose they are.
        projections: These.
        verbose: Whether everything is shown that is kept of failures.
        watch_s: Again and again, every so many seconds; None: once.
    """
    from eventferry.cli.watching import watched
    from eventferry.history import failures
    from eventferry.pools import Pools, needs_shared
    from eventferry.status import status

    limit = None if verbose or call.json else ATTEMPTS_SHOWN
    asked = any(map(needs_shared, projections))

    async def answer() -> Report:
        # opened for each answer, as a store may be away, or have come back
        async with Pools(config, size=2, shared_is="optional" if asked else "unused") as pools:
            found = await status(pools, projections)
            attempts = await failures(pools, projections, limit)
            return _answer(found, attempts, missing(pools.away), verbose=verbose)

    return await (answer() if watch_s is None else watched(call, answer, watch_s))


def _answer(
    found: list[ProjectionStatus], attempts: list[Attempt], without: Report, *, verbose: bool
) -> Report:
    wrong = tuple(p for status in found if (p := problem(status)))
    now = datetime.now(UTC)
    failed = {s.name: [a for a in attempts if a.projection == s.name] for s in found}

    def show(screen: Screen) -> None:
        screen.table(
            COLUMNS,
            [_row(status, stream) for status in found for stream in status.streams],
            expendable=("kind", "horizon", "mode", "position", "rate", "stream"),
        )
        for status in found:
            _show_details(screen, status, now=now, verbose=verbose)
            _show_attempts(screen, status, failed[status.name], now=now, verbose=verbose)
        _show_runners(screen, found)

    return Report(
        data=[
            {f.name: getattr(status, f.name) for f in fields(status)}
            | {
                "lag": status.lag,
                "behind_s": status.behind_s,
                "time_left_s": status.time_left_s,
                "runners": [_runner(runner) for runner in status.runners],
                "failures": failed[status.name],
            }
            for status in found
        ],
        show=show,
        problems=(*without.problems, *wrong),
        code=max(without.code, FAILED if wrong else 0),
    )


def _runner(runner: Runner) -> dict[str, object]:
    own = {f.name: getattr(runner, f.name) for f in fields(runner)}
    return own | {"is_outdated": runner.is_outdated}


def problem(status: ProjectionStatus) -> Problem | None:
    """Why the projection stands still until somebody does something; None: it does not."""
    if status.failure and status.failure.is_final:
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
        shown_age(stream.behind_s) if stream.lag and stream.behind_s is not None else "-",
        f"{status.rate:,.{0 if status.rate >= 10 else 1}f}/s" if status.rate else "-",
        shown_left(status.time_left_s, status.lag),
    )


def shown_lag(lag: int | None) -> str:
    """The lag for people; `-` where it can't be said."""
    from eventferry.status import LAG_LIMIT

    if lag is None:
        return "-"
    return f"{lag:,}" if lag <= LAG_LIMIT else f"≥ {LAG_LIMIT:,}"


def shown_left(left_s: float | None, lag: int | None) -> str:
    """The time left for people, at least so long where the lag is at least so much."""
    if left_s is None:
        return "-"
    return ("≥ " if shown_lag(lag).startswith("≥") else "") + shown_age(left_s)


def _show_details(
    screen: Screen, status: ProjectionStatus, *, now: datetime, verbose: bool
) -> None:
    name = status.name
    if status.runner:
        screen.line(f"{name} is run by {status.runner}")
    for append in status.in_flight:
        screen.line(f"{name} is held back by {holder(append)}", "yellow")
    if status.state == "deleted":
        screen.line(f"{name} has been deleted; nobody starts it", "yellow")
        screen.line(f"  to begin again: eventferry projections reset {name} --to start --yes")
    if status.paused:
        when = ago(status.paused.at, now)
        who, why = status.paused.by, in_one_line(status.paused.reason)
        screen.line(f"{name} was paused by {who}, {when}: {why}", "yellow")
        screen.line(f"  to let it go on: eventferry projections resume {name}")
    if status.failure:
        _show_failure(screen, status, status.failure, now=now, verbose=verbose)
    if status.parked:
        _show_parked(screen, status, status.parked, verbose=verbose)


def _show_failure(
    screen: Screen, status: ProjectionStatus, failure: Failure, *, now: datetime, verbose: bool
) -> None:
    when = f", {ago(failure.failed_at, now)}" if failure.failed_at else ""
    attempt = f" (attempt {failure.attempts} of {failure.allowed})"
    retry = f"eventferry projections retry {status.name}"
    if failure.is_final:
        said, style = f"failed{when}{attempt}", "bold red"
    elif failure.next_attempt_at:
        said, style = f"is retrying: it failed{when}{attempt}", "yellow"
    else:
        said, style = f"was retried, and failed before{when}", None
    screen.line(f"{status.name} {said}", style)
    if failure.event_id:
        place = f"{failure.stream} at position {failure.position}"
        screen.line(f"  event  {failure.event_type} {failure.event_id} of {place}")
    screen.line(f"  error  {_indented(failure.error)}")
    if verbose and failure.traceback:
        screen.line(f"  {_indented(failure.traceback.rstrip(), '  ')}")
    if failure.next_attempt_at:
        screen.line(f"  next   {_due(failure)}; at once: {retry}")
    if failure.is_final:
        screen.line(f"  when it is fixed: {retry}")
        if failure.event_id and status.kind == "consuming":
            skip = f"eventferry projections skip {status.name} --event {failure.event_id}"
            screen.line(f"  to leave the event out: {skip} --reason …")


def _show_runners(screen: Screen, found: list[ProjectionStatus]) -> None:
    """The processes that run them, whenever they have work."""
    present = {runner.id: runner for status in found for runner in status.runners}
    if not present:
        return
    names = [status.name for status in found]
    screen.line()
    screen.table(
        ("process", "host:pid", "since", "version", "runs"),
        [
            (
                r.command,
                f"{r.host}:{r.pid}",
                f"{r.started_at:%Y-%m-%d %H:%M:%S%z}",
                f"{r.version}, older than {r.newest_version}" if r.is_outdated else r.version,
                ", ".join(name for name in names if name in r.projections),
            )
            for r in present.values()
        ],
    )
    if any(runner.is_outdated for runner in present.values()):
        screen.line("to run the newest version: eventferry restart", "yellow")


def _due(failure: Failure) -> str:
    moment = f"{failure.next_attempt_at:%Y-%m-%d %H:%M:%S%z}"
    return f"attempt in {shown_age(failure.due_s)}, at {moment}" if failure.due_s else "attempt now"


def _show_parked(
    screen: Screen, status: ProjectionStatus, parked: ParkedEvents, *, verbose: bool
) -> None:
    events, entities = parked.events, parked.entities
    count = f"{events:,} parked event{'s' if events > 1 else ''}"
    screen.line(f"{status.name} has {count} of {entities:,} entit{'ies' if entities > 1 else 'y'}",
                "yellow")  # fmt: skip
    for event in parked.first:
        entity = f"entity {event.entity_id}, " if event.entity_id is not None else ""
        place = f"{event.stream} at position {event.position} ({entity}attempt {event.attempts})"
        screen.line(f"  event  {event.event_type} {event.event_id} of {place}")
        alike = f" ({event.fingerprint})" if event.fingerprint else ""
        screen.line(f"  error{alike}  {_indented(event.error or '')}")
        if verbose and event.traceback:
            screen.line(f"  {_indented(event.traceback.rstrip(), '  ')}")
    unpark = f"eventferry projections unpark {status.name}"
    screen.line(f"  when it is fixed: {unpark} --all; only what failed alike: {unpark} --error …")


def _show_attempts(
    screen: Screen,
    status: ProjectionStatus,
    attempts: list[Attempt],
    *,
    now: datetime,
    verbose: bool,
) -> None:
    """What has failed, the latest first: where something is the matter, or everything is asked."""
    if not attempts or not (verbose or status.failure or status.parked):
        return
    screen.line(f"{status.name}: failed attempts, the latest first")
    for attempt in attempts:
        event = f"{attempt.event_type} {attempt.event_id}: " if attempt.event_id else ""
        place = f"{ago(attempt.failed_at, now)}, attempt {attempt.attempt}"
        screen.line(f"  {place}: {event}{in_one_line(attempt.error)}")


def holder(append: InFlight) -> str:
    """An open append, and who is to be spoken to."""
    where = (
        f"by backend {append.pid}"
        if append.pid is not None
        else f"of the prepared transaction {append.prepared or '(unknown)'!r}"
    )
    who = ", ".join(
        part
        for part in (
            append.application,
            append.user and f"user {append.user}",
            append.client and f"from {append.client}",
            append.state,
            append.open_s is not None and f"open for {shown_age(append.open_s)}",
            append.unseen_by
            and f"more is seen after GRANT pg_read_all_stats TO {append.unseen_by}",
        )
        if part
    )
    return f"an append to {append.stream} {where}" + (f" ({who})" if who else "")


def _indented(text: str, by: str = "         ") -> str:
    return f"\n{by}".join(text.splitlines())


def ago(moment: datetime, now: datetime) -> str:
    """How long ago it was."""
    return f"{shown_age(max(0.0, (now - moment).total_seconds()))} ago"


def shown_age(age: float) -> str:
    """A number of seconds, as people say it."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if age < limit:
            return f"{age / unit:.0f} {name}"
    return f"{age / 86_400:.0f} days"
