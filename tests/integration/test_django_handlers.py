"""Handlers under Django: what the ORM writes commits with the checkpoint, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import (
    IntegrityError,
    close_old_connections,
    connection,
    connections,
    transaction,
)

from eventferry import ConfigurationError, Context, End, Event, RecordedEvent, StoreError, load
from tests.conftest import MakeDatabase, MakeService
from tests.django_host import create_tables, database, set_up, under_django
from tests.faults import dying_at
from tests.services import Service, numbered, open_transactions, query, terminate

set_up()

from eventferry.django import append  # noqa: E402 - it has settings now
from tests.djangoapp.models import Note, Single  # noqa: E402

STREAM = "users-stream"


@pytest.fixture
def shop(make_service: MakeService) -> Iterator[Service]:
    shop = make_service("shop")
    shop.create_stream(STREAM)
    with under_django(default=database(shop.local_url)):
        yield shop


def note(event: RecordedEvent) -> None:
    """A handler whose effect is one row an event."""
    Note.objects.create(n=event.data["n"])


def noted(shop: Service) -> list[int]:
    return [n for (n,) in query(shop.local_url, "SELECT n FROM djangoapp_note ORDER BY id")]


def ended_with(shop: Service, handler: Any, events: int = 3) -> str:
    """How a projection has failed that handles so many events; nothing may be left of it."""
    shop.consuming("reader", handler, STREAM)
    shop.append(STREAM, numbered(events))
    ended = shop.run("reader")
    assert ended.end is End.FAILED, ended
    return ended.error or ""


def test_an_orm_write_and_the_checkpoint_commit_together(shop: Service) -> None:
    shop.consuming("reader", note, STREAM, batch_size=2)
    shop.append(STREAM, numbered(5))
    assert shop.run("reader").handled == 5
    shop.append(STREAM, numbered(2, first=6))
    assert shop.run("reader").handled == 2
    assert noted(shop) == [1, 2, 3, 4, 5, 6, 7]


def test_all_that_a_handler_has_is_one_transaction(shop: Service) -> None:
    seen = set()

    def handle(event: RecordedEvent, context: Context) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()::text, current_setting('TimeZone')")
            seen.add(cursor.fetchone())
        seen.add(context.connection.execute("SELECT pg_current_xact_id()::text").fetchone())
        Note.objects.create(n=event.data["n"], details={"event": str(event.id)})
        context.append("shop-stream", Event("Noted", {"n": 1}))
        append("shop-stream", Event("Noted", {"n": 2}))
        row = context.connection.execute("SELECT details, n FROM djangoapp_note").fetchone()
        assert row == ({"event": str(event.id)}, 1)  # psycopg's own loaders, and Django's cursor

    shop.create_stream("shop-stream")
    shop.consuming("reader", handle, STREAM)
    shop.append(STREAM, numbered(1))
    assert shop.run("reader").end is End.CAUGHT_UP
    (with_zone, alone) = sorted(seen, key=len, reverse=True)
    assert with_zone == (alone[0], "UTC")
    assert [event.data["n"] for event in shop.local.read("shop-stream")] == [1, 2]


def test_what_a_failing_handler_wrote_is_rolled_back_and_the_events_before_it_are_kept(
    shop: Service,
) -> None:
    def handle(event: RecordedEvent) -> None:
        note(event)
        if event.data["n"] == 3:
            raise ValueError("a bug")

    assert "a bug" in ended_with(shop, handle, events=4)
    assert noted(shop) == [1, 2]
    shop.deploy("reader", note)
    shop.retry("reader")
    assert shop.run("reader").end is End.CAUGHT_UP
    assert noted(shop) == [1, 2, 3, 4]


def test_a_savepoint_of_djangos_may_fail_on_its_own(shop: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        note(event)
        with suppress(IntegrityError), transaction.atomic():
            Note.objects.create(n=100)
            Note.objects.create(n=None)

    shop.consuming("reader", handle, STREAM)
    shop.append(STREAM, numbered(2))
    assert shop.run("reader").end is End.CAUGHT_UP
    assert noted(shop) == [1, 2]


def test_an_error_that_was_swallowed_without_a_savepoint_fails_the_event(shop: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        with suppress(IntegrityError):
            Note.objects.create(n=None)

    assert "swallowed an error of the database" in ended_with(shop, handle)


@pytest.mark.parametrize("how", ["set_rollback", "save"])
def test_a_transaction_that_django_would_roll_back_fails_the_event(shop: Service, how: str) -> None:
    def handle(event: RecordedEvent) -> None:
        note(event)
        if how == "set_rollback":
            transaction.set_rollback(True)
        else:
            with suppress(ZeroDivisionError), transaction.atomic(savepoint=False):
                raise ZeroDivisionError

    assert "to be rolled back" in ended_with(shop, handle)
    assert noted(shop) == []


def test_a_handler_may_not_close_the_connection(shop: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        note(event)
        connections.close_all()

    assert "close Django's connection" in ended_with(shop, handle)
    assert noted(shop) == []


def test_what_django_does_between_requests_closes_nothing(shop: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        note(event)
        close_old_connections()

    shop.consuming("reader", handle, STREAM)
    shop.append(STREAM, numbered(2))
    assert shop.run("reader").end is End.CAUGHT_UP
    assert noted(shop) == [1, 2]


def test_a_durable_block_is_refused_as_it_would_not_be(shop: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        with transaction.atomic(durable=True):
            note(event)

    assert "durable" in ended_with(shop, handle)


def test_what_waits_for_the_commit_runs_after_it_and_fails_nothing(
    shop: Service, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []

    def broken() -> None:
        raise ValueError("no mail server")

    def handle(event: RecordedEvent) -> None:
        note(event)
        transaction.on_commit(broken)
        transaction.on_commit(lambda: seen.append((noted(shop), Note.objects.count())))
        with suppress(ZeroDivisionError), transaction.atomic():
            transaction.on_commit(lambda: seen.append("of a savepoint that was rolled back"))
            raise ZeroDivisionError

    shop.consuming("reader", handle, STREAM)
    shop.append(STREAM, numbered(1))
    with caplog.at_level(logging.ERROR, "eventferry.django"):
        assert shop.run("reader").end is End.CAUGHT_UP
    assert seen == [([1], 1)]
    assert "no mail server" in caplog.text


def test_what_runs_on_commit_leaves_nothing_to_the_next_batch(shop: Service) -> None:
    ran = []

    def handle(event: RecordedEvent, context: Context) -> None:
        Note.objects.create(n=event.data["n"])
        transaction.on_commit(lambda: ran.append(event.data["n"]))
        transaction.on_commit(lambda: transaction.set_autocommit(False))

    shop.consuming("reader", handle, STREAM, batch_size=1)
    shop.append(STREAM, numbered(3))
    assert shop.run("reader").handled == 3
    assert ran == [1, 2, 3]


def test_what_waits_for_a_commit_that_does_not_come_never_runs(shop: Service) -> None:
    seen: list[int] = []

    def handle(event: RecordedEvent) -> None:
        transaction.on_commit(lambda: seen.append(event.data["n"]))
        if event.data["n"] == 2:
            raise ValueError("a bug")

    ended_with(shop, handle)
    assert seen == [1]


def test_a_constraint_that_is_checked_at_the_commit_fails_the_event(shop: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        Single.objects.create(n=min(event.data["n"], 2))

    assert "single_n" in ended_with(shop, handle)
    assert query(shop.local_url, "SELECT n FROM djangoapp_single ORDER BY n") == [(1,), (2,)]


@pytest.mark.parametrize(
    "entry",
    [
        {"OPTIONS": {"isolation_level": psycopg.IsolationLevel.SERIALIZABLE}},
        {"OPTIONS": {"server_side_binding": True}},
        {"OPTIONS": {"pool": True}},
        {"AUTOCOMMIT": False},
        {"ATOMIC_REQUESTS": True, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True},
    ],
    ids=lambda entry: ",".join([*entry, *entry.get("OPTIONS", {})]),
)
def test_a_batch_is_read_committed_and_commits_whatever_the_settings_say(
    shop: Service, entry: dict[str, Any]
) -> None:
    seen = set()

    def handle(event: RecordedEvent) -> None:
        note(event)
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            seen.add(cursor.fetchone())

    shop.consuming("reader", handle, STREAM, batch_size=1)
    shop.append(STREAM, numbered(3))
    with under_django(tables=False, default=database(shop.local_url, **entry)):
        assert shop.run("reader").end is End.CAUGHT_UP
        connection.close_pool()
    assert noted(shop) == [1, 2, 3]
    assert seen == {("read committed",)}


def test_a_handler_that_is_done_leaves_no_connection_open(
    shop: Service, make_database: MakeDatabase
) -> None:
    """Neither ours, nor that of another database, which Django would keep for its thread."""
    elsewhere = make_database("local", "elsewhere")

    def handle(event: RecordedEvent) -> None:
        note(event)
        Note.objects.using("other").create(n=event.data["n"])

    shop.consuming("reader", handle, STREAM, batch_size=1)
    shop.append(STREAM, numbered(3))
    with under_django(tables=False, other=database(elsewhere)):
        create_tables("other")
        connections["other"].close()
        assert shop.run("reader").end is End.CAUGHT_UP
        assert others(elsewhere) == 0
    assert query(elsewhere, "SELECT count(*) FROM djangoapp_note") == [(3,)]
    connection.close()
    shop.close()
    assert others(shop.local_url) == 0


def others(url: str) -> int:
    statement = """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()
           AND backend_type = 'client backend'"""
    return int(query(url, statement)[0][0])


def test_the_connection_is_of_no_use_when_the_batch_is_over(shop: Service) -> None:
    kept: list[Context] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        kept.append(context)

    shop.consuming("reader", handle, STREAM)
    shop.append(STREAM, numbered(1))
    shop.run("reader")
    with pytest.raises(psycopg.OperationalError):
        kept[0].connection.execute("SELECT")


def test_an_outage_amid_a_handler_is_no_failure(shop: Service) -> None:
    struck: list[int] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        note(event)
        if event.data["n"] == 2 and not struck:
            struck.append(context.connection.info.backend_pid)
            terminate(shop.local_url, struck[0])
            note(event)

    shop.consuming("reader", handle, STREAM)
    shop.append(STREAM, numbered(3))
    assert shop.run("reader").failed == 0
    assert struck
    assert noted(shop) == [1, 2, 3]


def test_a_handler_that_is_too_slow_for_its_transaction_has_failed(shop: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET idle_in_transaction_session_timeout = '20ms'")
        pid = connection.connection.info.backend_pid
        while query(shop.local_url, "SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)):
            pass
        note(event)

    shop.consuming("reader", handle, STREAM, handler_timeout=timedelta(seconds=60))
    shop.append(STREAM, numbered(1))
    ended = shop.run("reader")
    assert ended.end is End.FAILED
    assert "longer than handler_timeout" in (ended.error or "")


def test_a_batch_survives_every_death_of_its_connection(
    shop: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each conversation with the server, in turn, is the one whose answer is lost."""
    shop.consuming("reader", note, STREAM, batch_size=2)
    at, has_struck = 0, True
    with shop.running("reader") as look:
        while has_struck:
            at += 1
            shop.append(STREAM, numbered(3, first=3 * at - 2))
            with dying_at(at, monkeypatch) as fault:
                ended = None
                while ended is None or ended.end is End.BUSY:
                    with suppress(psycopg.Error, StoreError):
                        ended = look()
            assert ended.end is End.CAUGHT_UP, (at, ended)
            has_struck = fault.has_struck
    assert at > 15
    assert noted(shop) == list(range(1, 3 * at + 1))
    assert open_transactions(shop.local_url) == []


