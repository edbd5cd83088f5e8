"""Handlers of every shape get their events, and what they write commits with the checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel

from eventferry import AsyncContext, Context, End, Event, EventMapper, RecordedEvent
from tests.pgbouncer import runs_through_pgbouncer_too
from tests.services import RECORD, Service, numbered, query, record, record_async
from tests.waiting import until

STREAM = "users-stream"


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM)
    loner.create_effects()
    return loner


@runs_through_pgbouncer_too
@pytest.mark.parametrize("handler", [record, record_async])
def test_events_come_in_order_and_once(users: Service, handler: Any) -> None:
    users.consuming("reader", handler, STREAM)
    users.append(STREAM, numbered(5))
    assert users.run("reader").handled == 5
    users.append(STREAM, numbered(2, first=6))
    assert users.run("reader").handled == 2
    assert users.run("reader").handled == 0
    assert users.recorded() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_may_take_the_event_alone(users: Service, is_async: bool) -> None:
    seen = []

    def handle(event: RecordedEvent) -> None:
        seen.append(event.data["n"])

    async def handle_async(event: RecordedEvent) -> None:
        seen.append(event.data["n"])

    users.consuming("reader", handle_async if is_async else handle, STREAM)
    users.append(STREAM, numbered(3))
    users.run("reader")
    assert seen == [1, 2, 3]


def test_an_object_with_a_method_handle_is_a_handler(users: Service) -> None:
    class Adder:
        def __init__(self) -> None:
            self.sum = 0

        def handle(self, event: RecordedEvent) -> None:
            self.sum += event.data["n"]

    adder = Adder()
    users.consuming("reader", adder, STREAM)
    users.append(STREAM, numbered(4))
    users.run("reader")
    assert adder.sum == 10


class Alone:
    """Tells whether two calls of one instance, or of two, were ever at work at once."""

    made = 0

    def __init__(self) -> None:
        Alone.made += 1
        self.busy = threading.Lock()
        self.overlapped = False

    def handle(self, event: RecordedEvent, context: Context) -> None:
        if not self.busy.acquire(blocking=False):
            self.overlapped = True
            return
        try:
            record(event, context)
        finally:
            self.busy.release()


def test_a_class_is_made_once_and_never_called_concurrently(users: Service) -> None:
    Alone.made = 0
    users.consuming("reader", Alone, STREAM, batch_size=5)
    handler = users.projections["reader"].handler
    assert handler is not None
    instance = handler.handle.__closure__
    assert instance is not None
    with users.worker("reader") as one, users.worker("reader") as two:
        for first in range(1, 101, 10):
            users.append(STREAM, numbered(10, first))
        one.until_asleep()
        two.until_asleep()
    assert Alone.made == 1
    assert users.recorded() == list(range(1, 101))
    assert not any(
        cell.cell_contents.__self__.overlapped
        for cell in instance
        if hasattr(cell.cell_contents, "__self__")
    )


@runs_through_pgbouncer_too
@pytest.mark.parametrize("is_async", [False, True])
def test_handle_batch_gets_all_events_of_a_batch(users: Service, is_async: bool) -> None:
    batches: list[list[int]] = []

    class Bulk:
        def handle(self, event: RecordedEvent, context: Context) -> None:
            pytest.fail("handle_batch is there")

        def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
            batches.append([event.data["n"] for event in events])
            for event in events:
                record(event, context)

    class AsyncBulk:
        async def handle(self, event: RecordedEvent, context: AsyncContext) -> None:
            pytest.fail("handle_batch is there")

        async def handle_batch(
            self, events: Sequence[RecordedEvent], context: AsyncContext
        ) -> None:
            batches.append([event.data["n"] for event in events])
            for event in events:
                await record_async(event, context)

    users.consuming("reader", AsyncBulk() if is_async else Bulk(), STREAM, batch_size=4)
    users.append(STREAM, numbered(10))
    assert users.run("reader").handled == 10
    assert batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert users.recorded() == list(range(1, 11))


def test_the_checkpoint_moves_past_events_of_other_types(users: Service) -> None:
    users.consuming("reader", record, STREAM, event_types=frozenset({"Wanted"}))
    users.append(STREAM, [Event("Wanted", {"n": 1}), Event("Other"), Event("Other")])
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1]
    assert users.checkpoint("reader") == users.positions(STREAM)[-1]
    users.append(STREAM, [Event("Other"), Event("Wanted", {"n": 2})])
    users.run("reader")
    assert users.recorded() == [1, 2]


def test_handle_batch_is_not_called_for_nothing(users: Service) -> None:
    class Bulk:
        def handle(self, event: RecordedEvent) -> None: ...

        def handle_batch(self, events: Sequence[RecordedEvent]) -> None:
            assert events, "called for nothing"

    users.consuming("reader", Bulk(), STREAM, event_types=frozenset({"Wanted"}))
    users.append(STREAM, [Event("Other"), Event("Other")])
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.checkpoint("reader") == users.positions(STREAM)[-1]


def test_event_mappers_and_models_read_the_data(users: Service) -> None:
    class Profile(EventMapper):
        @property
        def size(self) -> str:
            return self.get_or_default("size", "0")  # type: ignore[no-any-return]

        @property
        def n(self) -> int:
            return self.get("n")  # type: ignore[no-any-return]

    class Model(BaseModel):
        n: int

    @dataclass
    class Plain:
        n: int

    seen = []

    def handle(event: RecordedEvent) -> None:
        profile = Profile(event)
        seen.append((profile.n, profile.size, event.parse(Model), event.parse(Plain)))

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")
    assert seen == [(1, "0", Model(n=1), Plain(n=1))]


@runs_through_pgbouncer_too
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_handler_appends_names_its_cause(users: Service, is_async: bool) -> None:
    users.create_stream("mails-stream")

    def handle(event: RecordedEvent, context: Context) -> None:
        context.append("mails-stream", Event("MailOrdered", {"n": event.data["n"]}))

    async def handle_async(event: RecordedEvent, context: AsyncContext) -> None:
        await context.append("mails-stream", Event("MailOrdered", {"n": event.data["n"]}))

    users.consuming("first", handle_async if is_async else handle, STREAM)
    users.consuming("second", record, "mails-stream")
    cause = Event("Numbered", {"n": 1})
    later = Event("Numbered", {"n": 2}, metadata={"correlation_id": "request-7"})
    users.append(STREAM, [cause, later])
    users.run("first")
    ordered = list(users.local.read("mails-stream"))
    assert [event.data["n"] for event in ordered] == [1, 2]
    assert ordered[0].metadata == {
        "correlation_id": str(cause.id),
        "causation_id": str(cause.id),
    }
    assert ordered[1].metadata == {"correlation_id": "request-7", "causation_id": str(later.id)}


def test_what_a_handler_appends_is_gone_with_its_batch(users: Service) -> None:
    users.create_stream("mails-stream")

    def handle(event: RecordedEvent, context: Context) -> None:
        context.append("mails-stream", Event("MailOrdered", {"n": event.data["n"]}))
        if event.data["n"] == 2:
            raise RuntimeError("no mail today")

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.FAILED
    assert [event.data["n"] for event in users.local.read("mails-stream")] == [1]


@runs_through_pgbouncer_too
@pytest.mark.parametrize("is_async", [False, True])
def test_effect_and_checkpoint_are_in_one_transaction(users: Service, is_async: bool) -> None:
    """The rows themselves say which transaction has written them."""

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)

    async def handle_async(event: RecordedEvent, context: AsyncContext) -> None:
        await record_async(event, context)

    users.consuming("reader", handle_async if is_async else handle, STREAM)
    users.append(STREAM, numbered(3))
    users.run("reader")
    effects = query(users.local_url, "SELECT DISTINCT xmin::text FROM effects")
    checkpoints = query(
        users.local_url,
        "SELECT xmin::text FROM eventferry.checkpoints WHERE projection = 'reader'",
    )
    assert effects == checkpoints


@runs_through_pgbouncer_too
def test_a_savepoint_lets_a_handler_get_over_an_error(users: Service) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        try:
            with context.connection.transaction():
                context.connection.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            record(event, context)

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(2))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2]


def test_the_context_says_what_is_going_on(users: Service) -> None:
    seen = []

    def handle(event: RecordedEvent, context: Context) -> None:
        seen.append((context.projection, context.attempt, context.logger.name))

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")
    assert seen == [("reader", 1, "eventferry.projection.reader")]


def test_a_batch_ends_when_its_time_is_up(users: Service) -> None:
    """Each event comes in a transaction of its own, where a batch's time is over at once."""
    from datetime import timedelta

    users.consuming("reader", record, STREAM, batch_time=timedelta(microseconds=1))
    users.append(STREAM, numbered(4))
    assert users.run("reader").handled == 4
    assert users.recorded() == [1, 2, 3, 4]
    transactions = query(users.local_url, "SELECT count(DISTINCT xmin::text) FROM effects")
    assert transactions == [(4,)]


