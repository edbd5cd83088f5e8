"""Appending: all or nothing, once, in the caller's transaction or in one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import pq
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from sqlalchemy import text

from eventferry import (
    Event,
    EventIdConflict,
    EventStore,
    InvalidEvent,
    RecordedEvent,
    StoreError,
    StoreUnavailable,
    TransactionRequired,
    VersionConflict,
)
from tests.blocking import FORMS, SESSIONS, Client, SessionClient, plain
from tests.conftest import MakeDatabase
from tests.waiting import wait_for_lock

STREAM = "users-stream"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(params=FORMS)
def client(request: pytest.FixtureRequest, make_database: MakeDatabase) -> Iterator[Client]:
    kind = Client if request.param in FORMS else SessionClient
    with kind(request.param, make_database("local", "users")) as client:
        client.store.create_stream(STREAM)
        yield client


with_sessions_too = pytest.mark.parametrize("client", [*FORMS, *SESSIONS], indirect=True)
"""SQLAlchemy's sessions and connections do the same, whatever the driver."""


@pytest.fixture
def store(client: Client) -> EventStore:
    return client.store


def kept(client: Client) -> list[RecordedEvent]:
    return list(client.store.read(STREAM))


def types(client: Client) -> list[str]:
    return [event.type for event in kept(client)]


def of_entity(*types: str) -> list[Event]:
    return [Event(type_, entity_id="42") for type_ in types]


def usable(conn: Any) -> bool:
    if hasattr(conn, "in_transaction"):  # SQLAlchemy's
        conn.execute(text("SELECT"))
        return bool(conn.in_transaction())
    return bool(conn.info.transaction_status == pq.TransactionStatus.INTRANS)


# On its own


@with_sessions_too
def test_one_event_is_committed_at_once(client: Client) -> None:
    event = Event("UserRegistered", {"email": "a@b.c"}, entity_id="42", metadata={"by": "test"})
    appended = client.store.append(STREAM, event)
    (found,) = kept(client)
    assert (found.id, found.type, found.data) == (event.id, event.type, event.data)
    assert (found.entity_id, found.version, found.metadata) == ("42", None, {"by": "test"})
    assert (found.stream, found.source) == (STREAM, "users")
    assert (appended.ids, appended.positions()) == ((event.id,), (found.position,))


@with_sessions_too
def test_many_events_keep_their_order(client: Client) -> None:
    events = [Event(f"Event{number}") for number in range(100)]
    appended = client.store.append(STREAM, (event for event in events))
    assert [event.id for event in kept(client)] == [event.id for event in events]
    assert appended.positions() == tuple(event.position for event in kept(client))


@with_sessions_too
def test_nothing_is_appended_of_no_events(client: Client) -> None:
    assert client.store.append(STREAM, []).ids == ()
    assert client.store.append(STREAM, [], expected_version=3).positions() == ()
    assert kept(client) == []


@with_sessions_too
def test_what_the_events_leave_open_is_filled_in_event_by_event(client: Client) -> None:
    with_both = Event("Told", source="crm", occurred_at=NOON)
    client.store.append(STREAM, [with_both, Event("Left"), Event("Half", source="crm")])
    told, left, half = kept(client)
    assert (told.source, told.occurred_at) == ("crm", NOON)
    assert (left.source, half.source) == ("users", "crm")
    assert left.occurred_at == half.occurred_at <= left.recorded_at


@with_sessions_too
def test_all_or_nothing_is_kept_of_a_batch(client: Client, store: EventStore) -> None:
    with pytest.raises(InvalidEvent, match="data_object"):
        store.append(STREAM, [Event("Good"), _Unchecked("Bad", {})])
    assert kept(client) == []


