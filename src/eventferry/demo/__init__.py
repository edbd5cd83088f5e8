"""`eventferry demo`: two services and a shared store on this machine, in four acts.

Everything is real: a PostgreSQL, three databases, services with their folders and processes, the
command line. Read `play` first; `stage` is what it stands on, and an act is a module.
"""

from __future__ import annotations

from pathlib import Path

EVENTS = 20_000
TRICKLE_S = 10.0


def main(
    *,
    events: int = EVENTS,
    file: Path | None = None,
    keep: bool = False,
    json: bool = False,
    trickle_s: float = TRICKLE_S,
) -> int:
    """Runs the demo.

    Args:
        events: How many are appended in the first act.
        file: CloudEvents, one a line, which are appended instead.
        keep: Leave the databases and workers running afterwards, until Ctrl-C.
        json: Print nothing but the verdict, as JSON; the story goes to standard error.
        trickle_s: How long the second act is.

    Returns:
        The exit code: 0, 1 if an event was lost, doubled or out of order, or if something did not
        happen in time, 2 if PostgreSQL or the file can't be used, 130 after Ctrl-C.
    """
    from eventferry.demo.play import play

    return play(events=events, file=file, keep=keep, as_json=json, trickle_s=trickle_s)
