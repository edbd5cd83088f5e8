"""Appending in transactions of SQLAlchemy, on whatever driver.

What every append does is in test_store_append, which knows these connections too.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from eventferry import (
    AsyncEventStore,
    Event,
    EventStore,
    InvalidEvent,
    InvalidStreamName,
    StoreError,
    StoreNotMigrated,
    StoreUnavailable,
    TransactionRequired,
    UnknownStream,
    VersionConflict,
)
from tests.blocking import SESSIONS, SessionClient, engine
from tests.conftest import MakeDatabase
from tests.services import terminate

STREAM = "users-stream"


@pytest.fixture
def url(make_database: MakeDatabase) -> str:
    url = make_database("local", "users")
    with EventStore(url) as store:
        store.create_stream(STREAM)
    return url


@pytest.fixture(params=SESSIONS)
def client(request: pytest.FixtureRequest, url: str) -> Iterator[SessionClient]:
    with SessionClient(request.param, url) as client:
        yield client


@pytest.fixture(params=["psycopg", "psycopg2"])
def sync_engine(request: pytest.FixtureRequest, url: str) -> Iterator[sa.Engine]:
    made = engine(url, request.param, is_async=False)
    yield made
    made.dispose()


def types(url: str) -> list[str]:
    with EventStore(url) as store:
        return [event.type for event in store.read(STREAM)]


def test_savepoints_take_back_what_was_appended_in_them(url: str, sync_engine: sa.Engine) -> None:
    store = EventStore()
    with Session(sync_engine) as session:
        store.append(STREAM, Event("Before"), connection=session)
        for count in (1, 2):
            with session.begin_nested() as savepoint:
                gone = [Event("Gone") for _ in range(count)]
                store.append(STREAM, gone, connection=session)
                savepoint.rollback()
            with session.begin_nested():
                kept = [Event("Kept") for _ in range(count)]
                store.append(STREAM, kept, connection=session)
        session.commit()
    assert types(url) == ["Before", "Kept", "Kept", "Kept"]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_async_savepoints_do_too(url: str, driver: str) -> None:
    made, store = engine(url, driver, is_async=True), AsyncEventStore()
    async with AsyncSession(made) as session:
        async with session.begin_nested() as savepoint:
            await store.append(STREAM, Event("Gone"), connection=session)
            await savepoint.rollback()
        async with session.begin_nested():
            await store.append(STREAM, [Event("Kept"), Event("Kept")], connection=session)
        await session.commit()
    await made.dispose()
    assert types(url) == ["Kept", "Kept"]


def test_a_conflict_leaves_the_session_and_its_savepoint_usable(
    url: str, sync_engine: sa.Engine
) -> None:
    store = EventStore()
    with Session(sync_engine) as session:
        session.begin_nested()
        store.append(STREAM, Event("A", entity_id="1"), expected_version=0, connection=session)
        for late in ([Event("B", entity_id="1")], [Event(t, entity_id="1") for t in "BC"]):
            with pytest.raises(VersionConflict) as caught:
                store.append(STREAM, late, expected_version=0, connection=session)
            assert caught.value.actual == 1
        assert session.in_nested_transaction()
        session.commit()
    assert types(url) == ["A"]


def test_of_a_session_with_several_binds_the_connection_is_passed(
    url: str, sync_engine: sa.Engine
) -> None:
    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)

    Base.metadata.create_all(sync_engine)
    with Session(binds={User: sync_engine}) as session:
        session.add(User(id=1))
        one = session.connection(bind_arguments={"mapper": User})
        EventStore().append(STREAM, [Event("A"), Event("B")], connection=one)
        assert types(url) == []
        session.commit()
    assert types(url) == ["A", "B"]


@pytest.mark.parametrize("count", [1, 2])
def test_an_append_that_would_commit_at_once_is_refused(client: SessionClient, count: int) -> None:
    conn = client.connect(isolation_level="AUTOCOMMIT")
    with pytest.raises(TransactionRequired, match="isolation_level='AUTOCOMMIT'"):
        client.store.append(STREAM, [Event("A") for _ in range(count)], connection=conn)
    assert types(client.url) == []


def test_errors_of_every_driver_mean_the_same(client: SessionClient) -> None:
    def refused(kind: type[Exception], match: str, use: Callable[[Any], Any]) -> None:
        conn = client.connect()
        with pytest.raises(kind, match=match):
            use(conn)
        conn.rollback()  # usable, as after any error of the database
        client.store.append(STREAM, Event("A"), connection=conn)
        conn.close()

    store = client.store
    refused(
        UnknownStream,
        "has no stream 'nowhere'.* `eventferry streams create nowhere`",
        lambda conn: store.append("nowhere", Event("A"), connection=conn),
    )
    refused(
        UnknownStream,
        "has no stream 'nowhere'",
        lambda conn: store.read_entity("nowhere", "1", connection=conn),
    )
    refused(
        InvalidStreamName,
        "NO",
        lambda conn: store.append("NO", Event("A"), connection=conn),
    )
    refused(
        InvalidEvent,
        "refused an event.*events_data_object",
        lambda conn: store.append(STREAM, _Unchecked("A", {}), connection=conn),
    )
    role = f"nobody_{id(client)}"
    refused(
        StoreError,
        "permission denied.* Ask its owner",
        lambda conn: (
            conn.execute(sa.text(f"CREATE ROLE {role}")),
            conn.execute(sa.text(f"GRANT USAGE ON SCHEMA streams, eventferry TO {role}")),
            conn.execute(sa.text(f"SET LOCAL ROLE {role}")),
            store.append(STREAM, Event("A"), connection=conn),
        ),
    )

    def lose(conn: Any) -> None:
        terminate(client.url, conn.execute(sa.text("SELECT pg_backend_pid()")).scalar())
        store.append(STREAM, Event("A"), connection=conn)

    refused(StoreUnavailable, "is not available just now", lose)


def test_an_error_that_is_nobodys_but_the_databases_is_left_as_it_is(
    client: SessionClient,
) -> None:
    with psycopg.connect(client.url) as conn:
        conn.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE 'a rule of ours' USING ERRCODE = 'XX123'; END$$"
        )
        conn.execute(
            f'CREATE TRIGGER rule BEFORE INSERT ON streams."{STREAM}" '
            "FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    with pytest.raises((psycopg.Error, DBAPIError), match="a rule of ours"):
        client.store.append(STREAM, Event("A"))


class _Unchecked(Event):
    """An event whose data is no object, and that says nothing about it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", [1])


