"""Stores that move: by dump and restore, and to a standby that takes over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from eventferry import migrate
from eventferry.embedded import EmbeddedServer
from tests.databases import running_server
from tests.replicas import dump, oldest_server, restore, start_dump
from tests.services import Service, numbered, query, record
from tests.waiting import wait_for_lock

STREAM = "users-stream"

Make = Callable[..., Service]


@pytest.fixture
def make() -> Iterator[Make]:
    """make(name, local_url, shared_url): a service on databases of the test's own servers."""
    with ExitStack() as stack:

        def make(name: str, local_url: str, shared_url: str | None = None) -> Service:
            service = Service(name, local_url, shared_url or local_url)
            stack.callback(service.close)
            return service

        yield make


def make_store(server: EmbeddedServer, name: str, service: str | None = None) -> str:
    """A fresh store: the shared one, or the local one of a service."""
    url = server.create_database(name)
    migrate(url, kind="local" if service else "shared", service=service)
    return url


# ---- dump and restore


@pytest.mark.parametrize("before", ["the same", "15"])
def test_a_dump_of_a_running_store_goes_on_in_a_fresh_cluster(
    make: Make, own_server: EmbeddedServer, before: str, tmp_path: Path
) -> None:
    """Its snapshot is from before some batches, its sequences, which have none, from after them."""
    with oldest_server() if before == "15" else running_server() as old:
        users = make("users", make_store(old, "users", "users"))
        users.create_stream(STREAM)
        users.create_effects()
        users.execute("CREATE TABLE in_the_way ()")
        users.consuming("reader", record, STREAM, batch_size=1, on_failure="skip")
        users.append(STREAM, numbered(10))
        users.run("reader")
        with users.worker() as worker, psycopg.connect(users.local_url) as conn:
            conn.execute("LOCK TABLE in_the_way")
            dumping = start_dump(users.local_url, tmp_path / "dump", own_server.programs)
            wait_for_lock(users.local_url)
            users.append(STREAM, numbered(20, first=11))
            worker.until_handled("reader", 20)
            conn.rollback()
            assert dumping.wait() == 0
        positions = users.positions(STREAM)

        there = make("users", restore(tmp_path / "dump", own_server, "users"))
        there.projections = users.projections
        assert there.positions(STREAM) == positions[:10]
        assert there.recorded() == list(range(1, 11))
        with there.worker() as worker:
            there.append(STREAM, numbered(20, first=11))
            worker.until_handled("reader", 20)
        assert there.recorded() == list(range(1, 31))
        assert there.positions(STREAM)[10] > positions[10], "no position is given out twice"


def test_services_and_their_stores_move_to_a_fresh_cluster(
    make: Make, own_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Stopped in the midst of their work: one stream is ferried in part, and handled in part."""
    with running_server() as old:
        shared_url = make_store(old, "shared")
        users = make("users", make_store(old, "users", "users"), shared_url)
        mails = make("mails", make_store(old, "mails", "mails"), shared_url)
        users.create_stream(STREAM)
        users.producing("ferry", STREAM, batch_size=10)
        mails.create_effects()
        mails.consuming("reader", record, STREAM, environment="shared", batch_size=7)
        users.append(STREAM, numbered(100))
        users.run("ferry")
        mails.run("reader")
        users.append(STREAM, numbered(20, first=101))
        users.run("ferry")
        users.append(STREAM, numbered(20, first=121))

        urls = []
        for name in ("users", "mails", "shared"):
            dump(old.url(name), tmp_path / name, own_server.programs)
            urls.append(restore(tmp_path / name, own_server, name))
            before, after = (identity(server.url(name)) for server in (old, own_server))
            assert before == after

    users_there, mails_there = make("users", urls[0], urls[2]), make("mails", urls[1], urls[2])
    users_there.projections, mails_there.projections = users.projections, mails.projections
    with users_there.worker() as ferrying, mails_there.worker() as reading:
        users_there.append(STREAM, numbered(10, first=141))
        ferrying.until_handled("ferry", 30)
        reading.until_handled("reader", 50)
    assert mails_there.recorded() == list(range(1, 151))
    assert [e.data["n"] for e in mails_there.shared.read(STREAM)] == list(range(1, 151))


def identity(url: str) -> list[object]:
    """What of a store must never change, wherever it is: who it is, and where it has got to."""
    return query(
        url,
        """
        SELECT (SELECT id FROM eventferry.store),
               (SELECT array_agg((name, number, incarnation)::text ORDER BY number)
                  FROM eventferry.streams),
               pg_sequence_last_value('eventferry.positions'),
               (SELECT array_agg(c::text ORDER BY projection) FROM eventferry.checkpoints AS c),
               (SELECT array_agg(m::text ORDER BY projection, position) FROM eventferry.marks AS m),
               (SELECT array_agg((relname, pg_sequence_last_value(oid))::text ORDER BY relname)
                  FROM pg_class WHERE relkind = 'S' AND relnamespace = 'eventferry'::regnamespace)
        """,
    )
