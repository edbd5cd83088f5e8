"""Migrating: once, whoever does it; refused where it can't be right; all or nothing."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import psycopg
import pytest

from eventferry import (
    AsyncEventStore,
    Event,
    EventStore,
    SchemaTooNew,
    StoreError,
    StoreNotMigrated,
    StoreUnavailable,
    migrate,
    migration,
)
from eventferry.connection import options
from eventferry.embedded import EmbeddedServer
from tests.conftest import MakeDatabase
from tests.waiting import wait_for_lock
from tools import schema

KNOWN = migration.known()
NEWEST = KNOWN[-1].number


@pytest.fixture
def local(make_database: MakeDatabase) -> str:
    return make_database("local", "users")


def rows(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url) as conn:
        return conn.execute(statement).fetchall()  # type: ignore[arg-type,unused-ignore]


def test_an_empty_database_becomes_a_store_and_a_second_time_changes_nothing(
    empty_database: str,
) -> None:
    applied = migrate(empty_database, kind="local", service="users")
    assert applied == tuple(f"{m.number:04} {m.name}" for m in migration.known())
    (identity,) = rows(empty_database, "SELECT id, kind, service FROM eventferry.store")
    assert identity[1:] == ("local", "users")
    assert migrate(empty_database, kind="local", service="users") == ()
    assert rows(empty_database, "SELECT id, kind, service FROM eventferry.store") == [identity]


def test_of_many_that_migrate_at_once_one_does(empty_database: str) -> None:
    start = Barrier(6)

    def run(_: int) -> tuple[str, ...]:
        start.wait()
        return migrate(empty_database, kind="local", service="users")

    with ThreadPoolExecutor(6) as pool:
        outcomes = sorted(pool.map(run, range(6)))
    assert outcomes[:-1] == [()] * 5
    assert len(outcomes[-1]) == len(migration.known())
    assert rows(empty_database, "SELECT count(*) FROM eventferry.store") == [(1,)]


def test_processes_may_migrate_at_once_too(empty_database: str) -> None:
    program = (
        "import sys; from eventferry import migrate; sys.stdin.read(); "
        "print(len(migrate(sys.argv[1], kind='shared')))"
    )
    command = [sys.executable, "-c", program, empty_database]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running: list[Any] = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in running:
        process.stdin.close()  # starts it
        process.stdin = None
    outputs = sorted(process.communicate()[0].strip() for process in running)
    assert outputs == ["0", str(len(migration.known()))]


def test_a_newer_schema_is_refused_only_if_it_is_breaking(local: str) -> None:
    insert = "INSERT INTO eventferry.migrations VALUES (%s, 'later', %s, '99.0')"
    with EventStore(local) as store:
        store.create_stream("users-stream")
    with psycopg.connect(local) as conn:
        conn.execute(insert, (NEWEST + 1, False))
    with EventStore(local) as store:
        store.append("users-stream", Event("A"))
    assert migrate(local, kind="local", service="users") == ()

    with psycopg.connect(local) as conn:
        conn.execute(insert, (NEWEST + 2, True))
    newer = rf"{NEWEST + 2:04} later.*knows the schema up to {NEWEST:04}. Upgrade"
    with pytest.raises(SchemaTooNew, match=newer):
        migrate(local, kind="local", service="users")
    with EventStore(local) as store, pytest.raises(SchemaTooNew, match=newer):
        store.append("users-stream", Event("A"))


async def test_a_database_that_is_not_migrated_is_no_store(empty_database: str) -> None:
    with EventStore(empty_database) as store:
        for use in (
            lambda: store.append("users-stream", Event("A")),
            lambda: list(store.read("users-stream")),
            lambda: store.create_stream("users-stream"),
            store.streams,
        ):
            with pytest.raises(StoreNotMigrated, match="Run `eventferry migrate`"):
                use()
        with psycopg.connect(empty_database) as conn, pytest.raises(StoreNotMigrated):
            store.create_stream("users-stream", connection=conn)
    async with AsyncEventStore(empty_database) as other:
        with pytest.raises(StoreNotMigrated, match="Run `eventferry migrate`"):
            await other.append("users-stream", Event("A"))


def test_a_schema_that_is_too_old_is_not_migrated(
    local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = replace(KNOWN[-1], number=NEWEST + 1, statements=("SELECT 1",))
    monkeypatch.setattr(migration, "known", lambda: (*KNOWN, later))
    with EventStore(local) as store, pytest.raises(StoreNotMigrated, match=r"lacks 1 migration"):
        store.streams()
    assert len(migrate(local, kind="local", service="users")) == 1
    with EventStore(local) as store:
        assert store.streams() == []


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration whose second statement fails."""
    broken = migration.Migration(
        number=NEWEST + 1,
        name="broken",
        breaking=False,
        statements=("CREATE TABLE eventferry.half ()", "SELECT 1 / 0"),
    )
    monkeypatch.setattr(migration, "known", lambda: (*KNOWN, broken))


