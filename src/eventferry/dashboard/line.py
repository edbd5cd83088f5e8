"""A command line that a button stands for: how it is shown, and running it.

Runs in a process of its own, so that handlers are those of the newest code, and that nothing is
done here in another way than on a terminal. It goes by the user's name, for the audit.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from eventferry import framework

log = logging.getLogger("eventferry.dashboard")

WAIT_S = 25.0
"""Who has pressed a button waits so long for what comes of it; proxies give up after 30 s."""
USER_VARIABLE = "EVENTFERRY_USER"


@dataclass(frozen=True, slots=True)
class Said:
    """What has come of a line."""

    is_ok: bool
    text: str
    is_over: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """`eventferry` and its arguments."""

    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(["eventferry", *self.arguments])


@dataclass(slots=True)
class Lines:
    """Runs lines with a service's configuration."""

    config_path: Path
    folder: Path
    _running: set[asyncio.Task[Said]] = field(default_factory=set)

    async def run(self, line: Line, user: str, *options: str) -> Said:
        """What it says; or that it goes on, if it takes long."""
        task = asyncio.create_task(self._ended(line, user, options), name=str(line))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait({task}, timeout=WAIT_S)
        if done:
            return task.result()
        text = (
            f"{line} goes on; what it does stands in the audit, and its end in the dashboard's log"
        )
        return Said(is_ok=True, text=text, is_over=False)

    async def _ended(self, line: Line, user: str, options: tuple[str, ...]) -> Said:
        process = await asyncio.create_subprocess_exec(
            *framework.current().program,
            *line.arguments,
            *options,
            "--config",
            str(self.config_path),
            cwd=self.folder,
            env={**os.environ, USER_VARIABLE: user, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        said = Said(is_ok=process.returncode == 0, text=output.decode(errors="replace").strip())
        log.info("%s: %s ended with code %s: %s", user, line, process.returncode, said.text)
        return said
