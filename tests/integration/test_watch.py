"""Workers are woken. With a poll interval of an hour, only notifications can do it in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import IsolationLevel
from psycopg_pool import AsyncConnectionPool

from eventferry import Context, End, RecordedEvent
from eventferry.connection import options
from eventferry.watch import Watch
from tests.conftest import MakeService
from tests.services import (
    NEVER,
    SOON,
    RunningWorker,
    Service,
    listeners,
    numbered,
    query,
    record,
    sleeping,
    terminate,
)
from tests.waiting import PATIENCE_S, until

STREAM = "users-stream"


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM, "orders-stream")
    loner.create_effects()
    loner.poll_interval = NEVER
    loner.consuming("reader", record, STREAM)
    return loner


@contextmanager
def sleeping_worker(service: Service, *names: str) -> Iterator[RunningWorker]:
    with service.worker(*names) as worker:
        worker.until_asleep()
        yield worker


def test_an_append_wakes_a_sleeping_worker(users: Service) -> None:
    with sleeping_worker(users) as worker:
        for n in range(1, 6):
            users.append(STREAM, numbered(1, n))
            until(lambda n=n: users.recorded() == list(range(1, n + 1)))  # type: ignore[misc]
            worker.until_asleep()


def test_an_event_crosses_both_stores_on_notifications_alone(make_service: MakeService) -> None:
    users, mails = make_service("users"), make_service("mails")
    users.poll_interval = mails.poll_interval = NEVER
    users.create_stream(STREAM)
    mails.create_effects()
    users.producing("ferry", STREAM)
    mails.consuming("reader", record, STREAM, environment="shared")
    users.run("ferry")
    with sleeping_worker(users) as ferry, sleeping_worker(mails) as reader:
        for n in range(1, 6):
            users.append(STREAM, numbered(1, n))
            until(lambda n=n: mails.recorded() == list(range(1, n + 1)))  # type: ignore[misc]
            ferry.until_asleep()
            reader.until_asleep()


def test_of_two_triggers_in_quick_succession_none_is_lost(users: Service) -> None:
    """The ancestor left the second one undelivered in 42 of 60 rounds."""
    with sleeping_worker(users):
        for n in range(1, 120, 2):
            users.append(STREAM, numbered(1, n))
            users.append(STREAM, numbered(1, n + 1))
            until(lambda n=n: len(users.recorded()) == n + 1)  # type: ignore[misc]
    assert users.recorded() == list(range(1, 121))


@pytest.mark.parametrize("isolation", list(IsolationLevel))
def test_writers_of_every_isolation_level_wake(users: Service, isolation: IsolationLevel) -> None:
    """Their snapshot may be older than the sleeper."""
    with psycopg.connect(users.local_url) as conn:
        conn.isolation_level = isolation
        conn.execute("SELECT count(*) FROM effects")
        with sleeping_worker(users):
            users.local.append(STREAM, numbered(1), connection=conn)
            conn.commit()
            until(lambda: users.recorded() == [1])


def test_writers_that_roll_back_or_go_back_to_a_savepoint_stop_no_wake_up(users: Service) -> None:
    with psycopg.connect(users.local_url) as conn, sleeping_worker(users) as worker:
        users.local.append(STREAM, numbered(1, 90), connection=conn)
        conn.rollback()
        users.append(STREAM, numbered(1))
        until(lambda: users.recorded() == [1])
        worker.until_asleep()

        conn.execute("SAVEPOINT here")
        users.local.append(STREAM, numbered(1, 91), connection=conn)
        conn.execute("ROLLBACK TO SAVEPOINT here")
        users.local.append(STREAM, numbered(1, 2), connection=conn)
        conn.commit()
        until(lambda: users.recorded() == [1, 2])


def test_an_append_that_began_before_the_sleep_and_commits_after_it_is_handled(
    users: Service,
) -> None:
    """It saw nobody asleep, so it notifies nobody: its marker has kept the reader awake."""
    with psycopg.connect(users.local_url) as conn:
        users.local.append(STREAM, numbered(1), connection=conn)
        with users.worker() as worker:
            until(lambda: (last := worker.last("reader")) and last.end is End.IN_FLIGHT)
            until(lambda: len(worker.ended) > 3)
            assert users.recorded() == []
            conn.commit()
            until(lambda: users.recorded() == [1])
            worker.until_asleep()


def test_the_first_of_two_writers_rolls_back_and_the_second_still_wakes(users: Service) -> None:
    """What lets only one append notify would lose this one."""
    with (
        psycopg.connect(users.local_url) as one,
        psycopg.connect(users.local_url) as two,
        sleeping_worker(users),
    ):
        users.local.append(STREAM, numbered(1, 1), connection=one)
        users.local.append(STREAM, numbered(1, 2), connection=two)
        one.rollback()
        two.commit()
        until(lambda: users.recorded() == [2])


def test_a_lost_ear_is_replaced_and_nothing_is_missed(users: Service) -> None:
    with sleeping_worker(users) as worker:
        for n in range(1, 4):
            (ear,) = listeners(users.local_url)
            terminate(users.local_url, ear)
            users.append(STREAM, numbered(1, n))
            until(lambda n=n: users.recorded() == list(range(1, n + 1)))  # type: ignore[misc]
            worker.until_asleep()
            until(lambda: len(listeners(users.local_url)) == 1)


def test_a_reader_of_several_streams_is_woken_by_each(users: Service) -> None:
    users.consuming("reader", record, STREAM, "orders-stream")
    with sleeping_worker(users) as worker:
        for n, stream in enumerate([STREAM, "orders-stream", STREAM, "orders-stream"], 1):
            users.append(stream, numbered(1, n))
            until(lambda n=n: users.recorded() == list(range(1, n + 1)))  # type: ignore[misc]
            worker.until_asleep()


def test_several_readers_of_a_stream_are_woken_together(users: Service) -> None:
    users.consuming("second", record, STREAM)
    users.consuming("third", record, "orders-stream")
    with sleeping_worker(users, "reader", "second", "third"), sleeping_worker(users, "reader"):
        users.append(STREAM, numbered(1))
        until(lambda: users.recorded("reader") == users.recorded("second") == [1])
        users.append("orders-stream", numbered(1))
        until(lambda: users.recorded("third") == [1])


def test_a_worker_that_ends_leaves_no_ear_and_no_lock(users: Service) -> None:
    with sleeping_worker(users):
        assert sleeping(users.local_url) == {STREAM}
    until(lambda: not listeners(users.local_url))
    assert sleeping(users.local_url) == set()


def test_nobody_is_notified_while_the_reader_is_awake(users: Service) -> None:
    """A long catch-up: the lock that says "wake me" goes with its second page."""
    seen: list[set[str]] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] == 5:
            seen.append(sleeping(users.local_url))

    users.consuming("reader", handle, STREAM, batch_size=2)
    with sleeping_worker(users) as worker:
        users.append(STREAM, numbered(1, first=0))
        worker.until_handled("reader", 1)  # so all looks are over that something else has asked for
        users.append(STREAM, numbered(6))
        until(lambda: len(users.recorded()) == 7)
        worker.until_asleep()
    assert seen == [set()]


def test_in_a_trickle_the_lock_stays(users: Service) -> None:
    """Taking it and letting it go with each event would cost more than the notification."""
    with sleeping_worker(users) as worker:
        held = lock_holders(users)
        for n in range(1, 11):
            users.append(STREAM, numbered(1, n))
            # the next one comes when the run is over: else it would be busy
            worker.until_handled("reader", n)
            assert lock_holders(users) == held
        worker.until_asleep()


def lock_holders(users: Service) -> list[Any]:
    return query(
        users.local_url,
        "SELECT pid, waitstart, objid, classid FROM pg_locks"
        " WHERE locktype = 'advisory' AND mode = 'ShareLock' AND objid = 0",
    )


def test_a_notification_without_an_event_wakes_for_nothing_and_harms_nobody(
    users: Service,
) -> None:
    with sleeping_worker(users) as worker:
        for payload in ("", "1", "99999", "projection:", "projection:nobody", "x:y:z", "é"):
            query(users.local_url, "SELECT pg_notify('eventferry', %s)", (payload,))
        users.append(STREAM, numbered(1))
        until(lambda: users.recorded() == [1])
        worker.until_asleep()


def test_without_listening_the_poll_wakes(users: Service) -> None:
    users.listens = False
    users.poll_interval = SOON
    with users.worker() as worker:
        until(lambda: worker.last("reader"))
        assert listeners(users.local_url) == []
        for n in range(1, 6):
            users.append(STREAM, numbered(1, n))
            until(lambda n=n: users.recorded() == list(range(1, n + 1)))  # type: ignore[misc]
        assert sleeping(users.local_url) == set()


def test_the_poll_finds_what_was_open_when_it_looked_first(users: Service) -> None:
    users.listens = False
    users.poll_interval = SOON
    with users.worker() as worker, ExitStack() as stack:
        conn = stack.enter_context(psycopg.connect(users.local_url))
        users.local.append(STREAM, numbered(1), connection=conn)
        users.append(STREAM, numbered(1, first=2))
        until(lambda: (last := worker.last("reader")) and last.end is End.IN_FLIGHT)
        conn.commit()
        until(lambda: users.recorded() == [1, 2])


def test_a_poll_that_finds_its_connection_broken_tries_no_other_old_one(
    users: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """After a restart of the server each of them would cost a poll."""

    async def poll() -> None:
        async with AsyncConnectionPool(
            users.local_url, kwargs=options("test"), min_size=4, open=False
        ) as pool:
            await pool.wait()
            woken = asyncio.Event()
            watch = Watch(
                environment="local",
                pool=pool,
                listen_url=None,
                poll_s=SOON.total_seconds(),
                readers={"reader": (STREAM,)},
                wake=lambda _names: woken.set(),
            )
            query(
                users.local_url,
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'eventferry test'",
            )
            polling = asyncio.create_task(watch.poll())
            async with asyncio.timeout(PATIENCE_S):
                await woken.wait()
            polling.cancel()

    users.append(STREAM, numbered(1))
    caplog.set_level(logging.INFO, "eventferry.watch")
    asyncio.run(poll())
    said = [r.message for r in caplog.records if r.name == "eventferry.watch"]
    assert [message.partition(":")[0] for message in said] == [
        "could not poll the local store",
        "polling the local store again",
    ]


def test_a_retry_wakes_the_worker_whatever_its_projection_reads(
    make_service: MakeService,
) -> None:
    mails = make_service("mails")
    mails.poll_interval = NEVER
    mails.create_effects()
    mails.shared.create_stream(STREAM)
    broken = [True]

    def handle(event: RecordedEvent, context: Context) -> None:
        if broken[0]:
            raise RuntimeError
        record(event, context)

    mails.consuming("reader", handle, STREAM, environment="shared")
    mails.shared.append(STREAM, numbered(2))
    with mails.worker() as worker:
        until(lambda: (last := worker.last("reader")) and last.end is End.FAILED)
        until(lambda: listeners(mails.local_url))
        broken[0] = False
        assert mails.retry("reader") == ["reader"]
        until(lambda: mails.recorded() == [1, 2])


def test_a_retry_wakes_the_worker_of_a_ferry(make_service: MakeService) -> None:
    users = make_service("users")
    users.poll_interval = NEVER
    users.create_stream(STREAM)
    users.producing("ferry", STREAM)
    users.run("ferry")
    with psycopg.connect(users.shared_url, autocommit=True) as conn:
        conn.execute('ALTER TABLE streams."users-stream" ADD CONSTRAINT "no" CHECK (false)')
        users.append(STREAM, numbered(2))
        with users.worker() as worker:
            until(lambda: (last := worker.last("ferry")) and last.end is End.FAILED)
            conn.execute('ALTER TABLE streams."users-stream" DROP CONSTRAINT "no"')
            users.retry()
            until(lambda: len(users.positions(STREAM, environment="shared")) == 2)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_poll_works_whatever_the_default_isolation_of_the_database(
    users: Service, level: str
) -> None:
    with psycopg.connect(users.local_url, autocommit=True) as conn:
        conn.execute(
            f"ALTER DATABASE {conn.info.dbname} SET default_transaction_isolation = '{level}'"  # type: ignore[arg-type,unused-ignore]
        )
    users.listens = False
    users.poll_interval = SOON
    with users.worker():
        for n in range(1, 4):
            users.append(STREAM, numbered(1, first=n))
            until(lambda n=n: users.recorded() == list(range(1, n + 1)))  # type: ignore[misc]


def test_an_idle_worker_takes_one_transaction_a_poll_however_many_projections_it_has(
    users: Service,
) -> None:
    with psycopg.connect(users.local_url, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET track_functions = 'pl'")  # type: ignore[arg-type,unused-ignore]
    for n in range(8):
        users.consuming(f"reader-{n}", record, STREAM, "orders-stream")
    users.append(STREAM, numbered(1))
    users.poll_interval = timedelta(milliseconds=5)
    polls_and_transactions = """
        SELECT calls, xact_commit + xact_rollback
          FROM pg_stat_user_functions, pg_stat_database
         WHERE schemaname = 'eventferry' AND funcname = 'horizon' AND datname = current_database()
        """
    with sleeping_worker(users), psycopg.connect(users.local_url) as conn:
        # all in one transaction, which is none of those that are counted
        conn.execute("SET LOCAL stats_fetch_consistency = 'none'")

        def counted() -> tuple[int, int]:
            return conn.execute(polls_and_transactions).fetchone() or (0, 0)

        until(lambda: counted()[0] > 0)
        before = counted()
        until(lambda: counted()[0] - before[0] > 400)
        polls, transactions = (now - then for now, then in zip(counted(), before, strict=True))
    # a server counts late: some of what was done before it slept is among them
    assert transactions < 1.5 * polls


def test_nobody_is_notified_for_a_projection_that_has_failed(users: Service) -> None:
    def handle(_event: RecordedEvent) -> None:
        raise RuntimeError

    users.consuming("reader", handle, STREAM)
    with users.worker() as worker:
        worker.until_asleep()
        users.append(STREAM, numbered(1))
        until(lambda: (last := worker.last("reader")) and last.end is End.FAILED)
        until(lambda: lock_holders(users) == [])


def test_who_waits_for_a_long_append_is_woken_by_the_next_one(users: Service) -> None:
    with sleeping_worker(users) as worker, psycopg.connect(users.local_url) as conn:
        users.local.append(STREAM, numbered(1), connection=conn)
        users.append(STREAM, numbered(1, first=2))
        until(lambda: (last := worker.last("reader")) and last.end is End.IN_FLIGHT)
        until(lambda: lock_holders(users) != [])  # it has given up waiting by itself alone
        conn.commit()
        users.append(STREAM, numbered(1, first=3))
        until(lambda: users.recorded() == [1, 2, 3])
