"""Between any two statements of one runner, another one or a person may have been there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from eventferry import Context, End, Event, RecordedEvent, StoreUnavailable
from eventferry.control import Control
from eventferry.ended import Ended
from eventferry.errors import ProjectionError
from eventferry.pools import Pools
from eventferry.registry import Registry
from eventferry.run import TROUBLES, Run, Troubles
from tests.conftest import MakeService
from tests.deployed import deployed
from tests.services import Service, numbered, query, record
from tests.waiting import until, wait_for_lock

STREAM = "users-stream"
Interrupt = Callable[[Run], Coroutine[Any, Any, Any]]


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM)
    loner.create_effects()
    return loner


class Failing:
    """Records, and fails at these."""

    def __init__(self, *poison: int) -> None:
        self.poison = set(poison)

    def handle(self, event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] in self.poison:
            raise RuntimeError(f"poison {event.data['n']}")

    def reset(self, context: Context) -> None:
        context.connection.execute("DELETE FROM effects")


def control(run: Run) -> Control:
    return Control(pools=run.pools, projection=run.projection, who="a test")


def before(patch: pytest.MonkeyPatch, method: str, interrupt: Interrupt) -> None:
    """Does this once, just before a run calls that method of its own."""
    original = getattr(Run, method)
    calls: list[Run] = []

    async def interrupted(run: Run, *arguments: Any) -> Any:
        if not calls:
            calls.append(run)
            await interrupt(run)
        return await original(run, *arguments)

    patch.setattr(Run, method, interrupted)


def failures(users: Service) -> list[str]:
    rows = query(users.local_url, "SELECT error FROM eventferry.failures ORDER BY id")
    return [row[0] for row in rows]


def deaths(users: Service) -> int:
    ((count,),) = query(
        users.local_url,
        "SELECT eventferry.batch_deaths(eventferry.batch_count(projection), begun)"
        " FROM eventferry.checkpoints WHERE projection = 'reader'",
    )
    return int(count)


# ---- a failure is settled only where its event still stands


@pytest.mark.parametrize("policy", ["stop", "park", "skip"])
def test_what_failed_before_a_reset_is_not_settled_after_it(
    users: Service, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Failing(5)
    users.consuming("reader", handler, STREAM, on_failure=policy)
    users.append(STREAM, numbered(6))

    async def reset(run: Run) -> None:
        await control(run).reset("start")
        handler.poison.clear()

    before(monkeypatch, "_settle", reset)
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3, 4, 5, 6]
    assert failures(users) == []


def test_what_failed_before_a_deletion_does_not_bring_it_back(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.consuming("reader", Failing(2), STREAM, on_failure="park")
    users.append(STREAM, numbered(3))
    before(monkeypatch, "_settle", lambda run: control(run).delete())
    assert users.run("reader").end is End.PAUSED
    assert users.recorded() == [1]
    assert query(users.local_url, "SELECT FROM eventferry.checkpoints") == []
    assert query(users.local_url, "SELECT FROM eventferry.parked_events") == []


@pytest.mark.parametrize("action", ["pause", "stop"])
def test_a_batch_that_fails_while_it_is_paused_or_stopped_is_no_death(
    users: Service, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.consuming("reader", Failing(1), STREAM, on_failure="skip")
    users.append(STREAM, numbered(1))
    before(
        monkeypatch,
        "_settle",
        lambda run: control(run).pause("a look") if action == "pause" else control(run).stop(),
    )
    assert users.look("reader").end is (End.PAUSED if action == "pause" else End.STOPPED)
    assert (failures(users), deaths(users)) == ([], 0)
    users.control("reader", lambda it: it.resume())
    assert users.run("reader").end is End.CAUGHT_UP
    assert len(failures(users)) == 1


def test_a_runner_forgets_no_failure_but_the_one_that_it_has_dealt_with(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = Failing(1)
    hour = timedelta(hours=1)
    users.consuming("reader", handler, STREAM, attempts=3, backoff=hour, batch_size=1)
    users.append(STREAM, numbered(2))
    assert users.look("reader").end is End.RETRYING
    users.retry("reader")
    handler.poison = {2}

    async def another(run: Run) -> None:
        assert (await Run(pools=run.pools, projection=run.projection)()).end is End.RETRYING

    before(monkeypatch, "_recovered", another)
    assert users.look("reader").end is End.RETRYING
    known = users.known("reader")
    assert known is not None
    assert (known.state, known.attempts, known.failing_event_id) == (
        "retrying",
        2,
        next(e.id for e in users.local.read(STREAM) if e.data["n"] == 2),
    )


# ---- outages are nobody's fault, whoever sees them


def looks(users: Service, count: int, troubles: Callable[[], Troubles]) -> list[Ended]:
    """Looks that were no outage, of so many."""

    async def look() -> list[Ended]:
        ended = []
        projection = users.projections["reader"]
        async with Pools(users.config) as pools:
            await Registry(pools.local).register(projection)
            for _ in range(count):
                try:
                    run = Run(pools=pools, projection=projection, troubles=troubles())
                    ended.append(await run())
                except StoreUnavailable:
                    continue
        return ended

    return asyncio.run(look())


def raising(sqlstate: LiteralString) -> Callable[..., None]:
    def handle(event: RecordedEvent, context: Context) -> None:
        context.connection.execute(
            f"DO $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END$$"
        )

    return handle


def test_outages_that_many_workers_see_are_no_deaths(users: Service) -> None:
    users.consuming("reader", raising("40P01"), STREAM, on_failure="skip")
    users.append(STREAM, numbered(1))
    assert looks(users, 6, Troubles) == [], "each a worker of its own"
    assert failures(users) == []


def test_ten_outages_at_an_event_are_one_attempt_and_the_next_ten_another(users: Service) -> None:
    users.consuming("reader", raising("55P03"), STREAM, attempts=2, backoff=timedelta(0))
    users.append(STREAM, numbered(1))
    troubles = Troubles()
    ended = looks(users, 2 * TROUBLES, lambda: troubles)
    assert [e.end for e in ended] == [End.RETRYING, End.FAILED]


def test_an_outage_before_the_handler_is_called_counts_nothing(users: Service) -> None:
    """No connection can be had, as where a server has too many."""
    users.consuming("reader", record, STREAM, on_failure="skip")
    users.append(STREAM, numbered(1))

    async def look() -> None:
        projection, troubles = users.projections["reader"], Troubles()
        async with Pools(users.config) as pools:
            await Registry(pools.local).register(projection)
            taken = [pools.handlers.getconn() for _ in range(pools.handlers.max_size)]
            pools.handlers.timeout = 0.01
            for _ in range(TROUBLES + 1):
                with pytest.raises((StoreUnavailable, psycopg.OperationalError)):
                    await Run(pools=pools, projection=projection, troubles=troubles)()
            for conn in taken:
                pools.handlers.putconn(conn)

    asyncio.run(look())
    assert failures(users) == []
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1]


def test_an_outage_that_a_handler_has_wrapped_is_an_outage(users: Service) -> None:
    """As every ORM does."""
    left = 2

    def handle(event: RecordedEvent, context: Context) -> None:
        nonlocal left
        record(event, context)
        if left:
            left -= 1
            try:
                raising("40P01")(event, context)
            except psycopg.Error as error:
                raise RuntimeError("the ORM says") from error

    users.consuming("reader", handle, STREAM, on_failure="skip")
    users.append(STREAM, numbered(1))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1]
    assert failures(users) == []


CONFIGURATION = """
    service = "users"
    local_url = "{users.local_url}"
    shared_url = "{users.shared_url}"
    """
PROJECTION = """
    [consuming.{name}]
    stream_names = ["users-stream"]
    environment = "local"
    handler = "handlers:{name}"
    on_failure = "skip"
    attempts = 2
    backoff = "10ms"
    """
HANDLERS = """
    import os, time

    def deadly(event, context):
        time.sleep(0.2)  # by now, whoever runs beside it is at it
        os._exit(9)

    def innocent(event, context):
        time.sleep(0.5)
        context.connection.execute(
            "INSERT INTO effects (projection, event_id, stream, position, n)"
            " VALUES (%s, %s, %s, %s, %s)",
            (context.projection, event.id, event.stream, event.position, event.data["n"]),
        )
    """


def test_who_dies_with_its_neighbour_is_not_blamed_for_it(users: Service, tmp_path: Path) -> None:
    """Two projections of one process: after the first death, each suspect runs alone in it."""
    tables = "".join(PROJECTION.format(name=name) for name in ("deadly", "innocent"))
    users.append(STREAM, numbered(1))
    codes: list[int] = []
    with deployed(tmp_path, CONFIGURATION.format(users=users) + tables, HANDLERS) as here:
        while not codes or codes[-1] == 9:
            codes.append(here.run("worker", "--once"))
            assert len(codes) < 8, here.log
    assert codes[-1] == 0
    assert users.recorded() == [1]
    rows = query(users.local_url, "SELECT projection FROM eventferry.failures")
    assert {row[0] for row in rows} == {"deadly"}


# ---- what several people do at once


def test_a_skip_that_waits_for_a_reset_skips_nothing(users: Service) -> None:
    class Slow(Failing):
        def reset(self, context: Context) -> None:
            super().reset(context)
            wait_for_lock(users.local_url)

    users.consuming("reader", Slow(5), STREAM)
    users.append(STREAM, numbered(6))
    users.run("reader")
    fifth = users.failure("reader").failing_event_id
    assert fifth is not None
    resetting = threading.Thread(
        target=lambda: users.control("reader", lambda it: it.reset("start"))
    )
    resetting.start()
    until(
        lambda: query(
            users.local_url,
            "SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'idle in transaction' AND query LIKE 'DELETE FROM effects%%'",
        ),
        "it is being reset",
    )
    with pytest.raises(ProjectionError, match="no event of projection 'reader' fails"):
        users.control("reader", lambda it: it.skip(fifth, "a mistake"))
    resetting.join()
    assert users.checkpoint("reader") == 0
    assert users.run("reader").end is End.FAILED
    assert users.recorded() == [1, 2, 3, 4]


def test_a_first_run_keeps_off_while_what_never_ran_is_reset(users: Service) -> None:
    resetting, may_end = threading.Event(), threading.Event()

    class Slow(Failing):
        def reset(self, context: Context) -> None:
            super().reset(context)
            resetting.set()
            may_end.wait()

    users.consuming("reader", Slow(), STREAM)
    users.append(STREAM, numbered(3))
    thread = threading.Thread(target=lambda: users.control("reader", lambda it: it.reset("start")))
    thread.start()
    resetting.wait()
    running = threading.Thread(target=lambda: users.run("reader"))
    running.start()
    wait_for_lock(users.local_url)
    may_end.set()
    thread.join()
    running.join()
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3]


def test_of_streams_that_are_added_at_once_none_is_lost(users: Service) -> None:
    users.create_stream("b-stream", "c-stream")
    users.consuming("reader", record, STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")

    async def both(it: Control) -> None:
        added = [asyncio.create_task(it.add_stream(s, "start")) for s in ("b-stream", "c-stream")]
        await asyncio.to_thread(
            until,
            lambda: (
                query(users.local_url, "SELECT FROM pg_locks WHERE NOT granted")
                and len(query(users.local_url, "SELECT FROM pg_locks WHERE NOT granted")) == 2
            ),
        )
        gate.rollback()
        await asyncio.gather(*added)

    with psycopg.connect(users.local_url) as gate:
        gate.execute("SELECT FROM eventferry.checkpoints FOR UPDATE")
        users.control("reader", both)
    known = users.known("reader")
    assert known is not None
    assert set(known.streams) == {STREAM, "b-stream", "c-stream"}


# ---- what can't be done


def test_a_paused_projection_is_not_unparked(users: Service) -> None:
    users.consuming("reader", Failing(1), STREAM, on_failure="park")
    users.append(STREAM, numbered(1))
    users.run("reader")
    users.control("reader", lambda it: it.pause("a look"))
    with pytest.raises(ProjectionError, match="is paused by a test, and its handler rests: a look"):
        users.control("reader", lambda it: it.unpark())


@pytest.mark.parametrize("action", ["pause", "resume", "stop", "add_stream", "remove_stream"])
def test_nothing_is_done_to_what_is_deleted(users: Service, action: str) -> None:
    arguments = {"pause": ["why"], "add_stream": ["x", "now"], "remove_stream": [STREAM]}
    users.consuming("reader", record, STREAM)
    users.control("reader", lambda it: it.delete())
    with pytest.raises(ProjectionError, match="has been deleted; to bring it back: `eventferry pr"):
        users.control("reader", lambda it: getattr(it, action)(*arguments.get(action, [])))


def test_the_audit_knows_of_an_unpark_before_the_handler_does(users: Service) -> None:
    """Whatever becomes of it, a process that dies among it."""
    handler = Failing(1)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, numbered(1))
    users.run("reader")
    seen: list[Any] = []

    def look(event: RecordedEvent, context: Context) -> None:
        seen.extend(query(users.local_url, "SELECT action, details FROM eventferry.audit"))

    users.deploy("reader", look)
    users.control("reader", lambda it: it.unpark())
    assert seen == [("unpark", {"all": True, "events": 1})]


def test_a_reset_drops_only_the_parked_events_that_come_again(users: Service) -> None:
    users.consuming("reader", Failing(1, 3), STREAM, on_failure="park")
    users.append(STREAM, [Event("Numbered", {"n": n}, entity_id=str(n)) for n in (1, 2, 3)])
    users.run("reader")
    _, second, _ = users.positions(STREAM)
    users.control("reader", lambda it: it.reset(second))
    assert [p.position for p in users.control("reader", lambda it: it.parked())] == [second - 1]


def test_a_skip_does_not_forget_where_a_ferrys_checkpoint_is(make_service: MakeService) -> None:
    users = make_service("users")
    users.create_stream(STREAM)
    users.producing("ferry", STREAM)
    users.append(STREAM, numbered(1))
    users.run("ferry")
    event = Event("Numbered", {"n": 2})
    users.append(STREAM, event)
    users.shared.append(STREAM, Event("Other", {"n": 3}, id=event.id))
    assert users.run("ferry").end is End.FAILED
    users.control("ferry", lambda it: it.skip(event.id, "it is another's"))
    known = users.known("ferry")
    assert known is not None
    assert known.kept_in is not None
    assert users.run("ferry").end is End.CAUGHT_UP
