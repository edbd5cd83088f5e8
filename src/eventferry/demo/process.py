"""Processes of the demo: what they say goes to files, and what goes wrong is `DemoFailed`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from eventferry import process
from eventferry.demo.failure import DemoFailed

T = TypeVar("T")

LOOK_S: Final = 0.02
CHECK_S: Final = 0.3
"""How often to look whether there is a use in waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process(process.Process):
    """A process of the demo."""

    name: str
    """For messages."""
    output: Path
    """Where it writes to."""

    def wait(self, within_s: float) -> int:
        """How it ended.

        Raises:
            DemoFailed: it did not, in this time.
        """
        try:
            return self.ended(within_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise DemoFailed(
                f"{self.name} did not end within {within_s:.0f} s{self.last_words()}"
            ) from None

    def last_words(self) -> str:
        """The end of what it has written, for a message."""
        lines = self.output.read_text(errors="replace").splitlines()[-15:]
        return ". Its last words:\n" + "\n".join(lines) if lines else "; it said nothing"


def start(
    name: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    output: Path,
    variables: Mapping[str, str] | None = None,
) -> Process:
    """Starts a process in a folder; what it says goes to a file."""
    environ = {**environment(), **(variables or {})}
    with output.open("ab") as file:
        started = process.popen(arguments, folder=folder, output=file, environ=environ)
    return Process(name=name, output=output, _process=started)


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
