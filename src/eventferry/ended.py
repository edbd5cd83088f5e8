"""How a run of a projection has ended, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from eventferry.timing import NONE, Timing


class End(Enum):
    """How a run ended."""

    CAUGHT_UP = "caught up"
    """No work, and nothing in flight."""
    IN_FLIGHT = "in flight"
    """No work, but appends to its streams are open."""
    BUSY = "busy"
    """Another runner is at it: there may be work."""
    SLICED = "sliced"
    """Its time was up; there is work."""
    STOPPED = "stopped"
    """It was asked to end; there may be work."""
    WAITING = "waiting"
    """A stream of it does not exist (yet), or its role may not ferry to it (yet)."""
    RETRYING = "retrying"
    """An event has failed; it is tried again when that is due."""
    FAILED = "failed"
    """It stands still until it is retried."""
    PAUSED = "paused"
    """Somebody has paused it, or deleted it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run leaves."""

    end: End
    """How it ended."""
    handled: int = 0
    """Events dealt with, whether the handler wanted their type or not."""
    error: str | None = None
    """Why it failed, or what it waits for; None: neither."""
    seconds: float = 0.0
    """How long it took, in seconds."""
    due_s: float | None = None
    """Retrying: the seconds until the next attempt."""
    stops: int | None = None
    """How often the projection's runs had been asked to end when this one last looked."""
    failed: int = 0
    """Attempts at events that have failed."""
    retried: int = 0
    """Attempts at events that had failed before."""
    parked: int = 0
    """Events that were set aside."""
    calls: Timing = field(default=NONE, repr=False)
    """The calls of the handler, also of those batches that were rolled back."""
    batches: Timing = field(default=NONE, repr=False)
    """The transactions that were committed, from their beginning."""

    def after(self, earlier: Ended) -> Ended:
        """This run and an `earlier` one as one, which ended like this one."""
        return replace(
            self,
            handled=earlier.handled + self.handled,
            failed=earlier.failed + self.failed,
            retried=earlier.retried + self.retried,
            parked=earlier.parked + self.parked,
            calls=earlier.calls + self.calls,
            batches=earlier.batches + self.batches,
            seconds=earlier.seconds + self.seconds,
        )


NOTHING = Ended(End.CAUGHT_UP)
"""What a run leaves that finds nothing."""


def way_out(projection: str) -> str:
    """What to do about a projection that has failed."""
    return (
        f"`eventferry projections status {projection}` shows where; "
        f"when it is fixed: `eventferry projections retry {projection}`"
    )
