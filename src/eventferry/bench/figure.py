"""A figure beside its limit, from several rounds in which both were measured in turn."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Literal

Work = Callable[[], float]
"""Does something once, and tells how fast that was, or how long it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured."""

    key: str
    """The line of the table: `a`, `b`, …"""
    what: str
    unit: str
    """`events/s`, `ms`, `MB`, …"""
    ours: float
    """The median of the rounds."""
    limit_is: str | None = None
    """What it is compared with; None: with a bound alone."""
    limit: float | None = None
    """The median of the rounds."""
    value: float
    """What the target is for: the median of the rounds' ratios, or `ours` itself."""
    lowest: float
    """Of the rounds' ratios."""
    highest: float
    target: float
    better: Literal["more", "less"] = "more"
    """Which side of the target is the good one."""
    rounds: int
    note: str = ""
    """What one should know beside it."""

    @property
    def is_met(self) -> bool:
        """Whether the target is."""
        return self.value >= self.target if self.better == "more" else self.value <= self.target


def compare(
    key: str,
    what: str,
    ours: Work,
    limit: Work,
    *,
    limit_is: str,
    target: float,
    rounds: int,
    unit: str = "events/s",
    better: Literal["more", "less"] = "more",
) -> Figure:
    """Measures both in turn, each round in the other order, after a round that does not count."""
    pairs = [_pair(ours, limit, number) for number in range(rounds + 1)][1:]
    ratios = [mine / its for mine, its in pairs]
    return Figure(
        key=key,
        what=what,
        unit=unit,
        ours=median(mine for mine, _ in pairs),
        limit_is=limit_is,
        limit=median(its for _, its in pairs),
        value=median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        target=target,
        better=better,
        rounds=rounds,
    )


def alone(
    key: str, what: str, measured: list[float], *, unit: str, target: float, note: str = ""
) -> Figure:
    """A figure that has to stay below a bound."""
    middle = median(measured)
    return Figure(
        key=key,
        what=what,
        unit=unit,
        ours=middle,
        value=middle,
        lowest=min(measured),
        highest=max(measured),
        target=target,
        better="less",
        rounds=len(measured),
        note=note,
    )


def rate(count: int, work: Callable[[], object]) -> float:
    """How many of `count` things a second the work does."""
    gc.collect()
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def _pair(ours: Work, limit: Work, number: int) -> tuple[float, float]:
    if number % 2:
        its = limit()
        return ours(), its
    return ours(), limit()
