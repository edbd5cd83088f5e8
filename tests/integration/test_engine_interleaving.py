"""Scripted interleavings: each is the one moment at which an event would be lost, or come twice.

Nothing here is left to luck: functions of the store stop at a gate, other runners strike at a
chosen call. `tools/mutants.py` breaks the code on purpose, and these tests must notice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from eventferry import Context, End, RecordedEvent
from eventferry.watch import Watch
from tests.pauses import HORIZON, MARK, Gate, pause
from tests.services import NEVER, Service, numbered, query, record, sleeping
from tests.waiting import until, wait_for_lock

STREAM = "users-stream"


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM, "orders-stream")
    loner.create_effects()
    loner.poll_interval = NEVER
    loner.consuming("reader", record, STREAM)
    return loner


@contextmanager
def meanwhile(work: Callable[[], Any], gate: Gate | None = None) -> Iterator[None]:
    """Does the work in a thread, which has ended when the block ends; then the gate is open."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        if gate is not None:
            gate.open()
        thread.join()
    if errors:
        raise errors[0]


# ---- the marker and the horizon


def test_the_marker_is_there_before_the_first_position_is_drawn(users: Service) -> None:
    """An INSERT stands between its first row, whose position is drawn, and its second."""
    users.append(STREAM, numbered(1))
    gate = psycopg.connect(users.local_url)
    gate.execute("SELECT pg_advisory_xact_lock(8, 8)")

    def insert() -> None:
        users.execute(
            """INSERT INTO streams."users-stream" (type, data)
               SELECT 'Numbered', json_build_object('n', n)
                 FROM generate_series(2, 3) AS n
                WHERE n = 2 OR pg_advisory_lock_shared(8, 8) IS NOT NULL"""
        )

    with meanwhile(insert):
        wait_for_lock(users.local_url)
        users.append(STREAM, numbered(1, first=4))
        in_flight = users.look("reader")
        handled = users.recorded()
        gate.close()
    assert (in_flight.end, handled) == (End.IN_FLIGHT, [1])
    users.look("reader")
    assert users.recorded() == [1, 2, 4, 3], "the second row's position is drawn last"


def test_an_append_between_the_head_and_the_markers_is_not_passed(users: Service) -> None:
    """It draws a position and stays open, and a later one commits, while the horizon is asked."""
    users.append(STREAM, numbered(1))
    users.look("reader")
    writer = psycopg.connect(users.local_url)
    with pause(users.local_url, HORIZON) as gate, meanwhile(lambda: users.look("reader"), gate):
        gate.wait()
        users.local.append(STREAM, numbered(1, first=2), connection=writer)
        users.append(STREAM, numbered(1, first=3))
        gate.open()
    writer.commit()
    writer.close()
    users.look("reader")
    assert users.recorded() == [1, 2, 3]


def test_what_commits_while_the_horizon_is_asked_is_read(users: Service) -> None:
    """Its marker is gone when they are looked at: so its row must be seen by what reads."""
    users.append(STREAM, numbered(1))
    users.look("reader")
    writer = psycopg.connect(users.local_url)
    users.local.append(STREAM, numbered(1, first=2), connection=writer)
    users.append(STREAM, numbered(1, first=3))
    with pause(users.local_url, HORIZON) as gate, meanwhile(lambda: users.look("reader"), gate):
        gate.wait()
        writer.commit()
        gate.open()
    writer.close()
    users.look("reader")
    assert users.recorded() == [1, 2, 3]


def test_what_is_appended_while_the_horizon_is_asked_is_no_reason_to_sleep(users: Service) -> None:
    """It draws above the head, and its marker is gone when they are looked at."""
    users.look("reader")
    ends: list[End] = []
    with (
        pause(users.local_url, HORIZON) as gate,
        meanwhile(lambda: ends.append(users.look("reader").end), gate),
    ):
        gate.wait()
        users.append(STREAM, numbered(1))
    assert ends == [End.IN_FLIGHT]


def test_the_first_append_of_a_store_is_in_flight(users: Service) -> None:
    """Nothing was ever drawn: the sequence says NULL."""
    assert users.look("reader").end is End.CAUGHT_UP
    with psycopg.connect(users.local_url) as writer:
        users.local.append(STREAM, numbered(1), connection=writer)
        users.append(STREAM, numbered(1, first=2))
        assert users.look("reader").end is End.IN_FLIGHT
        assert users.recorded() == []
    users.look("reader")
    assert users.recorded() == [1, 2]