@pytest.mark.parametrize("form", SESSIONS)
def test_a_database_that_is_not_migrated_is_named(form: str, empty_database: str) -> None:
    with SessionClient(form, empty_database) as client:
        conn = client.connect()
        with pytest.raises(StoreNotMigrated, match="Run `eventferry migrate`"):
            client.open_store().create_stream(STREAM, connection=conn)


def test_versions_are_not_given_out_by_a_shared_store(
    client: SessionClient, make_database: MakeDatabase
) -> None:
    with SessionClient(client.form, make_database("shared")) as shared:
        shared.store.create_stream(STREAM)
        for number in (1, 2):
            events = [Event("Registered", entity_id="1") for _ in range(number)]
            with pytest.raises(StoreError, match="is a shared store"):
                shared.store.append(STREAM, events, expected_version=0)
        assert types(shared.url) == []


def test_what_is_read_is_what_was_appended(client: SessionClient) -> None:
    """Also in a session of a strange time zone, and for what text() or a driver would replace."""
    data = {"a": "%s :name ::type 'é' \"\\u0000\" \\ 🙂", "b": [1.0, 2**70, None], "c": {}}
    moment = datetime(1, 1, 3, 12, tzinfo=timezone(timedelta(hours=5, minutes=53, seconds=28)))
    event = Event("Told: :it %s", data, entity_id="a:b%", metadata={"x": ":y"}, occurred_at=moment)
    conn: Any = client.connect()
    conn.execute(sa.text("SET TimeZone = 'Asia/Kolkata'"))
    conn.execute(sa.text("SET DateStyle = 'SQL, DMY'"))
    client.store.append(STREAM, [event, Event("Other", entity_id="a:b%")], connection=conn)
    found, other = client.store.read_entity(STREAM, "a:b%", connection=conn)
    client.store.append(STREAM, event, connection=conn)  # the same
    conn.commit()
    assert (found.data, found.metadata, found.occurred_at) == (data, {"x": ":y"}, moment)
    with EventStore(client.url) as store:
        assert store.read_entity(STREAM, "a:b%") == [found, other]
        assert [e.data_json for e in store.read(STREAM)] == [found.data_json, "{}"]
        (stream,) = store.streams()
    assert client.store.streams(connection=conn) == [stream]


