"""A projection and whatever can be done to it, in any order: it always is where the model says.

Hypothesis appends, breaks and mends the handler, runs, kills, pauses, parks, skips, resets, and
compares after each step with `tests/projection_model.py`. At the end the handler is mended and
everything retried: each event has been handled once since the last reset, but for what was skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count, product
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from eventferry import AsyncContext, Context, End, Event, ProjectionError, RecordedEvent
from eventferry.connection import is_outage
from eventferry.control import Control
from eventferry.parking import Which
from eventferry.pools import Pools
from eventferry.projection import OnFailure
from eventferry.registry import Registry
from eventferry.run import TROUBLES, Run, Troubles
from tests.projection_model import DEATHS, Given, Model, Refused
from tests.services import Service, open_transactions, query, quiet, record, record_async
from tests.waiting import until

STREAMS = ("users-stream", "orders-stream")
ENTITIES = ("ann", "ann", "bob", None)

# ---- the handler


class Poisoned(Exception):
    """The handler has a bug, for this event."""


Death = Literal["connection", "process"]


@dataclass
class Deployed:
    """What the handler does, as it is deployed now."""

    poison: set[int] = field(default_factory=set)
    dies_at: int | None = None
    death: Death = "connection"

    def raise_or_live(self, n: int) -> None:
        if n in self.poison:
            raise Poisoned(n)

    def dies(self, n: int) -> bool:
        if n != self.dies_at:
            return False
        if self.death == "process":
            os._exit(9)
        return True


DIE = "SELECT pg_terminate_backend(pg_backend_pid())"
FORGET = "DELETE FROM effects WHERE projection = %s"


@dataclass
class Handler:
    """`def`"""

    deployed: Deployed

    def handle(self, event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if self.deployed.dies(event.data["n"]):
            context.connection.execute(DIE)
        self.deployed.raise_or_live(event.data["n"])

    def reset(self, context: Context) -> None:
        context.connection.execute(FORGET, (context.projection,))
        self.deployed.raise_or_live(-1)


class BatchHandler(Handler):
    """`handle_batch`"""

    def handle_batch(self, events: list[RecordedEvent], context: Context) -> None:
        for event in events:
            self.handle(event, context)


@dataclass
class AsyncHandler:
    """`async def`"""

    deployed: Deployed

    async def handle(self, event: RecordedEvent, context: AsyncContext) -> None:
        await record_async(event, context)
        if self.deployed.dies(event.data["n"]):
            await context.connection.execute(DIE)
        self.deployed.raise_or_live(event.data["n"])

    async def reset(self, context: AsyncContext) -> None:
        await context.connection.execute(FORGET, (context.projection,))
        self.deployed.raise_or_live(-1)


HANDLERS: dict[str, type[Handler | AsyncHandler]] = {
    kind.__name__: kind for kind in (Handler, BatchHandler, AsyncHandler)
}

# ---- the real one


@dataclass(kw_only=True)
class Stage:
    """A service whose projections are run and handled here, one after the other."""

    service: Service
    runner: asyncio.Runner
    pools: Pools
    doomed: Doomed
    numbers: Iterator[int] = field(default_factory=count)
    seen: Counter[str] = field(default_factory=Counter)
    """What has come about, and how often."""


class Doomed:
    """Forks processes that look at a projection, and end in the middle of it without a word."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: subprocess.Popen[str] | None = None

    def look(self, **told: Any) -> int:
        """The exit code of the process."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, self._url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


def fork_for_each_line(url: str) -> None:
    """What runs in the process that forks."""
    quiet()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            look_once(url, **json.loads(line))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def look_once(
    url: str,
    name: str,
    streams: list[str],
    kind: str,
    poison: list[int],
    dies_at: int,
    **options: Any,
) -> None:
    service = Service("users", url, url)
    deployed = Deployed(set(poison), dies_at, "process")
    service.consuming(name, HANDLERS[kind](deployed), *streams, **policy(**options))
    service.look(name)


def policy(**options: Any) -> dict[str, Any]:
    """Time is no part of it: the next attempt is due at once."""
    return {
        **options,
        "backoff": timedelta(0),
        "event_types": frozenset({"Wanted"}),
    }


@contextmanager
def staged(service: Service) -> Iterator[Stage]:
    doomed = Doomed(service.local_url)
    with asyncio.Runner() as runner:
        pools = Pools(service.config)
        runner.run(pools.__aenter__())
        try:
            yield Stage(service=service, runner=runner, pools=pools, doomed=doomed)
        finally:
            runner.run(pools.__aexit__(None, None, None))
            doomed.close()


# ---- what can be done


Appended = list[tuple[str, str | None, str]]
appended = st.lists(
    st.tuples(
        st.sampled_from(STREAMS),
        st.sampled_from(ENTITIES),
        st.sampled_from(["good", "good", "poison", "unwanted"]),
    ),
    min_size=1,
    max_size=8,
)
which = st.integers(0, 20)


class Projections(RuleBasedStateMachine):
    """A projection of two streams, beside its model."""

    stage: Stage

    # ---- setting

    @initialize(
        on_failure=st.sampled_from(["park", "park", "park", "stop", "skip"]),
        attempts=st.sampled_from([1, 2]),
        storm=st.sampled_from([3, 1000]),
        batch_size=st.sampled_from([1, 2, 3, 100]),
        kind=st.sampled_from(sorted(HANDLERS)),
        events=appended,
    )
    def begin(
        self,
        kind: str,
        events: Appended,
        on_failure: OnFailure,
        attempts: int,
        storm: int,
        batch_size: int,
    ) -> None:
        options: dict[str, Any] = {
            "on_failure": on_failure,
            "attempts": attempts,
            "storm": storm,
        }
        number = next(self.stage.numbers)
        self.name = f"reader-{number}"
        self.streams = [f"{stream}-{number}" for stream in STREAMS]
        self.options, self.kind = {**options, "batch_size": batch_size}, kind
        self.deployed, self.troubles = Deployed(), Troubles()
        self.model = Model(**options, poison=self.deployed.poison, seen=self.stage.seen)
        self.recorded: list[RecordedEvent] = []
        """The events, by their numbers."""
        self.service.create_stream(*self.streams)
        self.service.consuming(
            self.name, HANDLERS[kind](self.deployed), *self.streams, **policy(**self.options)
        )
        self._do(Registry(self.stage.pools.local).register(self._projection))
        self.append(events, then_look=True)

    # ---- events, and the code that handles them

    @rule(events=appended, then_look=st.booleans())
    def append(self, events: Appended, then_look: bool) -> None:
        for stream, entity, kind in events:
            n, name = len(self.recorded), self.streams[STREAMS.index(stream)]
            type_ = "Unwanted" if kind == "unwanted" else "Wanted"
            event = Event(type_, {"n": n}, entity_id=entity)
            self.service.append(name, event)
            self.recorded += self.service.local.read(name, backwards=True, limit=1)
            self.model.events.append(
                Given(n=n, stream=name, entity=entity, wanted=kind != "unwanted")
            )
            if kind == "poison":
                self.deployed.poison.add(n)
        if then_look:
            self.look()

    @rule(pick=which, what=st.sampled_from(["mend", "mend", "mend all", "break"]))
    def deploy(self, pick: int, what: str) -> None:
        """What was broken is mended, or the other way round: also for what was handled before."""
        poison = self.deployed.poison
        if what == "break":
            poison.add(pick % len(self.recorded))
        elif what == "mend all":
            poison.clear()
        elif poison:
            poison.remove(self._pick(poison, pick))

    # ---- runs

    @rule()
    def look(self) -> None:
        assert self._run() is self.model.look()

    @precondition(lambda self: self._may_die)
    @rule(
        events=appended,
        pick=which,
        way=st.sampled_from(["outage", "forgotten outage", "process"]),
        times=st.sampled_from([1, 1, DEATHS]),
    )
    def die(self, events: Appended, pick: int, way: str, times: int) -> None:
        """While an event is handled: the process, or its connection, of which a worker tells."""
        self.append(events, then_look=False)
        if not (fatal := self.model.would_handle()):
            return
        n = self._pick(fatal, pick)
        for _ in range(times):
            if n in self.model.would_handle():
                self._die(n, way)
                self.it_is_where_the_model_says()

    def _die(self, n: int, way: str) -> None:
        if way == "process":
            told = {"name": self.name, "streams": self.streams, "kind": self.kind, **self.options}
            poison = sorted(self.deployed.poison)
            assert self.stage.doomed.look(**told, poison=poison, dies_at=n) == 9
        else:
            with self._dying_at(n):
                self._run()
        until(lambda: not open_transactions(self.service.local_url), "the server has noticed")
        self.model.die(n, self._place(), is_outage=way != "process")
        if way != "outage":
            self.troubles = Troubles()

    # ---- what a person does

    @precondition(lambda self: self.model.state in ("failed", "retrying"))
    @rule()
    def retry(self) -> None:
        retry = Registry(self.stage.pools.local).retry
        retried = self._do(retry([self.name], who="a test", service=self.service.name))
        assert retried == [self.name] * self.model.retry()

    @rule()
    def stop(self) -> None:
        """An idle one: nothing changes."""
        self._do(self._control.stop())

    @rule(for_long=st.booleans())
    def pause(self, for_long: bool) -> None:
        self._do(self._control.pause("to see what happens"))
        self.model.pause()
        if not for_long:
            self.look()
            self.it_is_where_the_model_says()
            self.resume()

    @precondition(lambda self: self.model.paused)
    @rule()
    def resume(self) -> None:
        assert self._do(self._control.resume()) is self.model.resume()

    @precondition(lambda self: self.model.parked or self.model.failing is not None)
    @rule(pick=which, right=st.booleans())
    def skip(self, pick: int, right: bool) -> None:
        """What fails, or is parked; and nothing else."""
        skippable = {self.model.failing} - {None} | self.model.parked.keys()
        n = self._pick(skippable if right else range(len(self.recorded)), pick)
        with self._refused_alike(lambda: self.model.skip(n)):
            self._do(self._control.skip(self.recorded[n].id, "for the test"))

    @precondition(lambda self: self.model.parked and not self.model.paused)
    @rule(entity=st.sampled_from((None, *ENTITIES)), is_mended=st.booleans())
    def unpark(self, entity: str | None, is_mended: bool) -> None:
        """All, or those of an entity; where it is mended, those that have failed have a chance."""
        if is_mended:
            self.deployed.poison -= {n for n, has_failed in self.model.parked.items() if has_failed}
        unparked = self._do(self._control.unpark(Which(entity=entity)))
        assert (unparked.handled, len(unparked.failed)) == self.model.unpark(entity=entity)

    @precondition(lambda self: self.model.parked)
    @rule(pick=which)
    def unpark_one(self, pick: int) -> None:
        """If it is the first of its entity, and the projection is not paused."""
        n = self._pick(self.model.parked, pick)
        with self._refused_alike(lambda: self.model.unpark(n=n)):
            self._do(self._control.unpark(Which(events=(self.recorded[n].id,))))

    @precondition(lambda self: self.model.parked and not self.model.paused)
    @rule(pick=which)
    def die_unparking(self, pick: int) -> None:
        n = self._pick(self.model.would_unpark(), pick)
        with self._dying_at(n):
            self._do(self._control.unpark())
        self.model.unpark(dies_at=n)

    @rule(
        pick=which,
        to=st.sampled_from(["start", "now", "position"]),
        how=st.sampled_from(["at once", "in vain", "after it was deleted"]),
    )
    def reset(self, pick: int, to: Literal["start", "now", "position"], how: str) -> None:
        if how == "in vain":  # the handler can't undo what it has written
            self.deployed.poison.add(-1)
            with pytest.raises(Poisoned):
                self._do(self._control.reset("start"))
            self.deployed.poison.remove(-1)
            return
        if how == "after it was deleted":
            self._do(self._control.delete())
            self.model.delete()
            self.it_is_where_the_model_says()
            self.look()
        after = {"start": 0, "now": len(self.recorded)}.get(to, pick % len(self.recorded) + 1)
        position = self.recorded[after - 1].position
        self._do(self._control.reset(position if to == "position" else to))
        self.model.reset(after)

    # ---- what is always so

    @invariant()
    def it_is_where_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        model = self.model
        assert self._handled == model.handled
        assert self._parked == sorted(model.parked.items())
        assert self._skipped == model.skipped
        known = self.service.known(self.name)
        assert known is not None
        failing = model.failing if model.failing is None else self.recorded[model.failing].id
        assert known.state == model.state, known.error
        assert known.failing_event_id == failing
        assert str(known.error).split(":")[0] == str(model.error)
        assert known.attempts == model.tries
        assert (known.paused_at is not None) is model.paused
        if model.state != "deleted":
            assert self._place() == model.at

    def teardown(self) -> None:
        """The handler is mended, and whoever waits is set to run."""
        if not hasattr(self, "model") or sys.exc_info()[1] is not None:
            return
        self.deployed.poison.clear()
        for _ in range(DEATHS + 1):  # what is blamed for deaths was not mended
            self.resume()
            self.retry()
            self.unpark(None, is_mended=False)
            self.look()
            if self.model.state == "idle" and not self.model.parked:
                break
        assert self.model.look() is End.CAUGHT_UP, self.model
        self.it_is_where_the_model_says()
        self._require_each_once_in_order()

    def _require_each_once_in_order(self) -> None:
        """Of the events since the last reset, by what stands in the tables alone."""
        handled = self._handled
        wanted = [e.n for e in self.model.events[self.model.begin :] if e.wanted]
        assert len(set(handled)) == len(handled), "none twice"
        assert set(wanted) - set(handled) <= set(self._skipped), "nothing left out but by skipping"
        for line in {self.model.events[n].line for n in handled}:
            its = [n for n in handled if self.model.events[n].line == line]
            assert its == sorted(its), "an entity's events in order"

    # ---- what is there

    @property
    def _handled(self) -> list[int]:
        return self.service.recorded(self.name)

    @property
    def _parked(self) -> list[tuple[int, bool]]:
        rows = query(
            self.service.local_url,
            "SELECT event_id, error IS NOT NULL FROM eventferry.parked_events"
            " WHERE projection = %s ORDER BY position",
            (self.name,),
        )
        return [(self._number(id_), has_failed) for id_, has_failed in rows]

    @property
    def _skipped(self) -> list[int]:
        rows = query(
            self.service.local_url,
            "SELECT details->>'event' FROM eventferry.audit"
            " WHERE projection = %s AND action = 'skip' ORDER BY id",
            (self.name,),
        )
        return [self._number(UUID(id_)) for (id_,) in rows]

    def _place(self) -> int:
        """The number of the next event."""
        at = max(self.service.checkpoint(self.name, stream) for stream in self.streams)
        return sum(event.position <= at for event in self.recorded)

    def _number(self, event: UUID) -> int:
        return next(n for n, recorded in enumerate(self.recorded) if recorded.id == event)

    # ---- the parts of these

    @property
    def service(self) -> Service:
        return self.stage.service

    @property
    def _projection(self) -> Any:
        return self.service.projections[self.name]

    @property
    def _control(self) -> Control:
        return Control(pools=self.stage.pools, projection=self._projection, who="a test")

    @property
    def _may_die(self) -> bool:
        """Not so often that it is the event's fault."""
        return self.troubles.count < TROUBLES - DEATHS

    def _do(self, work: Any) -> Any:
        return self.stage.runner.run(work)

    def _run(self) -> End:
        run = Run(pools=self.stage.pools, projection=self._projection, troubles=self.troubles)
        end: End = self._do(run()).end
        return end

    @contextmanager
    def _dying_at(self, n: int) -> Iterator[None]:
        """The connection is lost while the event is handled."""
        self.deployed.dies_at = n
        has_died = False
        try:
            yield
        except Exception as error:
            if not is_outage(error):
                raise
            has_died = True
        finally:
            self.deployed.dies_at = None
        assert has_died

    @contextmanager
    def _refused_alike(self, in_the_model: Any) -> Iterator[None]:
        """The model and the real one do it, or refuse it."""
        try:
            in_the_model()
        except Refused:
            with pytest.raises(ProjectionError):
                yield
        else:
            yield

    @staticmethod
    def _pick(among: Any, number: int) -> Any:
        return sorted(among)[number % len(among)]


