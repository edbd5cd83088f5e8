"""The horizon: nothing at or below it can still appear, and nothing unrelated holds it back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Barrier
from typing import Any

import psycopg
import pytest

from eventferry import Event, EventStore, VersionConflict
from tests.conftest import MakeDatabase

INSERT = "INSERT INTO streams.{} (type) VALUES (%s)"


class Store:
    """A store with streams `a` and `b`, and transactions that stay open."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self._stack = stack
        self.store = stack.enter_context(EventStore(url))
        self.store.create_stream("a")
        self.store.create_stream("b")

    def open(self, url: str | None = None) -> psycopg.Connection[Any]:
        """A transaction that has done nothing yet."""
        conn = psycopg.connect(url or self.url)
        self._stack.callback(conn.close)
        conn.execute("SELECT txid_current()")
        return conn

    def held(self, stream: str, type_: str = "Held") -> psycopg.Connection[Any]:
        """A transaction that has appended to the stream."""
        conn = self.open()
        conn.execute(INSERT.format(stream), (type_,))  # type: ignore[arg-type,unused-ignore]
        return conn

    def append(self, stream: str, type_: str = "Done") -> int:
        return self.store.append(stream, Event(type_)).positions()[0]

    def types(self, *streams: str) -> list[str]:
        return [event.type for stream in streams for event in self.store.read(stream)]


@pytest.fixture
def stores(make_database: MakeDatabase) -> Iterator[Store]:
    with ExitStack() as stack:
        yield Store(make_database("local", "users"), stack)


def test_a_reader_without_the_horizon_misses_an_event_and_one_with_it_does_not(
    stores: Store,
) -> None:
    def naive(last: int) -> list[tuple[int, str]]:
        with psycopg.connect(stores.url) as conn:
            statement = "SELECT position, type FROM streams.a WHERE position > %s ORDER BY 1"
            return conn.execute(statement, (last,)).fetchall()

    def ours(last: int) -> list[tuple[int, str]]:
        return [(event.position, event.type) for event in stores.store.read("a", after=last)]

    seen: dict[Any, list[tuple[int, str]]] = {naive: [], ours: []}

    def read() -> None:
        for reader, events in seen.items():
            events.extend(reader(events[-1][0] if events else 0))

    stores.append("a", "First")
    early = stores.held("a", "Early")  # draws its position before …
    stores.append("a", "Late")  # … and commits after this one
    read()
    early.commit()
    stores.append("a", "Last")
    read()
    assert [type_ for _, type_ in seen[ours]] == ["First", "Early", "Late", "Last"]
    assert [type_ for _, type_ in seen[naive]] == ["First", "Late", "Last"]


def test_a_held_open_append_delays_neither_readers_nor_writers_of_others(stores: Store) -> None:
    stores.held("a")
    with EventStore(f"{stores.url}&options=-c%20lock_timeout%3D1ms") as impatient:
        impatient.append("b", [Event("B1"), Event("B2")])
        impatient.append("a", Event("A1", entity_id="1"), expected_version=0)
        impatient.append("a", [Event("A2", entity_id="1")], expected_version=1)
        assert [event.type for event in impatient.read("b")] == ["B1", "B2"]
        assert list(impatient.read("a")) == []
        assert len(impatient.read_entity("a", "1")) == 2


def test_an_open_transaction_that_has_appended_nothing_delays_nobody(
    stores: Store, make_database: MakeDatabase
) -> None:
    stores.open().execute("CREATE TABLE busy AS SELECT 1")
    elsewhere = make_database("local", "others")
    with EventStore(elsewhere) as other:
        other.create_stream("a")
    stores.open(elsewhere).execute("INSERT INTO streams.a (type) VALUES ('Held')")
    first = stores.append("a")
    horizon = stores.store.horizon("a", "b")
    assert (horizon.position, horizon.head, horizon.in_flight) == (first, first, 0)


