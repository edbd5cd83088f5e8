"""What a projection has done over a span of time: its minutes, put together to what is drawn.

Decides without I/O. However long the span, it is about as many moments, so that a chart of a week
costs no more to draw than one of an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TypeVar

from eventferry import timing
from eventferry.dashboard import chart, show
from eventferry.statistics import Minute

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """How far back is looked."""

    name: str
    """As the address has it."""
    label: str
    length: timedelta
    step: timedelta
    """What a moment of it is."""

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """From when to when: the end of the moment that goes on now."""
        step_s = self.step.total_seconds()
        until_s = (now.timestamp() // step_s + 1) * step_s
        until = datetime.fromtimestamp(until_s, UTC)
        return until - self.length, until


SPANS = {
    span.name: span
    for span in (
        Span(name="1h", label="1 h", length=timedelta(hours=1), step=timedelta(minutes=1)),
        Span(name="6h", label="6 h", length=timedelta(hours=6), step=timedelta(minutes=5)),
        Span(name="24h", label="24 h", length=timedelta(days=1), step=timedelta(minutes=15)),
        Span(name="7d", label="7 days", length=timedelta(days=7), step=timedelta(hours=2)),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A step of a span."""

    at: datetime
    """Its beginning."""
    lag: int | None
    """The most in it; None: nobody has looked."""
    behind_s: float | None
    """The same."""
    events: float
    """A minute."""
    failures: int
    parked: int
    p50_s: float | None
    """Of the handler's calls; None: there were none."""
    p99_s: float | None


def moments(minutes: Sequence[Minute], span: Span, now: datetime) -> list[Moment]:
    """The minutes, by the steps of the span; without gaps."""
    since, until = span.window(now)
    found: dict[int, list[Minute]] = {}
    for minute in minutes:
        if since <= minute.minute < until:
            found.setdefault((minute.minute - since) // span.step, []).append(minute)
    done: list[Moment] = []
    for n in range(span.length // span.step):
        at = since + n * span.step
        done.append(_moment(at, found.get(n, ()), span, now, done[-1] if done else None))
    return done


def _moment(
    at: datetime, within: Sequence[Minute], span: Span, now: datetime, before: Moment | None
) -> Moment:
    # who has caught up rests, and writes nothing until he is behind again
    rests = before is not None and before.lag == 0 and not within
    passed_s = min(span.step.total_seconds(), max(60.0, (now - at).total_seconds()))
    calls = sum((m.calls for m in within), timing.NONE)
    return Moment(
        at=at,
        lag=0 if rests else _most(m.lag for m in within),
        behind_s=0.0 if rests else _most(m.behind_s for m in within),
        events=sum(m.events for m in within) * 60 / passed_s,
        failures=sum(m.failures for m in within),
        parked=sum(m.parked for m in within),
        p50_s=calls.percentile(0.5),
        p99_s=calls.percentile(0.99),
    )


def _most(values: Iterable[T | None]) -> T | None:
    return max((value for value in values if value is not None), default=None)


def charts(found: Sequence[Moment], span: Span, zone: tzinfo) -> list[chart.Chart]:
    """Lag, seconds behind, events a minute, the handler's time, failures, parked events."""
    call = caller(span, zone)
    called = [call(m.at) for m in found]

    def one(
        title: str,
        *series: chart.Series,
        say: Callable[[float | None], str] = show.number,
        ceiling: Callable[[float], float] = chart.counts,
    ) -> chart.Chart:
        return chart.drawn(title, series, called, say, ceiling=ceiling)

    def of(name: str, values: chart.Values, *, is_bars: bool = False) -> chart.Series:
        return chart.Series(name=name, values=values, is_bars=is_bars)

    as_s: dict[str, Any] = {"say": show.seconds, "ceiling": chart.durations}
    return [
        one("Lag, events", of("lag", [m.lag for m in found])),
        one("Behind", of("behind", [m.behind_s for m in found]), **as_s),
        one("Events a minute", of("events", [m.events for m in found], is_bars=True)),
        one(
            "Handler time",
            of("p99", [m.p99_s for m in found]),
            of("p50", [m.p50_s for m in found]),
            **as_s,
        ),
        one("Failed attempts", of("failures", [m.failures for m in found], is_bars=True)),
        one("Parked events", of("parked", [m.parked for m in found], is_bars=True)),
    ]


def labels(span: Span, now: datetime, zone: tzinfo) -> list[str]:
    """What stands below a chart: its start, its quarters, its end."""
    (since, _), call = span.window(now), caller(span, zone)
    return [call(since + span.length * n / 4) for n in range(5)]


def caller(span: Span, zone: tzinfo) -> Callable[[datetime], str]:
    """What says when a moment is, for the viewer."""
    pattern = "%a %H:%M" if span.length > timedelta(days=1) else "%H:%M"
    return lambda at: at.astimezone(zone).strftime(pattern)