# ---- the checkpoint


@contextmanager
def inside_of_a_batch(users: Service) -> Iterator[list[int]]:
    """A runner whose handler does not return before the block ends; the calls of all handlers."""
    calls: list[int] = []
    over = threading.Event()

    def handle(event: RecordedEvent, context: Context) -> None:
        calls.append(event.data["n"])
        if len(calls) == 1:
            until(over.is_set)
        record(event, context)

    users.consuming("reader", handle, STREAM)
    with meanwhile(lambda: users.look("reader")):
        until(lambda: calls)
        try:
            yield calls
        finally:
            over.set()


def test_one_runner_alone_is_inside_of_a_batch(users: Service) -> None:
    users.look("reader")
    users.append(STREAM, numbered(2))
    with inside_of_a_batch(users) as calls:
        ended = users.look("reader")
        assert (ended.end, calls) == (End.BUSY, [1])
    assert users.recorded() == [1, 2]


def test_a_new_projection_has_one_runner_too(users: Service) -> None:
    """Nobody has a checkpoint yet: both make it."""
    users.append(STREAM, numbered(2))
    with inside_of_a_batch(users) as calls:
        assert users.look("reader").end is End.BUSY
        assert calls == [1]
    assert users.recorded() == [1, 2]


# ---- waking


def test_an_append_just_before_the_sleep_is_seen_by_the_last_look(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the look that found nothing, and sees nobody asleep: it notifies nobody."""
    sleep = Watch.sleep
    armed, appended = threading.Event(), threading.Event()

    async def append_then_sleep(watch: Watch, projection: str) -> bool:
        if armed.is_set() and not appended.is_set():
            appended.set()
            users.append(STREAM, numbered(1, first=4))
        return await sleep(watch, projection)

    monkeypatch.setattr(Watch, "sleep", append_then_sleep)
    users.consuming("reader", record, STREAM, batch_size=1)
    with users.worker() as worker:
        worker.until_asleep()
        users.append(STREAM, numbered(1, first=0))
        worker.until_handled("reader", 1)  # so all looks are over that something else has asked for
        armed.set()
        users.append(STREAM, numbered(3))  # several pages: then it has to say again that it sleeps
        until(appended.is_set)
        until(lambda: users.recorded() == [0, 1, 2, 3, 4])


def test_a_reader_that_goes_to_sleep_inside_of_an_append_gets_it(users: Service) -> None:
    """The append stands between its marker and its look for sleepers."""
    users.append(STREAM, numbered(1))
    with (
        pause(users.local_url, MARK) as gate,
        meanwhile(lambda: users.append(STREAM, numbered(1, first=2)), gate),
    ):
        gate.wait()
        with users.worker() as worker:

            def is_settled() -> bool:
                last = worker.last("reader")
                asleep = sleeping(users.local_url) == {STREAM} and len(worker.ended) >= 2
                return last is not None and (asleep or last.end is End.IN_FLIGHT)

            until(is_settled)
            gate.open()
            until(lambda: users.recorded() == [1, 2])


def test_an_append_notifies_nobody_while_nobody_sleeps(users: Service) -> None:
    """What costs every commit of the cluster a lock is done only for those who need it."""
    with psycopg.connect(users.local_url, autocommit=True) as ear:
        ear.execute("LISTEN eventferry")
        users.append(STREAM, numbered(1))
        with users.worker() as worker:
            worker.until_asleep()
            assert heard(ear) == []
            users.append(STREAM, numbered(1, first=2))
            assert heard(ear) == [number(users)]


def heard(ear: psycopg.Connection[Any]) -> list[str]:
    """The notifications up to now: those before one of our own."""
    ear.execute("SELECT pg_notify('eventferry', 'now')")
    payloads = []
    for notify in ear.notifies():
        if notify.payload == "now":
            break
        payloads.append(notify.payload)
    return payloads


def number(users: Service) -> str:
    rows = query(
        users.local_url, "SELECT number::text FROM eventferry.streams WHERE name = %s", (STREAM,)
    )
    return str(rows[0][0])
