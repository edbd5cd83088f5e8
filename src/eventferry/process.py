"""Processes of ours: started and ended; none outlives us, even if we are killed.

Each runs under a watcher that sees when our end of a pipe closes, which it does with our process,
whatever ends that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

EVENTFERRY: Final = (
    *(sys.executable, "-c"),
    "import sys; from eventferry.cli import main; sys.exit(main())",
)
"""The command line of this very installation."""
STOP_S: Final = 10.0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a process to end."""

# The watcher sends SIGINT to $$, which is the program after the exec: PostgreSQL shuts down fast, a
# worker ends after its batch. (By descriptor 3: sh gives /dev/null to what it starts with &.)
SUPERVISED: Final = """
exec 3<&0 </dev/null
(cat <&3 >/dev/null; kill -INT $$ 2>/dev/null) &
exec "$@" 3<&-
"""
# The same for what may not hear it: a handler that hangs.
KILLED: Final = f"""
exec 3<&0 </dev/null
(
  cat <&3 >/dev/null
  kill -INT $$ 2>/dev/null || exit
  left={STOP_S:.0f}
  while [ $left -gt 0 ] && kill -0 $$ 2>/dev/null; do sleep 1; left=$((left - 1)); done
  kill -KILL $$ 2>/dev/null
) &
exec "$@" 3<&-
"""


# And for what is to stay when we have ended.
STAYING: Final = """
exec "$@" </dev/null
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that ends with us."""

    _process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """How it ended; None: it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Sends it a signal, without waiting for what comes of it."""
        if self.code is None:
            self._process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say anything."""
        self.signal(signal.SIGKILL)
        self.ended(STOP_S)

    def stop(self, within_s: float = STOP_S) -> bool:
        """SIGTERM, and SIGKILL where that is not heard; safe at any time.

        Returns:
            Whether it ended without the latter.
        """
        self.terminate()
        try:
            self.ended(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def ended(self, within_s: float | None = None) -> int:
        """How it ended, when it has.

        Raises:
            subprocess.TimeoutExpired: it did not, in this time.
        """
        code = self._process.wait(within_s)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # ends the watcher
        return code


def popen(
    arguments: Sequence[str],
    *,
    folder: Path,
    output: IO[Any],
    environ: Mapping[str, str] = os.environ,
    script: str = SUPERVISED,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Starts a program in a folder, under a watcher.

    Args:
        output: Where it writes to.
        script: Which watcher: SUPERVISED, KILLED or STAYING, which is none.
        options: More of `subprocess.Popen`'s.
    """
    return subprocess.Popen(
        ["sh", "-c", script, "sh", *arguments],
        cwd=folder,
        env=dict(environ),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C is ours: they end when we say so
        **options,
    )


@contextmanager
def interruptible() -> Iterator[None]:
    """Whatever asks us to end does it as Ctrl-C does, so that we clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, signal.default_int_handler) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def deaf_in_the_end() -> Iterator[None]:
    """From here on, nothing interrupts the cleaning up, which takes seconds at most."""
    try:
        yield
    finally:
        _deafen()


@contextmanager
def deaf_once_interrupted() -> Iterator[None]:
    """The same, but only if the block is left by Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        _deafen()
        raise


def _deafen() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
