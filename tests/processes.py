"""What runs on this machine, for tests that kill, or look for what is left behind (Linux only)."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.waiting import until

PROC = Path("/proc")


def working_in(folder: Path) -> dict[int, str]:
    """The command lines of the processes that work in the folder, or below it, by their pids."""
    found = {int(p.name): _command_line_below(p, folder) for p in PROC.glob("[0-9]*")}
    return {pid: command_line for pid, command_line in found.items() if command_line is not None}


def running(folder: Path, *words: str) -> list[int]:
    """The processes there whose command line has the words in a row; not the shells around them."""
    wanted = f" {' '.join(words)} "
    return [
        pid
        for pid, line in working_in(folder).items()
        if wanted in f"{line} " and not line.split()[0].endswith("sh")
    ]


def kill(folder: Path, *words: str) -> int:
    """kill -9 for the one that there is; its pid."""
    (pid,) = running(folder, *words)
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in running(folder, *words), f"{pid} is gone")
    return pid


def kill_all(folder: Path) -> None:
    """kill -9 for what a test has left there."""
    for pid in working_in(folder):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, signal.SIGKILL)


def _command_line_below(process: Path, folder: Path) -> str | None:
    try:
        if (process / "cwd").readlink().is_relative_to(folder):
            return (process / "cmdline").read_text().replace("\0", " ").strip()
    except OSError:  # it ended, between any two of these; or it is somebody else's
        pass
    return None
