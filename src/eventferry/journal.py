"""What is logged of a projection's looks: each turn once, and nothing that goes on as it was.

    behind ──────────> caught up     INFO      and every run at DEBUG
    outage ──────────> over          WARNING, then INFO
    paused, waiting                  WARNING
    failed                           ERROR

What happens to an event is logged where it is decided (run.py, settle.py).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from eventferry import logline
from eventferry.connection import is_outage
from eventferry.ended import NOTHING, End, Ended

log = logging.getLogger("eventferry.run")

_NEUTRAL = (End.IN_FLIGHT, End.BUSY, End.STOPPED)
"""Ends that say nothing of how far behind the projection is."""


@dataclass(slots=True)
class Journal:
    """Of one projection, kept from run to run by whoever runs it."""

    _last: End | None = None
    """How the look before has ended."""
    _is_behind: bool = True
    _is_away: bool = False
    """Whether a store is: in an outage."""
    _since: Ended = NOTHING
    """All runs since it was last caught up, as one."""

    def stands(self, projection: str, end: End, message: str, **fields: Any) -> None:
        """It is found not to go on; said unless it was so at the last look."""
        if self._last is not end:
            level = logging.ERROR if end is End.FAILED else logging.WARNING
            say(level, projection, message, **fields)

    def ended(self, projection: str, ended: Ended) -> None:
        """A look has ended."""
        if self._is_away:
            say(logging.INFO, projection, "goes on: the stores answer again")
        if ended.handled:
            _tell(logging.DEBUG, projection, ended)
        self._since = ended.after(self._since)
        if ended.end is End.CAUGHT_UP:
            if self._is_behind:
                _tell(logging.INFO, projection, self._since)
            self._since = NOTHING
        elif ended.end is End.SLICED and not self._is_behind:
            say(logging.INFO, projection, "has more to do than a run can: it is catching up")
        if ended.end not in _NEUTRAL:
            self._is_behind = ended.end is not End.CAUGHT_UP
        self._last, self._is_away = ended.end, False

    def outage(self, projection: str, error: Exception, again_s: float) -> None:
        """A look could not be taken; another is, in so many seconds."""
        say(
            logging.DEBUG if self._is_away else logging.WARNING,
            projection,
            f"can't go on: {logline.first_line(error)}; tried again, now in {again_s:.1f} s",
            exc_info=None if is_outage(error) else error,
            error_type=type(error).__qualname__,
        )
        self._is_away = True


def _tell(level: int, projection: str, ended: Ended) -> None:
    say(
        level,
        projection,
        f"handled {ended.handled:,} events in {ended.seconds:.3f} s: {ended.end.value}",
        handled=ended.handled,
        seconds=round(ended.seconds, 3),
        ended=ended.end.value,
    )


def say(
    level: int, projection: str, message: str, *, exc_info: Exception | None = None, **fields: Any
) -> None:
    """Logs something of a projection."""
    extra = {"projection": projection, **fields}
    log.log(level, "projection %s %s", projection, message, exc_info=exc_info, extra=extra)