def test_a_rolled_back_append_holds_nobody_back(stores: Store) -> None:
    held = stores.held("a", "Gone")
    stores.append("a", "Kept")
    held.rollback()
    assert stores.types("a") == ["Kept"]


def test_a_killed_writer_holds_nobody_back(stores: Store) -> None:
    held = stores.held("a", "Gone")
    stores.append("a", "Kept")
    with psycopg.connect(stores.url, autocommit=True) as conn:
        conn.execute("SELECT pg_terminate_backend(%s, 20000)", (held.info.backend_pid,))
    assert stores.types("a") == ["Kept"]


def test_the_horizon_of_several_streams_is_the_smallest_of_theirs(stores: Store) -> None:
    before_a = stores.append("b")
    held_a = stores.held("a")
    before_b = stores.append("a")
    held_b = stores.held("b")
    after = stores.append("a")
    horizon = stores.store.horizon
    assert (horizon("a").position, horizon("b").position) == (before_a, before_b)
    assert (horizon("a", "b").position, horizon("a", "b").in_flight) == (before_a, 2)
    held_a.commit()
    assert (horizon("a", "b").position, horizon("a", "b").in_flight) == (before_b, 1)
    assert (horizon("a").position, horizon("a").head) == (after, after)
    held_b.commit()
    assert horizon("a", "b").position == after


HALF, WHOLE = 2**31, 2**32
BOUNDARIES = [
    HALF - 2,
    WHOLE - 2,
    WHOLE + HALF - 1,
    2 * WHOLE - 1,
    2 * WHOLE + HALF,
    3 * WHOLE,
    2**62 - 2,
]


def test_the_horizon_is_right_where_the_marker_wraps_around(stores: Store) -> None:
    for boundary in BOUNDARIES:
        with psycopg.connect(stores.url) as conn:
            conn.execute("SELECT setval('eventferry.positions', %s)", (boundary,))
        held = stores.held("a")
        for _ in range(3):
            stores.append("a")
        horizon = stores.store.horizon("a")
        assert (horizon.position, horizon.in_flight) == (boundary, 1)
        held.commit()
        assert stores.store.horizon("a").position == boundary + 4
        assert len(list(stores.store.read("a", after=boundary))) == 4


def test_a_marker_newer_than_the_head_is_in_flight_and_lowers_nothing(stores: Store) -> None:
    for head in (7, 2**31 - 1, 2**32 - 1):
        with psycopg.connect(stores.url) as conn:
            conn.execute("SELECT setval('eventferry.positions', %s)", (head,))
            conn.commit()
            conn.execute(
                "SELECT pg_advisory_xact_lock_shared(eventferry.marker_key(1::smallint), "
                "((%s::bigint) << 32 >> 32)::int)",
                (head + 5,),
            )
            horizon = stores.store.horizon("a")
            assert (horizon.position, horizon.head, horizon.in_flight) == (head, head, 1)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_horizon_is_refused_in_a_transaction_that_sees_no_later_commit(
    stores: Store, level: str
) -> None:
    with psycopg.connect(stores.url) as conn:
        conn.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")  # type: ignore[arg-type,unused-ignore]
        with pytest.raises(psycopg.errors.InvalidTransactionState, match=f"asked for in {level}"):
            conn.execute("SELECT eventferry.horizon('{a}')")


def test_version_order_is_position_order_however_many_write(make_database: MakeDatabase) -> None:
    url, writers, rounds = make_database("local", "users"), 8, 25
    with EventStore(url) as store:
        store.create_stream("a")
    start = Barrier(writers)

    def write(number: int) -> None:
        with EventStore(url) as store:
            start.wait()
            for round_ in range(rounds):
                version = len(store.read_entity("a", "42"))
                events = [Event("A", entity_id="42") for _ in range(1 + (number + round_) % 3)]
                with suppress(VersionConflict):
                    store.append("a", events, expected_version=version)

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(write, range(writers)))
    with EventStore(url) as store:
        versions = [event.version for event in store.read("a")]
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) >= rounds
