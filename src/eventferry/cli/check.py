"""`eventferry check`: what is wrong, and what helps; for probes, alerts and people on call.

configuration, with its handlers ─> each store: reachable, migrated, whole
                                         └─> the projections, and what holds them back
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eventferry.cli.call import Call, Environment, command, connected, seconds, url_of
from eventferry.cli.failure import failure
from eventferry.cli.report import FAILED, Problem, Report, Screen, in_one_line

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.status import InFlight, ProjectionStatus

MAX_OPEN_S = 60.0

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


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(app, "check", examples=("eventferry check", "eventferry check --max-open 5m --json"))
    def check(
        call: Call,
        max_open_s: Annotated[
            float | None,
            typer.Option(
                "--max-open",
                metavar="DURATION",
                parser=seconds,
                help="How long an append may stay open; 60s by default.",
            ),
        ] = None,
        strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    ) -> Report:
        """Say what is wrong, and what helps.

        A line a finding: the configuration and its handlers, both stores, all projections, and
        appends that stay open.

        The exit code is 1 if something has failed or stands still, 2 if the configuration is wrong
        or a store can't be used.
        """
        from eventferry.config import load

        config = load(call.config_path)
        found = [
            Finding(level="warning", type="Configuration", message=note) for note in config.notes
        ]
        unusable = 0
        for environment in _stores(config):
            part, code = _found(partial(_of_store, config, environment))
            found += part
            unusable = max(unusable, code)
        if not unusable:
            limit = MAX_OPEN_S if max_open_s is None else max_open_s
            part, unusable = _found(partial(_of_projections, config, max_open_s=limit))
            found += part
        return _report(config, found, unusable=unusable, strict=strict, as_json=call.json)


def _found(look: Callable[[], list[Finding]]) -> tuple[list[Finding], int]:
    """What is found; with an exit code where the look itself fails, so that others go on."""
    try:
        return look(), 0
    except Exception as error:
        failed = failure(error)
        found = [Finding(level="error", type=p.type, message=p.message) for p in failed.problems]
        return found, failed.code


def _stores(config: Config) -> list[Environment]:
    return [Environment.LOCAL] if config.same_database else list(Environment)


def _of_store(config: Config, environment: Environment) -> list[Finding]:
    """What is wrong with a store that can be used.

    Raises:
        EventFerryError: it can't.
    """
    from eventferry.connection import shown
    from eventferry.integrity import flaws
    from eventferry.migration import require_own

    store = shown(url_of(config, environment), environment)
    service = config.service if environment is Environment.LOCAL else None
    with connected(config, environment) as conn:
        require_own(conn, store, environment.value, service)
        return [
            Finding(
                level="error",
                type="Integrity",
                message=f"{store}: {flaw.what}",
                remedy=flaw.remedy,
            )
            for flaw in flaws(conn)
        ]


def _of_projections(config: Config, *, max_open_s: float) -> list[Finding]:
    from eventferry.pools import Pools
    from eventferry.status import status

    async def statuses() -> list[ProjectionStatus]:
        async with Pools(config, size=2) as pools:
            return await status(pools, list(config.projections.values()))

    return findings(asyncio.run(statuses()), max_open_s=max_open_s)


def findings(statuses: Iterable[ProjectionStatus], *, max_open_s: float) -> list[Finding]:
    """What is to be said of the projections, and of the appends that they wait for."""
    known = list(statuses)
    return [
        *(finding for status in known for finding in _of_projection(status)),
        *_open_appends(known, max_open_s),
    ]


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
    missing = [stream.stream for stream in status.streams if not stream.exists]
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


def _report(
    config: Config, found: list[Finding], *, unusable: int, strict: bool, as_json: bool
) -> Report:
    errors = [finding for finding in found if strict or finding.level == "error"]

    def show(screen: Screen) -> None:
        for finding in found:
            remedy = f" -> {finding.remedy}" if finding.remedy else ""
            style = "bold red" if finding.level == "error" else "yellow"
            screen.line(f"{finding.level}: {in_one_line(finding.message)}{remedy}", style)
        if not found:
            stores, projections = len(_stores(config)), len(config.projections)
            screen.line(f"all is well: {stores} store(s), {projections} projection(s)")

    return Report(
        data=found,
        show=show,
        # people read them above, among the others
        problems=tuple(Problem(e.type, e.message) for e in errors) if as_json else (),
        code=max(unusable, FAILED if errors else 0),
    )
