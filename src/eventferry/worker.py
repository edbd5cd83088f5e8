"""Runs projections, whenever there is work, until it is told to stop.

Each projection has a driver, a loop of its own: look (a run), then do what `next_step` says. Any
number of workers may run the same projections, on any machine: the checkpoint's lock decides.

                       ┌──────────── notified, polled, time is up ────────────┐
                       ▼                                                      │
    look ──> work? ──> handle ──> look …                                      │
      └────> none ──> say so, look once more ──> none ──> sleep ──────────────┘
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from eventferry import tasks
from eventferry.checkpoint import Checkpoints
from eventferry.config import Config
from eventferry.connection import translated
from eventferry.ended import NOTHING, End, Ended
from eventferry.health import Health
from eventferry.journal import Journal, say
from eventferry.pools import Pools
from eventferry.presence import Presence
from eventferry.projection import Projection
from eventferry.registry import Registry
from eventferry.run import OnBacklog, Run, Troubles, nothing
from eventferry.slots import Slots
from eventferry.step import FAILED_POLLS, Step, Tries, next_step
from eventferry.watch import Watch

log = logging.getLogger("eventferry.worker")

CONCURRENCY = 4
"""Projections that a worker runs at a time, unless it is told otherwise."""
TRIES_TOLD = 12
"""When an append has been open for some seconds, who waits for it says so."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """Runs projections of one service. Use `run_worker` unless you have a loop of your own."""

    config: Config
    projections: Sequence[Projection]
    concurrency: int = CONCURRENCY
    command: str = "program"
    """What this process is, for those who look from elsewhere."""
    stops: int | None = None
    """How often the runs of its one projection had been asked to end when it began: it ends when
    that is done once more. None: it never does."""
    on_ended: Callable[[Projection, Ended], None] = lambda _projection, _ended: None
    """Told after every look."""
    health: Health = field(default_factory=Health)
    """What probes are told."""
    is_asked: bool = False
    """Whether somebody has asked all processes of the service to end."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the stores have answered, and know what runs here."""
    pools: Pools | None = None
    """Its connections, while it runs."""
    _presence: Presence | None = None
    _wake: dict[str, asyncio.Event] = field(default_factory=dict)
    _journals: dict[str, Journal] = field(default_factory=dict)
    _reached: dict[str, Checkpoints] = field(default_factory=dict)
    """Where the last run of each was caught up."""
    _cut_off: dict[str, Ended] = field(default_factory=dict)
    """What runs of each have done before an outage; told with the next one that ends."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self) -> None:
        """Ends the batches that are being handled, then the worker. Safe at any time."""
        self._stopping.set()
        self.health.stopping()
        self._wake_up(self._wake)

    def _asked(self) -> None:
        if not self.is_asked:  # it is told so at each beat, until its batch has ended
            log.info("asked to end: there may be new code to run")
        self.is_asked = True
        self.stop()

    def is_asked_to_stop(self, ended: Ended) -> bool:
        """Whether a run has seen that somebody has asked this worker to end."""
        return self.stops is not None and ended.stops not in (None, self.stops)

    async def run(self) -> None:
        """Runs until `stop` is called.

        Raises:
            StoreUnavailable, StoreNotMigrated, SchemaTooNew, ProjectionError: at the start.
        """
        async with self._pools() as pools, self._present(pools) as presence:
            await self._register(pools)
            slots = Slots(self.concurrency)
            watches = {name: self._watch(name, pools, presence) for name in ("local", "shared")}
            watching = [
                asyncio.create_task(task, name=f"eventferry watch {name}")
                for name, watch in watches.items()
                # who retries a projection says so in the local store, whatever that reads
                if watch.readers or name == "local"
                for task in (watch.listen(), watch.poll())
            ]
            try:
                async with asyncio.TaskGroup() as drivers:
                    for projection in self.projections:
                        watch = watches[projection.environment]
                        drivers.create_task(self._drive(projection, pools, watch, slots))
            finally:
                await tasks.end(watching)

    async def run_until_idle(self) -> dict[str, Ended]:
        """Runs until every projection is caught up, has failed, or lacks its stream.

        One may append what another one reads: all are looked at again until none has anything, or
        until what was there has been through all of them. So it ends while events keep coming.

        Returns:
            How each one's last run ended, with the number of events that all its runs handled.

        Raises:
            as `run`
        """
        total: dict[str, Ended] = {}
        async with self._pools() as pools, self._present(pools, lasts=False):
            await self._register(pools)
            slots = Slots(self.concurrency)
            for number in range(len(self.projections) + 1):
                async with asyncio.TaskGroup() as group:
                    runs = {
                        p.name: group.create_task(self._until_idle(p, pools, slots))
                        for p in self.projections
                    }
                ended = {name: run.result() for name, run in runs.items()}
                total = {n: end.after(total[n]) if total else end for n, end in ended.items()}
                ends = ended.values()
                # who ferries nothing may still have made the stream that another one waits for
                again = number == 0 and any(end.end is End.WAITING for end in ends)
                if self._stopping.is_set() or not (again or any(end.handled for end in ends)):
                    break
        return total

    async def _drive(
        self, projection: Projection, pools: Pools, watch: Watch, slots: Slots
    ) -> None:
        name, woken, tries = projection.name, self._wake[projection.name], Tries()
        troubles = Troubles()

        def is_asleep(asleep: bool) -> bool:  # said before the look, and not taken back by it
            return asleep and watch.is_asleep(name)

        def is_told(asleep: bool) -> bool:
            return is_asleep(asleep) and not woken.is_set()

        on_backlog = partial(watch.awake, name)
        while not self._stopping.is_set():
            woken.clear()
            try:
                asleep = watch.is_asleep(name)
                told = partial(is_told, asleep)
                ended = await self._look(projection, pools, slots, troubles, on_backlog, told)
                tries.ended(ended)
                if ended.end in (End.FAILED, End.RETRYING, End.PAUSED):
                    await watch.awake(name)  # a retry says so by itself
                step = self._next(ended, is_asleep(asleep), tries)
                if step.sleep and await watch.sleep(name):
                    continue
            except Exception as error:
                await self._outage(projection, pools, error, tries)
                continue
            if not self._stopping.is_set():
                await _wait(woken, step.wait_s)

    async def _until_idle(self, projection: Projection, pools: Pools, slots: Slots) -> Ended:
        woken, tries, total = self._wake[projection.name], Tries(), Ended(End.STOPPED)
        troubles = Troubles()
        while True:
            woken.clear()
            try:
                ended = await self._look(projection, pools, slots, troubles)
            except Exception as error:
                await self._outage(projection, pools, error, tries)
                if self._stopping.is_set():
                    return total
                continue
            total = ended.after(total)
            over = ended.end not in (End.IN_FLIGHT, End.BUSY, End.SLICED, End.RETRYING)
            if over or self._stopping.is_set():
                return total
            tries.ended(ended)
            if ended.end is End.IN_FLIGHT and tries.same == TRIES_TOLD:
                say(
                    logging.WARNING,
                    projection.name,
                    "waits for an append that is still open; "
                    f"`eventferry projections status {projection.name}` names it",
                )
            await _wait(woken, self._next(ended, True, tries).wait_s)

    async def _look(
        self,
        projection: Projection,
        pools: Pools,
        slots: Slots,
        troubles: Troubles,
        on_backlog: OnBacklog = nothing,
        is_told: Callable[[], bool] = lambda: False,
    ) -> Ended:
        run = Run(
            pools=pools,
            projection=projection,
            should_stop=self._stopping.is_set,
            on_backlog=on_backlog,
            is_told=is_told,
            alone=slots.all,
            troubles=troubles,
            journal=self._journals[projection.name],
            stops=self.stops,
            reached=self._reached.pop(projection.name, ()),
        )
        earlier = self._cut_off.pop(projection.name, NOTHING)
        try:
            async with slots.one():
                ended = (await run()).after(earlier)
        except BaseException:
            self._cut_off[projection.name] = run.so_far.after(earlier)
            raise
        self._reached[projection.name] = run.reached
        self._journals[projection.name].ended(projection.name, ended)
        self.health.ended(projection.name, ended.end)
        self.on_ended(projection, ended)
        if self._presence is not None:
            self._presence.ended(projection, ended)
        if self.is_asked_to_stop(ended):
            self.stop()
        return ended

    def _next(self, ended: Ended, asleep: bool, tries: Tries) -> Step:
        poll_s = self.config.poll_interval.total_seconds()
        step = next_step(
            ended.end,
            asleep=asleep,
            tries=tries.same,
            poll_s=poll_s,
            chance=random.random(),
            due_s=ended.due_s,
        )
        if self.stops is None:
            return step
        longest = poll_s * FAILED_POLLS  # who only polls is not told that it is to end
        return replace(step, wait_s=longest if step.wait_s is None else min(longest, step.wait_s))

    async def _outage(
        self, projection: Projection, pools: Pools, error: Exception, tries: Tries
    ) -> None:
        """Waits until a store may be back; not the projection's fault, nothing is counted.

        What is no outage, and could not be recorded as a failure either, waits as well: the other
        projections go on.
        """
        self.health.unavailable(projection.name, error)
        pause = tries.outage() * random.uniform(0.5, 1.5)
        self._journals[projection.name].outage(projection.name, error, pause)
        await pools.renew()
        await _wait(self._stopping, pause)

    def _pools(self) -> Pools:
        return Pools(self.config, size=_pool_size(self.concurrency))

    def _present(self, pools: Pools, *, lasts: bool = True) -> Presence:
        self.pools = pools
        self._presence = Presence(
            pools=pools,
            projections=self.projections,
            command=self.command,
            on_asked=self._asked,
            lasts=lasts,
        )
        return self._presence

    async def _register(self, pools: Pools) -> None:
        registry = Registry(pools.local)
        for projection in self.projections:
            with translated(pools.shown("local")):
                await registry.register(projection)
            self._wake[projection.name] = asyncio.Event()
            self._journals[projection.name] = Journal()
        self.health.registered(self._wake)
        self.started.set()

    def _watch(self, environment: str, pools: Pools, presence: Presence) -> Watch:
        listen_url = (
            self.config.local_listen_url
            if environment == "local"
            else self.config.shared_listen_url
        )
        return Watch(
            environment=environment,
            pool=pools.of(environment),
            listen_url=listen_url,
            poll_s=self.config.poll_interval.total_seconds(),
            readers={p.name: p.streams for p in self.projections if p.environment == environment},
            wake=self._wake_up,
            on_runners=presence.look,
            service=self.config.service,
            on_waits=presence.look_who_waits if environment == "shared" else lambda: None,
            health=self.health,
        )

    def _wake_up(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._wake:
                self._wake[name].set()


def _pool_size(concurrency: int) -> int:
    # each running projection reads ahead while it handles; and the watches look
    return 2 * concurrency + 4


def most_connections(config: Config, concurrency: int = CONCURRENCY) -> dict[str, int]:
    """How many connections a worker opens at most, to each of its stores."""
    size = _pool_size(concurrency)
    most = {
        "local": 2 * size + (config.local_listen_url is not None),
        "shared": size + (config.shared_listen_url is not None),
    }
    if not config.same_database:
        return most
    return {"local": sum(most.values())}


async def _wait(event: asyncio.Event, seconds: float | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
