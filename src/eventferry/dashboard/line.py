"""A command line that a button stands for: how it is shown, and running it.

Runs in a process of its own, so that handlers are those of the newest code, and that nothing is
done here in another way than on a terminal. It goes by the user's name, for the audit.

One line runs once at a time: who presses the button again waits for the same one. When the
dashboard ends, its lines are interrupted, as Ctrl-C does on a terminal: each step of theirs is a
transaction, so what is done stays, and nothing is half done.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from eventferry import framework
from eventferry.audit import USER_VARIABLE

log = logging.getLogger("eventferry.dashboard")

AT_A_TIME = 4
"""Lines that run; others wait for their turn."""
WAIT_S = 25.0
"""Who has pressed a button waits so long for what comes of it; proxies give up after 30 s."""
END_S = 5.0
"""Lines that have not ended by then, when the dashboard ends, are killed."""
BLANK = "…"
"""What is not said yet, in a line that is shown."""


@dataclass(frozen=True, slots=True)
class Said:
    """What has come of a line."""

    is_ok: bool
    text: str
    is_over: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """`eventferry` and its arguments, of which the first two are the command."""

    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(
            ["eventferry", *(a if a == BLANK else shlex.quote(a) for a in self.arguments)]
        )


@dataclass(slots=True)
class Lines:
    """Runs lines with a service's configuration."""

    config_path: Path
    folder: Path
    _running: dict[tuple[str, ...], asyncio.Task[Said]] = field(default_factory=dict)
    _processes: set[asyncio.subprocess.Process] = field(default_factory=set)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_A_TIME))
    _is_closing: bool = False

    async def run(self, line: Line, user: str, *options: str) -> Said:
        """What it says; or that it goes on, if it takes long."""
        command, rest = line.arguments[:2], line.arguments[2:]
        arguments = (*command, *options, "--config", str(self.config_path), *rest)
        task = self._running.get(arguments)
        if task is None:
            task = asyncio.create_task(self._in_turn(line, user, arguments), name=str(line))
            self._running[arguments] = task
            task.add_done_callback(lambda _: self._running.pop(arguments))
        done, _ = await asyncio.wait({task}, timeout=WAIT_S)
        if done:
            return task.result()
        text = (
            f"{line} goes on; what it does stands in the audit, and its end in the dashboard's log"
        )
        return Said(is_ok=True, text=text, is_over=False)

    async def close(self) -> None:
        """Interrupts those that go on; none begins any more."""
        self._is_closing = True
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        if self._running:
            await asyncio.wait(self._running.values(), timeout=END_S)
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()

    async def _in_turn(self, line: Line, user: str, arguments: tuple[str, ...]) -> Said:
        async with self._turns:
            if self._is_closing:
                return Said(is_ok=False, text=f"{line} was not begun: the dashboard ends")
            return await self._ended(line, user, arguments)

    async def _ended(self, line: Line, user: str, arguments: tuple[str, ...]) -> Said:
        process = await asyncio.create_subprocess_exec(
            *framework.current().program,
            *arguments,
            cwd=self.folder,
            env={**os.environ, USER_VARIABLE: user, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends the dashboard, and that its lines
        )
        self._processes.add(process)
        try:
            output, _ = await process.communicate()
        finally:
            self._processes.discard(process)
        said = Said(is_ok=process.returncode == 0, text=output.decode(errors="replace").strip())
        log.info("%s: %s ended with code %s: %s", user, line, process.returncode, said.text)
        return said