EVERYTHING = {
    *(f"run: {end.value}" for end in (End.CAUGHT_UP, End.RETRYING, End.FAILED, End.PAUSED)),
    "park by policy",
    "skip by policy",
    "parked behind another",
    "storm",
    "death",
    "death after a batch",
    "death while unparking",
    "blamed for deaths",
    "retry",
    "resume",
    "skip a parked one",
    "skip a failing one",
    "unpark",
    "unpark, and fail again",
    "unpark some of an entity",
    "unpark out of order",
    "reset a deleted one",
    "reset where some are parked",
}


def explore(service: Service, **options: Any) -> Counter[str]:
    """Does whatever can be done, in any order; what has come about."""
    slow = [HealthCheck.too_slow]
    with staged(service) as stage:
        machine = type("Projections", (Projections,), {"stage": stage})
        run_state_machine_as_test(
            machine, settings=settings(deadline=None, suppress_health_check=slow, **options)
        )
        return stage.seen


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_effects()
    return loner


def test_a_tour_through_everything(users: Service) -> None:
    """What an exploration comes to only by chance."""
    with staged(users) as stage:
        for kind, tour in product(HANDLERS, (parking, stopping, skipping)):
            projection: Any = type("Projections", (Projections,), {"stage": stage})()
            tour(projection, kind)
            projection.teardown()
        assert {what for what in EVERYTHING if not stage.seen[what]} == set()


