"""`context.execute`: what waits for no answer is done in order, once, and blames its event."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from eventferry import AsyncContext, Context, End, Ended, Event, RecordedEvent
from tests.conftest import MakeService
from tests.services import Service, numbered, query

STREAM = "users-stream"
INSERT = "INSERT INTO notes (note) VALUES (%s)"


@pytest.fixture
def users(make_service: MakeService) -> Service:
    users = make_service("users")
    users.create_stream(STREAM)
    users.execute("CREATE TABLE notes (place serial, note text CHECK (note <> 'refused'))")
    return users


def notes(users: Service) -> list[str]:
    return [note for (note,) in query(users.local_url, "SELECT note FROM notes ORDER BY place")]


def run(users: Service, handle: object, count: int = 3, **options: Any) -> Ended:
    users.local.append(STREAM, numbered(count))
    users.consuming("reader", handle, STREAM, **options)
    return users.run("reader")


def text(event: RecordedEvent) -> str:
    return str(event.data["n"])


def test_writes_are_done_in_their_order(users: Service) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        context.execute(INSERT, (text(event),))
        context.execute("INSERT INTO notes (note) VALUES (%(note)s)", {"note": "named"})
        context.execute("INSERT INTO notes (note) VALUES ('100%')")

    assert run(users, handle, 2).end is End.CAUGHT_UP
    assert notes(users) == ["1", "named", "100%", "2", "named", "100%"]


def test_writes_of_an_async_handler_are_done_in_their_order(users: Service) -> None:
    async def handle(event: RecordedEvent, context: AsyncContext) -> None:
        await context.execute(INSERT, (text(event),))

    assert run(users, handle, 2500).handled == 2500
    assert notes(users) == [str(n) for n in range(1, 2501)]


def test_they_wait_for_each_other(users: Service) -> None:
    seen = []

    class Reader:
        def handle(self, event: RecordedEvent, context: Context) -> None:
            context.execute(INSERT, (text(event),))
            seen.append(notes_within(context._connection))

    def notes_within(conn: psycopg.Connection[Any]) -> int:
        row = conn.execute("SELECT count(*) FROM notes").fetchone()
        return int(row[0]) if row else 0

    run(users, Reader())
    assert seen == [0, 0, 0]
    assert notes(users) == ["1", "2", "3"]


def test_parameters_are_taken_as_they_are_when_they_are_given(users: Service) -> None:
    reused = [""]

    def handle(event: RecordedEvent, context: Context) -> None:
        reused[0] = text(event)
        context.execute(INSERT, reused)

    run(users, handle)
    assert notes(users) == ["1", "2", "3"]


def test_beside_other_writes_they_keep_their_place(users: Service) -> None:
    calls = []

    def handle(event: RecordedEvent, context: Context) -> None:
        calls.append(event.data["n"])
        conn = context.connection
        context.execute(INSERT, (f"first {text(event)}",))
        conn.execute(INSERT, (f"second {text(event)}",))

    assert run(users, handle, 2).end is End.CAUGHT_UP
    assert notes(users) == ["first 1", "second 1", "first 2", "second 2"]
    assert calls == [1, 2]


def test_in_a_savepoint_they_are_undone_with_it(users: Service) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        with suppress(ValueError), context.connection.transaction():
            context.execute(INSERT, (text(event),))
            raise ValueError

    assert run(users, handle).end is End.CAUGHT_UP
    assert notes(users) == []


def test_an_append_comes_after_them(users: Service) -> None:
    users.create_stream("notes-stream")

    def handle(event: RecordedEvent, context: Context) -> None:
        context.execute(INSERT, (text(event),))
        context.append("notes-stream", Event("Noted", {"n": event.data["n"]}))

    assert run(users, handle).end is End.CAUGHT_UP
    assert notes(users) == ["1", "2", "3"]
    assert len(list(users.local.read("notes-stream"))) == 3


def test_to_use_the_connection_while_they_wait_is_refused(users: Service) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        context.execute(INSERT, (text(event),))
        context.connection.execute("SELECT 1")

    ended = run(users, handle)
    assert ended.end is End.FAILED
    assert "writes of context.execute are pending: flush() the context before" in str(ended.error)
    assert notes(users) == []


def test_what_the_database_refuses_is_the_failure_of_its_event(users: Service) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        context.execute(INSERT, ("refused" if event.data["n"] == 3 else text(event),))

    ended = run(users, handle, 5)
    assert (ended.end, ended.handled) == (End.FAILED, 2)
    assert "violates check constraint" in str(ended.error)
    assert notes(users) == ["1", "2"]


def test_handle_batch_and_reset_may_write_so_as_well(users: Service) -> None:
    class Bulk:
        def handle(self, event: RecordedEvent, context: Context) -> None:
            raise AssertionError("there is handle_batch")

        def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
            for event in events:
                context.execute(INSERT, (text(event),))

        def reset(self, context: Context) -> None:
            context.execute("DELETE FROM notes")

    run(users, Bulk())
    assert notes(users) == ["1", "2", "3"]
    users.control("reader", lambda it: it.reset("start"))
    assert notes(users) == []


def test_when_the_batch_is_over_nothing_is_taken_any_more(users: Service) -> None:
    kept: list[Context] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        kept.append(context)

    run(users, handle, 1)
    with pytest.raises(RuntimeError, match="the batch of this context is over"):
        kept[0].execute(INSERT, ("late",))


def test_they_do_not_leave_the_transaction_idle_for_too_long(users: Service) -> None:
    calls = []

    def handle(event: RecordedEvent, context: Context) -> None:
        calls.append(event.data["n"])
        context.execute(INSERT, (text(event),))
        time.sleep(0.2)  # a slow handler: with all others, longer than its timeout

    options = {"batch_time": timedelta(seconds=10), "handler_timeout": timedelta(seconds=1)}
    assert run(users, handle, 8, **options).end is End.CAUGHT_UP
    assert calls == list(range(1, 9))
