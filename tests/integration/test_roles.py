"""A service whose roles may do what the how-to grants them, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from eventferry import (
    Context,
    End,
    EventStore,
    NotHandledYet,
    RecordedEvent,
    StoreError,
    run,
    wait_until_handled,
)
from eventferry.engine.ferry import refusals
from tests.command_line import CommandLine
from tests.conftest import MakeDatabase
from tests.environment import REPOSITORY
from tests.services import Service, numbered, query, record
from tests.waiting import PATIENCE_S, until

STREAM = "users-stream"
HOWTO = (REPOSITORY / "docs/howto/least-privileges.md").read_text()
EVERYBODY, PRODUCER, CONSUMER, LOCAL, APPENDS, COMMANDS = re.findall(
    r"^```sql\n(.*?)^```", HOWTO, re.DOTALL | re.MULTILINE
)
ROLES = ("users", "mails")
READER = """
service = "mails"

[consuming.reader]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:handle"
"""


def grant(url: str, *statements: str) -> None:
    """As the owner of the store."""
    with psycopg.connect(url) as conn:
        for statement in statements:
            conn.execute(statement)  # type: ignore[arg-type,unused-ignore]


def of(role: str, url: str) -> str:
    """The URL of a store as the role uses it."""
    return url.replace("//postgres@", f"//{role}@")


@pytest.fixture
def shared(make_database: MakeDatabase) -> str:
    return make_database("shared")


@pytest.fixture
def services(make_database: MakeDatabase, shared: str) -> Iterator[tuple[Service, Service]]:
    """`users` ferries its stream, `mails` handles it; of the shared store both know the schema."""
    urls = {role: make_database("local", role) for role in ROLES}
    users, mails = (Service(role, of(role, url), of(role, shared)) for role, url in urls.items())
    with EventStore(urls["users"]) as store:
        store.create_stream(STREAM)
    grant(shared, *(f"CREATE ROLE {role} LOGIN" for role in ROLES), EVERYBODY)
    grant(urls["users"], LOCAL, APPENDS)
    for statement in LOCAL.splitlines():
        if "streams." not in statement:  # `mails` has no stream of its own
            grant(urls["mails"], statement.replace("users;", "mails;"))
    grant(urls["mails"], "GRANT CREATE ON SCHEMA public TO mails")
    mails.create_effects()
    users.producing("ferry", STREAM)
    mails.consuming("reader", record, STREAM, environment="shared")
    yield users, mails
    for service in (users, mails):
        service.close()
    for url in (*urls.values(), shared):
        grant(url, "DROP OWNED BY users, mails")
    grant(shared, "DROP ROLE users, mails")


def create_shared_stream(url: str) -> None:
    with EventStore(url) as store:
        store.create_stream(STREAM)


def test_the_least_privileges_are_enough(services: tuple[Service, Service], shared: str) -> None:
    users, mails = services
    create_shared_stream(shared)
    grant(shared, PRODUCER, CONSUMER)
    users.local.append(STREAM, numbered(3, entity_id="1"), expected_version=0)
    with users.worker() as ferrying, mails.worker() as reading:
        ferrying.until_asleep()
        reading.until_asleep()
        users.append(STREAM, numbered(3, first=4))
        until(lambda: len(mails.recorded()) == 6)
    # a second ferry finds the events there: it compares them
    users.producing("second", STREAM)
    assert users.run("second").handled == 6
    assert mails.run("reader").end is End.CAUGHT_UP
    assert mails.recorded() == [1, 2, 3, 4, 5, 6]


def test_they_are_enough_to_wait_for_each_other(
    services: tuple[Service, Service], shared: str, caplog: pytest.LogCaptureFixture
) -> None:
    users, mails = services
    create_shared_stream(shared)
    grant(shared, PRODUCER, CONSUMER)
    mails.run("reader")  # so that it is known
    reader: dict[str, Any] = {"projection": "reader", "service": "mails", "config": users.config}
    with users.worker(), mails.worker():
        written = users.local.append(STREAM, numbered(1))
        wait_until_handled(written, projection="ferry", timeout=PATIENCE_S, config=users.config)
        wait_until_handled(written, timeout=PATIENCE_S, **reader)
    assert mails.recorded() == [1]

    grant(shared, "REVOKE ALL ON eventferry.waits FROM mails")
    with mails.worker():
        until(lambda: "other services wait in vain for what is handled here" in caplog.text)
        with pytest.raises(NotHandledYet, match=r"no worker of it has answered; \d+ s ago"):
            wait_until_handled(written, timeout=0, **reader)
    grant(shared, "REVOKE ALL ON eventferry.waits FROM users")
    with pytest.raises(StoreError, match=r"denied for table waits\. Ask its owner"):
        wait_until_handled(written, timeout=PATIENCE_S, **reader)


def refuse(event: RecordedEvent, context: Context) -> None:
    raise ValueError(f"a bug at {event.data['n']}")


def test_they_are_enough_to_get_over_failures(
    services: tuple[Service, Service], shared: str, tmp_path: Path
) -> None:
    users, mails = services
    create_shared_stream(shared)
    grant(shared, PRODUCER, CONSUMER)
    users.append(STREAM, numbered(3, entity_id="1"))
    users.run("ferry")
    users.control("ferry", lambda it: it.pause("a while"))
    assert users.look("ferry").end is End.PAUSED
    users.control("ferry", lambda it: it.resume())
    users.control("ferry", lambda it: it.stop())
    assert users.run("ferry").end is End.CAUGHT_UP

    options: dict[str, Any] = {"environment": "shared", "backoff": timedelta(days=1)}
    mails.consuming("reader", refuse, STREAM, attempts=2, **options)
    assert mails.look("reader").end is End.RETRYING
    theirs = CommandLine(tmp_path, mails.local_url, mails.shared_url)
    theirs.write(READER)
    for command in (("projections", "status"), ("projections", "audit"), ("check",)):
        done = theirs.process(*command)
        assert (done.code, done.err) == (0, ""), done
    assert mails.retry() == ["reader"]
    mails.consuming("reader", refuse, STREAM, **options)
    assert mails.look("reader").end is End.FAILED
    failing = mails.failure("reader").failing_event_id
    assert failing is not None
    mails.control("reader", lambda it: it.skip(failing, "a test"))
    mails.consuming("reader", refuse, STREAM, on_failure="park", **options)
    assert mails.run("reader").end is End.CAUGHT_UP
    mails.consuming("reader", record, STREAM, **options)
    assert mails.control("reader", lambda it: it.unpark()).left == 0
    assert mails.recorded() == [2, 3]


def test_for_some_commands_one_more_is_needed(
    services: tuple[Service, Service], shared: str
) -> None:
    users, mails = services
    create_shared_stream(shared)
    grant(shared, PRODUCER, CONSUMER)
    users.append(STREAM, numbered(3))
    users.run("ferry")
    mails.run("reader")
    for service, name in ((users, "ferry"), (mails, "reader")):
        with pytest.raises(pg.InsufficientPrivilege):
            service.control(name, lambda it: it.reset("start"))
    grant(shared, COMMANDS)
    grant(mails.local_url.replace("//mails@", "//postgres@"), COMMANDS.replace("users;", "mails;"))
    for service, name in ((users, "ferry"), (mails, "reader")):
        service.control(name, lambda it: it.reset("start"))
        assert service.run(name).handled == 3
        service.control(name, lambda it: it.delete())
        assert service.look(name).end is End.PAUSED
    assert mails.recorded() == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("users", 'DELETE FROM streams."users-stream"'),
        ("users", 'UPDATE streams."users-stream" SET type = $$other$$'),
        ("users", 'TRUNCATE streams."users-stream"'),
        ("users", "SELECT eventferry.create_stream($$more-stream$$)"),
        ("users", "DELETE FROM eventferry.checkpoints"),
        ("mails", 'INSERT INTO streams."users-stream" (type) VALUES ($$A$$)'),
        ("mails", "SELECT FROM eventferry.checkpoints"),
    ],
)
def test_they_allow_nothing_else(
    services: tuple[Service, Service], shared: str, role: str, statement: str
) -> None:
    create_shared_stream(shared)
    grant(shared, PRODUCER, CONSUMER)
    with psycopg.connect(of(role, shared)) as conn, pytest.raises(pg.InsufficientPrivilege):
        conn.execute(statement)  # type: ignore[arg-type,unused-ignore]


def test_a_shared_stream_that_the_service_may_not_create_is_asked_for_and_waited_for(
    services: tuple[Service, Service], shared: str, tmp_path: Path
) -> None:
    users, _ = services
    grant(shared, PRODUCER.rpartition("GRANT")[0])  # all but those on the stream
    users.append(STREAM, numbered(3))
    ended = users.run("ferry")
    assert ended.end is End.WAITING
    asked = re.fullmatch(
        r"shared store postgresql://users@\S+ has no stream 'users-stream', and role 'users' may "
        r"not create it there\. Ask an owner of that store for `(?P<create>[^`]+)`, then "
        r"`(?P<grant>[^`]+)`\. The projection goes on by itself then",
        str(ended.error),
    )
    assert asked, ended.error
    assert users.known("ferry").state == "idle"  # type: ignore[union-attr]

    theirs = CommandLine(tmp_path, users.local_url, users.shared_url)
    theirs.write('service = "users"\n[producing.ferry]\nstream_name = "users-stream"\n')
    status = theirs("projections", "status", "--json")
    assert status.code == 1
    (found,) = status.envelope["data"]
    assert (found["state"], found["waiting"]) == ("waiting", ended.error)
    assert str(ended.error) in theirs("projections", "status").err.replace("\n", " ")
    once = theirs.process("worker", "--once")
    assert once.code == 1
    assert str(ended.error) in once.err

    with users.worker() as worker:
        until(lambda: worker.last("ferry"))
        owners = CommandLine(tmp_path, users.local_url, shared)
        program, *create = asked["create"].split()
        assert program == "eventferry"
        done = owners(*create)
        assert done.code == 0, done
        until(lambda: "may not append" in str(worker.last("ferry")), "it is there, but not granted")
        assert "may not append" in theirs("projections", "status").err
        grant(shared, asked["grant"])
        worker.until_handled("ferry", 3)
    assert [event.data["n"] for event in users.shared.read(STREAM)] == [1, 2, 3]
    assert query(shared, "SELECT name, owner FROM eventferry.streams") == [(STREAM, "users")]
    assert theirs("projections", "status").code == 0


def test_a_grant_that_is_taken_back_is_asked_for_and_waited_for(
    services: tuple[Service, Service], shared: str
) -> None:
    users, _ = services
    create_shared_stream(shared)
    grant(shared, PRODUCER)
    users.append(STREAM, numbered(1))
    with users.worker() as worker:
        worker.until_handled("ferry", 1)
        grant(shared, f'REVOKE INSERT ON streams."{STREAM}" FROM users')
        users.append(STREAM, numbered(2, first=2))
        until(lambda: worker.last("ferry").end is End.WAITING)  # type: ignore[union-attr]
        asked = re.search(
            rf"may not append to stream '{STREAM}' of .* Ask an owner of that store for `(.*)`\.",
            str(worker.last("ferry").error),  # type: ignore[union-attr]
        )
        assert asked, worker.last("ferry")
        grant(shared, asked[1])
        worker.until_handled("ferry", 3)
    known = users.known("ferry")
    assert known is not None
    assert (known.state, known.error) == ("idle", None)


def test_a_grant_in_the_middle_of_a_run_is_no_failure(
    services: tuple[Service, Service], shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, _ = services
    create_shared_stream(shared)
    grant(shared, PRODUCER, f'REVOKE INSERT ON streams."{STREAM}" FROM users')
    users.append(STREAM, numbered(1))

    async def granted_just_before(*arguments: Any) -> dict[str, str]:
        grant(shared, PRODUCER)
        return await refusals(*arguments)

    monkeypatch.setattr(run, "refusals", granted_just_before)
    assert users.run("ferry").handled == 1


@pytest.mark.parametrize("missing", ["the sequence", "the table of streams"])
def test_any_other_privilege_that_is_missing_fails_the_projection(
    services: tuple[Service, Service], shared: str, missing: str
) -> None:
    users, _ = services
    create_shared_stream(shared)
    grant(shared, PRODUCER)
    revoked, granted, named = {
        "the sequence": (
            "REVOKE USAGE ON SEQUENCE eventferry.positions FROM users",
            PRODUCER,
            r"sequence (eventferry\.)?positions",
        ),
        "the table of streams": (
            "REVOKE SELECT ON eventferry.streams FROM users",
            EVERYBODY,
            "permission denied for table streams",
        ),
    }[missing]
    grant(shared, revoked)
    users.append(STREAM, numbered(1))
    assert users.run("ferry").end is End.FAILED
    assert re.search(named, str(users.failure("ferry").error))
    grant(shared, granted)
    users.retry("ferry")
    assert users.run("ferry").handled == 1
