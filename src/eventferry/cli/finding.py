"""What `check` has to say of projections: what is wrong with them, and what helps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from eventferry.cli.report import in_one_line

if TYPE_CHECKING:
    from eventferry.reach import InFlight
    from eventferry.status import ProjectionStatus

NOBODY_S = 60.0
"""An event that waits for longer than this has nobody who runs its projection."""

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that somebody should know."""

    level: Level
    """error: something has failed, or stands still. warning: it may be meant, or pass."""
    type: str
    message: str
    remedy: str | None = None
    """A command, or a statement, that helps."""
    projections: tuple[str, ...] = ()
    """Those that it is about, or that wait for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """From when on something is wrong; None: never."""

    open_s: float
    """An append that is open for so long."""
    lag: int | None
    """So many events that are not dealt with."""
    age_s: float | None
    """One of them that has waited for so long."""


def findings(statuses: Iterable[ProjectionStatus], limits: Limits) -> list[Finding]:
    """What is to be said of the projections, of who runs them, and of what they wait for."""
    known = list(statuses)
    return [
        *(finding for status in known for finding in _of_projection(status)),
        *(finding for status in known for finding in _behind(status, limits)),
        *_outdated(known),
        *_open_appends(known, limits.open_s),
    ]


def _behind(status: ProjectionStatus, limits: Limits) -> Iterator[Finding]:
    from eventferry.cli.status import shown_age, shown_lag

    lag, age_s = status.lag or 0, status.behind_s or 0.0
    told = []
    if limits.lag is not None and lag > limits.lag:
        told.append(
            f"{shown_lag(lag)} event{'s' if lag > 1 else ''} behind (allowed: {limits.lag:,})"
        )
    if limits.age_s is not None and age_s > limits.age_s:
        told.append(
            f"{shown_age(age_s)} behind, its oldest event (allowed: {shown_age(limits.age_s)})"
        )
    remedy = f"eventferry projections status {status.name}"
    for said in told:
        message = f"projection {status.name} is {said}"
        yield Finding(
            level="error",
            type="Lagging",
            message=message,
            remedy=remedy,
            projections=(status.name,),
        )
    alone = status.state in ("idle", "never run") and not status.runners
    if alone and lag and age_s > NOBODY_S:
        yield Finding(
            level="warning",
            type="NobodyRuns",
            message=f"projection {status.name} has work since {shown_age(age_s)}, and nobody "
            "is there who runs it",
            remedy=who_runs(status),
            projections=(status.name,),
        )


def who_runs(status: ProjectionStatus) -> str:
    """The commands that run a projection of this mode."""
    if status.mode == "on demand":
        queue = "" if status.queue == "domain-events" else f" --queue {status.queue}"
        return f"eventferry worker{queue}"
    return (
        f"eventferry worker --background, eventferry schedule run, "
        f"or eventferry {status.kind} start {status.name}"
    )


def _outdated(statuses: list[ProjectionStatus]) -> Iterator[Finding]:
    found = {r.id: r for status in statuses for r in status.runners if r.is_outdated}
    for runner in found.values():
        message = (
            f"{runner.command} {runner.host}:{runner.pid} runs version {runner.version} of the "
            f"code; {runner.newest_version} has been seen since"
        )
        yield Finding(
            level="warning",
            type="Outdated",
            message=message,
            remedy="eventferry restart",
            projections=tuple(s.name for s in statuses if runner in s.runners),
        )


def _of_projection(status: ProjectionStatus) -> Iterator[Finding]:
    from eventferry.cli.status import problem

    name = status.name
    projections = f"eventferry projections {{}} {name}".format

    def found(level: Level, type_: str, message: str, remedy: str | None) -> Finding:
        return Finding(level=level, type=type_, message=message, remedy=remedy, projections=(name,))

    if wrong := problem(status):
        again = projections("resume" if status.paused else "retry")
        remedy = _creation(status) if status.state == "waiting" else again
        yield found("error", wrong.type, wrong.message, remedy)
    elif status.paused:
        why = f"was paused by {status.paused.by}: {in_one_line(status.paused.reason)}"
        message = f"projection {name} {why}"
        yield found("warning", "ProjectionPaused", message, projections("resume"))
    elif status.state == "retrying" and status.failure:
        failed = f"{status.failure.attempts} of {status.failure.allowed}"
        error = in_one_line(status.failure.error)
        message = f"projection {name} is retrying, attempt {failed} has failed: {error}"
        yield found("warning", "ProjectionRetrying", message, projections("status"))
    elif status.state == "deleted":
        message = f"projection {name} has been deleted, and is in the configuration still"
        yield found("warning", "ProjectionDeleted", message, f"{projections('reset')} --yes")
    if status.parked:
        message = f"projection {name} has {status.parked.events:,} parked event(s)"
        if status.parked.first:
            message += f"; the first error: {in_one_line(status.parked.first[0].error)}"
        yield found("warning", "ParkedEvents", message, f"{projections('unpark')} --all")


def _creation(status: ProjectionStatus) -> str | None:
    """How to create the first stream that is missing; None: none is."""
    missing = [stream.stream for stream in status.streams if stream.exists is False]
    environment = f"--environment {status.environment}"
    return f"eventferry streams create {missing[0]} {environment}" if missing else None


def _open_appends(statuses: list[ProjectionStatus], max_open_s: float) -> Iterator[Finding]:
    from eventferry.cli.status import holder

    waiting: dict[tuple[object, ...], list[tuple[ProjectionStatus, InFlight]]] = {}
    for status in statuses:
        for append in status.in_flight:
            key = (status.environment, append.stream, append.pid, append.prepared)
            waiting.setdefault(key, []).append((status, append))
    for held in waiting.values():
        (status, append), names = held[0], tuple(status.name for status, _ in held)
        message = f"{status.environment} store: {holder(append)} holds back {', '.join(names)}"
        if append.open_s is None:
            grant = append.unseen_by and f"GRANT pg_read_all_stats TO {append.unseen_by}"
            yield Finding(
                level="warning",
                type="OpenAppendUnseen",
                message=f"{message}; since when, can't be seen",
                remedy=grant,
                projections=names,
            )
        elif append.open_s > max_open_s:
            yield Finding(
                level="error",
                type="OpenAppend",
                message=message,
                remedy=_end_of(append),
                projections=names,
            )


def _end_of(append: InFlight) -> str:
    if append.pid is None:
        return f"ROLLBACK PREPARED '{append.prepared}', or COMMIT PREPARED"
    return f"SELECT pg_terminate_backend({append.pid})"
