"""Consuming: from either store, one stream or several, by one runner or many, once and in order."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from eventferry import Context, End, Event, ProjectionError, RecordedEvent
from eventferry.engine.locking import _sync as locking
from tests.conftest import MakeService
from tests.databases import Databases
from tests.memory import resident_kb
from tests.pgbouncer import workers_through_pgbouncer_too
from tests.services import (
    NEVER,
    Service,
    numbered,
    open_transactions,
    query,
    record,
    record_async,
)
from tests.waiting import until

STREAM = "users-stream"


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM)
    loner.create_effects()
    return loner


# ---- what it reads


def test_the_shared_store_is_read_as_the_local_one_is(make_service: MakeService) -> None:
    mails = make_service("mails")
    mails.create_effects()
    mails.shared.create_stream(STREAM)
    mails.consuming("reader", record, STREAM, environment="shared", batch_size=3)
    mails.shared.append(STREAM, numbered(10))
    assert mails.run("reader").handled == 10
    assert mails.recorded() == list(range(1, 11))
    assert mails.checkpoint("reader") == mails.positions(STREAM, environment="shared")[-1]


def test_several_streams_come_in_the_stores_order(users: Service) -> None:
    streams = (STREAM, "orders-stream", "mails-stream")
    users.create_stream(*streams)
    users.consuming("reader", record, *streams, batch_size=4)
    for n in range(1, 31):
        users.append(streams[n * 7 % 3], numbered(1, n))
    assert users.run("reader").handled == 30
    assert users.recorded() == list(range(1, 31))


def test_who_was_there_sees_the_order_that_a_replay_sees(users: Service) -> None:
    """Appends to two streams cross each other: the one that began first commits last."""
    users.create_stream("orders-stream")
    users.consuming("live", record, STREAM, "orders-stream")
    users.consuming("replay", record, STREAM, "orders-stream")
    with users.running("live") as look:
        for n in range(1, 20, 4):
            with psycopg.connect(users.local_url) as held:
                users.local.append(STREAM, numbered(1, n), connection=held)
                users.append("orders-stream", numbered(2, n + 1))
                users.append(STREAM, numbered(1, n + 3))
                look()
            look()
    users.run("replay")
    assert users.recorded("live") == users.recorded("replay") == list(range(1, 21))


@pytest.mark.parametrize(
    ("start", "expected"), [("start", [1, 2, 3, 4, 5]), ("now", [4, 5]), ("second", [3, 4, 5])]
)
def test_a_new_projection_begins_where_it_is_told(
    users: Service, start: str, expected: list[int]
) -> None:
    users.append(STREAM, numbered(3))
    position = users.positions(STREAM)[1]
    users.consuming("reader", record, STREAM, start=position if start == "second" else start)
    users.run("reader")
    users.append(STREAM, numbered(2, first=4))
    users.run("reader")
    assert users.recorded() == expected


def test_a_start_between_two_events_is_the_one_before(users: Service) -> None:
    users.create_stream("other-stream")
    users.append(STREAM, numbered(1))
    users.append("other-stream", numbered(3))
    users.append(STREAM, numbered(1, first=2))
    between = users.positions("other-stream")[1]
    users.consuming("reader", record, STREAM, start=between)
    users.run("reader")
    assert users.recorded() == [2]


def test_where_it_began_is_kept(users: Service) -> None:
    users.append(STREAM, numbered(1))
    users.consuming("reader", record, STREAM, start="now")
    users.run("reader")
    users.append(STREAM, numbered(1, first=2))
    users.consuming("reader", record, STREAM, start="start")
    users.run("reader")
    assert users.recorded() == [2]


def test_a_stream_that_is_missing_is_waited_for(users: Service) -> None:
    users.consuming("reader", record, STREAM, "later-stream")
    users.append(STREAM, numbered(1))
    ended = users.run("reader")
    assert ended.end is End.WAITING
    assert "no stream 'later-stream'" in str(ended.error)
    assert "eventferry streams create later-stream" in str(ended.error)
    with users.worker("reader"):
        users.create_stream("later-stream")
        users.append("later-stream", numbered(1, first=2))
        until(lambda: users.recorded() == [1, 2])


def test_other_streams_for_a_projection_that_has_run_are_refused(users: Service) -> None:
    users.create_stream("orders-stream")
    users.consuming("reader", record, STREAM)
    users.run("reader")
    users.consuming("reader", record, STREAM, "orders-stream")
    with pytest.raises(ProjectionError, match=r"has run as consuming on users-stream.*new name"):
        users.run("reader")
    users.producing("reader", STREAM)
    with pytest.raises(ProjectionError, match="now it is producing"):
        users.run("reader")
    users.consuming("reader", record, STREAM)
    assert users.run("reader").end is End.CAUGHT_UP


# ---- the horizon


@contextmanager
def held(users: Service, stream: str, n: int) -> Iterator[psycopg.Connection[Any]]:
    """An append whose transaction is open."""
    with psycopg.connect(users.local_url) as conn:
        users.local.append(stream, numbered(1, n), connection=conn)
        yield conn


def test_an_open_append_is_not_passed_and_then_comes_in_its_place(users: Service) -> None:
    users.consuming("reader", record, STREAM)
    with users.running("reader") as look:
        users.append(STREAM, numbered(1))
        with held(users, STREAM, 2):
            users.append(STREAM, numbered(2, first=3))
            assert look().end is End.IN_FLIGHT
            assert users.recorded() == [1]
        assert look().end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3, 4]


def test_an_append_that_rolls_back_leaves_a_gap_and_stops_nobody(users: Service) -> None:
    users.consuming("reader", record, STREAM)
    with users.running("reader") as look:
        with held(users, STREAM, 1) as conn:
            users.append(STREAM, numbered(1, first=2))
            assert look().end is End.IN_FLIGHT
            conn.rollback()
        assert look().end is End.CAUGHT_UP
    assert users.recorded() == [2]


def test_an_open_append_to_another_stream_holds_nobody(users: Service) -> None:
    users.create_stream("orders-stream")
    users.consuming("reader", record, STREAM)
    with held(users, "orders-stream", 1):
        users.append(STREAM, numbered(2))
        assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2]


def test_an_open_append_to_one_of_its_streams_holds_them_all(users: Service) -> None:
    """Else a replay would see another order."""
    users.create_stream("orders-stream")
    users.consuming("reader", record, STREAM, "orders-stream")
    with users.running("reader") as look:
        with held(users, "orders-stream", 1):
            users.append(STREAM, numbered(2, first=2))
            assert look().end is End.IN_FLIGHT
            assert users.recorded() == []
        look()
    assert users.recorded() == [1, 2, 3]


def test_a_checkpoint_moves_to_events_and_not_to_the_horizon(users: Service) -> None:
    users.create_stream("orders-stream")
    users.consuming("reader", record, STREAM)
    users.append(STREAM, numbered(3))
    users.append("orders-stream", numbered(50))
    users.run("reader")
    assert users.checkpoint("reader") == users.positions(STREAM)[-1]
    horizon = users.local.horizon(STREAM).position
    assert users.checkpoint("reader") < horizon


def test_a_marker_that_is_taken_late_is_no_lost_history(users: Service) -> None:
    """It puts the horizon behind the checkpoint: what is there is read all the same."""
    users.consuming("reader", record, STREAM)
    users.append(STREAM, numbered(3))
    users.run("reader")
    with psycopg.connect(users.local_url) as late:  # has read the head long ago
        late.execute(
            "SELECT pg_advisory_xact_lock_shared(eventferry.marker_key(number), 1)"
            " FROM eventferry.streams"
        )
        assert users.local.horizon(STREAM).position < users.checkpoint("reader")
        assert users.look("reader").end is End.IN_FLIGHT
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3]


# ---- many runners


@workers_through_pgbouncer_too
@pytest.mark.parametrize("handler", [record, record_async])
def test_of_three_workers_one_handles_each_event(users: Service, handler: Any) -> None:
    users.consuming("reader", handler, STREAM, batch_size=5)
    with users.worker() as one, users.worker() as two, users.worker() as three:
        for first in range(1, 301, 10):
            users.append(STREAM, numbered(10, first))
        until(lambda: users.checkpoint("reader") == users.positions(STREAM)[-1])
        for worker in (one, two, three):
            worker.until_asleep()
    assert users.recorded() == list(range(1, 301))


def test_a_locked_checkpoint_is_not_taken_for_no_work(users: Service) -> None:
    """Another runner is inside of a batch and dies: what it leaves is handled, unasked."""
    users.poll_interval = NEVER
    users.consuming("reader", record, STREAM)
    users.append(STREAM, numbered(3))
    users.look("reader")
    with psycopg.connect(users.local_url) as other:
        other.execute("SELECT FROM eventferry.checkpoints FOR UPDATE")
        users.append(STREAM, numbered(3, first=4))
        with users.worker() as worker:
            until(lambda: (last := worker.last("reader")) and last.end is End.BUSY)
            assert users.recorded() == [1, 2, 3]
            other.rollback()
            until(lambda: users.recorded() == [1, 2, 3, 4, 5, 6])


def test_a_page_is_dropped_when_another_runner_has_moved_the_checkpoint(users: Service) -> None:
    """The other one strikes between the reading of the page and the lock."""
    users.append(STREAM, numbered(3))
    users.consuming("reader", record, STREAM)
    with overtaking(users):
        ended = users.look("reader")
    assert ended.end is End.BUSY
    assert users.recorded() == [1, 2, 3]
    assert users.run("reader").handled == 0


@contextmanager
def overtaking(users: Service) -> Iterator[None]:
    """Once, before a batch locks its checkpoint, another runner does all of the work."""
    original = locking.lock
    done = threading.Event()

    def lock(*args: Any, **kwargs: Any) -> Any:
        if not done.is_set():
            done.set()
            thread = threading.Thread(target=users.run, args=("reader",))
            thread.start()
            thread.join()
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventferry.engine._sync.lock", lock)
        yield
    assert done.is_set()


def test_a_failure_that_another_runner_has_got_past_is_not_recorded(users: Service) -> None:
    """This one's code is old: it fails where the other one, deployed already, does not."""
    users.append(STREAM, numbered(2))
    other = Service("users", users.local_url, users.shared_url)
    other.consuming("reader", record, STREAM)

    def fail(event: RecordedEvent) -> None:
        raise RuntimeError("old code")

    users.consuming("reader", fail, STREAM)
    from eventferry.run import Run

    original = Run._settle

    async def overtaken(run: Any, *args: Any) -> Any:
        import asyncio

        await asyncio.to_thread(other.run, "reader")
        return await original(run, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_settle", overtaken)
        ended = users.look("reader")
    other.close()
    assert ended.end is not End.FAILED
    known = users.known("reader")
    assert known is not None
    assert (known.state, known.error) == ("idle", None)
    assert users.recorded() == [1, 2]


# ---- the store is the one that it was


def require_mismatch(users: Service, found: str, expected: str) -> None:
    before = users.recorded()
    assert users.run("reader").end is End.FAILED
    failure = users.failure("reader")
    assert failure.error is not None
    assert failure.error.startswith("HistoryMismatch: projection 'reader'")
    assert found in failure.error, failure.error
    assert expected in failure.error, failure.error
    assert users.recorded() == before, "nothing was handled"


def mails_reading_shared(make_service: MakeService) -> Service:
    mails = make_service("mails")
    mails.create_effects()
    mails.shared.create_stream(STREAM)
    mails.shared.append(STREAM, numbered(3))
    mails.consuming("reader", record, STREAM, environment="shared")
    return mails


def identity(url: str) -> str:
    return str(query(url, "SELECT id FROM eventferry.store")[0][0])


def test_another_store_under_the_url_is_noticed(
    make_service: MakeService, databases: Databases
) -> None:
    mails = mails_reading_shared(make_service)
    mails.run("reader")
    first = mails.shared_url
    mails.shared_url = databases.make("shared")
    # a copy of a template, as all stores of tests are: give it a name of its own
    query(mails.shared_url, "UPDATE eventferry.store SET id = gen_random_uuid() RETURNING id")
    other = Service("other", mails.shared_url, mails.shared_url)
    other.create_stream(STREAM)
    other.append(STREAM, numbered(5, first=10))
    require_mismatch(mails, identity(other.shared_url), identity(first))
    other.close()

    mails.shared_url = first
    assert mails.retry() == ["reader"]
    assert mails.run("reader").end is End.CAUGHT_UP
    known = mails.known("reader")
    assert known is not None
    assert (known.state, known.error) == ("idle", None), "nothing is wrong any more"


def test_a_stream_that_was_created_again_is_noticed(users: Service) -> None:
    users.consuming("reader", record, STREAM)
    users.append(STREAM, numbered(3))
    users.run("reader")
    then = incarnation(users)
    users.execute('DROP TABLE streams."users-stream"')
    users.execute("DELETE FROM eventferry.streams WHERE name = 'users-stream'")
    assert users.run("reader").end is End.WAITING
    users.create_stream(STREAM)
    users.append(STREAM, numbered(3, first=10))
    require_mismatch(users, incarnation(users), then)


def incarnation(users: Service) -> str:
    return str(query(users.local_url, "SELECT incarnation FROM eventferry.streams")[0][0])


@pytest.mark.parametrize("kind", ["consuming", "producing"])
@pytest.mark.parametrize("since", [0, 3, 700])
def test_a_store_that_was_restored_from_a_backup_is_noticed(
    make_service: MakeService, databases: Databases, since: int, kind: str
) -> None:
    """Its last events are gone; since then others have taken their positions, or none."""
    users = make_service("users")
    users.create_effects()
    users.create_stream(STREAM)
    users.producing("reader", STREAM)
    if kind == "consuming":
        users.consuming("reader", record, STREAM, environment="shared")
    url = users.local_url if kind == "producing" else users.shared_url
    store = Service("backup", url, url)
    store.create_stream(STREAM)
    store.append(STREAM, numbered(3))
    store.close()
    users.local.close()
    backup = databases.copy(url)
    store = Service("users", url, url)
    store.append(STREAM, numbered(3, first=4))
    store.close()
    users.run("reader")
    lost = list(store.local.read(STREAM))[-1]
    store.close()

    if kind == "producing":
        # its own tables are in the backup too: it has to be told of the projection again
        users.local_url = backup
    else:
        users.shared_url = backup
    restored = Service("users", backup, backup)
    restored.append(STREAM, numbered(since, first=100))
    found = "the stream ends before it" if not since else "what stands there now"
    if kind == "producing":
        restored.close()
        assert users.run("reader").end is End.FAILED
        error = str(users.failure("reader").error)
        assert found in error
        assert str(lost.id) in error
        return
    restored.close()
    require_mismatch(users, found, str(lost.id))


# ---- what a run leaves


@pytest.mark.parametrize("handler", [record, record_async])
def test_after_a_run_nothing_is_left(make_service: MakeService, handler: Any) -> None:
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", handler, STREAM, batch_size=2)
    users.producing("ferry", STREAM)
    users.append(STREAM, numbered(7))
    users.close()
    threads = set(threading.enumerate())
    users.run("reader")
    users.run("ferry")
    assert set(threading.enumerate()) == threads
    for url in (users.local_url, users.shared_url):
        until(lambda url=url: not ours(url), "all connections are closed")  # type: ignore[misc]


def ours(url: str) -> list[Any]:
    return query(
        url,
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'eventferry%%'",
    )


@pytest.mark.parametrize("fails", [False, True])
def test_between_runs_a_worker_holds_no_transaction_and_no_handlers_thread(
    users: Service, fails: bool
) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if fails:
            raise RuntimeError

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(3))
    with users.running("reader") as look:
        look()
        assert open_transactions(users.local_url) == []
        assert [
            t.name for t in threading.enumerate() if t.name.startswith("eventferry reader")
        ] == []
        locks = query(users.local_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert locks == [(0,)]


def test_memory_is_flat_over_a_thousand_runs(users: Service) -> None:
    """What the first 200 runs have made room for is enough for the next thousand."""
    users.consuming("reader", ignore, STREAM)
    with users.running("reader") as look:

        def run(times: int) -> tuple[int, int]:
            for _ in range(times):
                users.local.append(STREAM, Event("Numbered"))
                assert look().handled == 1
            kb = resident_kb()
            return len(gc.get_objects()), kb

        objects_before, kb_before = run(200)
        objects, kb = run(1000)
    assert objects - objects_before < 500
    assert kb - kb_before < 8_000


def ignore(event: RecordedEvent) -> None:
    pass


def test_a_run_gives_its_place_to_others_between_the_batches_of_a_page(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.append(STREAM, numbered(10))

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] == 3:  # of the second page, which has all the rest
            monkeypatch.setattr("eventferry.run.SLICE_S", -1.0)

    users.consuming("reader", handle, STREAM, batch_size=2)
    with users.running("reader") as look:
        ended = look()
        assert (ended.end, ended.handled) == (End.SLICED, 4)
        ended = look()
        assert (ended.end, ended.handled) == (End.SLICED, 2)
