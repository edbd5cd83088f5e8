"""Kills the process of a projection around each event, and compares what is left of it.

    copy of the database ──> a process, killed at a point ──> another one, to the end ──> effects
                        └──> a process, undisturbed ────────────────────────────────────> effects

Each point has a fresh copy, under the same URL, as the handler may have connections of its own. So
no event sees more than one death: the engine takes three of them for the event's fault.

Processes are forked, because a handler may be any object of the test. This process never calls it.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, Literal

from eventferry.config import Config
from eventferry.ended import End, Ended
from eventferry.projection import Projection
from eventferry.testing.databases import Databases
from eventferry.testing.effect import Effects, differences, effects_in
from eventferry.testing.execution import Raised, around, failure_of, once, run
from eventferry.worker import Worker

PATIENCE_S = 60.0
"""A process that takes longer hangs."""
ADVICE = (
    "What is written through context.connection commits together with the checkpoint. What happens "
    "elsewhere happens at least once: deduplicate it there by event.id. What a process remembers "
    "is gone with it"
)


@dataclass(frozen=True, slots=True)
class Point:
    """Where a process is killed."""

    call: int
    """At which call of the handler, from 1; one more than there are: when all have committed."""
    when: Literal["before", "after"]

    def named(self, calls: list[str]) -> str:
        """As people read it."""
        if self.when == "after":
            return f"after the handler of {calls[self.call - 1]}, before its commit"
        if self.call == 1:
            return f"before the handler of {calls[0]}"
        return f"after the commit of {calls[self.call - 2]}"


@dataclass(slots=True)
class Calls:
    """The calls of a handler in a process, one of which may be the last thing that it does."""

    point: Point | None
    begun: int = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        self.begun += 1
        self._die_at(Point(self.begun, "before"))
        yield
        self._die_at(Point(self.begun, "after"))

    def over(self) -> None:
        """All have committed."""
        self._die_at(Point(self.begun + 1, "before"))

    def _die_at(self, point: Point) -> None:
        if self.point == point:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Said:
    """What a process says when it has come to its end."""

    calls: int
    failure: str | None
    """The traceback of the handler's failure."""


@dataclass(slots=True)
class Crashes:
    """All points of a projection whose events are there, and not handled."""

    config: Config
    projection: Projection
    databases: Databases
    effects: str | Callable[[], Iterable[Any]] | None
    events: list[str]
    """How messages call the events that it handles."""
    _start: str = field(init=False, default="")
    """The URL of the copy that everything begins with."""

    def run(self) -> None:
        """Tries them all.

        Raises:
            AssertionError: at the first point that leaves other effects.
        """
        __tracebackhide__ = True
        self.databases.end_connections(self.config.local_url)
        self._start = self.databases.copy(self.config.local_url)
        try:
            self._try(batch_size=1, calls=self.events)
            handler = self.projection.handler
            if handler is not None and handler.handle_batch and len(self.events) > 1:
                self._try(batch_size=len(self.events), calls=["the whole batch"])
        finally:
            self.databases.replace(self.config.local_url, by=self._start)
            self.databases.drop(self._start)

    def _try(self, batch_size: int, calls: list[str]) -> None:
        __tracebackhide__ = True
        projection = replace(self.projection, batch_size=batch_size)
        expected = self._undisturbed(projection, len(calls))
        if differing := differences(expected, self._undisturbed(projection, len(calls))):
            raise AssertionError(
                "two runs that nothing has disturbed have different effects, so that they can't "
                "be compared; say what to compare: effects='SELECT …'\n" + _listed(differing)
            )
        points = [
            Point(call, when) for call in range(1, len(calls) + 1) for when in ("before", "after")
        ]
        for point in [*points, Point(len(calls) + 1, "before")]:
            where = f"killed {point.named(calls)}, then run again"
            found = self._disturbed(projection, point, where)
            if differing := differences(expected, found):
                raise AssertionError(f"{where}:\n{_listed(differing)}\n{ADVICE}")

    def _undisturbed(self, projection: Projection, calls: int) -> Effects:
        __tracebackhide__ = True
        self._begin()
        said = self._process(projection, None)
        if said is None:
            raise AssertionError("the process of the handler ends by itself: by os._exit?")
        if said.failure is not None:
            raise AssertionError(f"the handler fails without any crash:\n{said.failure}")
        if said.calls != calls:
            raise AssertionError(
                f"the handler was called {said.calls} times, and should have been {calls} times"
            )
        return self._effects()

    def _disturbed(self, projection: Projection, point: Point, where: str) -> Effects:
        __tracebackhide__ = True
        self._begin()
        if (said := self._process(projection, point)) is not None:
            raise AssertionError(
                f"{where}: it came to its end before that:\n{said.failure or 'and has not failed'}"
            )
        # what the dead one held, the server lets go when it notices: the next one need not wait
        self.databases.end_connections(self.config.local_url)
        said = self._process(projection, None)
        if said is None or said.failure is not None:
            why = said.failure if said is not None else "its process ends by itself"
            raise AssertionError(f"{where}: now the handler fails\n{why}\n{ADVICE}")
        return self._effects()

    def _begin(self) -> None:
        self.databases.replace(self.config.local_url, by=self._start)
        if callable(self.effects):
            self.effects()  # what was before does not count

    def _effects(self) -> Effects:
        self.databases.end_connections(self.config.local_url)
        return effects_in(self.config.local_url, self.effects)

    def _process(self, projection: Projection, point: Point | None) -> Said | None:
        """Runs the projection in a process; what that says, None: it was killed."""
        fork = multiprocessing.get_context("fork")
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(
            target=_run_and_say,
            args=(self.config, projection, point, sender),
            name="eventferry test",
        )
        with warnings.catch_warnings():
            # it forks where other threads may run: these are asleep, and the new process uses
            # nothing that they could have locked
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        sender.close()
        try:
            if not receiver.poll(PATIENCE_S):
                raise AssertionError(f"the process of the handler hangs, for {PATIENCE_S:.0f} s")
            try:
                said: Said | None = receiver.recv()
            except EOFError:
                said = None
            process.join(PATIENCE_S)
            return said
        finally:
            receiver.close()
            process.kill()
            process.join()
            process.close()


def _run_and_say(
    config: Config, projection: Projection, point: Point | None, sender: Connection
) -> None:
    gc.freeze()  # what is left of the parent's, its connections say, is not ours to end
    calls, raised = Calls(point), list[Raised]()
    assert projection.handler is not None
    told = once(projection, raised.append)
    assert told.handler is not None
    deadly = replace(told, handler=around(told.handler, calls.one))
    ended = run(_until_idle(config, deadly, calls))
    failure = None
    if ended.end is not End.CAUGHT_UP:
        error = failure_of(ended, raised[-1] if raised else None)
        failure = "".join(traceback.format_exception(error))
    sender.send(Said(calls.begun, failure))
    sender.close()


async def _until_idle(config: Config, projection: Projection, calls: Calls) -> Ended:
    def on_ended(_: Projection, ended: Ended) -> None:
        if ended.end is End.CAUGHT_UP and ended.handled:
            calls.over()

    worker = Worker(config=config, projections=[projection], on_ended=on_ended)
    return (await worker.run_until_idle())[projection.name]


def _listed(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
