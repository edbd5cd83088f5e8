"""Keeps processes running, each started again when it ends: the parent of `schedule run`.

It imports no handlers and talks to no store, so that nothing a projection does can end it. Its
processes have sessions of their own, so that a Ctrl-C is for it alone, and end with it at the
latest, even when it is killed (see `process.SUPERVISED`).

    ┌────────── a pause that grows ◄── ends ──┐
    ▼                                         │
    start ────────────────────────────────> runs ── stop(): SIGTERM, waited for ──> over
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from signal import SIGHUP, SIGKILL, SIGTERM, Signals
from typing import Final

from eventferry.process import SUPERVISED

log = logging.getLogger("eventferry.schedule")

PAUSE_S: Final = (0.5, 30.0)
"""The first and the longest pause before a process is started again."""
SETTLED_S: Final = 60.0
"""Who has lived for so long begins with the first pause again."""
VARIABLE: Final = "EVENTFERRY_SCHEDULE"
"""By which a process knows the one that keeps it running."""


def ask_to_reload() -> None:
    """Asks who keeps this process running to begin anew; where nobody does, nothing happens."""
    parent = os.getppid()
    if os.environ.get(VARIABLE) == str(parent):
        os.kill(parent, SIGHUP)


@dataclass(slots=True)
class Backoff:
    """The pauses of one process."""

    ends: int = 0
    """In a row, each soon after the start."""

    def pause(self, lived_s: float, chance: float) -> float:
        """It has ended: the seconds until it is started again.

        Args:
            lived_s: How long it has run.
            chance: From 0 to 1, so that many don't start at the same moment.
        """
        self.ends = 1 if lived_s >= SETTLED_S else self.ends + 1
        first, longest = PAUSE_S
        return min(longest, first * 2.0 ** min(self.ends - 1, 20)) * (0.5 + chance / 2)


@dataclass(slots=True, kw_only=True)
class Schedule:
    """Keeps commands running until it is told otherwise."""

    commands: Mapping[str, Sequence[str]]
    """By the name of what each one runs."""
    starts: dict[str, int] = field(default_factory=dict)
    """How often each has been started."""
    _processes: set[Process] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _is_reloading: bool = False

    async def run(self) -> bool:
        """Until `stop`, or `reload`; whether it was the latter."""
        async with asyncio.TaskGroup() as group:
            for name, command in self.commands.items():
                group.create_task(self._keep(name, command), name=f"eventferry keeps {name}")
        return self._is_reloading

    def stop(self) -> None:
        """Ends the processes after their batches, then `run`. Safe at any time."""
        self._is_reloading = False
        self._end()

    def reload(self) -> None:
        """The same, for who then begins anew: there is other code, or another configuration."""
        self._is_reloading = not self._stopping.is_set() or self._is_reloading
        self._end()

    def kill(self) -> None:
        """Ends the processes at once; what they have open is rolled back."""
        for process in self._processes:
            _tell(process, SIGKILL)

    def _end(self) -> None:
        if self._stopping.is_set():
            return  # a second SIGTERM would not let them finish the batch
        self._stopping.set()
        for process in self._processes:
            _tell(process, SIGTERM)

    async def _keep(self, name: str, command: Sequence[str]) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            self.starts[name] = self.starts.get(name, 0) + 1
            began = time.monotonic()
            how = await self._once(name, command)
            if self._stopping.is_set():
                return
            pause_s = backoff.pause(time.monotonic() - began, random.random())
            message = "projection %s: %s; again in %.1f s"
            log.warning(message, name, how, pause_s, extra={"projection": name})
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    async def _once(self, name: str, command: Sequence[str]) -> str:
        """Runs a process to its end; how it ended, in words."""
        try:
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", SUPERVISED, "sh", *command),
                stdin=PIPE,
                stdout=sys.stderr,  # where logs go: ours is for our answer
                env={**os.environ, VARIABLE: str(os.getpid())},
                start_new_session=True,
            )
        except OSError as error:  # no memory, too many processes
            return f"its process can't be started: {error.strerror}"
        message = "projection %s runs in process %d"
        log.info(message, name, process.pid, extra={"projection": name})
        self._processes.add(process)
        if self._stopping.is_set():
            _tell(process, SIGTERM)  # told to end, while it was being started
        code = await process.wait()
        self._processes.remove(process)
        assert process.stdin is not None
        process.stdin.close()  # ends the watcher
        return f"its process {process.pid} has ended with {ended_with(code)}"


def ended_with(code: int) -> str:
    """What has ended a process, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return Signals(-code).name
    except ValueError:  # one of those that have no names, for real time
        return f"signal {-code}"


def _tell(process: Process, signal: Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended just now
        process.send_signal(signal)
