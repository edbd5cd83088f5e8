"""Producing: every event of a local stream gets to the shared stream, as it is, exactly once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from eventferry import End, Event, RecordedEvent, run
from eventferry.embedded import EmbeddedServer
from eventferry.engine import ferry
from eventferry.engine.locking._async import move as engine_move
from eventferry.source import copied_out
from tests.conftest import MakeService
from tests.pgbouncer import runs_through_pgbouncer_too, workers_through_pgbouncer_too
from tests.services import Service, numbered, open_transactions, query, record
from tests.waiting import until

STREAM = "users-stream"
SHARED = "all-users-stream"


@pytest.fixture
def users(make_service: MakeService) -> Service:
    users = make_service("users")
    users.create_stream(STREAM)
    users.producing("ferry", STREAM, SHARED)
    return users


def ferried(service: Service, stream: str = SHARED) -> list[RecordedEvent]:
    return list(service.shared.read(stream))


def numbers(service: Service, stream: str = SHARED) -> list[int]:
    return [event.data["n"] for event in ferried(service, stream)]


def content(event: RecordedEvent) -> tuple[Any, ...]:
    """All that is the event's own: not where and when a store has recorded it."""
    return (
        event.id,
        event.type,
        event.source,
        event.entity_id,
        event.version,
        event.data_json,
        event.metadata_json,
        event.occurred_at,
    )


def test_events_arrive_as_they_are(users: Service) -> None:
    users.local.append(
        STREAM,
        [
            Event("UserRegistered", {"email": "ä@b.c", "nested": {"list": [1, 2.50, None]}}),
            Event(
                "UserRenamed",
                {"big": 2**70, "small": 1e-300, "quote": '"\\/\u2028😀', "": {}},
                metadata={"traceparent": "00-1-2-00", "z": 1, "a": [True]},
                entity_id="42",
                occurred_at=datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
                source="elsewhere",
                id=UUID(int=7),
            ),
        ],
    )
    users.local.append(STREAM, [Event("A", entity_id="7")], expected_version=0)
    users.local.append(STREAM, [Event("B", entity_id="7")], expected_version=1)
    # as another client writes it: duplicate keys, spaces, the number's own form
    users.execute(
        """INSERT INTO streams."users-stream" (type, data, metadata)
           VALUES ('Plain', '{ "a" : 1.00, "a": 1e2 }', '{"k" :  "v"}')"""
    )
    assert users.run("ferry").handled == 5
    before, after = list(users.local.read(STREAM)), ferried(users)
    assert [content(event) for event in after] == [content(event) for event in before]
    assert [event.stream for event in after] == [SHARED] * 5
    assert [event.source for event in after] == ["users", "elsewhere", "users", "users", "users"]


def test_the_shared_stream_is_created_and_belongs_to_the_service(users: Service) -> None:
    users.append(STREAM, numbered(1))
    users.run("ferry")
    (stream,) = users.shared.streams()
    assert (stream.name, stream.owner) == (SHARED, "users")


def test_a_stream_that_is_empty_is_ferried_as_well(users: Service) -> None:
    assert users.run("ferry").end is End.CAUGHT_UP
    assert numbers(users) == []
    assert [stream.name for stream in users.shared.streams()] == [SHARED]


def test_runs_go_on_where_the_last_one_ended(users: Service) -> None:
    for first in (1, 4, 7):
        users.append(STREAM, numbered(3, first))
        assert users.run("ferry").handled == 3
    assert users.run("ferry").handled == 0
    assert numbers(users) == list(range(1, 10))
    assert users.checkpoint("ferry") == users.positions(STREAM)[-1]


@runs_through_pgbouncer_too
def test_many_pages_are_ferried_in_order(users: Service) -> None:
    users.producing("ferry", STREAM, SHARED, batch_size=7)
    users.append(STREAM, numbered(100))
    assert users.run("ferry").handled == 100
    assert numbers(users) == list(range(1, 101))


def test_a_page_may_be_large(users: Service) -> None:
    users.producing("ferry", STREAM, SHARED, batch_size=100_000)
    users.append(STREAM, [Event("Large", {"n": n, "text": "x" * 1_000_000}) for n in range(1, 13)])
    users.append(STREAM, numbered(5000, first=13))
    assert users.run("ferry").handled == 5012
    assert numbers(users) == list(range(1, 5013))


def test_several_services_ferry_into_one_stream(make_service: MakeService) -> None:
    services = [make_service(name) for name in ("users", "orders", "mails")]
    for place, service in enumerate(services):
        service.create_stream("own-stream")
        service.producing("ferry", "own-stream", SHARED)
        service.append("own-stream", numbered(20, first=place * 100))
    for _ in range(2):
        for service in services:
            service.run("ferry")
    events = ferried(services[0])
    assert len(events) == 60
    for place, service in enumerate(services):
        own = [event.data["n"] for event in events if event.source == service.name]
        assert own == list(range(place * 100, place * 100 + 20))