def test_one_statement_of_a_handler_may_write_many_rows(users: Service) -> None:
    def handle(event: RecordedEvent, context: Context) -> None:
        with context.connection.cursor() as cursor:
            rows = [("reader", event.id, event.stream, event.position, n) for n in (7, 8)]
            cursor.executemany(RECORD, rows)

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")
    assert users.recorded() == [7, 8]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_was_there_when_a_projection_began_is_a_replay(users: Service, is_async: bool) -> None:
    seen: list[tuple[int, bool]] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        seen.append((event.data["n"], context.is_replay))

    async def handle_async(event: RecordedEvent, context: AsyncContext) -> None:
        seen.append((event.data["n"], context.is_replay))

    users.append(STREAM, numbered(2))
    users.consuming("reader", handle_async if is_async else handle, STREAM)
    users.run("reader")
    users.append(STREAM, numbered(2, first=3))
    users.run("reader")
    assert seen == [(1, True), (2, True), (3, False), (4, False)]


def test_what_was_committed_behind_an_open_append_is_a_replay(users: Service) -> None:
    seen: list[tuple[int, bool]] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        seen.append((event.data["n"], context.is_replay))

    users.consuming("reader", handle, STREAM)
    with psycopg.connect(users.local_url) as writer:
        users.local.append(STREAM, numbered(1), connection=writer)
        users.append(STREAM, numbered(2, first=2))
        assert users.look("reader").handled == 0
    users.append(STREAM, numbered(1, first=4))
    users.run("reader")
    assert seen == [(1, True), (2, True), (3, True), (4, False)]


