"""`eventferry worker`, `producing start`, `consuming start`: projections in the foreground."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from eventferry.cli import completing, logs
from eventferry.cli.call import Call, NameArgument, command, seconds
from eventferry.cli.control import add_stop
from eventferry.cli.controlling import wrong_kind
from eventferry.cli.logs import LogFileOption, LogLevel, LogLevelOption
from eventferry.cli.report import FAILED, WRONG, Problem, Report, Screen
from eventferry.cli.serving import Address, HttpOption, routes_of, serving
from eventferry.ended import way_out

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.ended import Ended
    from eventferry.projection import Projection
    from eventferry.worker import Worker

log = logging.getLogger("eventferry.cli")


ForOption = Annotated[
    float | None,
    typer.Option("--for", metavar="DURATION", parser=seconds, help="End after this long: 55s."),
]
UntilIdleOption = Annotated[bool, typer.Option("--until-idle", help="End when caught up.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Stay where it has failed, is paused or deleted.")
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""

    @command(
        app,
        "worker",
        examples=("eventferry worker --background", "eventferry worker --queue mails --once"),
    )
    def worker(
        call: Call,
        queue: Annotated[
            str,
            typer.Option(help="Whose on-demand projections run.", autocompletion=completing.queues),
        ] = "domain-events",
        all_queues: Annotated[
            bool, typer.Option("--all-queues", help="Those of all queues.")
        ] = False,
        background: Annotated[
            bool, typer.Option("--background", help="The long-running projections too.")
        ] = False,
        concurrency: Annotated[
            int, typer.Option(min=1, help="Projections that run at a time.")
        ] = 4,
        once: Annotated[bool, typer.Option("--once", help="End when all are caught up.")] = False,
        for_s: ForOption = None,
        http: HttpOption = None,
        log_level: LogLevelOption = LogLevel.INFO,
        log_file: LogFileOption = None,
    ) -> Report:
        """Run the on-demand projections.

        Whenever they have work, until told to end. Any number of workers may run, on any machine.
        SIGTERM and Ctrl-C finish the batch.
        """
        from eventferry.program import chosen

        config = call.config(import_handlers=True)
        projections = chosen(config, queue=None if all_queues else queue, background=background)
        if not projections:
            return _nothing_to_run(config, queue)
        with logs.kept(log_level, log_file, service=config.service):
            return _foreground(
                config,
                projections,
                until_idle=once,
                for_s=for_s,
                http=http,
                concurrency=concurrency,
            )

    for kind in ("producing", "consuming"):
        group = typer.Typer(
            no_args_is_help=True, help=f"{kind.capitalize()} projections, in the foreground."
        )
        app.add_typer(group, name=kind)
        _add_start(group, kind)
        add_stop(group, kind)


def _add_start(group: typer.Typer, kind: str) -> None:
    @command(
        group,
        "start",
        examples=(
            f"eventferry {kind} start users-projection",
            f"eventferry {kind} start users-projection --until-idle",
            f"eventferry {kind} start users-projection --wait",
        ),
    )
    def start(
        call: Call,
        name: NameArgument,
        until_idle: UntilIdleOption = False,
        wait: WaitOption = False,
        for_s: ForOption = None,
        http: HttpOption = None,
        log_level: LogLevelOption = LogLevel.INFO,
        log_file: LogFileOption = None,
    ) -> Report:
        """Run one projection in the foreground.

        Whatever its mode; until told to end, by a signal or by `stop`.

        The exit code is 1 if it has failed, is paused or deleted; with --wait it stays until it
        goes on, for a supervisor. With --until-idle also if it fails now, or if its stream does
        not exist.
        """
        from eventferry.cli import standing
        from eventferry.program import chosen

        if wait and until_idle:
            raise typer.BadParameter("--until-idle ends where --wait stays: choose one of them")
        config = call.config(import_handlers=True)
        projections = chosen(config, [name])
        other = projections[0].kind
        if other != kind:
            return wrong_kind(call, name, other)
        with logs.kept(log_level, log_file, service=config.service):
            known = asyncio.run(standing.known(config, name))
            if known and not wait and (problem := standing.problem(known)):
                return Report(problems=(problem,), code=FAILED)
            return _foreground(
                config,
                projections,
                until_idle=until_idle,
                for_s=for_s,
                http=http,
                stops=known.stops if known else 0,
            )


def _nothing_to_run(config: Config, queue: str) -> Report:
    """Wrong usage. A worker reads its configuration once: it would idle until it is started again,
    as green as one that works."""
    on_demand = sorted({p.queue for p in config.projections.values() if not p.background})
    long_running = sum(p.background for p in config.projections.values())
    message = f"{config.path.name} has no on-demand projection"
    if on_demand:
        message += f" in queue {queue!r}; its queues: {', '.join(on_demand)}"
    if long_running:
        message += f"; with --background, {long_running} long-running one(s) run here too"
    return Report(problems=(Problem("NothingToRun", message),), code=WRONG)


@dataclass(slots=True)
class Tally:
    """What the runs of a worker have said."""

    handled: dict[str, int] = field(default_factory=dict)
    last: dict[str, Ended] = field(default_factory=dict)

    def ended(self, projection: Projection, ended: Ended) -> None:
        """Counts."""
        self.last[projection.name] = ended
        self.handled[projection.name] += ended.handled


def _foreground(
    config: Config,
    projections: Sequence[Projection],
    *,
    until_idle: bool,
    for_s: float | None = None,
    http: Address | None = None,
    concurrency: int = 1,
    stops: int | None = None,
) -> Report:
    """Runs the projections here until they are idle, time is up, or they are told to end."""
    from eventferry.schedule import ask_to_reload
    from eventferry.worker import Worker

    tally = Tally({p.name: 0 for p in projections})
    worker = Worker(
        config=config,
        projections=projections,
        concurrency=concurrency,
        command="worker" if stops is None else "start",
        stops=stops,
        on_ended=tally.ended,
    )
    _log_start(config, projections, until_idle=until_idle)
    signalled = asyncio.run(_run(worker, http, until_idle=until_idle, for_s=for_s))
    if worker.is_asked:
        ask_to_reload()
    is_told = signalled or worker.is_asked or any(map(worker.is_asked_to_stop, tally.last.values()))
    return _report(tally, is_told=is_told)


async def _run(
    worker: Worker, http: Address | None, *, until_idle: bool, for_s: float | None
) -> bool:
    """Runs the worker; whether a signal has ended it."""
    from eventferry.program import stop_on_signals

    signalled = False

    def on_signal() -> None:
        nonlocal signalled
        signalled = True
        worker.stop()

    stop_on_signals(on_signal)
    if for_s is not None:
        asyncio.get_running_loop().call_later(for_s, worker.stop)
    with serving(http, partial(routes_of, worker)):  # by now, a signal ends us as it should
        async with worker.health.beating():
            if until_idle:
                await worker.run_until_idle()
            else:
                await worker.run()
    return signalled


def _report(tally: Tally, *, is_told: bool) -> Report:
    found = ended_badly({} if is_told else tally.last)

    def show(screen: Screen) -> None:
        if is_told and not screen.is_terminal:
            return  # a supervisor's file, which is for programs
        for name, handled in tally.handled.items():
            screen.line(f"{name}: {handled:,} event{'' if handled == 1 else 's'} handled")

    return Report(
        data=[
            {
                "projection": name,
                "handled": handled,
                "ended": tally.last[name].end.value if name in tally.last else None,
            }
            for name, handled in tally.handled.items()
        ],
        show=show,
        problems=found,
        code=FAILED if found else 0,
    )


def ended_badly(last: dict[str, Ended]) -> tuple[Problem, ...]:
    """The problems of runs that have failed, or that lack a stream."""
    from eventferry.ended import End
    from eventferry.logline import first_line

    found = []
    for name, ended in last.items():
        if ended.end is End.FAILED:
            message = f"projection {name} failed: {first_line(ended.error)}. {way_out(name)}"
            found.append(Problem("ProjectionFailed", message))
        if ended.end is End.WAITING:
            found.append(Problem("UnknownStream", f"projection {name} waits: {ended.error}"))
    return tuple(found)


def _log_start(config: Config, projections: Sequence[Projection], *, until_idle: bool) -> None:
    from eventferry.connection import shown

    for p in projections:
        target = f" to {p.shared_stream}" if p.kind == "producing" else ""
        extra = {"projection": p.name}
        log.info("running %s %s: %s%s", p.kind, p.name, ", ".join(p.streams), target, extra=extra)
    if until_idle:
        return
    poll = f"{config.poll_interval.total_seconds():g} s"
    for environment in sorted({p.environment for p in projections}):
        local = environment == "local"
        store = shown(config.local_url if local else config.shared_url, environment)
        listens = config.local_listen_url if local else config.shared_listen_url
        how = "LISTEN, and a poll" if listens else "polling only,"
        log.info("woken from %s by %s every %s", store, how, poll)
