"""How long calls take: counted in buckets, so that percentiles of any span come by summing.

The bounds are the same everywhere: in the statistics of a store, in what Prometheus is told, on the
dashboard. They never change, as counts of old and new code are summed (ADR 0015).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest

BOUNDS_S = tuple(digit * 10.0**power for power in range(-4, 2) for digit in (1, 2, 5))
"""The upper bounds of the buckets, in seconds: 100 µs, 200 µs, … 50 s. The last bucket has none."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long some calls have taken."""

    counts: tuple[int, ...] = ()
    """Calls in each bucket; those at the end that are missing are empty."""
    sum_s: float = 0.0
    """The seconds of all calls together."""

    def __add__(self, other: Timing) -> Timing:
        """Of the calls of both; `sum(timings, timing.NONE)` is of those of all."""
        pairs = zip_longest(self.counts, other.counts, fillvalue=0)
        return Timing(tuple(map(sum, pairs)), self.sum_s + other.sum_s)

    @property
    def calls(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def percentile(self, share: float) -> float | None:
        """The seconds in which a share of the calls, from 0 to 1, was over; None: there were none.

        Estimated as Prometheus' histogram_quantile does: as if the calls of a bucket were evenly
        spread over it. So it is in the right bucket; beyond the last bound, it is that bound.
        """
        upto = list(accumulate(self.counts))
        if not upto or not upto[-1]:
            return None
        rank = share * upto[-1]
        place = next(n for n, count in enumerate(upto) if count and count >= rank)
        if place == len(BOUNDS_S):
            return BOUNDS_S[-1]
        lower_s = BOUNDS_S[place - 1] if place else 0.0
        before = upto[place] - self.counts[place]
        within = (rank - before) / self.counts[place]
        return lower_s + (BOUNDS_S[place] - lower_s) * within


NONE = Timing()
"""Of no calls."""


def of(calls_s: Sequence[float]) -> Timing:
    """Of calls that have taken so many seconds each."""
    counts = [0] * (len(BOUNDS_S) + 1)
    if calls_s and max(calls_s) <= BOUNDS_S[0]:  # as where a handler does next to nothing
        counts[0] = len(calls_s)
    else:
        for call_s in calls_s:
            counts[bisect_left(BOUNDS_S, call_s)] += 1
    return Timing(tuple(counts), sum(calls_s))