@pytest.mark.parametrize("start", ["start", "now"])
def test_who_waits_for_a_stream_begins_when_it_began_to_wait(users: Service, start: Any) -> None:
    seen: list[tuple[int, bool]] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        seen.append((event.data["n"], context.is_replay))

    users.append(STREAM, numbered(1))
    users.consuming("reader", handle, STREAM, "later-stream", start=start)
    assert users.look("reader").end is End.WAITING
    users.append(STREAM, numbered(1, first=2))
    assert users.look("reader").end is End.WAITING
    users.create_stream("later-stream")
    users.append("later-stream", numbered(1, first=3))
    users.run("reader")
    old = [(1, True)] if start == "start" else []
    assert seen == [*old, (2, False), (3, False)]


def test_a_batch_is_a_replay_when_all_of_it_is(users: Service) -> None:
    seen: list[bool] = []

    class Batches:
        def handle(self, event: RecordedEvent) -> None:
            raise AssertionError

        def handle_batch(self, _events: Sequence[RecordedEvent], context: Context) -> None:
            seen.append(context.is_replay)

    users.append(STREAM, numbered(3))
    users.consuming("reader", Batches(), STREAM, batch_size=3)
    users.run("reader")
    users.append(STREAM, numbered(1, first=4))
    users.run("reader")
    assert seen == [True, False]


def test_a_projection_that_begins_now_replays_nothing(users: Service) -> None:
    seen: list[bool] = []

    def handle(_event: RecordedEvent, context: Context) -> None:
        seen.append(context.is_replay)

    users.append(STREAM, numbered(3))
    users.consuming("reader", handle, STREAM, start="now")
    users.run("reader")
    users.append(STREAM, numbered(1, first=4))
    users.run("reader")
    assert seen == [False]


def test_a_chain_of_three_projections_of_one_service_runs_on_demand(users: Service) -> None:
    users.create_stream("second-stream")
    users.create_stream("third-stream")

    def to(stream: str) -> Any:
        def handle(event: RecordedEvent, context: Context) -> None:
            context.append(stream, Event("Number", event.data))

        return handle

    users.consuming("first", to("second-stream"), STREAM)
    users.consuming("second", to("third-stream"), "second-stream")
    users.consuming("third", record, "third-stream")
    with users.worker():
        users.append(STREAM, numbered(20))
        until(lambda: len(users.recorded()) == 20, "the third one has handled them all")
    assert users.recorded() == list(range(1, 21))