@pytest.mark.usefixtures("failing")
def test_a_migration_that_fails_leaves_the_store_as_it_was(local: str) -> None:
    before = rows(local, "SELECT * FROM eventferry.migrations")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(local, kind="local", service="users")
    assert rows(local, "SELECT * FROM eventferry.migrations") == before
    assert rows(local, "SELECT to_regclass('eventferry.half')") == [(None,)]


@pytest.mark.usefixtures("failing")
def test_a_first_migration_that_fails_leaves_nothing(empty_database: str) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(empty_database, kind="local", service="users")
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname IN ('eventferry', 'streams')"
    assert rows(empty_database, schemas) == []


@pytest.fixture
def altering(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that needs the table of checkpoints for itself."""
    alter = "ALTER TABLE eventferry.checkpoints ADD COLUMN later bigint"
    later = replace(KNOWN[-1], number=NEWEST + 1, name="later", statements=(alter,))
    monkeypatch.setattr(migration, "known", lambda: (*KNOWN, later))
    monkeypatch.setattr(migration, "PAUSE_S", (0.0, 0.1))


@pytest.mark.usefixtures("altering")
def test_others_go_on_while_a_migration_waits_for_a_long_transaction(
    local: str, caplog: pytest.LogCaptureFixture
) -> None:
    use = "SELECT FROM eventferry.checkpoints FOR UPDATE SKIP LOCKED"
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(local, **options("slow handler") | {"autocommit": False}) as slow,
        psycopg.connect(local, autocommit=True, options="-c statement_timeout=20s") as other,
    ):
        slow.execute(use)
        pid = slow.info.backend_pid
        migrating = pool.submit(migrate, local, kind="local", service="users")
        for _ in range(3):
            wait_for_lock(local)
            other.execute(use)  # in the end it gets past the migration
        assert not migrating.done()
        slow.rollback()
        assert migrating.result() == (f"{NEWEST + 1:04} later",)
    assert f"while backend {pid} (user postgres" in caplog.text
    assert "application 'eventferry slow handler'" in caplog.text


@pytest.mark.usefixtures("altering")
def test_a_migration_that_never_gets_the_tables_says_who_has_them(
    local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "PATIENCE_S", 0.0)
    monkeypatch.setattr(migration, "LOCK_S", 0.05)
    with psycopg.connect(local) as left_open:
        left_open.execute("SELECT FROM eventferry.checkpoints")
        pid = left_open.info.backend_pid
        with pytest.raises(StoreUnavailable, match=rf"backend {pid} .*Nothing was changed. End"):
            migrate(local, kind="local", service="users")
    assert migrate(local, kind="local", service="users") == (f"{NEWEST + 1:04} later",)


def test_a_local_store_belongs_to_one_service(local: str) -> None:
    for other in ("others", None):
        with pytest.raises(StoreError, match=f"of service 'users', not of {other!r}"):
            migrate(local, kind="local", service=other)
    assert rows(local, "SELECT kind, service FROM eventferry.store") == [("local", "users")]


def test_swapped_urls_are_refused(make_database: MakeDatabase) -> None:
    with pytest.raises(StoreError, match=r"a shared store, and can't be a local one.* swapped"):
        migrate(make_database("shared"), kind="local", service="users")
    with pytest.raises(StoreError, match="the local store of service 'mails', and can't be a shar"):
        migrate(make_database("local", "mails"), kind="shared")


def test_a_migration_says_in_its_name_whether_it_is_breaking() -> None:
    assert [(m.number, m.breaking) for m in migration.known()][:1] == [(1, False)]
    assert [m.number for m in migration.known()] == list(range(1, NEWEST + 1))
    applied = [(m.number, m.name, m.breaking) for m in migration.known()]
    migration.require_migrated(applied, "store")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("postgresql://users:secret@127.0.0.1:1/users", StoreUnavailable),
        ("postgresql://users:sec ret@127.0.0.1:1/users", StoreError),
    ],
)
def test_migrating_nothing_that_is_there_never_shows_the_password(
    url: str, error: type[StoreError]
) -> None:
    with pytest.raises(error) as caught:
        migrate(url, kind="local", service="users")
    assert "ret@" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_committed_schema_is_what_the_migrations_make(
    server: EmbeddedServer, empty_database: str
) -> None:
    wanted = schema.schema(server, empty_database)
    changes = "".join(schema.difference(schema.FILE.read_text(), wanted))
    assert changes == "", f"run python tools/schema.py, and commit\n{changes}"
