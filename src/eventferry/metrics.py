"""What Prometheus is told: what a process has done, and what its stores know.

    Totals   what the projections of this process have done since it began
    Look     what the stores know, whoever has done it; of a `ProjectionStatus` each
    Scrape   both, over HTTP: asked by threads, looked at by the loop, at most every few seconds

Needs the extra `prometheus`. Nothing global: what is collected belongs to who collects it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import accumulate
from threading import Lock
from typing import Any, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from eventferry import logline, sql
from eventferry.connection import Pool
from eventferry.ended import NOTHING, Ended
from eventferry.health import Health
from eventferry.pools import Pools
from eventferry.probes import Answer
from eventferry.projection import Projection
from eventferry.status import ProjectionStatus, State, status
from eventferry.timing import BOUNDS_S, Timing

log = logging.getLogger("eventferry.metrics")

STORE_S = 2.0
"""A store that has not answered by then is away."""
LOOK_S = 8.0
"""A look takes no longer; Prometheus gives a scrape 10 seconds."""
KEPT_S = 5.0
"""For so long, all who scrape are told of the same look."""

_OF = ("service", "projection")
_BOUNDS = (*map(str, BOUNDS_S), "+Inf")


# ---- what the stores know


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of a service's stores, at one moment."""

    service: str
    projections: Sequence[ProjectionStatus] = ()
    drawn: Mapping[str, int | None]
    """By store, `local` and `shared`: how many positions were drawn there; None: it is away."""

    def families(self) -> Iterator[Metric]:
        """The metrics of it."""
        yield from self._of_stores()
        yield from self._of_projections()
        yield from self._of_streams()

    def _of_stores(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "eventferry_up", "Whether the store has answered.", labels=("service", "store")
        )
        drawn = CounterMetricFamily(
            "eventferry_store_positions_drawn",
            "Positions that appends to the store have drawn: events, and what was rolled back.",
            labels=("service", "store"),
        )
        for store, count in self.drawn.items():
            up.add_metric((self.service, store), count is not None)
            if count is not None:
                drawn.add_metric((self.service, store), count)
        yield up
        yield drawn

    def _of_projections(self) -> Iterator[Metric]:
        lag = _gauge("lag_events", "Events not dealt with; counted up to 100,001.")
        behind = _gauge("lag_seconds", "How long the oldest event has waited; 0: none waits.")
        workers = _gauge("workers", "Processes that run it whenever it has work.")
        parked = _gauge("parked_events", "Events that are set aside now.")
        attempts = _gauge(
            "failed_attempts", "Failed attempts at the event that it is at; 0: it has not failed."
        )
        state = _gauge("state", "1 for the state that it is in, 0 for the others.", "state")
        position = _gauge("position", "Of the last event dealt with in the stream.", "stream")
        for one in self.projections:
            of = self.service, one.name
            if one.lag is not None:
                lag.add_metric(of, one.lag)
            if one.behind_s is not None:
                behind.add_metric(of, one.behind_s)
            workers.add_metric(of, len(one.runners))
            parked.add_metric(of, one.parked.events if one.parked else 0)
            attempts.add_metric(of, one.failure.attempts if one.failure else 0)
            for word in get_args(State):
                state.add_metric((*of, word), word == one.state)
            for stream in one.streams:
                if stream.position is not None:
                    position.add_metric((*of, stream.stream), stream.position)
        yield from (lag, behind, workers, parked, attempts, state, position)

    def _of_streams(self) -> Iterator[Metric]:
        labels = ("service", "store", "stream")
        open_ = GaugeMetricFamily(
            "eventferry_stream_appends_in_flight",
            "Appends whose transactions are open.",
            labels=labels,
        )
        age = GaugeMetricFamily(
            "eventferry_stream_horizon_age_seconds",
            "For how long the oldest open append has held its readers back; 0: nothing does.",
            labels=labels,
        )
        # several projections may read a stream, and then each of them knows its appends
        read = {
            (projection.environment, stream.stream): [
                append for append in projection.in_flight if append.stream == stream.stream
            ]
            for projection in self.projections
            for stream in projection.streams
            if stream.exists
        }
        for place, appends in read.items():
            open_.add_metric((self.service, *place), len(appends))
            ages = [append.open_s for append in appends if append.open_s is not None]
            if ages or not appends:  # else our role may not see how old they are
                age.add_metric((self.service, *place), max(ages, default=0.0))
        yield open_
        yield age


async def look(pools: Pools, projections: Sequence[Projection]) -> Look:
    """Looks at the stores; what one that is away would know is left out. Raises nothing."""
    drawn = await positions_drawn(pools)
    there = [name for name, count in drawn.items() if count is not None]
    statuses: Sequence[ProjectionStatus] = ()
    if "local" in there:
        try:
            async with asyncio.timeout(LOOK_S - 2 * STORE_S):
                statuses = await status(pools.only(there), projections)
        except Exception as error:
            log.warning("can't see how projections are: %s", logline.first_line(error))
    return Look(service=pools.config.service, projections=statuses, drawn=drawn)


