"""Handlers that raise, or do what they must not: nothing is lost, and the failure says what to do.

Each test ends with the fix deployed and the projection retried: then everything has been handled,
once and in order.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from eventferry import AsyncContext, Context, End, RecordedEvent
from tests.pgbouncer import runs_through_pgbouncer_too
from tests.services import (
    Service,
    numbered,
    open_transactions,
    query,
    record,
    record_async,
)
from tests.waiting import until

STREAM = "users-stream"


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM)
    loner.create_effects()
    return loner


def failing_at(n: int, misbehave: Callable[[Context], Any]) -> Callable[..., None]:
    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] == n:
            misbehave(context)

    return handle


def failing_async_at(n: int, misbehave: Callable[[AsyncContext], Any]) -> Callable[..., Any]:
    async def handle(event: RecordedEvent, context: AsyncContext) -> None:
        await record_async(event, context)
        if event.data["n"] == n:
            await misbehave(context)

    return handle


def raise_error(context: object) -> None:
    raise RuntimeError("no such customer")


async def raise_error_async(context: object) -> None:
    raise_error(context)


def require_recovery(users: Service, handled: Sequence[int] = range(1, 6)) -> None:
    """The fix is deployed, and the projection retried."""
    users.deploy("reader", record)
    assert users.retry("reader") == ["reader"]
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == list(handled)
    known = users.known("reader")
    assert known is not None
    assert (known.state, known.error, known.attempts) == ("idle", None, 0)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("bad", [1, 3, 5])
def test_the_good_events_before_a_failing_one_are_kept(
    users: Service, bad: int, is_async: bool
) -> None:
    handler = failing_async_at(bad, raise_error_async) if is_async else failing_at(bad, raise_error)
    users.consuming("reader", handler, STREAM)
    users.append(STREAM, numbered(5))
    ended = users.run("reader")
    assert (ended.end, ended.handled) == (End.FAILED, bad - 1)
    assert users.recorded() == list(range(1, bad))
    events = list(users.local.read(STREAM))
    assert users.checkpoint("reader") == (events[bad - 2].position if bad > 1 else 0)

    failure = users.failure("reader")
    assert failure.error == ended.error == "RuntimeError: no such customer"
    assert failure.traceback is not None
    assert failure.traceback.startswith("Traceback")
    assert "in raise_error" in failure.traceback
    assert failure.failing_event_id == events[bad - 1].id
    assert failure.failing_position == events[bad - 1].position
    assert (failure.failing_stream, failure.failing_event_type) == (STREAM, "Numbered")
    assert failure.attempts == 1
    assert failure.failed_at is not None
    require_recovery(users)


def test_no_later_event_is_handled_while_one_fails(users: Service) -> None:
    seen: list[int] = []

    def handle(event: RecordedEvent) -> None:
        seen.append(event.data["n"])
        if event.data["n"] == 2:
            raise RuntimeError

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(5))
    assert users.run("reader").end is End.FAILED
    users.append(STREAM, numbered(1, first=6))
    assert users.run("reader").end is End.FAILED
    assert max(seen) == 2
    assert users.failure("reader").error == "RuntimeError"


def test_who_retries_begins_to_count_again(users: Service) -> None:
    attempts: list[tuple[int, int]] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        attempts.append((event.data["n"], context.attempt))
        raise RuntimeError

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    for _ in range(3):
        users.retry()
        users.run("reader")
        assert users.failure("reader").attempts == 1
    assert attempts == [(1, 1), (1, 1), (1, 1)]

    users.deploy("reader", failing_at(2, raise_error))
    users.append(STREAM, numbered(1, first=2))
    users.retry("reader")
    users.run("reader")
    assert users.failure("reader").attempts == 1
    require_recovery(users, [1, 2])


def test_retry_names_those_that_had_failed(users: Service) -> None:
    users.consuming("good", record, STREAM)
    users.consuming("bad", failing_at(1, raise_error), STREAM)
    users.consuming("worse", failing_at(1, raise_error), STREAM)
    users.append(STREAM, numbered(1))
    for name in users.projections:
        users.run(name)
    assert users.retry("good", "worse") == ["worse"]
    assert users.retry() == ["bad"]
    assert users.retry() == []


def test_the_error_is_shown_until_its_event_is_dealt_with(users: Service) -> None:
    users.consuming("reader", failing_at(1, raise_error), STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")
    users.retry("reader")
    known = users.known("reader")
    assert known is not None
    assert (known.state, known.error) == ("idle", "RuntimeError: no such customer")


# ---- the transaction of the batch is eventferry's


def commit(context: Context) -> None:
    context.connection.commit()


def roll_back(context: Context) -> None:
    context.connection.rollback()


def commit_in_sql(context: Context) -> None:
    context.connection.execute("COMMIT")


def roll_back_in_sql(context: Context) -> None:
    context.connection.execute("ROLLBACK")


def commit_and_go_on(context: Context) -> None:
    context.connection.execute("COMMIT")
    context.connection.execute("SELECT 1")


def swallow_an_error(context: Context) -> None:
    with suppress(psycopg.Error):
        context.connection.execute("SELECT 1 / 0")


def close_the_connection(context: Context) -> None:
    context.connection.close()


@pytest.mark.parametrize(
    ("misbehave", "advice"),
    [
        (commit, "Explicit commit() forbidden"),
        (roll_back, "Explicit rollback() forbidden"),
        (roll_back_in_sql, "Leave context.connection's transaction to eventferry"),
        (swallow_an_error, "Let the error out, or make a savepoint"),
        (close_the_connection, "closed"),
    ],
)
def test_a_handler_that_breaks_the_transaction_fails(
    users: Service, misbehave: Callable[[Context], None], advice: str
) -> None:
    users.consuming("reader", failing_at(3, misbehave), STREAM)
    users.append(STREAM, numbered(5))
    assert users.run("reader").end is End.FAILED
    failure = users.failure("reader")
    assert failure.error is not None
    assert advice in failure.error
    assert failure.failing_position == users.positions(STREAM)[2]
    assert users.recorded() == [1, 2]
    require_recovery(users)


@pytest.mark.parametrize("misbehave", [commit_in_sql, commit_and_go_on])
def test_a_handler_that_commits_fails_and_the_checkpoint_stays(
    users: Service, misbehave: Callable[[Context], None]
) -> None:
    """What it has committed by itself is its own matter, but no later event is touched."""
    users.consuming("reader", failing_at(1, misbehave), STREAM)
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.FAILED
    failure = users.failure("reader")
    assert failure.error is not None
    assert "Leave context.connection's transaction to eventferry" in failure.error
    assert failure.failing_position == users.positions(STREAM)[0]
    assert users.checkpoint("reader") == 0
    assert set(users.recorded()) == {1}


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
def test_an_async_handler_that_ends_the_transaction_fails(users: Service, statement: str) -> None:
    async def end(context: AsyncContext) -> None:
        await context.connection.execute(statement)

    users.consuming("reader", failing_async_at(1, end), STREAM)
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.FAILED
    assert "Leave context.connection's transaction" in str(users.failure("reader").error)
    assert users.checkpoint("reader") == 0


def test_a_constraint_that_is_deferred_to_the_commit_fails_the_event(users: Service) -> None:
    users.execute(
        "ALTER TABLE effects ADD CONSTRAINT not_three UNIQUE (n) DEFERRABLE INITIALLY DEFERRED"
    )

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] == 3:
            record(event, context)

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(5))
    assert users.run("reader").end is End.FAILED
    failure = users.failure("reader")
    assert "not_three" in str(failure.error)
    assert failure.failing_position == users.positions(STREAM)[2]
    assert users.recorded() == [1, 2]
    require_recovery(users)


def test_a_handle_batch_that_fails_is_tried_event_by_event(users: Service) -> None:
    calls: list[list[int]] = []

    class Bulk:
        def handle(self, event: RecordedEvent, context: Context) -> None: ...

        def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
            numbers = [event.data.pop("n") for event in events]
            calls.append(numbers)
            if 4 in numbers:
                raise RuntimeError("four")
            for n, event in zip(numbers, events, strict=True):
                event.data["n"] = n
                record(event, context)

    users.consuming("reader", Bulk(), STREAM)
    users.append(STREAM, numbered(5))
    assert users.run("reader").end is End.FAILED
    assert calls == [[1, 2, 3, 4, 5], [1], [2], [3], [4]]
    assert users.recorded() == [1, 2, 3]
    require_recovery(users)


def test_an_event_that_a_handler_has_changed_is_fresh_when_it_is_tried_again(
    users: Service,
) -> None:
    seen: list[int] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        seen.append(event.data["n"])
        event.data["n"] = 0
        event.metadata["touched"] = True
        if len(seen) == 3:
            raise RuntimeError

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(5))
    assert users.run("reader").end is End.CAUGHT_UP
    assert seen == [1, 2, 3, 1, 2, 3, 4, 5]


# ---- what is left behind of a batch


def test_a_connection_that_a_thread_has_kept_is_of_no_use_in_the_next_batch(
    users: Service,
) -> None:
    kept: list[psycopg.Connection[Any] | psycopg.Cursor[Any]] = []
    errors: list[Exception] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] == 1:
            kept.extend([context.connection, context.connection.cursor()])
            return

        def write() -> None:
            for stray in kept:
                try:
                    stray.execute("INSERT INTO effects (n) VALUES (99)")
                except Exception as error:
                    errors.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()

    users.consuming("reader", handle, STREAM, batch_size=1)
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3]
    assert [type(error) for error in errors] == [psycopg.OperationalError] * 4


def test_a_task_that_outlives_its_batch_can_not_write_in_the_next(users: Service) -> None:
    errors: list[BaseException] = []
    tasks: list[asyncio.Task[None]] = []

    async def handle(event: RecordedEvent, context: AsyncContext) -> None:
        await record_async(event, context)
        if event.data["n"] == 1:
            cursor = context.connection.cursor()
            over = asyncio.Event()

            async def stray() -> None:
                await over.wait()
                for target in (context.connection, cursor):
                    try:
                        await target.execute("INSERT INTO effects (n) VALUES (99)")
                    except psycopg.Error as error:
                        errors.append(error)

            tasks.append(asyncio.create_task(stray()))
            handle.over = over  # type: ignore[attr-defined]
        else:
            handle.over.set()  # type: ignore[attr-defined]
            await tasks[0]

    users.consuming("reader", handle, STREAM, batch_size=1)
    users.append(STREAM, numbered(2))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2]
    assert [type(error) for error in errors] == [psycopg.OperationalError] * 2


# ---- handlers that take too long, or end more than themselves


@runs_through_pgbouncer_too
def test_a_handler_that_outlives_its_timeout_fails(users: Service) -> None:
    """The server ends its transaction; that is no outage, which would go on for ever."""

    def outlive(context: Context) -> None:
        # not before the server has ended it
        until(lambda: not open_transactions(users.local_url))

    users.consuming(
        "reader", failing_at(3, outlive), STREAM, handler_timeout=timedelta(milliseconds=300)
    )
    users.append(STREAM, numbered(5))
    assert users.run("reader").end is End.FAILED
    failure = users.failure("reader")
    assert failure.failing_position == users.positions(STREAM)[2]
    assert failure.error is not None
    assert "handler_timeout" in failure.error
    assert users.recorded() == [1, 2]
    require_recovery(users)


def test_handlers_that_outlive_the_timeout_together_are_no_outage(users: Service) -> None:
    """Neither alone takes as long, but the transaction was idle under both."""

    def handle(event: RecordedEvent, context: Context) -> None:
        if event.data["n"] == 2:
            until(lambda: not open_transactions(users.local_url) or is_alone())
        elif not is_alone():
            time.sleep(0.2)
        seen.append(event.data["n"])

    def is_alone() -> bool:
        return len(seen) >= 2

    seen: list[int] = []
    users.consuming("reader", handle, STREAM, handler_timeout=timedelta(milliseconds=300))
    users.append(STREAM, numbered(2))
    assert users.run("reader").end is End.CAUGHT_UP
    assert seen == [1, 2, 1, 2]


def exit_process(context: object) -> None:
    sys.exit("enough")


async def exit_process_async(context: object) -> None:
    sys.exit("enough")


class Unusual(BaseException):
    """Not an Exception."""


def raise_unusual(context: object) -> None:
    raise Unusual("enough")


async def raise_unusual_async(context: object) -> None:
    raise Unusual("enough")


def interrupt(context: object) -> None:
    raise KeyboardInterrupt("enough")


async def cancel(context: object) -> None:
    raise asyncio.CancelledError("enough")


@pytest.mark.parametrize(
    "handler",
    [
        failing_at(3, exit_process),
        failing_at(3, raise_unusual),
        failing_at(3, interrupt),
        failing_async_at(3, exit_process_async),
        failing_async_at(3, raise_unusual_async),
        failing_async_at(3, cancel),
    ],
    ids=["exit", "unusual", "interrupt", "async-exit", "async-unusual", "async-cancelled"],
)
def test_what_is_no_exception_fails_the_event_and_not_the_worker(
    users: Service, handler: Callable[..., Any]
) -> None:
    users.consuming("reader", handler, STREAM)
    users.append(STREAM, numbered(5))
    ended = users.run("reader")
    assert ended.end is End.FAILED
    assert "enough" in str(users.failure("reader").error)
    assert users.recorded() == [1, 2]
    require_recovery(users)


def test_an_error_whose_text_can_not_be_had_is_recorded_all_the_same(users: Service) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def handle(event: RecordedEvent) -> None:
        raise Mute

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    assert users.run("reader").end is End.FAILED
    assert "Mute" in str(users.failure("reader").error)


def test_an_error_with_characters_that_no_text_may_have_is_recorded(users: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        raise ValueError("a\x00b\ud800c")

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    assert users.run("reader").end is End.FAILED
    error = str(users.failure("reader").error)
    assert error.startswith("ValueError: a")
    assert error.endswith("c")


def test_an_error_as_long_as_a_book_is_recorded_in_part(users: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        raise ValueError("x" * 50_000_000)

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    assert users.run("reader").end is End.FAILED
    assert len(str(users.failure("reader").error)) < 100_000


# ---- failing and waking


def test_nothing_is_open_while_a_projection_stands_still(users: Service) -> None:
    users.consuming("reader", failing_at(1, raise_error), STREAM)
    users.append(STREAM, numbered(1))
    with users.worker("reader") as worker:
        until(lambda: (worker.last("reader") or None) and worker.last("reader"))
        until(lambda: not open_transactions(users.local_url))
    assert query(users.local_url, "SELECT count(*) FROM effects") == [(0,)]


def test_an_outage_of_another_database_is_the_handlers_failure(users: Service) -> None:
    def handle(_event: RecordedEvent, _context: Context) -> None:
        raise psycopg.OperationalError("the handler's own database is down")

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    assert users.run("reader").end is End.FAILED


@pytest.mark.parametrize("is_async", [False, True])
def test_a_lost_connection_is_an_outage_whatever_a_handler_makes_of_it(
    users: Service, is_async: bool
) -> None:
    lost = [True]

    class Wrapped(Exception):
        pass

    def terminate(pid: int) -> None:
        query(users.local_url, "SELECT pg_terminate_backend(%s)", (pid,))

    def handle(event: RecordedEvent, context: Context) -> None:
        if lost.pop() if lost else False:
            terminate(context.connection.info.backend_pid)
        try:
            record(event, context)
        except psycopg.Error as error:
            raise Wrapped from error

    async def handle_async(event: RecordedEvent, context: AsyncContext) -> None:
        if lost.pop() if lost else False:
            terminate(context.connection.info.backend_pid)
        try:
            await record_async(event, context)
        except psycopg.Error as error:
            raise Wrapped from error

    users.consuming("reader", handle_async if is_async else handle, STREAM)
    users.append(STREAM, numbered(1))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1]
    rows = query(users.local_url, "SELECT state, attempts, error FROM eventferry.projections")
    assert rows == [("idle", 0, None)]