def test_the_same_version_of_an_entity_from_two_services_stops_no_ferry(
    make_service: MakeService,
) -> None:
    for name in ("users", "orders"):
        service = make_service(name)
        service.create_stream("own-stream")
        service.producing("ferry", "own-stream", SHARED)
        service.local.append("own-stream", Event("Made", entity_id="1"), expected_version=0)
        assert service.run("ferry").end is End.CAUGHT_UP
    assert [event.version for event in ferried(service)] == [1, 1]


@runs_through_pgbouncer_too
def test_a_second_ferry_of_a_stream_finds_the_events_there_and_moves_on(users: Service) -> None:
    users.producing("second", STREAM, SHARED)
    users.append(STREAM, numbered(10))
    assert users.run("ferry").handled == 10
    users.append(STREAM, numbered(5, first=11))
    assert users.run("second").handled == 15
    assert users.run("ferry").handled == 5
    assert numbers(users) == list(range(1, 16))
    assert users.checkpoint("ferry") == users.checkpoint("second")


@workers_through_pgbouncer_too
def test_two_ferries_side_by_side_ferry_each_event_once(users: Service) -> None:
    users.producing("ferry", STREAM, SHARED, batch_size=5)
    users.producing("second", STREAM, SHARED, batch_size=7)
    with users.worker() as one, users.worker() as two:
        for first in range(1, 201, 10):
            users.append(STREAM, numbered(10, first))
        one.until_asleep()
        two.until_asleep()
        last = users.positions(STREAM)[-1]
        until(lambda: users.checkpoint("ferry") == users.checkpoint("second") == last)
    assert sorted(numbers(users)) == list(range(1, 201))
    for name in ("ferry", "second"):
        known = users.known(name)
        assert known is not None
        assert (known.state, known.error) == ("idle", None)