def test_sessions_of_a_scope_are_taken(url: str, sync_engine: sa.Engine) -> None:
    scope = scoped_session(sessionmaker(sync_engine))
    with EventStore(url) as store:
        appended = store.append(STREAM, Event("A"), connection=scope)
        assert len(appended.positions()) == 1
        assert types(url) == []
        scope.commit()
        scope.remove()
        assert len(appended.positions()) == 1
    assert types(url) == ["A"]


async def test_async_sessions_of_a_scope_are_taken(url: str) -> None:
    made = engine(url, "asyncpg", is_async=True)
    scope = async_scoped_session(async_sessionmaker(made), asyncio.current_task)
    await AsyncEventStore().append(STREAM, Event("A"), connection=scope)
    await scope.commit()
    await scope.remove()
    await made.dispose()
    assert types(url) == ["A"]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_the_sync_session_inside_of_an_async_one_is_taken(url: str, driver: str) -> None:
    made = engine(url, driver, is_async=True)
    async with AsyncSession(made) as session:
        await session.run_sync(
            lambda it: EventStore().append(STREAM, [Event("A"), Event("B")], connection=it)
        )
        await session.commit()
    await made.dispose()
    assert types(url) == ["A", "B"]


async def test_a_session_of_the_other_form_is_refused_in_words(url: str) -> None:
    session: Any = Session(engine(url, "psycopg", is_async=False))
    with pytest.raises(TypeError, match=r"\.Session\. .* AsyncEventStore a .*AsyncSession"):
        await AsyncEventStore().append(STREAM, Event("A"), connection=session)
    other: Any = AsyncSession(engine(url, "asyncpg", is_async=True))
    with pytest.raises(TypeError, match=r"\.AsyncSession\. EventStore takes .*Session"):
        EventStore().append(STREAM, Event("A"), connection=other)


def test_a_session_to_another_database_is_refused_in_words() -> None:
    with (
        sa.create_engine("sqlite://", poolclass=sa.NullPool).connect() as conn,
        pytest.raises(TypeError, match=r"a store is a PostgreSQL, .* is to sqlite"),
    ):
        EventStore().append(STREAM, Event("A"), connection=conn)


def test_nothing_of_it_is_imported_by_who_does_not_use_it() -> None:
    program = (
        "import eventferry, eventferry.sqlalchemy, sys\n"
        "eventferry.EventStore, eventferry.Context\n"
        "assert 'sqlalchemy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_session_needs_no_asyncio(url: str) -> None:
    """Whose extra, greenlet, is not there where SQLAlchemy has been installed without it."""
    program = (
        "import sys\n"
        "sys.modules['greenlet'] = None\n"
        "from eventferry import Event, EventStore\n"
        "from sqlalchemy import create_engine\n"
        "from sqlalchemy.orm import Session\n"
        "for driver in ('psycopg', 'psycopg2'):\n"
        "    url = sys.argv[1].replace('postgresql:', f'postgresql+{driver}:')\n"
        "    with Session(create_engine(url)) as session:\n"
        "        EventStore().append('users-stream', Event(driver), connection=session)\n"
        "        session.commit()\n"
    )
    subprocess.run([sys.executable, "-c", program, url], check=True)
    assert types(url) == ["psycopg", "psycopg2"]


def test_who_lacks_it_is_told_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['sqlalchemy'] = None\n"
        "from eventferry import Context\n"
        "try:\n"
        "    Context(projection='reader', attempt=1, _connection=None).session\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert b'pip install "eventferry[sqlalchemy]"' in done.stdout