def parking(projection: Any, kind: str) -> None:
    does = checking(projection)
    does.begin(kind, anns("poison", "good", "poison"), "park", attempts=1, storm=3, batch_size=2)
    does.unpark_one(1)
    does.unpark(None, is_mended=False)
    does.unpark(None, is_mended=True)
    does.die_unparking(0)
    does.append(anns("good") + nobodys("poison", "good"), then_look=True)
    does.reset(0, "start", "in vain")
    does.reset(0, "start", "at once")
    does.look()
    does.skip(0, right=True)
    does.resume()
    does.die(nobodys("good", "good", "good"), 2, "process", DEATHS)
    does.look()
    does.append(nobodys("poison", "poison", "poison", "good"), then_look=True)
    does.resume()
    does.pause(for_long=False)
    does.reset(0, "position", "after it was deleted")


def stopping(projection: Any, kind: str) -> None:
    does = checking(projection)
    does.begin(kind, nobodys("good", "poison"), "stop", attempts=2, storm=3, batch_size=3)
    does.look()
    does.look()
    does.skip(0, right=False)
    does.retry()
    does.look()
    does.skip(0, right=True)
    does.stop()
    does.die(nobodys("good", "good", "good"), 2, "process", DEATHS + 1)
    does.look()
    does.look()


