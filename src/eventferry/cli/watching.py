"""`--watch`: an answer again and again, until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime

from eventferry.cli.call import Call
from eventferry.cli.failure import failure
from eventferry.cli.report import Report, Screen, envelope

EVERY_S = 2.0
CLEAR = "\x1b[2J\x1b[H"


async def watched(call: Call, answer: Callable[[], Awaitable[Report]], every_s: float) -> Report:
    """Shows the answer, every so many seconds; an outage is shown, and looked past.

    On a terminal each in the place of the one before, with `--json` a line each.
    """
    screen = Screen(sys.stdout)
    while True:
        try:
            report = await answer()
        except Exception as error:
            report = failure(error)
        if call.json:
            print(envelope(call.command, report), flush=True)
        else:
            if screen.is_terminal:
                sys.stdout.write(CLEAR)
            screen.line(f"{datetime.now():%H:%M:%S}, every {every_s:g} s; Ctrl-C ends")  # noqa: DTZ005
            report.show(screen)
            for problem in report.problems:
                screen.line(f"error: {problem.message}", "bold red")
            screen.line()
            sys.stdout.flush()
        await asyncio.sleep(every_s)
