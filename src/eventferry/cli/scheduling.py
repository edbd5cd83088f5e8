"""`eventferry schedule run`: the long-running projections, a process each, for cron."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from eventferry.cli import logs
from eventferry.cli.call import Call, command
from eventferry.cli.logs import LogFileOption, LogLevel, LogLevelOption
from eventferry.cli.report import Report

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.projection import Projection
    from eventferry.schedule import Schedule

log = logging.getLogger("eventferry.cli")

KINDS = ("producing", "consuming")


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(no_args_is_help=True, help="The long-running projections, for cron.")
    app.add_typer(group, name="schedule")

    @command(
        group,
        "run",
        examples=(
            "eventferry schedule run",
            "* * * * * cd /srv/users && eventferry schedule run",
        ),
    )
    def run(
        call: Call,
        producing: Annotated[
            bool, typer.Option("--producing", help="Only the producing ones.")
        ] = False,
        consuming: Annotated[
            bool, typer.Option("--consuming", help="Only the consuming ones.")
        ] = False,
        log_level: LogLevelOption = LogLevel.INFO,
        log_file: LogFileOption = None,
    ) -> Report:
        """Keep the long-running projections running.

        Each in a process of its own, which is started again whenever it ends. Where another one
        on this host does so already, or there are none, it ends with 0 and says nothing: cron may
        start it every minute. SIGTERM and Ctrl-C finish the batches; SIGHUP, and
        `eventferry restart`, do so and begin anew.
        """
        from eventferry import lock
        from eventferry.config import load

        config = load(call.config_path, import_handlers=False)  # its notes: who starts says them
        logs.begin(log_level, log_file, service=config.service)
        kinds = [kind for kind, chosen in zip(KINDS, (producing, consuming), strict=True) if chosen]
        wanted = [
            p for p in config.projections.values() if p.background and p.kind in (kinds or KINDS)
        ]
        with ExitStack() as held:
            ours = []
            for kind in dict.fromkeys(p.kind for p in wanted):
                if taken := lock.take(f"{config.service}-{kind}", config.path):
                    held.enter_context(taken)
                    ours.append(kind)
            chosen = [p for p in wanted if p.kind in ours]
            elsewhere = [p.name for p in wanted if p not in chosen]
            if not chosen:
                return _nothing_to_keep(config, elsewhere)
            return _keep(config, chosen, elsewhere, logs.options(log_level, log_file))


def _nothing_to_keep(config: Config, elsewhere: list[str]) -> Report:
    """Cron starts us every minute, and would mail whatever is said: it is for people only."""
    if elsewhere:
        text = f"another schedule on this host keeps them running: {', '.join(elsewhere)}"
    else:
        text = (
            f"{config.path.name} has no such projection with background_process = true; "
            "`eventferry worker` runs those on demand"
        )
    log.debug("nothing to do: %s", text)
    return Report(
        data=_data({}, elsewhere),
        show=lambda screen: screen.line(text) if screen.is_terminal else None,
    )


def _keep(
    config: Config, projections: list[Projection], elsewhere: list[str], options: list[str]
) -> Report:
    from eventferry.schedule import Schedule

    schedule = Schedule(commands={p.name: _start(config, p, options) for p in projections})
    log.info("keeping %s running", ", ".join(schedule.commands))
    if elsewhere:
        log.info("another schedule on this host keeps %s running", ", ".join(elsewhere))
    if asyncio.run(_run(schedule, config)):
        _begin_anew()
    return Report(data=_data(schedule.starts, elsewhere))


def _start(config: Config, projection: Projection, options: list[str]) -> list[str]:
    """The command that runs a projection: it waits where the other `start` would end."""
    from eventferry import framework

    program = framework.current().program
    wait = ["--wait", "--config", str(config.path)]
    return [*program, projection.kind, "start", projection.name, *wait, *options]


async def _run(schedule: Schedule, config: Config) -> bool:
    """Runs the schedule; whether it is to begin anew."""
    from eventferry.config import load
    from eventferry.errors import ConfigurationError

    signalled = False

    def on_signal(number: int) -> None:
        nonlocal signalled
        if signalled:
            schedule.kill()
            os._exit(128 + number)
        signalled = True
        log.warning("stopping after the batches; once more to stop at once")
        schedule.stop()

    def on_hangup() -> None:
        if is_on_terminal and not sys.stdin.isatty():
            on_signal(signal.SIGHUP)  # it has been closed
            return
        try:
            load(config.path, import_handlers=False)
        except ConfigurationError as error:
            log.error("not read again, everything goes on as it was: %s", error)
            return
        log.info("beginning anew after the batches")
        schedule.reload()

    loop = asyncio.get_running_loop()
    is_on_terminal = sys.stdin.isatty()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    return await schedule.run()


def _begin_anew() -> NoReturn:
    """Becomes a new process of the same command: the code, and the configuration, of now."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the new one listens to it
    is_program = os.access(sys.argv[0], os.X_OK) and not sys.argv[0].endswith(".py")
    program = sys.argv if is_program else sys.orig_argv
    os.execvp(program[0], program)  # noqa: S606 - that is the point


def _data(starts: dict[str, int], elsewhere: list[str]) -> dict[str, object]:
    kept = [{"projection": name, "starts": count} for name, count in starts.items()]
    return {"projections": kept, "elsewhere": elsewhere}
