"""Errors say what, where and what to do, and never hold a password."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from eventferry import (
    AsyncEventStore,
    Event,
    EventFerryError,
    EventStore,
    EventTooLarge,
    InvalidEvent,
    InvalidStreamName,
    StoreError,
    StoreUnavailable,
    UnknownStream,
)
from eventferry.embedded import EmbeddedServer
from tests.blocking import FORMS, Client
from tests.conftest import MakeDatabase
from tests.waiting import until

STREAM = "users-stream"
PASSWORD = "open-sesame"


@pytest.fixture(params=FORMS)
def client(request: pytest.FixtureRequest, make_database: MakeDatabase) -> Iterator[Client]:
    with Client(request.param, make_database("local", "users")) as client:
        client.store.create_stream(STREAM)
        yield client


@pytest.fixture
def store(client: Client) -> EventStore:
    return client.store


def everything(error: BaseException | None) -> str:
    """What a log shows of an error: its text, and that of those that it was raised from."""
    texts = []
    while error is not None:
        texts.append(f"{error!s} {error!r}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(texts)


def test_an_unknown_stream_is_named_with_the_way_to_create_it(client: Client) -> None:
    conn = client.connect()
    for connection in (None, conn):
        with pytest.raises(UnknownStream, match="`eventferry streams create nowhere`") as caught:
            client.store.append("nowhere", Event("A"), connection=connection)
        assert caught.value.stream == "nowhere"
    conn.rollback()
    with pytest.raises(UnknownStream, match="`eventferry streams create nowhere`"):
        client.store.append("nowhere", [Event("A"), Event("B")], connection=conn)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"a": [1, {"b": math.nan}]}, r"data of event 'A': data\[\"a\"\]\[1\]\[\"b\"\] is nan"),
        ({"a": b"x"}, "is of type bytes.*base64"),
        ({"a": "x\x00"}, "holds a NUL character"),
        ({"a": "\ud800"}, "half of a surrogate pair"),
        ({"a": datetime(2026, 1, 1)}, "is of type datetime"),  # noqa: DTZ001
        ({1: "a"}, "keys must be text"),
    ],
)
def test_data_that_is_not_json_is_refused_and_keeps_the_transaction(
    client: Client, data: dict[Any, Any], match: str
) -> None:
    conn = client.connect()
    for batch in ([Event("A", data)], [Event("Good"), Event("A", data)]):
        with pytest.raises(InvalidEvent, match=match):
            client.store.append(STREAM, batch, connection=conn)
    client.store.append(STREAM, Event("After"), connection=conn)


@pytest.mark.parametrize("what", [{"type": "A"}, "A", None, 7, [Event("A"), "B"]])
def test_what_is_no_event_is_no_append(store: EventStore, what: Any) -> None:
    with pytest.raises((InvalidEvent, TypeError)):
        store.append(STREAM, what)
    assert list(store.read(STREAM)) == []


@pytest.mark.parametrize(("name", "limit"), [("data", 16 * 2**20), ("metadata", 2**20)])
def test_what_is_too_large_is_refused_here_and_by_the_table(
    client: Client, name: str, limit: int
) -> None:
    room = limit - 4 - len('{"a":""}')
    content: dict[str, Any] = {name: {"a": "x" * room}}
    client.store.append(STREAM, Event("Fits", **content))
    content[name]["a"] += "x"
    with pytest.raises(EventTooLarge, match=f"{name} of event 'A' .* but at most"):
        client.store.append(STREAM, Event("A", **content))
    content[name]["a"] = "é" * (room // 2 + 1)  # two bytes each
    with pytest.raises(EventTooLarge):
        client.store.append(STREAM, [Event("B"), Event("A", **content)])
    assert [event.type for event in client.store.read(STREAM)] == ["Fits"]


def test_a_role_that_may_not_is_told_so(client: Client) -> None:
    conn = client.connect()
    role = sql.Identifier(f"nobody_{uuid4().hex}")
    conn.execute(sql.SQL("CREATE ROLE {}").format(role))
    conn.execute(sql.SQL("GRANT USAGE ON SCHEMA streams, eventferry TO {}").format(role))
    conn.execute(sql.SQL("SET LOCAL ROLE {}").format(role))
    with pytest.raises(StoreError, match=r"permission denied.* Ask its owner"):
        client.store.append(STREAM, Event("A"), connection=conn)


# Connections


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://users:{PASSWORD}@127.0.0.1:1/users",
        f"postgresql://users:{PASSWORD}@nowhere.invalid/users",
        f"postgresql://127.0.0.1:1/users?password={PASSWORD}",
        f"host=127.0.0.1 port=1 password={PASSWORD} dbname=users",
        f"host=127.0.0.1 port=1 password='{PASSWORD}' dbname=users",
        f"postgresql://users:{PASSWORD}/x@127.0.0.1:1/users",
        f"postgresql://users:{PASSWORD} x@127.0.0.1:1/users",
        f"postgresql://users:{PASSWORD}%zz@127.0.0.1:1/users",
        f"postgresql://users:{PASSWORD}@[::1/users",
        f"postgresql://users:{PASSWORD}@127.0.0.1:1/users?nonsense=1",
        f"postgresql://users:{PASSWORD}@127.0.0.1:{PASSWORD}/users",
        f"passwort={PASSWORD}",
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_no_error_about_a_url_holds_its_password(form: Any, url: str) -> None:
    with Client(form, url) as client:
        for use in (
            lambda: client.store.append(STREAM, Event("A")),
            lambda: list(client.store.read(STREAM)),
        ):
            with pytest.raises(StoreError) as caught:
                use()
            assert PASSWORD not in everything(caught.value)
            assert "event store" in str(caught.value)


def test_a_host_that_is_not_there_is_named() -> None:
    with (
        EventStore("postgresql://users@127.0.0.1:1/users") as store,
        pytest.raises(StoreUnavailable, match=r"postgresql://users@127.0.0.1:1/users.*refused"),
    ):
        store.streams()


def test_a_database_that_is_not_there_is_named(server: EmbeddedServer) -> None:
    with (
        EventStore(server.url("nowhere")) as store,
        pytest.raises(StoreUnavailable, match=r'"nowhere" does not exist.* Check'),
    ):
        store.streams()


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """host:port of a server that asks for a password."""
    from eventferry import migrate
    from tests.databases import running_server

    with running_server() as server:
        migrate(server.create_database("users"), kind="local", service="users")
        with psycopg.connect(server.url(), autocommit=True) as conn:
            conn.execute(f"CREATE ROLE guest LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
            rules = "local all postgres trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
            (server.folder / "pgdata/pg_hba.conf").write_text(rules)
            conn.execute("SELECT pg_reload_conf()")
        yield f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_password_is_said_to_be_one_and_never_shown(guarded: str, form: Any) -> None:
    wrong = f"{PASSWORD}-but-wrong"
    for url in (
        f"postgresql://guest:{wrong}@{guarded}/users",
        f"postgresql://stranger:{wrong}@{guarded}/users",
        f"postgresql://guest@{guarded}/users",
    ):
        with Client(form, url) as client, pytest.raises(StoreUnavailable) as caught:
            client.store.streams()
        assert "does not let us in" in str(caught.value)
        assert "Check user, password and database" in str(caught.value)
        assert PASSWORD not in everything(caught.value)
    with Client(form, f"postgresql://guest:{PASSWORD}@{guarded}/users") as client:
        assert client.store.streams() == []


def test_a_store_does_not_show_its_password(guarded: str) -> None:
    with EventStore(f"postgresql://guest:{PASSWORD}@{guarded}/users") as store:
        for error in (lambda: store.read_entity("nowhere", "1"), lambda: store.horizon("nowhere")):
            with pytest.raises(EventFerryError) as caught:
                error()
            assert PASSWORD not in everything(caught.value)
        assert PASSWORD not in repr(store)


def test_a_server_that_comes_back_is_used_again(own_server: EmbeddedServer) -> None:
    from eventferry import migrate

    url = own_server.create_database("users")
    migrate(url, kind="local", service="users")
    with EventStore(url) as store:
        store.create_stream(STREAM)
        store.append(STREAM, Event("Before"))
        own_server.stop(crash=True)
        with pytest.raises(StoreUnavailable):
            store.append(STREAM, Event("Meanwhile"))
        own_server.start()
        until(lambda: appended(store))
        assert [event.type for event in store.read(STREAM)] == ["Before", "After"]


def appended(store: EventStore) -> bool:
    try:
        store.append(STREAM, Event("After"))
    except StoreUnavailable:
        return False
    return True


def test_what_is_no_connection_is_refused_in_words(store: EventStore) -> None:
    given: Any = "postgresql:///users"
    for use in (
        lambda: store.append(STREAM, Event("A"), connection=given),
        lambda: store.append(STREAM, [], connection=given),
        lambda: store.read_entity(STREAM, "1", connection=given),
    ):
        with pytest.raises(TypeError, match=r"can't be a builtins.str. EventStore takes"):
            use()


async def test_each_form_of_the_store_names_the_connection_of_the_other(client: Client) -> None:
    conn: Any = psycopg.connect(client.url)
    with conn, pytest.raises(TypeError, match=r"can't be a psycopg.Connection\. .*AsyncConnection"):
        await AsyncEventStore().append(STREAM, Event("A"), connection=conn)


@pytest.mark.parametrize("version", ["2", 2.0, True, -1])
def test_a_version_that_is_none_is_refused_in_words(store: EventStore, version: Any) -> None:
    for events in ([Event("A", entity_id="1")], []):
        with pytest.raises(ValueError, match=r"expected_version must be 0 .* not "):
            store.append(STREAM, events, expected_version=version)


def test_the_stream_is_looked_at_even_if_there_is_nothing_to_append(store: EventStore) -> None:
    with pytest.raises(InvalidStreamName, match="'NO'"):
        store.append("NO", [])
