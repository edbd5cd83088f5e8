"""Outages are no event's fault; nor is a process that dies, unless it always dies at that event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from eventferry import Context, End, RecordedEvent, StoreUnavailable, migrate, sql
from eventferry.embedded import EmbeddedServer
from eventferry.ended import Ended
from eventferry.pools import Pools
from eventferry.registry import Registry
from eventferry.run import DEATHS, TROUBLES, Run, Troubles
from tests.deployed import Deployed, deployed
from tests.services import Service, numbered, open_transactions, query, record
from tests.waiting import until, wait_for_lock

STREAM = "users-stream"

CONFIGURATION = """
    service = "users"
    local_url = "{users.local_url}"
    shared_url = "{users.shared_url}"

    [consuming.reader]
    stream_names = ["users-stream"]
    environment = "local"
    handler = "handlers:handle"
    backoff = "1ms"
    """
HANDLERS = """
    import os
    from pathlib import Path

    def handle(event, context):
        n = event.data["n"]
        with Path("tried").open("a") as file:
            print(n, context.attempt, file=file)
        context.connection.execute(
            "INSERT INTO effects (projection, event_id, stream, position, n)"
            " VALUES (%s, %s, %s, %s, %s)",
            (context.projection, event.id, event.stream, event.position, n),
        )
        if Path(f"deadly-{n}").exists():
            os._exit(9)
        context.connection.execute("SELECT pg_advisory_xact_lock_shared(42)")
    """


@pytest.fixture
def users(make_service: Callable[[str], Service]) -> Service:
    service = make_service("users")
    service.create_stream(STREAM)
    service.create_effects()
    return service


@pytest.fixture
def deploy(users: Service, tmp_path: Path) -> Iterator[Callable[..., Deployed]]:
    """Deploys the service with these options of its projection."""
    contexts = []

    def deploy(*options: str) -> Deployed:
        contexts.append(deployed(tmp_path, _configuration(users, *options), HANDLERS))
        return contexts[-1].__enter__()

    yield deploy
    for context in contexts:
        context.__exit__(None, None, None)


def _configuration(users: Service, *options: str) -> str:
    lines = [line.strip() for line in CONFIGURATION.format(users=users).splitlines()]
    return "\n".join([*lines, *options])


def run(service: Deployed) -> int:
    return service.run("consuming", "start", "reader", "--until-idle")


def failures(users: Service) -> list[str]:
    rows = query(users.local_url, "SELECT error FROM eventferry.failures ORDER BY id")
    return [row[0] for row in rows]


def deaths(users: Service) -> int:
    """Batches that have ended without a word, from where the projection is."""
    with psycopg.connect(users.local_url) as conn:
        row = conn.execute(sql.query("checkpoints"), ("users", "reader")).fetchone()
    assert row is not None
    return int(row[-1])


# ---- processes that die


def test_an_event_that_ends_its_processes_is_found_and_blamed(
    users: Service, deploy: Callable[..., Deployed]
) -> None:
    here = deploy("attempts = 1")
    (here.folder / "deadly-3").touch()
    users.append(STREAM, numbered(5))
    died = 0
    while (code := run(here)) == 9:
        died += 1
        assert died <= DEATHS + 1, "one in the batch, then those that count"
    assert code == 1
    assert died == DEATHS + 1
    assert users.recorded() == [1, 2], "the innocent ones before it are kept"
    known = users.failure("reader")
    assert known.failing_position == users.positions(STREAM)[2]
    assert str(known.error).startswith("ProcessDied: the process that handled the event has ended")
    (here.folder / "deadly-3").unlink()
    users.retry("reader")
    assert run(here) == 0
    assert users.recorded() == [1, 2, 3, 4, 5]


def test_once_it_is_known_to_each_further_death_is_an_attempt(
    users: Service, deploy: Callable[..., Deployed]
) -> None:
    here = deploy("attempts = 3", 'on_failure = "park"')
    (here.folder / "deadly-1").touch()
    users.append(STREAM, numbered(3, entity_id="a"))
    users.append(STREAM, numbered(2, first=4, entity_id="b"))
    codes = [run(here) for _ in range(DEATHS + 2)]
    assert codes == [9] * (DEATHS + 2)
    assert run(here) == 0
    assert users.recorded() == [4, 5]
    assert len(failures(users)) == 3
    parked = query(users.local_url, "SELECT count(*) FROM eventferry.parked_events")
    assert parked == [(3,)]


def test_an_event_on_which_workers_happened_to_be_killed_is_not_blamed(
    users: Service, deploy: Callable[..., Deployed]
) -> None:
    """Killed again and again, but each time it had got on."""
    here = deploy("attempts = 1", "batch_size = 1")
    users.append(STREAM, numbered(1))
    assert run(here) == 0
    for first in range(2, 8, 2):
        users.append(STREAM, numbered(2, first=first))
        for _ in range(DEATHS - 1):
            with psycopg.connect(users.local_url) as gate:
                gate.execute("SELECT pg_advisory_xact_lock(42)")
                worker = here.start()
                wait_for_lock(users.local_url)
                here.kill(worker)
        until(lambda: deaths(users) == DEATHS - 1)
        assert run(here) == 0
        assert deaths(users) == 0
    assert users.recorded() == list(range(1, 8))
    assert failures(users) == []


def test_a_crash_of_the_server_is_no_death_of_a_process(own_server: EmbeddedServer) -> None:
    """A sequence that is drawn from would be ahead by 32 when the server is back."""
    local = own_server.create_database("local")
    migrate(local, kind="local", service="users")
    users = Service("users", local, local)
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", record, STREAM, attempts=1)
    for n in range(1, 6):
        users.append(STREAM, numbered(2, first=2 * n - 1))
        assert users.run("reader").end is End.CAUGHT_UP
        users.close()
        own_server.stop(crash=True)
        own_server.start()
        assert deaths(users) == 0
    assert users.recorded() == list(range(1, 11))
    users.close()


def test_a_batch_that_failed_has_not_died(users: Service) -> None:
    def fail(event: RecordedEvent) -> None:
        raise RuntimeError("no")

    users.consuming("reader", fail, STREAM)
    users.append(STREAM, numbered(3))
    for _ in range(3):
        assert users.run("reader").end is End.FAILED
        assert deaths(users) == 0
        users.retry("reader")


# ---- outages


def raising(sqlstate: LiteralString, n: int, times: int) -> Callable[..., None]:
    """A handler whose database answers so, the first times that it handles event n."""
    left = times

    def handle(event: RecordedEvent, context: Context) -> None:
        nonlocal left
        record(event, context)
        if event.data["n"] == n and left:
            left -= 1
            context.connection.execute(
                f"DO $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END$$"
            )

    return handle


@pytest.mark.parametrize(
    "sqlstate",
    [
        pytest.param("40001", id="serialization failure"),
        pytest.param("40P01", id="deadlock"),
        pytest.param("55P03", id="lock timeout"),
        pytest.param("53300", id="too many connections"),
        pytest.param("53100", id="disk full"),
        pytest.param("57P01", id="shutting down"),
        pytest.param("25006", id="a standby by now"),
    ],
)
def test_an_outage_is_waited_out_and_no_attempt_is_counted(
    users: Service, sqlstate: LiteralString
) -> None:
    users.consuming("reader", raising(sqlstate, 2, times=2), STREAM, on_failure="park")
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3]
    assert failures(users) == []
    assert deaths(users) == 0


def test_a_connection_that_is_lost_in_a_handler_is_no_failure(users: Service) -> None:
    lost: list[int] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] == 2 and len(lost) < 2:
            lost.append(2)
            query(
                users.local_url,
                "SELECT pg_terminate_backend(%s)",
                (context.connection.info.backend_pid,),
            )
            context.connection.execute("SELECT 1")

    users.consuming("reader", handle, STREAM, on_failure="park")
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3]
    assert failures(users) == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_process_that_was_frozen_once_is_forgiven_and_twice_it_is_the_handler(
    users: Service, times: int
) -> None:
    """The server has ended the transaction, in either case."""
    tried: list[int] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        tried.append(event.data["n"])
        if len(tried) <= times:
            until(lambda: not open_transactions(users.local_url))

    timeout = timedelta(milliseconds=300)
    users.consuming("reader", handle, STREAM, batch_size=1, handler_timeout=timeout)
    users.append(STREAM, numbered(1))
    ended = users.run("reader")
    assert ended.end is (End.CAUGHT_UP if times == 1 else End.FAILED)
    assert users.recorded() == ([1] if times == 1 else [])
    assert len(failures(users)) == times - 1
    assert deaths(users) == 0


def test_the_same_outage_at_the_same_event_while_the_store_answers_is_its_failure(
    users: Service,
) -> None:
    users.consuming("reader", raising("40001", 2, times=10**6), STREAM)
    users.append(STREAM, numbered(3))
    outages, ended = looks_with_outages(users)
    assert ended.end is End.FAILED
    assert outages == 1 + TROUBLES - 1, "the batch, then alone until that many"
    assert users.recorded() == [1]
    [error] = failures(users)
    assert error.startswith("SerializationFailure: no")
    known = users.failure("reader")
    assert f"{TROUBLES} times in a row at this event" in str(known.traceback)


def test_outages_at_different_events_are_nobodys_failure(users: Service) -> None:
    handled: list[int] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        n = event.data["n"]
        record(event, context)
        if handled.count(n) < TROUBLES - 1:
            handled.append(n)
            context.connection.execute(
                "DO $$BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END$$"
            )

    users.consuming("reader", handle, STREAM, batch_size=1)
    users.append(STREAM, numbered(3))
    outages, ended = looks_with_outages(users)
    assert ended.end is End.CAUGHT_UP
    assert outages == 3 * (TROUBLES - 1)
    assert users.recorded() == [1, 2, 3]
    assert failures(users) == []


def looks_with_outages(users: Service) -> tuple[int, Ended]:
    """Looks, without the pauses that a worker makes, until one is no outage."""

    async def look() -> tuple[int, Ended]:
        troubles = Troubles()
        projection = users.projections["reader"]
        async with Pools(users.config) as pools:
            await Registry(pools.local).register(projection)
            for outages in range(5 * TROUBLES):
                with suppress(StoreUnavailable):
                    run = Run(pools=pools, projection=projection, troubles=troubles)
                    return outages, await run()
        pytest.fail("it goes on for ever")

    return asyncio.run(look())
