"""What projections have done, minute by minute, and how far behind they were: `statistics`.

In the local store, a row a projection and minute in which it had something to do; a week of them.
A minute that is missing is one in which the projection rested, caught up, or nobody ran it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from eventferry import sql
from eventferry.connection import Pool
from eventferry.ended import NOTHING, End, Ended
from eventferry.timing import Timing

_CAUGHT_UP = (0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What a projection has done in a minute."""

    minute: datetime
    """Its beginning."""
    events: int
    """Dealt with."""
    failures: int
    """Attempts that have failed."""
    retries: int
    """Attempts at events that had failed before."""
    parked: int
    """Events that were set aside."""
    busy_s: float
    """Seconds in runs that had work; of several workers together."""
    lag: int | None
    """Events not dealt with, as last seen in the minute; None: nobody has looked."""
    behind_s: float | None
    """How old the first of them was, in seconds."""
    calls: Timing
    """The calls of the handler; `calls.percentile(0.99)` in seconds."""


async def minutes(pool: Pool, projection: str, since: datetime, until: datetime) -> list[Minute]:
    """What a projection has done between two times, oldest first.

    Of many minutes together: `sum((m.calls for m in found), timing.NONE).percentile(0.99)`.

    Args:
        pool: To the local store of its service.
        projection: Its name.
        since: The minute that begins then, or next, is the first one.
        until: The last one begins before.
    """
    async with pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(sql.query("minutes"), (projection, since, until))
        return [
            Minute(calls=Timing(tuple(row.pop("calls")), row.pop("handler_s")), **row)
            for row in await cursor.fetchall()
        ]


@dataclass(slots=True)
class Unwritten:
    """What the projections of this process have done, until it is written."""

    clock: Callable[[], float] = time.monotonic
    _since: float = field(init=False)
    _done: dict[str, Ended] = field(default_factory=dict)
    """All runs of each as one, but for those that found nothing."""
    _lags: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Of those that were looked at: events not dealt with, and the age of the first one."""
    _behind: set[str] = field(default_factory=set)
    """Those of which the last row says that they are behind."""

    def __post_init__(self) -> None:
        self._since = self.clock()

    def ended(self, projection: str, ended: Ended) -> None:
        """A run has ended."""
        if ended.handled or ended.failed:
            self._done[projection] = ended.after(self._done.get(projection, NOTHING))
        if ended.end is End.CAUGHT_UP:
            self._lags[projection] = _CAUGHT_UP

    def seen(self, projection: str, lag: int, behind_s: float) -> None:
        """So far behind it was found."""
        self._lags[projection] = lag, behind_s

    @contextmanager
    def taken(self) -> Iterator[list[dict[str, Any]]]:
        """What is to be written, as `add_statistics` takes it; nothing of what rests, caught up.

        It is written at the end of the block, in one transaction; or kept for the next time, where
        that fails.
        """
        before = self._since, self._behind
        self._since = self.clock()
        done, self._done = self._done, {}
        lags, self._lags = self._lags, {}
        behind = {name for name, lag in lags.items() if lag != _CAUGHT_UP}
        names = done.keys() | behind | (self._behind & lags.keys())
        self._behind = behind | (self._behind - lags.keys())
        try:
            yield [
                {
                    "projection": name,
                    "seconds": self._since - before[0],
                    **_added(done.get(name, NOTHING), *lags.get(name, (None, None))),
                }
                for name in sorted(names)  # two workers at once lock the rows in one order
            ]
        except BaseException:  # it may be cancelled, too
            self._since, self._behind = before
            for name, one in self._done.items():  # meanwhile
                done[name] = one.after(done.get(name, NOTHING))
            self._done = done
            self._lags = lags | self._lags
            raise


def _added(done: Ended, lag: int | None, behind_s: float | None) -> dict[str, Any]:
    return {
        "events": done.handled,
        "failures": done.failed,
        "retries": done.retried,
        "parked": done.parked,
        "busy_s": done.seconds,
        "calls": list(done.calls.counts),
        "handler_s": done.calls.sum_s,
        "lag": lag,
        "behind_s": behind_s,
    }
