"""Processes of ours: started and ended; none outlives us, even if we are killed.

Each runs under a watcher that sees when our end of a pipe closes, which it does with our process,
whatever ends that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

EVENTFERRY: Final = (
    *(sys.executable, "-c"),
    "import sys; from eventferry.cli import main; sys.exit(main())",
)
"""The command line of this very installation."""
STOP_S: Final = 10.0

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

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        if self.code is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it gets no chance to say anything."""
        self._process.kill()
        self.ended(STOP_S)

    def stop(self, within_s: float = STOP_S) -> None:
        """SIGTERM, and SIGKILL where that is not heard; safe at any time."""
        self.terminate()
        try:
            self.ended(within_s)
        except subprocess.TimeoutExpired:
            self.kill()

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
