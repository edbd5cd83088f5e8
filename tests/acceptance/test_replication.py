"""Stores that move: by dump and restore, and to a standby that takes over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from eventferry import End, Event, StoreError, migrate
from eventferry.embedded import EmbeddedServer
from tests.databases import Databases, running_server
from tests.replicas import (
    dump,
    either,
    is_streaming,
    make_synchronous,
    move_roles,
    oldest_server,
    promote,
    restore,
    running_standby,
    start_dump,
)
from tests.services import Service, numbered, query, record
from tests.waiting import until, wait_for_lock

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


def test_owners_and_privileges_move_with_a_store(
    make: Make, own_server: EmbeddedServer, tmp_path: Path
) -> None:
    """What a role may only do through functions of the owner, it may still do."""
    with running_server() as old:
        with psycopg.connect(old.url(), autocommit=True) as conn:
            conn.execute("CREATE ROLE owner LOGIN CREATEDB")
            conn.execute("CREATE ROLE worker LOGIN")
            conn.execute("CREATE DATABASE users OWNER owner")
        migrate(as_role("owner", old.url("users")), kind="local", service="users")
        owner = make("users", as_role("owner", old.url("users")))
        owner.create_stream(STREAM)
        owner.create_effects()
        for statement in WORKER:
            owner.execute(statement)
        users = make("users", as_role("worker", old.url("users")))
        users.consuming("reader", record, STREAM)
        owner.append(STREAM, numbered(3))
        assert users.run("reader").end is End.CAUGHT_UP
        before = rights(old.url("users"))

        move_roles(old, own_server)
        dump(old.url("users"), tmp_path / "dump", own_server.programs)
        url = restore(tmp_path / "dump", own_server, "users")
    assert rights(url) == before
    there = make("users", as_role("worker", url))
    there.projections = users.projections
    make("users", as_role("owner", url)).append(STREAM, numbered(3, first=4))
    assert there.run("reader").end is End.CAUGHT_UP
    assert there.recorded() == [1, 2, 3, 4, 5, 6]


WORKER = (
    "GRANT USAGE ON SCHEMA eventferry, streams TO worker",
    "GRANT SELECT ON ALL TABLES IN SCHEMA eventferry, streams TO worker",
    "GRANT INSERT, UPDATE ON eventferry.checkpoints, eventferry.projections TO worker",
    "GRANT INSERT, DELETE ON eventferry.marks TO worker",
    "GRANT SELECT, INSERT ON effects TO worker",
)


def as_role(role: str, url: str) -> str:
    return url.replace("//postgres@", f"//{role}@")


def rights(url: str) -> list[object]:
    """Who owns what, who may what, and which functions act for their owner."""
    return query(
        url,
        """
        SELECT 'function', oid::regprocedure::text, proowner::regrole::text, prosecdef, proacl::text
          FROM pg_proc WHERE pronamespace = 'eventferry'::regnamespace
         UNION ALL
        SELECT 'relation', oid::regclass::text, relowner::regrole::text, NULL, relacl::text
          FROM pg_class WHERE relnamespace IN ('eventferry'::regnamespace, 'streams'::regnamespace)
         ORDER BY 1, 2
        """,
    )


# ---- a standby takes over


@pytest.fixture
def standby(own_server: EmbeddedServer) -> Iterator[Callable[[], EmbeddedServer]]:
    """standby(): one of the own server, when the stores are there."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running_standby(own_server))


@contextmanager
def writing(service: Service) -> Iterator[list[int]]:
    """Appends events all the time, each until it is known to be there; what is known so far."""
    known: list[int] = []
    ending = threading.Event()

    def write() -> None:
        for n in count(1):
            (event,) = numbered(1, first=n)
            while not _appended(service, event):
                pass
            known.append(n)
            if ending.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield known
    finally:
        ending.set()
        writer.join()


def _appended(service: Service, event: Event) -> bool:
    """An event that may be there already is appended once, by its id."""
    try:
        service.append(STREAM, event)
    except StoreError:
        return False
    return True