def skipping(projection: Any, kind: str) -> None:
    does = checking(projection)
    does.begin(kind, anns("good", "poison"), "skip", attempts=1, storm=3, batch_size=100)
    does.die(anns("good", "unwanted", "good"), 1, "outage", DEATHS + 1)
    does.look()


def anns(*kinds: str) -> Appended:
    return [(STREAMS[0], "ann", kind) for kind in kinds]


def nobodys(*kinds: str) -> Appended:
    return [(STREAMS[1], None, kind) for kind in kinds]


def checking(projection: Projections) -> Any:
    """The projection, compared with the model after each thing that it does."""

    class Checking:
        def __getattr__(self, name: str) -> Any:
            def do(*arguments: Any, **named: Any) -> None:
                getattr(projection, name)(*arguments, **named)
                projection.it_is_where_the_model_says()

            return do

    return Checking()


def test_whatever_is_done_to_a_projection_each_event_is_handled_once_and_in_order(
    users: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Always the same examples; unshrunk, as that would take minutes."""
    caplog.set_level("CRITICAL")
    phases = [phase for phase in Phase if phase is not Phase.shrink]
    explore(users, max_examples=20, stateful_step_count=20, derandomize=True, phases=phases)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_it_is_so_in_other_examples_each_time(
    users: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure is told as the steps that lead to it, and how to repeat them."""
    caplog.set_level("CRITICAL")
    seen = explore(users, max_examples=300, stateful_step_count=50, print_blob=True)
    assert {what for what in EVERYTHING if not seen[what]} == set(), "all of it has come about"


if __name__ == "__main__":
    fork_for_each_line(sys.argv[1])
