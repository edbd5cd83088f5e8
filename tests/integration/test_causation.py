"""What a handler appends, wherever and by whatever, names the event that it was handling."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any
from uuid import uuid4

import pytest

from eventferry import (
    AsyncContext,
    AsyncEventStore,
    Context,
    End,
    Event,
    EventStore,
    RecordedEvent,
)
from eventferry.pools import Pools
from eventferry.run import Run
from tests.conftest import MakeService
from tests.django_host import database, set_up, under_django
from tests.services import Service, numbered

set_up()

from eventferry.django import append as append_in_django  # noqa: E402 - it has settings now

STREAM = "users-stream"
MAILS = "mails-stream"


@pytest.fixture
def users(make_service: MakeService) -> Service:
    users = make_service()
    users.create_stream(STREAM, MAILS)
    return users


def caused(users: Service, handler: Any, *events: Event) -> list[dict[str, Any]]:
    """The metadata of what a handler has appended; it is given one event, if not more."""
    users.consuming("reader", handler, STREAM)
    users.append(STREAM, events or numbered(1))
    assert users.run("reader").end is End.CAUGHT_UP
    return [event.metadata for event in users.local.read(MAILS)]


def ties(event: Event, correlation: str | None = None) -> dict[str, str]:
    """What names the event as a cause."""
    return {"correlation_id": correlation or str(event.id), "causation_id": str(event.id)}


def by_connection(event: RecordedEvent, context: Context) -> None:
    EventStore().append(MAILS, Event("MailOrdered"), connection=context.connection)


async def by_async_connection(event: RecordedEvent, context: AsyncContext) -> None:
    connection = context.connection
    await AsyncEventStore().append(MAILS, Event("MailOrdered"), connection=connection)


def by_session(event: RecordedEvent, context: Context) -> None:
    EventStore().append(MAILS, Event("MailOrdered"), connection=context.session)


async def by_async_session(event: RecordedEvent, context: AsyncContext) -> None:
    await AsyncEventStore().append(MAILS, Event("MailOrdered"), connection=context.session)


def by_copy(event: RecordedEvent, context: Context) -> None:
    many = [Event("MailOrdered") for _ in range(2)]
    EventStore().append(MAILS, many, connection=context.connection)


@pytest.mark.parametrize(
    "handler", [by_connection, by_async_connection, by_session, by_async_session, by_copy]
)
def test_an_append_in_the_batchs_transaction_names_its_cause(users: Service, handler: Any) -> None:
    first, second = Event("Registered"), Event("Registered", metadata={"correlation_id": "r-7"})
    found = caused(users, handler, first, second)
    times = 2 if handler is by_copy else 1
    assert found == [ties(first)] * times + [ties(second, "r-7")] * times


def test_an_append_in_djangos_transaction_names_its_cause(users: Service) -> None:
    def handle(event: RecordedEvent) -> None:
        append_in_django(MAILS, Event("MailOrdered"))

    event = Event("Registered")
    with under_django(default=database(users.local_url)):
        assert caused(users, handle, event) == [ties(event)]


def test_an_append_to_another_store_names_its_cause(users: Service) -> None:
    """Of the projection's own; it commits by itself."""

    def handle(event: RecordedEvent) -> None:
        users.shared.append(MAILS, Event("MailOrdered"))

    users.shared.create_stream(MAILS)
    event = Event("Registered")
    caused(users, handle, event)
    assert [mail.metadata for mail in users.shared.read(MAILS)] == [ties(event)]


def test_what_the_user_says_wins(users: Service) -> None:
    own = {"correlation_id": "mine", "by": "test"}

    def handle(event: RecordedEvent, context: Context) -> None:
        given = Event("MailOrdered", metadata=own)
        EventStore().append(MAILS, given, connection=context.connection)
        assert given.metadata == own

    event = Event("Registered")
    assert caused(users, handle, event) == [{**own, "causation_id": str(event.id)}]


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_names_no_cause_not_even_if_it_has_one_event(users: Service, count: int) -> None:
    """Else it would depend on the size of the batch what the same event leads to."""

    class Bulk:
        def handle(self, event: RecordedEvent) -> None:
            raise AssertionError

        def handle_batch(self, events: list[RecordedEvent], context: Context) -> None:
            by_connection(events[0], context)
            context.append(MAILS, Event("MailOrdered"))

    assert caused(users, Bulk(), *numbered(count)) == [{}] * 2


def test_a_thread_or_a_task_that_a_handler_starts_names_the_event_that_it_was_started_for(
    users: Service,
) -> None:
    """As far as Python takes the context there: into tasks and `to_thread`, not into pools."""
    tasks: set[asyncio.Task[None]] = set()

    async def later(turn: asyncio.Event) -> None:
        await turn.wait()
        users.local.append(MAILS, Event("InATask"))

    async def handle(event: RecordedEvent) -> None:
        if tasks:  # the task is for the event before
            turn.set()
            await asyncio.gather(*tasks)
            return
        tasks.add(asyncio.create_task(later(turn)))
        await asyncio.to_thread(users.local.append, MAILS, Event("InAThread"))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(users.local.append, MAILS, Event("InAPool")).result()
            inside = copy_context().run
            pool.submit(inside, users.local.append, MAILS, Event("InAPool")).result()

    turn = asyncio.Event()
    first, second = numbered(2)
    named = ties(first)
    assert caused(users, handle, first, second) == [named, {}, named, named]


def test_nothing_is_named_outside_of_a_handler(users: Service) -> None:
    class Handler:
        async def handle(self, event: RecordedEvent) -> None:
            pass

        async def reset(self, context: AsyncContext) -> None:
            await context.append(MAILS, Event("Undone"))

    async def run_and_append() -> None:
        async with Pools(users.config) as pools:
            await Run(pools=pools, projection=users.projections["reader"])()
        users.local.append(MAILS, Event("Outside"))

    assert caused(users, Handler()) == []
    users.append(STREAM, numbered(1))
    asyncio.run(run_and_append())
    users.control("reader", lambda it: it.reset("start"))
    assert [event.metadata for event in users.local.read(MAILS)] == [{}, {}]


def test_an_append_may_be_repeated_for_another_event(users: Service) -> None:
    """Whose id follows from what it says; it keeps the cause that it was appended for first."""
    id_ = uuid4()

    def handle(event: RecordedEvent, context: Context) -> None:
        welcomed = Event("Welcomed", id=id_)
        EventStore().append(MAILS, welcomed, connection=context.connection)

    first, second = numbered(2)
    assert caused(users, handle, first, second) == [ties(first)]
