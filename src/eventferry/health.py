"""How a process that runs projections is, for those who ask from outside.

Said by its event loop, asked by other threads: a loop that is blocked can't answer for itself.

    starting ──registered──> ready ──────stop──────> stopping
                             │   ▲
                      outage │   │ the store answers
                             ▼   │
                          unavailable

Whatever it was before: `blocked` when the loop does not turn, `failed` when it ends by an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eventferry.connection import is_outage
from eventferry.ended import End

BEAT_S = 1.0
LIMIT_S = 30.0
"""A loop that has not turned for this long is blocked: an `async def` handler that computes, or
waits without `await`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe is told."""

    status: str
    is_ok: bool = False
    reason: str | None = None
    """Why it is not well; None: it is."""


class Health:
    """What is known of one process; none of it is a secret, an error's text may be one.

    Args:
        limit_s: After so many seconds a loop that has not turned is blocked.
    """

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._turned_at = time.monotonic()
        self._is_registered = False
        self._is_stopping = False
        self._error: str | None = None
        self._ended: dict[str, End | None] = {}
        self._outages: dict[str, str] = {}
        """By who has met them: projections meet the same one on their own, and get over it so."""

    # ---- said by the loop

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Shows that the loop turns, while the block runs; and whether an error has ended that."""
        beat = asyncio.create_task(self._beat(), name="eventferry beat")
        try:
            yield
        except BaseException as error:
            self._error = type(error).__name__
            raise
        finally:
            beat.cancel()

    def registered(self, projections: Iterable[str]) -> None:
        """The stores have answered, and know what runs here."""
        self._ended = dict.fromkeys(projections)
        self._is_registered = True

    def ended(self, projection: str, end: End) -> None:
        """A look has ended: whatever it found, the stores have answered."""
        self._ended[projection] = end
        self.available(projection)

    def unavailable(self, who: str, error: Exception) -> None:
        """A store has not answered; `who` has asked."""
        text = " ".join(str(error).split())
        self._outages[who] = text if is_outage(error) else f"{type(error).__name__}; see the log"

    def available(self, who: str) -> None:
        """It answers again."""
        self._outages.pop(who, None)

    def stopping(self) -> None:
        """Nothing new is begun."""
        self._is_stopping = True

    # ---- asked by others

    def alive(self) -> Verdict:
        """Whether the process is worth keeping: its loop turns, and has not ended by an error."""
        if self._error is not None:
            return Verdict("failed", reason=f"ended by {self._error}; see the log")
        age = time.monotonic() - self._turned_at
        if age > self._limit_s:
            return Verdict(
                "blocked",
                reason=f"the event loop has not turned for {age:.0f} s: an `async def` handler "
                "computes, or waits without `await`",
            )
        return Verdict("alive", is_ok=True)

    def ready(self) -> Verdict:
        """Whether it runs its projections, as far as that is up to the process and its stores."""
        if not (alive := self.alive()).is_ok:
            return alive
        if self._is_stopping:
            return Verdict("stopping", reason="it finishes the batch that is being handled")
        if not self._is_registered:
            return Verdict("starting", reason="its stores have not answered yet")
        if outages := dict.fromkeys(self._outages.copy().values()):
            return Verdict("unavailable", reason="; ".join(outages))
        return Verdict("ready", is_ok=True)

    @property
    def projections(self) -> dict[str, str | None]:
        """How the last look of each has ended; None: there was none yet."""
        return {name: end and end.value for name, end in self._ended.copy().items()}

    async def _beat(self) -> None:
        while True:
            self._turned_at = time.monotonic()
            await asyncio.sleep(min(BEAT_S, self._limit_s / 3))