@runs_through_pgbouncer_too
@pytest.mark.parametrize("moment", ["before it moves the checkpoint", "before it commits"])
def test_a_ferry_that_freezes_is_ended_by_the_server_and_does_its_page_again(
    users: Service, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no failure of an event."""
    has_frozen = False

    def freeze() -> None:
        nonlocal has_frozen
        if not has_frozen:
            has_frozen = True
            until(lambda: not open_transactions(users.shared_url))

    async def move(*arguments: Any) -> bool:
        if moment == "before it moves the checkpoint":
            freeze()
        moved = await engine_move(*arguments)
        freeze()
        return moved

    monkeypatch.setattr(ferry, "FROZEN_S", 0.2)
    monkeypatch.setattr(ferry, "move", move)
    users.append(STREAM, numbered(3))
    assert users.run("ferry").end is End.CAUGHT_UP
    assert has_frozen
    assert numbers(users) == [1, 2, 3]
    known = users.known("ferry")
    assert known is not None
    assert (known.state, known.error) == ("idle", None)


def test_a_ferry_that_freezes_amid_its_copy_is_ended_by_the_next_one(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is alive, and none of PostgreSQL's timeouts strikes there."""
    monkeypatch.setattr(run, "FROZEN_COPY_S", 0.1)
    users.append(STREAM, numbered(1))
    users.run("ferry")
    users.append(STREAM, numbered(2, first=2))
    frozen = psycopg.connect(users.shared_url)
    frozen.execute("SELECT FROM eventferry.checkpoints FOR UPDATE")
    frozen.pgconn.exec_(f'COPY streams."{SHARED}" (type) FROM STDIN'.encode())
    assert users.run("ferry").end is End.CAUGHT_UP
    frozen.close()
    assert numbers(users) == [1, 2, 3]
    known = users.known("ferry")
    assert known is not None
    assert (known.state, known.error) == ("idle", None)


def test_the_server_soon_notices_that_the_machine_of_a_ferry_has_vanished(
    users: Service, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a COPY, say, where no timeout of the transaction strikes."""
    seen = []

    async def move(conn: Any, *arguments: Any) -> bool:
        settings = await conn.execute(
            "SELECT current_setting('tcp_keepalives_' || name)::int"
            " FROM unnest('{idle,interval,count}'::text[]) AS name"
        )
        seen.append([row[0] for row in await settings.fetchall()])
        return await engine_move(conn, *arguments)

    monkeypatch.setattr(ferry, "move", move)
    database = str(conninfo_to_dict(users.shared_url)["dbname"])
    users.shared_url = server.url(database, tcp=True)
    users.append(STREAM, numbered(1))
    assert users.run("ferry").end is End.CAUGHT_UP
    assert seen == [[15, 5, 3]]


def test_another_event_under_the_same_id_fails_the_ferry_and_is_named(users: Service) -> None:
    orders = Service("orders", users.local_url, users.shared_url)
    orders.shared.create_stream(SHARED)
    taken = Event("Somebody", {"n": 0})
    orders.shared.append(SHARED, taken)
    users.append(STREAM, numbered(2))
    users.local.append(STREAM, Event("Else", {"n": 3}, id=taken.id))
    users.append(STREAM, numbered(2, first=4))
    orders.close()

    assert users.run("ferry").end is End.FAILED
    failure = users.failure("ferry")
    assert "EventIdConflict" in str(failure.error)
    assert str(taken.id) in str(failure.error)
    assert failure.failing_event_id == taken.id
    assert failure.failing_position == users.positions(STREAM)[2]
    assert failure.failing_event_type == "Else"
    assert numbers(users) == [0, 1, 2], "the good ones before it are kept"

    users.retry("ferry")
    assert users.run("ferry").end is End.FAILED
    assert users.failure("ferry").attempts == 1, "a retry begins to count again"
    assert numbers(users) == [0, 1, 2]


def test_a_ferry_that_has_failed_goes_on_after_the_fix(users: Service) -> None:
    """Here the shared store refuses a type for a while."""
    users.run("ferry")
    with_constraint(users, "ADD CONSTRAINT no_four CHECK (data->>'n' <> '4')")
    users.append(STREAM, numbered(7))
    assert users.run("ferry").end is End.FAILED
    failure = users.failure("ferry")
    assert "no_four" in str(failure.error)
    assert failure.failing_position == users.positions(STREAM)[3]
    assert numbers(users) == [1, 2, 3]

    with_constraint(users, "DROP CONSTRAINT no_four")
    assert users.retry() == ["ferry"]
    assert users.run("ferry").handled == 4
    assert numbers(users) == list(range(1, 8))
    known = users.known("ferry")
    assert known is not None
    assert (known.state, known.error, known.attempts) == ("idle", None, 0)


def with_constraint(service: Service, change: Any) -> None:
    import psycopg

    with psycopg.connect(service.shared_url, autocommit=True) as conn:
        conn.execute(f'ALTER TABLE streams."{SHARED}" {change}'.encode())


def test_the_checkpoint_is_kept_in_the_shared_store(users: Service) -> None:
    users.append(STREAM, numbered(3))
    users.run("ferry")
    rows = query(
        users.shared_url,
        f"SELECT count(DISTINCT c.xmin::text) FROM eventferry.checkpoints c"
        f' JOIN streams."{SHARED}" e ON e.xmin::text = c.xmin::text',
    )
    assert rows == [(1,)], "one transaction has written both"
    assert query(users.local_url, "SELECT count(*) FROM eventferry.checkpoints") == [(0,)]


def test_a_ferry_waits_for_its_stream(users: Service) -> None:
    users.producing("early", "later-stream")
    ended = users.run("early")
    assert ended.end is End.WAITING
    assert "later-stream" in str(ended.error)
    users.create_stream("later-stream")
    users.append("later-stream", numbered(1))
    assert users.run("early").handled == 1


@runs_through_pgbouncer_too
def test_what_is_ferried_is_consumed_by_another_service(
    users: Service, make_service: MakeService
) -> None:
    mails = make_service("mails")
    mails.create_effects()
    mails.consuming("reader", record, SHARED, environment="shared")
    assert mails.run("reader").end is End.WAITING
    users.append(STREAM, numbered(3))
    users.run("ferry")
    assert mails.run("reader").handled == 3
    assert mails.recorded() == [1, 2, 3]


def test_the_checkpoint_of_a_ferry_moves_to_events_and_not_to_the_horizon(users: Service) -> None:
    users.create_stream("orders-stream")
    users.append(STREAM, numbered(3))
    users.append("orders-stream", numbered(50))
    users.run("ferry")
    assert users.checkpoint("ferry") == users.positions(STREAM)[-1]
    assert users.checkpoint("ferry") < users.local.horizon(STREAM).position


def test_a_copy_that_fails_on_its_way_says_why_and_leaves_the_connection_usable(
    users: Service,
) -> None:
    statement = b"COPY (SELECT 1 / (30000 - n) FROM generate_series(1, 40000) AS n)"

    async def copy() -> int:
        async with await psycopg.AsyncConnection.connect(users.local_url, autocommit=True) as conn:
            with pytest.raises(psycopg.errors.DivisionByZero, match="division by zero"):
                await copied_out(conn, statement + b" TO STDOUT (FORMAT BINARY)")
            rows = await copied_out(conn, b"COPY (VALUES (1), (2)) TO STDOUT (FORMAT BINARY)")
            return len(rows)

    assert asyncio.run(copy()) == 19 + 2 * 10 + 2  # header, rows, trailer
