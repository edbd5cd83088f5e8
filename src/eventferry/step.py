"""What a worker does after a look at a projection: sleep, wait or look again.

Pure: decided from how the looks have ended, without I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from eventferry.ended import End, Ended

FAILED_POLLS = 10
"""A failed projection is looked at this much less often than the poll: a retry wakes it."""
AWAKE_S = 0.05
"""An append that stays open for longer is slept on."""
OUTAGE_S = (0.2, 10.0)
"""The first and the longest pause between attempts while a store is out of reach."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a driver does after a look."""

    sleep: bool = False
    """Say that we are about to sleep, then look once more."""
    wait_s: float | None = None
    """Until the next look, unless woken before; None: only when woken."""


@dataclass(slots=True)
class Tries:
    """What a driver has seen lately."""

    end: End | None = None
    same: int = 0
    """Looks in a row that ended like the one before and found nothing to do."""
    outages: int = 0
    """Outages in a row."""

    def ended(self, ended: Ended) -> None:
        """A look has ended."""
        self.same = self.same + 1 if ended.end is self.end and not ended.handled else 0
        self.end, self.outages = ended.end, 0

    def outage(self) -> float:
        """A look could not be taken: the seconds to wait before another."""
        self.outages += 1
        return min(OUTAGE_S[1], OUTAGE_S[0] * 2.0 ** min(self.outages - 1, 20))


def next_step(
    end: End,
    *,
    asleep: bool,
    tries: int,
    poll_s: float,
    chance: float,
    due_s: float | None = None,
) -> Step:
    """What follows a look that ended like this.

    Args:
        end: How it ended.
        asleep: Whether it had been said before that we sleep: then it was the last look.
        tries: How many looks in a row have ended so, with nothing to do.
        poll_s: The poll interval.
        chance: From 0 to 1, so that runners don't march in step.
        due_s: The seconds until a next attempt; None: there is none to come.
    """
    match end:
        case End.CAUGHT_UP:
            return Step() if asleep else Step(sleep=True)
        case End.IN_FLIGHT:
            # usually over in a moment; but an append may stay open for hours, and then the next
            # ones must wake us
            wait_s = min(poll_s, 0.002 * 2 ** min(tries, 20))
            return Step(sleep=wait_s > AWAKE_S and not asleep, wait_s=wait_s)
        case End.BUSY:
            return Step(wait_s=0.1 + 0.9 * chance)
        case End.WAITING | End.RETRYING:
            # a retry wakes it; where nothing is listened to, it is seen by looking
            return Step(wait_s=poll_s if due_s is None else min(due_s, poll_s * FAILED_POLLS))
        case End.FAILED | End.PAUSED:
            return Step(wait_s=poll_s * FAILED_POLLS)
        case End.SLICED | End.STOPPED:
            return Step(wait_s=0.0)