def test_a_synchronous_standby_takes_over_and_nothing_is_lost_or_doubled(
    make: Make, own_server: EmbeddedServer, standby: Callable[[], EmbeddedServer]
) -> None:
    """Nobody says a word to writers and workers: their URL names both servers."""
    for name in ("users", "mails"):
        make_store(own_server, name, name)
    make_store(own_server, "shared")
    second = standby()
    make_synchronous(own_server)
    urls = {name: either(own_server, second, name) for name in ("users", "mails", "shared")}
    users = make("users", urls["users"], urls["shared"])
    mails = make("mails", urls["mails"], urls["shared"])
    users.create_stream(STREAM)
    users.producing("ferry", STREAM)
    mails.create_effects()
    mails.consuming("reader", record, STREAM, environment="shared")

    with users.worker() as ferrying, mails.worker() as reading:
        with writing(users) as known:
            until(lambda: len(reading.service.recorded()) > 50)
            own_server.stop(crash=True)
            promote(second)
            before = len(known)
            until(lambda: len(known) > before + 100)
        ferrying.until_asleep()
        reading.until_asleep()
    assert known == list(range(1, len(known) + 1))
    for service, name in ((users, "ferry"), (mails, "reader")):
        found = service.known(name)
        assert found is not None
        assert (found.state, found.error) == ("idle", None)
    assert [event.data["n"] for event in users.local.read(STREAM)] == known
    assert [event.data["n"] for event in users.shared.read(STREAM)] == known
    assert mails.recorded() == known


def test_a_standby_that_lacked_commits_is_noticed_and_gone_on_with(
    make: Make,
    own_server: EmbeddedServer,
    databases: Databases,
    standby: Callable[[], EmbeddedServer],
) -> None:
    """Of the shared store: the ferry brings again what is lost, the reader waits for a command."""
    make_store(own_server, "shared")
    second = standby()
    shared_url = either(own_server, second, "shared")
    users = make("users", databases.make("local", "users"), shared_url)
    mails = make("mails", databases.make("local", "mails"), shared_url)
    users.create_stream(STREAM)
    users.producing("ferry", STREAM)
    mails.create_effects()
    mails.consuming("reader", record, STREAM, environment="shared")
    users.append(STREAM, numbered(10))
    users.run("ferry")
    mails.run("reader")
    until(lambda: is_streaming(own_server), "the standby has all of it")
    second.stop()
    users.append(STREAM, numbered(10, first=11))
    users.run("ferry")
    mails.run("reader")
    lost = mails.checkpoint("reader")
    own_server.stop(crash=True)
    second.start()
    promote(second)

    ended = mails.run("reader")
    assert ended.end is End.FAILED
    assert f"at position {lost}, but the stream ends before it" in str(ended.error)
    assert "`eventferry projections reset reader --to last-common`" in str(ended.error)
    (move,) = mails.control("reader", lambda it: it.reset("last-common"))
    assert move.after == mails.positions(STREAM, environment="shared")[-1]
    assert users.run("ferry").handled == 10
    users.append(STREAM, numbered(10, first=21))
    users.run("ferry")
    assert mails.run("reader").end is End.CAUGHT_UP
    assert [event.data["n"] for event in users.shared.read(STREAM)] == list(range(1, 31))
    assert mails.recorded() == [*range(1, 21), *range(11, 31)], "again, what was lost"


def test_a_standby_of_a_local_store_that_lacked_commits_is_noticed_by_its_ferry(
    make: Make,
    own_server: EmbeddedServer,
    databases: Databases,
    standby: Callable[[], EmbeddedServer],
) -> None:
    """Its readers, whose checkpoints it has, go on by themselves."""
    make_store(own_server, "users", "users")
    second = standby()
    users = make("users", either(own_server, second, "users"), databases.make("shared"))
    users.create_stream(STREAM)
    users.create_effects()
    users.producing("ferry", STREAM)
    users.consuming("reader", record, STREAM)
    users.append(STREAM, numbered(10))
    users.run("ferry")
    users.run("reader")
    until(lambda: is_streaming(own_server), "the standby has all of it")
    second.stop()
    users.append(STREAM, numbered(10, first=11))
    users.run("ferry")
    users.run("reader")
    users.close()
    own_server.stop(crash=True)
    second.start()
    promote(second)

    users.append(STREAM, numbered(20, first=101))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [*range(1, 11), *range(101, 121)]
    ended = users.run("ferry")
    assert ended.end is End.FAILED
    assert "has lost or changed its history" in str(ended.error)
    users.control("ferry", lambda it: it.reset("last-common"))
    assert users.run("ferry").end is End.CAUGHT_UP
    ferried = [event.data["n"] for event in users.shared.read(STREAM)]
    assert ferried == [*range(1, 21), *range(101, 121)]