async def positions_drawn(pools: Pools) -> dict[str, int | None]:
    """By store, how many positions were drawn there; None: it is away. Raises nothing."""
    names = list(pools.opened)
    found = await asyncio.gather(*(_drawn(pools.of(name)) for name in names))
    return dict(zip(names, found, strict=True))


async def _drawn(pool: Pool) -> int | None:
    try:
        async with asyncio.timeout(STORE_S), pool.connection() as conn:
            cursor = await conn.execute(sql.query("drawn"))
            row = await cursor.fetchone()
    except Exception as error:
        log.debug("a store is away: %s", logline.first_line(error))
        return None
    return int(row[0]) if row else None


def _gauge(name: str, said: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"eventferry_projection_{name}", said, labels=(*_OF, *labels))


# ---- what this process has done


class Totals:
    """What the projections of a process have done since it began."""

    def __init__(self, service: str, projections: Iterable[Projection]) -> None:
        self.service = service
        self._done = {p.name: NOTHING for p in projections}

    def ended(self, projection: Projection, ended: Ended) -> None:
        """A run has ended."""
        if ended.handled or ended.failed:
            self._done[projection.name] = ended.after(self._done[projection.name])

    def families(self) -> Iterator[Metric]:
        """The metrics of it; asked by any thread."""
        handled = _counter("events_handled", "Events dealt with by this process.")
        failed = _counter("attempts_failed", "Attempts at events that have failed.")
        retried = _counter("attempts_retried", "Attempts at events that had failed before.")
        parked = _counter("events_parked", "Events that were set aside.")
        calls = _histogram("handler", "Calls of the handler, also where the batch was rolled back.")
        batches = _histogram("batch", "Transactions that were committed, with all that is in them.")
        for name, done in self._done.items():
            of = self.service, name
            handled.add_metric(of, done.handled)
            failed.add_metric(of, done.failed)
            retried.add_metric(of, done.retried)
            parked.add_metric(of, done.parked)
            calls.add_metric(of, _buckets(done.calls), done.calls.sum_s)
            batches.add_metric(of, _buckets(done.batches), done.batches.sum_s)
        yield from (handled, failed, retried, parked, calls, batches)


def _counter(name: str, said: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"eventferry_{name}", said, labels=_OF)


def _histogram(name: str, said: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"eventferry_{name}_duration_seconds", said, labels=_OF)


def _buckets(timing: Timing) -> list[tuple[str, float]]:
    """As Prometheus counts: all calls up to each bound."""
    counts = (*timing.counts, *[0] * (len(_BOUNDS) - len(timing.counts)))
    return list(zip(_BOUNDS, map(float, accumulate(counts)), strict=True))


# ---- over HTTP


def exposition(families: Iterable[Metric]) -> Answer:
    """The metrics as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return Answer(HTTPStatus.OK, generate_latest(registry), CONTENT_TYPE_LATEST)


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families

    def describe(self) -> Iterable[Metric]:
        return ()  # else it would be collected once more, to be registered


class Scrape:
    """What `/metrics` of a worker answers; called by the threads of its server.

    Args:
        loop: The worker's, which looks.
        ask: Looks; None: the stores are not open yet.
        totals: What the process has done.
        health: How it is.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ask: Callable[[], Coroutine[Any, Any, Look] | None],
        totals: Totals,
        health: Health,
    ) -> None:
        self._loop, self._ask, self._totals, self._health = loop, ask, totals, health
        self._lock = Lock()
        """Held while the loop looks: who scrapes meanwhile is told the same."""
        self._families: list[Metric] = []
        self._kept_until = 0.0

    def __call__(self) -> Answer:
        """The metrics; of the process at least, whatever its loop and its stores do."""
        with self._lock:
            if time.monotonic() >= self._kept_until:
                self._families = self._looked()
                self._kept_until = time.monotonic() + KEPT_S
            seen = self._families
        return exposition((*self._totals.families(), self._ready(), *seen))

    def _ready(self) -> Metric:
        ready = GaugeMetricFamily(
            "eventferry_worker_ready",
            "Whether this process answers /readyz with 200.",
            labels=("service",),
        )
        ready.add_metric((self._totals.service,), self._health.ready().is_ok)
        return ready

    def _looked(self) -> list[Metric]:
        asked = self._ask()
        if asked is None:
            return []
        future = asyncio.run_coroutine_threadsafe(asked, self._loop)
        try:
            return list(future.result(LOOK_S).families())
        except Exception as error:  # the loop is blocked, or ends
            future.cancel()
            log.debug("can't look: %r", error)
            return []
