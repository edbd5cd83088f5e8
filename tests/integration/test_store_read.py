"""Reading: to the horizon, page by page, what was appended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import psycopg2  # type: ignore[import-untyped]
import pytest
import sqlalchemy
from sqlalchemy.pool import NullPool

from eventferry import Event, EventStore, InvalidEvent, InvalidStreamName, UnknownStream
from eventferry.store import _async, _sync
from tests.blocking import FORMS, Client

STREAM = "users-stream"


@pytest.fixture(params=FORMS)
def client(request: pytest.FixtureRequest, make_database: Any) -> Iterator[Client]:
    with Client(request.param, make_database("local", "users")) as client:
        client.store.create_stream(STREAM)
        yield client


@pytest.fixture
def store(client: Client) -> EventStore:
    return client.store


def types(events: Any) -> list[str]:
    return [event.type for event in events]


def test_a_read_ends_at_the_horizon_and_the_next_one_goes_on_from_there(client: Client) -> None:
    store, held = client.store, client.connect()
    store.append(STREAM, Event("Before"))
    store.append(STREAM, Event("Held"), connection=held)
    store.append(STREAM, Event("After"))
    (before,) = store.read(STREAM)
    assert before.type == "Before"
    assert store.horizon(STREAM).position == before.position
    held.commit()
    assert types(store.read(STREAM, after=before.position)) == ["Held", "After"]


def test_the_horizon_is_the_one_at_the_beginning(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch, 2)
    store.append(STREAM, [Event(f"E{number}") for number in range(4)])
    seen = []
    for event in store.read(STREAM):
        store.append(STREAM, Event("Later"))
        seen.append(event.type)
    assert seen == ["E0", "E1", "E2", "E3"]


def small_pages(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in (_sync, _async):
        monkeypatch.setattr(module, "PAGE_SIZE", size)


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_a_limit_is_kept_exactly(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    small_pages(monkeypatch, page)
    names = [f"E{number}" for number in range(7)]
    positions = store.append(STREAM, [Event(name) for name in names]).positions()
    for limit in range(9):
        assert types(store.read(STREAM, limit=limit)) == names[:limit]
        assert types(store.read(STREAM, after=positions[1], limit=limit)) == names[2 : 2 + limit]
    assert types(store.read(STREAM)) == names
    assert types(store.read(STREAM, after=positions[-1])) == []


def test_no_connection_is_held_between_two_pages(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch, 1)
    pool = client.open_pool(min_size=1, max_size=1, timeout=5)
    store = client.open_store(pool)
    store.append(STREAM, [Event("A"), Event("B")])
    pairs = [(a.type, b.type) for a in store.read(STREAM) for b in store.read(STREAM)]
    assert len(pairs) == 4


def test_an_entity_is_read_with_what_the_own_transaction_has_appended(client: Client) -> None:
    store, own, other = client.store, client.connect(), client.connect()
    store.append(STREAM, Event("Committed", entity_id="42"))
    store.append(STREAM, Event("Foreign", entity_id="42"), connection=other)
    store.append(STREAM, [Event("Own", entity_id="42"), Event("X")], connection=own)
    assert types(store.read_entity(STREAM, "42", connection=own)) == ["Committed", "Own"]
    assert types(store.read_entity(STREAM, "42")) == ["Committed"]
    assert store.read_entity(STREAM, "43") == []


def test_times_are_utc_whatever_the_zone_of_the_session(client: Client) -> None:
    noon = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    conn = client.connect()
    conn.execute("SET TimeZone = 'America/St_Johns'")
    client.store.append(STREAM, Event("A", entity_id="1", occurred_at=noon), connection=conn)
    (event,) = client.store.read_entity(STREAM, "1", connection=conn)
    assert (event.occurred_at, event.occurred_at.tzinfo) == (noon, UTC)
    assert event.recorded_at.tzinfo is UTC


def test_times_at_the_ends_of_what_python_knows_are_read_or_refused(client: Client) -> None:
    first, last = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
    store = client.store
    store.append(STREAM, [Event("First", occurred_at=first), Event("Last", occurred_at=last)])
    for zone in ("Etc/GMT+12", "Pacific/Kiritimati"):
        with psycopg.connect(client.url, autocommit=True) as conn:
            name = conn.info.dbname
            conn.execute(f"ALTER DATABASE \"{name}\" SET TimeZone = '{zone}'")  # type: ignore[arg-type,unused-ignore]
        fresh = client.open_store(client.url)
        assert [event.occurred_at for event in fresh.read(STREAM)] == [first, last]
    for year in (1, 9999):
        beyond = datetime(year, 12 if year > 1 else 1, 31 if year > 1 else 1, tzinfo=UTC)
        with pytest.raises(InvalidEvent, match=r"must be from 0001-01-03 .* to 9999-12-29"):
            store.append(STREAM, Event("Beyond", occurred_at=beyond))


@pytest.mark.parametrize(
    "data",
    [
        {"text": 'é 漢字 🚢 \u2028 " \\ \x7f', "key 🔑": [None, True, -0.5, [], {}]},
        {"large": 2**70, "larger": -(10**400), "long": 2**63 - 1, "longer": 2**64},
        {"float": 1.0, "tiny": 5e-324, "sum": 0.1 + 0.2},
    ],
)
def test_data_is_read_as_it_was_appended(store: EventStore, data: dict[str, Any]) -> None:
    store.append(STREAM, Event("One", data, entity_id="1", metadata=data))
    store.append(STREAM, [Event("Two", data, metadata=data), Event("Three", data, metadata=data)])
    for event in (*store.read(STREAM), *store.read_entity(STREAM, "1")):
        assert (event.data, event.metadata) == (data, data)
        assert list(map(type, event.data.values())) == list(map(type, data.values()))


def test_json_of_a_plain_insert_is_kept_byte_for_byte(client: Client) -> None:
    text = '{ "b":1,\n "a" : "\\u00e9", "b": 2 }'
    with psycopg.connect(client.url) as conn:
        conn.execute("INSERT INTO streams.\"users-stream\" (type, data) VALUES ('A', %s)", (text,))
    (event,) = client.store.read(STREAM)
    assert (event.data_json, event.data) == (text, {"a": "é", "b": 2})


def test_several_streams_are_read_up_to_the_smallest_of_their_horizons(client: Client) -> None:
    store, held = client.store, client.connect()
    store.create_stream("others")
    store.append(STREAM, Event("A"))
    before = store.append("others", Event("B")).positions()[0]
    store.append("others", Event("Held"), connection=held)
    after = store.append(STREAM, Event("C")).positions()[0]
    both, alone = store.horizon(STREAM, "others"), store.horizon(STREAM)
    assert (both.position, both.head, both.in_flight) == (before, after, 1)
    assert (alone.position, alone.head, alone.in_flight) == (after, after, 0)
    assert both.store == alone.store
    assert both.incarnations == tuple(stream.incarnation for stream in store.streams())


def test_reading_an_unknown_stream_says_how_to_create_it(store: EventStore) -> None:
    with pytest.raises(UnknownStream, match="eventferry streams create nowhere"):
        list(store.read("nowhere"))
    with pytest.raises(UnknownStream, match="eventferry streams create nowhere"):
        store.read_entity("nowhere", "42")
    with pytest.raises(UnknownStream) as caught:
        store.horizon(STREAM, "nowhere")
    assert caught.value.stream == "nowhere"


def test_reading_what_no_stream_can_be_called_says_so(store: EventStore) -> None:
    for read in (
        lambda: list(store.read("Users")),
        lambda: store.read_entity("Users", "42"),
        lambda: store.horizon(STREAM, "Users"),
    ):
        with pytest.raises(InvalidStreamName, match="did you mean 'users'"):
            read()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_default_isolation_of_the_database_does_not_matter(client: Client, level: str) -> None:
    with psycopg.connect(client.url, autocommit=True) as conn:
        name = conn.info.dbname
        conn.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{level}'")  # type: ignore[arg-type,unused-ignore]
    store = client.open_store(client.url)
    event = Event("A", entity_id="1")
    store.append(STREAM, event, expected_version=0)
    store.append(STREAM, [event, Event("A2", entity_id="1")], expected_version=0)
    assert types(store.read(STREAM)) == ["A", "A2"]


def test_a_read_goes_backwards_between_positions_and_by_types_page_by_page(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("_async", "_sync"):
        monkeypatch.setattr(f"eventferry.store.{module}.PAGE_SIZE", 3)
    client.store.append(STREAM, [Event("odd" if n % 2 else "even", {"n": n}) for n in range(10)])
    positions = [event.position for event in client.store.read(STREAM)]

    def read(**options: Any) -> list[int]:
        return [event.data["n"] for event in client.store.read(STREAM, **options)]

    assert read(backwards=True) == [*range(9, -1, -1)]
    assert read(types=["odd"]) == [1, 3, 5, 7, 9]
    assert read(types=["odd"], backwards=True, limit=4) == [9, 7, 5, 3]
    assert read(types=[]) == []
    assert read(after=positions[2], before=positions[7]) == [3, 4, 5, 6]
    assert read(after=positions[2], before=positions[7], backwards=True, limit=3) == [6, 5, 4]
    assert read(before=positions[0]) == []


def test_a_read_backwards_begins_at_the_horizon(client: Client) -> None:
    client.store.append(STREAM, Event("seen"))
    with psycopg.connect(client.url) as late:
        late.execute(f"INSERT INTO streams.\"{STREAM}\" (type) VALUES ('held open')")
        client.store.append(STREAM, Event("behind it"))
        assert [e.type for e in client.store.read(STREAM, backwards=True)] == ["seen"]


def test_arguments_that_mean_nothing_are_refused(store: EventStore) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"limit": 1.5}, "limit must be a whole number, not 1.5"),
        ({"limit": True}, "limit must be a whole number, not True"),
        ({"after": None}, "after must be a whole number, not None"),
        ({"before": "9"}, "before must be a whole number, not '9'"),
        ({"types": "Old"}, r"types must be a list of event types, not text: \['Old'\]"),
        ({"types": [1]}, "types must be texts, not 1"),
    ]
    for arguments, expected in wrong:
        with pytest.raises(ValueError, match=expected):
            list(store.read(STREAM, **arguments))
    for entity in (42, "\x00", "\ud800"):
        with pytest.raises(InvalidEvent, match="entity_id"):
            store.read_entity(STREAM, entity)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit must be 0 or more"):
        list(store.read(STREAM, limit=-1))


def test_an_event_is_the_same_whichever_way_it_was_read(make_database: Any) -> None:
    url = make_database("local", "users")
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://", creator=lambda: psycopg2.connect(url), poolclass=NullPool
    )
    with EventStore(url) as store, engine.connect() as connection:
        store.create_stream("same-stream")
        store.append("same-stream", Event("Same", {"n": 1}, entity_id="1"))
        (read,) = store.read("same-stream")
        (of_entity,) = store.read_entity("same-stream", "1")
        (of_another_driver,) = store.read_entity("same-stream", "1", connection=connection)

    assert read == of_entity == of_another_driver
    assert len({read, of_entity, of_another_driver}) == 1
