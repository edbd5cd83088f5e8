"""Behind a PgBouncer in transaction mode, where the next statement may go to another session.

What a service does all day stands with the other tests, which run through PgBouncer too
(`pytest -k pgbouncer` runs all of them); here is what is of PgBouncer alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, LiteralString

import psycopg
import pytest

from eventferry import Event, EventStore, VersionConflict, migrate
from eventferry.store._native._async import is_direct as is_direct_async
from eventferry.store._native._sync import is_direct
from tests.blocking import FORMS, Client
from tests.conftest import MakeDatabase, MakeService
from tests.pgbouncer import SESSIONS, Way
from tests.services import (
    NEVER,
    Service,
    listeners,
    numbered,
    record,
    record_async,
    sleeping,
)
from tests.waiting import until

STREAM = "users-stream"
MANY = 30
"""So often that psycopg would have prepared the statement, had it been let."""

Through = Callable[[str], str]


@pytest.fixture(params=FORMS)
def client(
    request: pytest.FixtureRequest, make_database: MakeDatabase, pgbouncer: Through
) -> Iterator[Client]:
    """An event store that knows nothing but a URL."""
    with Client(request.param, pgbouncer(make_database("local", "users"))) as client:
        client.store.create_stream(STREAM)
        yield client


@pytest.fixture
def two(make_service: MakeService) -> tuple[Service, Service]:
    """What happens in `users` is handled in `mails`, by a `def` and an `async def` handler."""
    users, mails = make_service("users"), make_service("mails")
    users.create_stream(STREAM)
    mails.create_effects()
    users.producing("ferry", STREAM, batch_size=7)
    mails.consuming("reader", record, STREAM, environment="shared", batch_size=7)
    mails.consuming("async-reader", record_async, STREAM, environment="shared", batch_size=7)
    return users, mails


through_pgbouncer = pytest.mark.parametrize(
    "way", ["pgbouncer", "pgbouncer, polling"], indirect=True
)


# ---- what is in between


async def test_a_pooler_is_told_from_the_server(empty_database: str, pgbouncer: Through) -> None:
    for url, expected in ((empty_database, True), (pgbouncer(empty_database), False)):
        with psycopg.connect(url) as conn:
            assert is_direct(conn) is expected
        async with await psycopg.AsyncConnection.connect(url) as connection:
            assert await is_direct_async(connection) is expected


def test_statements_are_prepared_where_there_is_no_pooler(
    make_database: MakeDatabase, pgbouncer: Through
) -> None:
    direct = make_database("local", "users")
    for url, expected in ((direct, 5), (pgbouncer(direct), None)):
        with EventStore(url) as store, store._use() as conn:
            assert conn.prepare_threshold == expected


def test_a_store_is_migrated_through_it(empty_database: str, pgbouncer: Through) -> None:
    assert migrate(pgbouncer(empty_database), kind="local", service="users")
    assert migrate(pgbouncer(empty_database), kind="local", service="users") == ()


# ---- an event store


def test_an_event_store_needs_nothing_but_the_url(client: Client) -> None:
    """Every kind of call, so often and so many at a time that they meet on all sessions."""

    def call(n: int) -> None:
        store, entity = client.store, f"entity {n}"
        store.append(STREAM, Event("One", entity_id=entity), expected_version=0)
        store.append(
            STREAM, [Event("Many", entity_id=entity) for _ in range(3)], expected_version=1
        )
        appended = store.append(STREAM, numbered(20))
        assert len(appended.positions()) == 20
        assert [event.version for event in store.read_entity(STREAM, entity)] == [1, 2, 3, 4]
        assert len(list(store.read(STREAM, limit=10))) == 10
        assert [stream.name for stream in store.streams()] == [STREAM]

    # an async client of a test has one loop, and so one call at a time
    calls = 2 * SESSIONS if client._runner is None else 1
    with ThreadPoolExecutor(calls) as pool:
        list(pool.map(call, range(MANY)))
    assert client.store.horizon(STREAM).in_flight == 0
    assert len(list(client.store.read(STREAM))) == MANY * 24


def test_an_append_is_a_part_of_the_callers_transaction(client: Client) -> None:
    with client.connect(prepare_threshold=None) as conn:
        for n in range(MANY):
            entity = Event("One", entity_id=str(n))
            conn.execute("SELECT 1")
            client.store.append(STREAM, entity, expected_version=0, connection=conn)
            client.store.append(STREAM, numbered(3), connection=conn)
            with pytest.raises(VersionConflict):
                client.store.append(
                    STREAM, Event("Two", entity_id=str(n)), expected_version=0, connection=conn
                )
            assert client.store.read_entity(STREAM, str(n), connection=conn)
            if n % 2:
                conn.commit()
            else:
                conn.rollback()
    assert len(list(client.store.read(STREAM))) == MANY // 2 * 4


# ---- an event crosses


@through_pgbouncer
def test_an_event_crosses_and_nothing_is_left_in_the_sessions(
    two: tuple[Service, Service], way: Way
) -> None:
    users, mails = two
    with ExitStack() as workers:
        for service in (users, mails):
            for _ in range(3):
                workers.enter_context(service.worker())
        for first in range(1, 200, 10):
            users.append(STREAM, numbered(1, first))
            users.append(STREAM, numbered(9, first + 1))
        for reader in ("reader", "async-reader"):
            until(lambda r=reader: len(mails.recorded(r)) == 200)  # type: ignore[misc]
        for url in {users.local_url, users.shared_url, mails.local_url}:
            require_clean_sessions(way.url(url))
            if not way.listens:
                assert not listeners(url)
    for reader in ("reader", "async-reader"):
        assert mails.recorded(reader) == list(range(1, 201))


SESSION: LiteralString = """
    SELECT pg_backend_pid(),
           (SELECT count(*) FROM pg_listening_channels()),
           (SELECT count(*) FROM pg_prepared_statements),
           (SELECT count(*) FROM pg_locks
             WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
           (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
           (SELECT array_agg(name ORDER BY name) FROM pg_settings
             WHERE source = 'session' AND setting <> reset_val)"""


def require_clean_sessions(url: str) -> None:
    """Looks at several of PgBouncer's sessions, each while it holds the others."""
    with ExitStack() as stack:
        seen: list[Any] = []
        for _ in range(2):  # workers need some too
            conn = stack.enter_context(psycopg.connect(url, prepare_threshold=None))
            seen += conn.execute(SESSION).fetchall()
    assert len({row[0] for row in seen}) == len(seen)
    for _, *counts, settings in seen:
        assert counts == [0, 0, 0, 0]
        # of which PgBouncer keeps track for each client
        assert set(settings or ()) <= {"application_name", "client_encoding"}


@pytest.mark.parametrize("way", ["pgbouncer"], indirect=True)
def test_without_polling_an_event_crosses_on_notifications_alone(
    two: tuple[Service, Service],
) -> None:
    users, mails = two
    users.poll_interval = mails.poll_interval = NEVER
    users.run("ferry")
    with users.worker() as ferry, mails.worker() as readers:
        for n in range(1, 6):
            ferry.until_asleep()
            readers.until_asleep()
            users.append(STREAM, numbered(1, n))
            until(lambda n=n: len(mails.recorded()) == 2 * n)  # type: ignore[misc]


@pytest.mark.parametrize("way", ["pgbouncer"], indirect=True)
def test_who_would_listen_through_it_is_told_and_polls(
    loner: Service, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    """Its lock that says "wake me" would stay on a session of others."""
    loner.create_stream(STREAM)
    loner.create_effects()
    loner.consuming("reader", record, STREAM)
    loner.way = replace(way, listen_url=way.url)
    with caplog.at_level(logging.WARNING), loner.worker():
        loner.append(STREAM, numbered(3))
        until(lambda: loner.recorded() == [1, 2, 3])
        until(lambda: "local_listen_url" in caplog.text)
        assert sleeping(loner.local_url) == set()
        require_clean_sessions(way.url(loner.local_url))
