"""`eventferry restart`: after a deployment, all processes end, so that the new code is started."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from eventferry.cli.call import Call, command, seconds
from eventferry.cli.report import FAILED, Problem, Report, Screen

if TYPE_CHECKING:
    from eventferry.config import Config
    from eventferry.runner import Runner

TIMEOUT_S = 120.0
LOOK_S = 0.1


def add_to(app: typer.Typer) -> None:
    """Adds the command."""

    @command(app, "restart", examples=("eventferry restart", "eventferry restart --timeout 5m"))
    def restart(
        call: Call,
        timeout_s: Annotated[
            float | None,
            typer.Option("--timeout", metavar="DURATION", parser=seconds, help="120s by default."),
        ] = None,
    ) -> Report:
        """End all processes that run projections of this service.

        For after a deployment: each finishes its batch and ends with code 0, wherever it is, so
        that what keeps it running (a supervisor, cron, Kubernetes) starts the new code.
        `schedule run` starts itself anew. Returns when they have ended.

        The exit code is 1 if one has not ended in time.
        """
        limit = TIMEOUT_S if timeout_s is None else timeout_s
        return asyncio.run(_restart(call, call.config(), limit))


async def _restart(call: Call, config: Config, timeout_s: float) -> Report:
    from eventferry.pools import Pools
    from eventferry.runner import ask_to_end, runners

    async with Pools(config, size=1, shared_is="unused") as pools:
        # who is silent has died, and nobody waits for it
        before = {r.id: r for r in await runners(pools.local) if r.is_alive}
        await ask_to_end(pools.local)
        # some have ended already; who has come since then, runs the new code
        after = {r.id: r for r in await runners(pools.local) if r.is_alive and r.asked_at}
        asked = list((before | after).values())
        for runner in asked:
            call.messages.line(f"{_shown(runner)} is asked to end after its batch")
        deadline = time.monotonic() + timeout_s
        while True:
            there = {r.id for r in await runners(pools.local) if r.is_alive}
            late = [runner for runner in asked if runner.id in there]
            if not late or time.monotonic() > deadline:
                return _report(asked, late)
            await asyncio.sleep(LOOK_S)


def _report(asked: list[Runner], late: list[Runner]) -> Report:
    def show(screen: Screen) -> None:
        ended = len(asked) - len(late)
        screen.line(f"{ended} process{'' if ended == 1 else 'es'} ended" if asked else "none runs")

    return Report(
        data=[
            {
                "host": r.host,
                "pid": r.pid,
                "command": r.command,
                "version": r.version,
                "ended": r not in late,
            }
            for r in asked
        ],
        show=show,
        problems=tuple(
            Problem("NotEnded", f"{_shown(r)} has not ended; its batch may take longer: wait, "
                    "or end it there") for r in late
        ),
        code=FAILED if late else 0,
    )  # fmt: skip


def _shown(runner: Runner) -> str:
    return f"{runner.command} {runner.host}:{runner.pid} (version {runner.version})"
