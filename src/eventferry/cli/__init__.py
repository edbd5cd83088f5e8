"""The command line: `eventferry …`.

Each command is a function that returns a report; `app` prints it, for people or as the JSON
envelope, and turns what was raised into a message and an exit code. Heavy modules are imported
in the functions that need them, so that `--help` and a shell's completion are quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments; None: those of the process.

    Returns:
        The exit code: 0 fine, 1 something failed, 2 wrong usage, configuration or connection.
    """
    from eventferry.cli.app import run

    return run(sys.argv[1:] if argv is None else argv)
