"""Creating streams: once, by any name that is allowed, and in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from eventferry import Event, EventStore, InvalidStreamName
from tests.blocking import FORMS, Client
from tests.waiting import wait_for_lock

IMPATIENT = "-c lock_timeout=1ms"  # who has to wait at all gets an error


@pytest.fixture(params=FORMS)
def client(request: pytest.FixtureRequest, make_database: Any) -> Iterator[Client]:
    with Client(request.param, make_database("local", "users")) as client:
        yield client


def names(client: Client) -> list[str]:
    return [stream.name for stream in client.store.streams()]


def test_a_stream_is_created_once(client: Client) -> None:
    assert client.store.create_stream("users-stream", description="who is who") is True
    client.store.append("users-stream", Event("A"))
    assert client.store.create_stream("users-stream") is False
    (stream,) = client.store.streams()
    assert (stream.name, stream.number, stream.owner) == ("users-stream", 1, "users")
    assert stream.description == "who is who"
    assert len(list(client.store.read("users-stream"))) == 1


def test_a_stream_of_a_shared_store_belongs_to_nobody(make_database: Any) -> None:
    with EventStore(make_database("shared")) as store:
        store.create_stream("users-stream")
        assert [stream.owner for stream in store.streams()] == [None]


@pytest.mark.parametrize(
    "name",
    ["", "Users", "users stream", "users--x", "1users", "a" * 64, "a.b", 'a"b', "a\n", "é", "-a"],
)
def test_a_bad_name_is_refused_by_code_and_database(client: Client, name: str) -> None:
    with pytest.raises(InvalidStreamName):
        client.store.create_stream(name)
    with psycopg.connect(client.url) as conn, pytest.raises(psycopg.errors.InvalidName):
        conn.execute("SELECT eventferry.create_stream(%s)", (name,))
    assert names(client) == []


def test_no_name_collides_with_ours_or_with_another_stream(client: Client) -> None:
    ours = ["events", "streams", "store", "positions", "checkpoints", "mark", "horizon", "text"]
    tricky = ["select", "table", "user", "a", "a-id", "a-position", "a-pkey", "a-version", "a_key"]
    endings = ["-position-key", "_id_key", "_pkey"]
    longest = ["a" * 63, *("a" * (63 - len(ending)) + ending for ending in endings)]
    for name in (*ours, *tricky, *longest):
        assert client.store.create_stream(name)
        client.store.append(name, [Event("A"), Event("B")])
        assert len(list(client.store.read(name))) == 2
    assert names(client) == [*ours, *tricky, *longest]


def test_a_name_that_is_too_long_is_not_the_stream_of_its_beginning(client: Client) -> None:
    client.store.create_stream("a" * 63)
    with pytest.raises(InvalidStreamName):
        client.store.append("a" * 64, Event("A"))
    with pytest.raises(InvalidStreamName):
        client.store.read_entity("a" * 64, "42")
    with pytest.raises(InvalidStreamName):
        list(client.store.read("a" * 64))


def test_a_stream_is_created_in_the_callers_transaction(client: Client) -> None:
    conn = client.connect()
    client.store.create_stream("users-stream", connection=conn)
    client.store.append("users-stream", Event("A"), connection=conn)
    conn.rollback()
    assert names(client) == []
    client.store.create_stream("users-stream", connection=conn)
    client.store.append("users-stream", Event("B"), connection=conn)
    conn.commit()
    assert [event.type for event in client.store.read("users-stream")] == ["B"]


def test_of_two_that_create_the_same_stream_at_once_one_does(client: Client) -> None:
    conn = client.connect()
    assert client.store.create_stream("users-stream", connection=conn)
    with EventStore(client.url) as other, ThreadPoolExecutor(1) as pool:
        second = pool.submit(other.create_stream, "users-stream")
        wait_for_lock(client.url)
        conn.commit()
        assert second.result() is False
    assert names(client) == ["users-stream"]


def test_streams_that_are_created_at_once_get_numbers_of_their_own(client: Client) -> None:
    def create(number: int) -> bool:
        with EventStore(client.url) as store:
            return store.create_stream(f"stream-{number % 6}")

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(create, range(12))) == 6
    assert [stream.number for stream in client.store.streams()] == [1, 2, 3, 4, 5, 6]


def test_creating_a_stream_makes_nobody_else_wait(client: Client) -> None:
    client.store.create_stream("others")
    creating = client.connect()
    client.store.create_stream("users-stream", connection=creating)
    with EventStore(f"{client.url}&options={quote(IMPATIENT)}") as impatient:
        impatient.append("others", Event("A"))
        impatient.append("others", [Event("B", entity_id="1")], expected_version=0)
        assert len(list(impatient.read("others"))) == 2
        assert [stream.name for stream in impatient.streams()] == ["others"]
        assert impatient.horizon("others").in_flight == 0
    with psycopg.connect(client.url, options=IMPATIENT) as conn:
        assert conn.execute("SELECT count(*) FROM eventferry.events").fetchone() == (2,)
    creating.commit()
    assert names(client) == ["others", "users-stream"]


def test_a_stream_is_created_beside_open_appends_and_reads_of_others(client: Client) -> None:
    client.store.create_stream("others")
    appending, reading = client.connect(), client.connect()
    client.store.append("others", Event("A"), connection=appending)
    reading.execute("SELECT count(*) FROM eventferry.events")
    with EventStore(f"{client.url}&options={quote(IMPATIENT)}") as impatient:
        assert impatient.create_stream("users-stream")
