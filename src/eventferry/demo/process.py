"""Processes of the demo: started, waited for, ended; none outlives it, even if it is killed.

Each runs under a watcher that sees when our end of a pipe closes (see `embedded.SUPERVISED`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from eventferry.demo.failure import DemoFailed
from eventferry.embedded import SUPERVISED

T = TypeVar("T")

EVENTFERRY: Final = (
    *(sys.executable, "-c"),
    "import sys; from eventferry.cli import main; sys.exit(main())",
)
"""The command line of this very installation."""
STOP_S: Final = 10.0
LOOK_S: Final = 0.02
CHECK_S: Final = 0.3
"""How often to look whether there is a use in waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of ours."""

    name: str
    """For messages."""
    output: Path
    """Where it writes to."""
    _process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; None: it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say anything."""
        self._process.kill()
        self._ended(STOP_S)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that is not heard; safe at any time."""
        self.terminate()
        try:
            self._ended(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, within_s: float) -> int:
        """How it ended.

        Raises:
            DemoFailed: it did not, in this time.
        """
        try:
            return self._ended(within_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise DemoFailed(
                f"{self.name} did not end within {within_s:.0f} s{self.last_words()}"
            ) from None

    def last_words(self) -> str:
        """The end of what it has written, for a message."""
        lines = self.output.read_text(errors="replace").splitlines()[-15:]
        return ". Its last words:\n" + "\n".join(lines) if lines else "; it said nothing"

    def _ended(self, within_s: float) -> int:
        code = self._process.wait(within_s)
        assert self._process.stdin is not None
        self._process.stdin.close()  # ends the watcher
        return code


def start(
    name: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    output: Path,
    variables: Mapping[str, str] | None = None,
) -> Process:
    """Starts a process in a folder; what it says goes to a file."""
    with output.open("ab") as file:
        process = subprocess.Popen(
            ["sh", "-c", SUPERVISED, "sh", *arguments],
            cwd=folder,
            env={**environment(), **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is ours: we end them
        )
    return Process(name=name, output=output, _process=process)


def until(
    look: Callable[[], T | None],
    what: str,
    *,
    within_s: float,
    progress: Callable[[], object] = lambda: None,
    check: Callable[[], None] = lambda: None,
    every_s: float = LOOK_S,
) -> T:
    """Looks again and again until there is something.

    Args:
        look: None, or False: not yet.
        what: Is waited for.
        within_s: How long there may be no progress.
        progress: Something that changes as long as it goes on.
        check: Raises when there is no use in waiting.

    Raises:
        DemoFailed: it did not happen.
    """
    last, since, checked = progress(), time.monotonic(), 0.0
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        now = time.monotonic()
        if now - checked > CHECK_S:
            checked = now
            check()
            if (current := progress()) != last:
                last, since = current, now
            if now - since > within_s:
                raise DemoFailed(f"waited {within_s:.0f} s for {what}, in vain")
        time.sleep(every_s)


def environment() -> dict[str, str]:
    """Ours, without what would lead a service to another configuration than its own."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("EVENTFERRY_", "PG"))}