def test_starting_over_and_unparking_are_in_djangos_transaction(shop: Service) -> None:
    class Notes:
        is_fixed = False

        def handle(self, event: RecordedEvent) -> None:
            note(event)
            if event.data["n"] == 2 and not self.is_fixed:
                raise ValueError("a bug")

        def reset(self, _context: Context) -> None:
            Note.objects.all().delete()

    notes = Notes()
    shop.consuming("reader", notes, STREAM, on_failure="park")
    shop.append(STREAM, [Event("Numbered", {"n": n}, entity_id=str(n)) for n in (1, 2, 3)])
    assert shop.run("reader").end is End.CAUGHT_UP
    assert noted(shop) == [1, 3]
    notes.is_fixed = True
    shop.control("reader", lambda it: it.reset("start"))
    assert noted(shop) == []
    assert shop.run("reader").end is End.CAUGHT_UP
    assert noted(shop) == [1, 2, 3]


def test_another_database_than_djangos_is_refused(
    shop: Service, make_database: MakeDatabase
) -> None:
    shop.consuming("reader", note, STREAM)
    elsewhere = database(make_database("local", "shop"))
    with (
        under_django(tables=False, default=elsewhere),
        pytest.raises(StoreError, match=r"is not settings\.DATABASES\['default'\]"),
    ):
        shop.run("reader")


def test_async_handlers_are_refused_at_load(shop: Service, tmp_path: Path) -> None:
    (tmp_path / "projections.toml").write_text(
        f"""
        service = "shop"
        shared_url = "{shop.shared_url}"
        [consuming.reader]
        stream_names = ["{STREAM}"]
        environment = "local"
        handler = "tests.services:record_async"
        """
    )
    with pytest.raises(ConfigurationError, match=r"is 'async def'; under Django .* Write 'def'"):
        load(tmp_path / "projections.toml", environ={})


def test_many_projections_at_once_have_a_transaction_each(shop: Service) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        number = int(context.projection.removeprefix("reader-"))
        Note.objects.create(n=1000 * number + event.data["n"])

    for number in range(4):
        shop.consuming(f"reader-{number}", handle, STREAM, batch_size=5)
    with shop.worker() as worker:
        for first in range(1, 51, 10):
            shop.append(STREAM, numbered(10, first))
        worker.until_asleep()
    found = sorted(noted(shop))
    assert found == [1000 * number + n for number in range(4) for n in range(1, 51)]