class _Unchecked(Event):
    """An event whose data is no object, and that says nothing about it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", [1])


# In the caller's transaction


@with_sessions_too
@pytest.mark.parametrize("count", [1, 3])
def test_an_append_waits_for_the_callers_commit(client: Client, count: int) -> None:
    conn = client.connect()
    client.store.append(STREAM, [Event("A") for _ in range(count)], connection=conn)
    assert usable(conn)
    assert kept(client) == []
    conn.commit()
    assert len(kept(client)) == count


@with_sessions_too
@pytest.mark.parametrize("count", [1, 3])
def test_an_append_goes_with_the_callers_rollback(client: Client, count: int) -> None:
    conn = client.connect()
    events = [Event("A", entity_id="42") for _ in range(count)]
    appended = client.store.append(STREAM, events, expected_version=0, connection=conn)
    assert len(appended.positions()) == count
    conn.rollback()
    with pytest.raises(StoreError, match="rolled back"):
        appended.positions()
    assert kept(client) == []


def test_an_append_in_an_autocommit_connection_needs_a_transaction(client: Client) -> None:
    conn = client.connect(autocommit=True)
    with pytest.raises(TransactionRequired, match=r"connection.transaction\(\)"):
        client.store.append(STREAM, Event("A"), connection=conn)
    with conn.transaction():
        client.store.append(STREAM, [Event("B"), Event("C")], connection=conn)
        assert kept(client) == []
    assert types(client) == ["B", "C"]


@pytest.mark.parametrize("client", [*FORMS, *SESSIONS[1::2]], indirect=True)
def test_an_append_on_a_closed_connection_is_no_append_elsewhere(client: Client) -> None:
    conn = client.connect()
    conn.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        client.store.append(STREAM, Event("A"), connection=conn)
    assert kept(client) == []


@with_sessions_too
def test_positions_can_be_asked_for_when_the_callers_connection_is_closed(client: Client) -> None:
    conn = client.connect()
    appended = client.store.append(STREAM, Event("A"), connection=conn)
    conn.commit()
    conn.close()
    assert appended.positions() == (kept(client)[0].position,)


@with_sessions_too
def test_a_store_without_a_url_appends_on_its_callers_connection(client: Client) -> None:
    bare = client.open_store()
    conn = client.connect()
    bare.append(STREAM, [Event("A", entity_id="1"), Event("B", entity_id="1")], connection=conn)
    assert [event.type for event in bare.read_entity(STREAM, "1", connection=conn)] == ["A", "B"]
    conn.commit()
    assert types(client) == ["A", "B"]
    with pytest.raises(StoreError, match="pass `connection=`"):
        bare.append(STREAM, Event("C"))


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_pool_of_the_callers_is_used_and_left_open(client: Client, autocommit: bool) -> None:
    options = {"autocommit": autocommit, "row_factory": dict_row}
    pool = client.open_pool(min_size=1, max_size=2, kwargs=options)
    pooled = client.open_store(pool)
    pooled.append(STREAM, Event("A"))
    appended = pooled.append(STREAM, of_entity("B", "C"), expected_version=0)
    assert [event.type for event in pooled.read(STREAM)] == ["A", "B", "C"]
    assert len(appended.positions()) == 2
    pooled.close()
    assert not pool.closed


def _uuid_loader(conn: psycopg.Connection[Any]) -> None:
    from psycopg.types.string import TextBinaryLoader, TextLoader

    conn.adapters.register_loader("uuid", TextLoader)
    conn.adapters.register_loader("uuid", TextBinaryLoader)


def _json_loader(conn: psycopg.Connection[Any]) -> None:
    set_json_loads(lambda _: "?", conn)


def _execute(statement: str) -> Callable[[psycopg.Connection[Any]], Any]:
    return lambda conn: conn.execute(statement)


@pytest.mark.parametrize(
    ("options", "prepare"),
    [
        pytest.param({"row_factory": dict_row}, None, id="rows as dicts"),
        pytest.param({}, _json_loader, id="JSON loader"),
        pytest.param({}, _uuid_loader, id="UUID loader"),
        pytest.param({}, _execute("SET DateStyle = 'SQL, DMY'"), id="DateStyle"),
        pytest.param({}, _execute("SET TimeZone = 'Asia/Kathmandu'"), id="TimeZone"),
        pytest.param({"cursor_factory": "ClientCursor"}, None, id="client-side cursors"),
    ],
)
def test_a_connection_may_be_set_up_in_any_way(
    client: Client,
    options: dict[str, Any],
    prepare: Callable[[psycopg.Connection[Any]], None] | None,
) -> None:
    store = client.store
    if "cursor_factory" in options:
        is_async = type(store) is not EventStore
        factory = psycopg.AsyncClientCursor if is_async else psycopg.ClientCursor
        options = {"cursor_factory": factory}
    conn = client.connect(**options)
    if prepare is not None:
        prepare(conn if prepare not in (_json_loader, _uuid_loader) else plain(conn))
    one, two = of_entity("A", "B")
    assert store.create_stream("others", connection=conn)
    assert [s.name for s in store.streams(connection=conn)] == [STREAM, "others"]
    appended = store.append(STREAM, [one, two], expected_version=0, connection=conn)
    assert len(appended.positions()) == 2
    store.append(STREAM, one, expected_version=0, connection=conn)  # once more
    store.append(STREAM, [Event("C", source="x"), Event("D")], connection=conn)
    store.append(STREAM, Event("E", occurred_at=NOON), connection=conn)
    with pytest.raises(VersionConflict):
        store.append(STREAM, of_entity("F"), expected_version=0, connection=conn)
    with pytest.raises(VersionConflict):
        store.append(STREAM, of_entity("F", "G"), expected_version=0, connection=conn)
    found = store.read_entity(STREAM, "42", connection=conn)
    assert [(event.id, event.version, event.data) for event in found] == [
        (one.id, 1, {}),
        (two.id, 2, {}),
    ]


# Versions


@with_sessions_too
def test_versions_go_on_from_the_expected_one(client: Client, store: EventStore) -> None:
    store.append(STREAM, of_entity("A"), expected_version=0)
    store.append(STREAM, of_entity("B", "C"), expected_version=1)
    store.append(STREAM, of_entity("D"), expected_version=3)
    store.append(STREAM, Event("Other", entity_id="43"), expected_version=0)
    store.append(STREAM, of_entity("Unversioned"))
    assert [(event.type, event.version) for event in kept(client)] == [
        ("A", 1),
        ("B", 2),
        ("C", 3),
        ("D", 4),
        ("Other", 1),
        ("Unversioned", None),
    ]


@with_sessions_too
@pytest.mark.parametrize("count", [1, 2])
def test_a_version_conflict_leaves_the_transaction_usable(client: Client, count: int) -> None:
    store, conn = client.store, client.connect()
    store.append(STREAM, of_entity("A", "B"), expected_version=0)
    store.append(STREAM, Event("Before"), connection=conn)
    late = of_entity("C", "D")[:count]
    for expected in (0, 1, 3):
        with pytest.raises(VersionConflict) as caught:
            store.append(STREAM, late, expected_version=expected, connection=conn)
        assert (caught.value.expected, caught.value.actual) == (expected, 2)
        assert (caught.value.stream, caught.value.entity_id) == (STREAM, "42")
    store.append(STREAM, late, expected_version=2, connection=conn)
    conn.commit()
    assert types(client) == ["A", "B", "Before", "C", "D"][: 3 + count]


@pytest.mark.parametrize("count", [1, 2])
def test_of_five_writers_that_expect_the_same_version_one_succeeds(
    client: Client, count: int
) -> None:
    start = Barrier(5)

    def write(number: int) -> str:
        with EventStore(client.url) as store:
            store.horizon(STREAM)  # connected
            start.wait()
            try:
                store.append(STREAM, of_entity(*[f"By{number}"] * count), expected_version=0)
            except VersionConflict as conflict:
                return f"expected {conflict.expected}, was at {conflict.actual}"
            return "succeeded"

    with ThreadPoolExecutor(5) as pool:
        outcomes = sorted(pool.map(write, range(5)))
    assert outcomes == [f"expected 0, was at {count}"] * 4 + ["succeeded"]
    assert [event.version for event in kept(client)] == [1, 2][:count]


@pytest.mark.parametrize("count", [1, 3])
def test_of_two_that_have_passed_the_same_check_one_succeeds(client: Client, count: int) -> None:
    """Both wait for a third one, which is in the way of both and then goes."""
    third = client.connect()
    client.store.append(STREAM, of_entity("Gone"), expected_version=0, connection=third)

    def write(name: str) -> str:
        with EventStore(client.url) as store:
            # from now on it knows that its store gives out versions
            store.append(STREAM, Event("Other", entity_id=name), expected_version=0)
            try:
                store.append(STREAM, of_entity(*[name] * count), expected_version=0)
            except VersionConflict as conflict:
                return f"expected {conflict.expected}, was at {conflict.actual}"
            return name

    with ThreadPoolExecutor(2) as pool:
        racing = pool.map(write, ("One", "Another"))
        wait_for_lock(client.url, 2)
        third.rollback()
        conflict, winner = sorted(racing, key=lambda outcome: not outcome.startswith("expected"))
    assert conflict == f"expected 0, was at {count}"
    found = client.store.read_entity(STREAM, "42")
    assert [(e.type, e.version) for e in found] == [(winner, n + 1) for n in range(count)]


@with_sessions_too
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_writer_waits_for_the_outcome_of_the_one_before(
    client: Client, count: int, end: str
) -> None:
    first = client.connect()
    client.store.append(STREAM, of_entity("A"), expected_version=0, connection=first)

    def second() -> str:
        with EventStore(client.url) as store:
            try:
                store.append(STREAM, of_entity("B", "C")[:count], expected_version=0)
            except VersionConflict:
                return "conflict"
            return "success"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second)
        wait_for_lock(client.url)
        getattr(first, end)()
        assert waiting.result() == ("success" if end == "rollback" else "conflict")
    assert types(client) == (["B", "C"][:count] if end == "rollback" else ["A"])


def test_versions_are_of_one_entity_a_call(store: EventStore) -> None:
    two = [Event("A", entity_id="1"), Event("B", entity_id="2")]
    with pytest.raises(ValueError, match="of one entity, but these are of '1', '2'"):
        store.append(STREAM, two, expected_version=0)
    with pytest.raises(ValueError, match="of one entity, but these are of None"):
        store.append(STREAM, Event("A"), expected_version=0)
    for wrong in (-1, True, 2**31 - 1):
        with pytest.raises(ValueError, match="expected_version must be 0"):
            store.append(STREAM, Event("A", entity_id="1"), expected_version=wrong)


# The same id again


@with_sessions_too
@pytest.mark.parametrize("version", [None, 0])
def test_an_append_may_be_repeated(client: Client, version: int | None) -> None:
    store, (a, b, c) = client.store, of_entity("A", "B", "C")
    first = store.append(STREAM, [a, b], expected_version=version)
    again = store.append(STREAM, [a, b], expected_version=version)
    assert again.positions() == first.positions()
    store.append(STREAM, a, expected_version=version)
    store.append(STREAM, [a, b, c], expected_version=version)
    store.append(STREAM, [a, b], expected_version=version)
    assert types(client) == ["A", "B", "C"]


@with_sessions_too
def test_an_append_may_be_repeated_in_its_own_transaction(client: Client) -> None:
    store, conn, (a, b, c) = client.store, client.connect(), of_entity("A", "B", "C")
    for batch in ([a], [a], [a, b], [c, b, a]):
        store.append(STREAM, batch, connection=conn)
    assert kept(client) == []
    conn.commit()
    assert types(client) == ["A", "B", "C"]


@with_sessions_too
def test_the_same_content_may_be_spelled_otherwise(client: Client, store: EventStore) -> None:
    id_ = Event("A").id
    told = Event("A", {"a": 1, "b": 2}, id=id_, source="users", occurred_at=NOON)
    store.append(STREAM, told)
    store.append(STREAM, Event("A", {"b": 2, "a": 1}, id=id_))
    store.append(STREAM, [Event("B"), told])
    assert types(client) == ["A", "B"]


@with_sessions_too
def test_other_content_under_the_same_id_is_refused(client: Client) -> None:
    store, conn = client.store, client.connect()
    event = Event("A", {"a": 1}, entity_id="42")
    store.append(STREAM, event)
    store.append(STREAM, Event("Before"), connection=conn)
    others: dict[str, Any] = {
        "type": "B",
        "data": {"a": 1.0},
        "metadata": {"a": 1},
        "entity_id": "43",
        "source": "crm",
        "occurred_at": NOON,
    }
    for name, value in others.items():
        changed = replace(event, **{name: value})
        for batch in ([changed], [Event("New"), changed]):
            with pytest.raises(EventIdConflict, match=f"its {name} differs") as caught:
                store.append(STREAM, batch, connection=conn)
            assert (caught.value.stream, caught.value.event_id) == (STREAM, event.id)
    store.append(STREAM, [Event("After"), event], connection=conn)
    conn.commit()
    assert types(client) == ["A", "Before", "After"]


@with_sessions_too
@pytest.mark.parametrize("version", [None, 0])
def test_nothing_is_kept_of_many_whose_second_half_is_refused(
    client: Client, version: int | None
) -> None:
    taken = Event("Taken")
    client.store.append(STREAM, taken)
    many = [Event("A", {"text": "x" * 1000}, entity_id="42") for _ in range(200)]
    many[150] = replace(many[150], id=taken.id)
    with pytest.raises(EventIdConflict):
        client.store.append(STREAM, many, expected_version=version)
    assert types(client) == ["Taken"]


@with_sessions_too
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_one_of_two_that_append_the_same_event_at_once_does(
    client: Client, batch: int, end: str
) -> None:
    events = of_entity("A", "B")[:batch]
    first = client.connect()
    client.store.append(STREAM, events, connection=first)
    with EventStore(client.url) as store, ThreadPoolExecutor(1) as pool:
        second = pool.submit(store.append, STREAM, events)
        wait_for_lock(client.url)
        getattr(first, end)()
        second.result()
    assert types(client) == ["A", "B"][:batch]


def test_two_events_of_a_call_with_one_id_are_refused(store: EventStore) -> None:
    id_ = UUID("01890000-0000-7000-8000-000000000000")
    with pytest.raises(InvalidEvent, match=f"two of the 3 events .* have the id {id_}"):
        store.append(STREAM, [Event("A", id=id_), Event("B"), Event("A", id=id_)])


def test_a_store_that_many_threads_open_at_once_opens_one_pool(client: Client) -> None:
    start = Barrier(8)
    with EventStore(client.url) as store, ThreadPoolExecutor(8) as pool:

        def write(number: int) -> None:
            start.wait()
            store.append(STREAM, Event(f"By{number}"))

        list(pool.map(write, range(8)))
        assert len(kept(client)) == 8


def test_versions_are_not_given_out_by_a_shared_store(make_database: MakeDatabase) -> None:
    with EventStore(make_database("shared")) as shared:
        shared.create_stream(STREAM)
        shared.append(STREAM, Event("Unversioned", entity_id="1"))
        for number in (1, 2):  # by INSERT, and by COPY
            events = [Event("Registered", entity_id="1") for _ in range(number)]
            with pytest.raises(StoreError, match="is a shared store"):
                shared.append(STREAM, events, expected_version=0)
        assert [event.type for event in shared.read(STREAM)] == ["Unversioned"]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("expected", [None, 0])
def test_what_a_trigger_of_ones_own_violates_is_not_taken_for_a_repeated_append(
    make_database: MakeDatabase, count: int, expected: int | None
) -> None:
    local_url = make_database("local", "users")
    with EventStore(local_url) as store, psycopg.connect(local_url, autocommit=True) as conn:
        store.create_stream("guarded-stream")
        store.append("guarded-stream", Event("First", entity_id="0"), expected_version=0)
        conn.execute("CREATE TABLE guarded (type text UNIQUE)")
        conn.execute(
            "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO guarded VALUES (NEW.type); RETURN NEW; END'"
        )
        conn.execute(
            'CREATE TRIGGER guard BEFORE INSERT ON streams."guarded-stream"'
            " FOR EACH ROW EXECUTE FUNCTION guard()"
        )
        conn.execute("INSERT INTO guarded VALUES ('Twice')")
        events = [Event("Twice", entity_id="1") for _ in range(count)]

        with pytest.raises(psycopg.errors.UniqueViolation, match="guarded_type_key"):
            store.append("guarded-stream", events, expected_version=expected)
        with (
            psycopg.connect(local_url) as own,
            pytest.raises(psycopg.errors.UniqueViolation, match="guarded_type_key"),
        ):
            store.append("guarded-stream", events, expected_version=expected, connection=own)
        assert [event.type for event in store.read("guarded-stream")] == ["First"]
