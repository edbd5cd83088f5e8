"""Waiting until a projection has dealt with events: one's own, and those of other services."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from eventferry import (
    AsyncEventStore,
    Context,
    End,
    Event,
    NotHandledYet,
    ProjectionError,
    RecordedEvent,
    StoreError,
    StoreUnavailable,
    UnknownProjection,
    async_wait_until_handled,
    presence,
    wait_until_handled,
)
from eventferry.store import Appended
from tests.conftest import MakeService
from tests.pgbouncer import runs_through_pgbouncer_too, workers_through_pgbouncer_too
from tests.services import NEVER, Service, numbered, query, record
from tests.waiting import PATIENCE_S, until

STREAM = "users-stream"


@pytest.fixture(autouse=True)
def no_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers only because he looks by himself now and then."""
    monkeypatch.setattr(presence, "BEAT_S", 3600.0)


@pytest.fixture
def users(make_service: MakeService) -> Service:
    users = make_service("users")
    users.create_stream(STREAM, "orders-stream")
    users.create_effects()
    users.producing("ferry", STREAM)
    users.consuming("reader", record, STREAM)
    users.consuming("far", record, STREAM, environment="shared")
    return users


@pytest.fixture
def mail(make_service: MakeService) -> Service:
    mail = make_service("mail")
    mail.create_effects()
    mail.consuming("welcome", record, STREAM, environment="shared")
    return mail


def refuse(event: RecordedEvent, context: Context) -> None:
    raise ValueError(f"a bug at {event.data['n']}\nand more of it")


def appended(service: Service, stream: str = STREAM, count: int = 1, **fields: Any) -> Appended:
    return service.local.append(stream, numbered(count, **fields))


def wait(own: Service, what: Any, projection: str, **options: Any) -> None:
    options = {"timeout": PATIENCE_S, "config": own.config, **options}
    wait_until_handled(what, projection=projection, **options)


def refused(own: Service, what: Any, projection: str, **options: Any) -> str:
    """What is said when the time is up at once."""
    with pytest.raises(NotHandledYet) as error:
        wait(own, what, projection, **{"timeout": 0.0} | options)
    assert isinstance(error.value, TimeoutError)
    assert error.value.projection == projection
    return str(error.value)


@dataclass
class Waiter:
    """Somebody who waits, in a thread."""

    errors: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def waiting(own: Service, what: Any, projection: str, **options: Any) -> Iterator[Waiter]:
    """Somebody waits while the block runs, and has waited for long enough after it."""
    waiter = Waiter()

    def run() -> None:
        try:
            wait(own, what, projection, **options)
        except BaseException as error:
            waiter.errors.append(error)
        waiter.over.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield waiter
    finally:
        thread.join(PATIENCE_S)
    assert waiter.errors == []


def asked(service: Service) -> list[Any]:
    """The waits in the shared store, with their answers."""
    return query(
        service.shared_url, "SELECT projection, answer FROM eventferry.waits ORDER BY asked_at"
    )


# ---- projections of one's own


@runs_through_pgbouncer_too
@pytest.mark.parametrize("projection", ["reader", "ferry", "far"])
def test_a_wait_for_a_projection_of_ones_own_ends_when_it_is_past_the_event(
    users: Service, projection: str
) -> None:
    written = appended(users, count=3)
    if projection == "far":
        users.run("ferry")
    with waiting(users, written, projection) as waiter:
        assert not waiter.over.is_set()
        users.run(projection)
    if projection != "ferry":
        assert users.recorded(projection) == [1, 2, 3]
    wait(users, written, projection, timeout=0)  # long since
    assert asked(users) == []  # nobody has to be asked


def test_a_wait_for_events_that_are_not_ferried_yet_begins_with_that(users: Service) -> None:
    users.run("ferry")
    with users.worker("ferry", "far"):
        for _ in range(3):
            wait(users, appended(users), "far")
    assert len(users.recorded("far")) == 3


def test_only_the_events_waited_for_count(users: Service) -> None:
    first = appended(users)
    users.run("reader")
    later = appended(users)
    wait(users, first, "reader", timeout=0)
    refused(users, later, "reader")
    refused(users, [first, later], "reader")
    (event, last) = users.local.read(STREAM)
    wait(users, event, "reader", timeout=0)
    refused(users, last, "reader")
    wait(users, [], "reader", timeout=0)
    wait(users, users.local.append(STREAM, []), "reader", timeout=0)


def test_events_of_several_streams_are_waited_for_together(users: Service) -> None:
    users.consuming("both", record, STREAM, "orders-stream")
    written = [appended(users), appended(users, "orders-stream", first=2)]
    users.run("both")
    wait(users, written, "both", timeout=0)
    written.append(appended(users, "orders-stream", first=3))
    with waiting(users, written, "both"):
        users.run("both")
    assert users.recorded("both") == [1, 2, 3]


def test_what_the_handler_does_not_want_and_what_is_skipped_is_dealt_with(users: Service) -> None:
    users.consuming("picky", record, STREAM, event_types=frozenset({"Other"}))
    written = appended(users)
    users.run("picky")
    wait(users, written, "picky", timeout=0)
    users.deploy("reader", refuse)
    assert users.run("reader").end is End.FAILED
    refused(users, written, "reader")
    users.control("reader", lambda it: it.skip(written.ids[0], "a test"))
    wait(users, written, "reader", timeout=0)


@runs_through_pgbouncer_too
def test_the_async_form_waits_as_well(users: Service) -> None:
    async def main() -> None:
        async with AsyncEventStore(users.way.url(users.local_url)) as store:
            written = await store.append(STREAM, numbered(1))

            async def waits() -> None:
                options: dict[str, Any] = {"timeout": PATIENCE_S, "config": users.config}
                await async_wait_until_handled(written, projection="reader", **options)

            with pytest.raises(NotHandledYet, match="nobody runs it"):
                await async_wait_until_handled(
                    written, projection="reader", timeout=0.0, config=users.config
                )
            async with asyncio.TaskGroup() as group:
                waiter = group.create_task(waits())
                await asyncio.to_thread(users.run, "reader")
            assert waiter.done()
            # who writes `def` code on a loop is told where it is, too
            with pytest.raises(NotHandledYet, match="nobody runs it"):
                wait(users, await store.append(STREAM, numbered(1)), "reader", timeout=0)

    asyncio.run(main())


# ---- what is refused at once


def test_an_append_that_is_not_committed_is_refused(users: Service) -> None:
    for projection in ("reader", "ferry", "far"):
        with psycopg.connect(users.local_url) as conn:
            written = users.local.append(STREAM, numbered(1), connection=conn)
            with pytest.raises(StoreError, match="not committed yet, or was rolled back"):
                wait(users, written, projection)
            conn.rollback()
        with pytest.raises(StoreError, match="rolled back"):
            wait(users, written, projection)


def test_what_can_never_come_is_refused(users: Service, mail: Service) -> None:
    written, order = appended(users), appended(users, "orders-stream")
    with pytest.raises(UnknownProjection, match="no projection 'raeder'; did you mean 'reader'"):
        wait(users, written, "raeder")
    never = "never gets these events: it reads users-stream of the local store, and they are in"
    with pytest.raises(ProjectionError, match=never):
        wait(users, order, "reader")
    users.producing("away", "orders-stream", "all-orders")
    with pytest.raises(ProjectionError, match=r"orders-stream \(away ferries it to all-orders\)"):
        wait(users, order, "far")
    with pytest.raises(TypeError, match=r"expected what append returned, .* not Event"):
        wait(users, Event("UserRegistered"), "reader")
    with pytest.raises(TypeError, match="not int"):
        wait(users, 7, "reader")
    for timeout in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="timeout must be a number of seconds, 0 or more"):
            wait(users, written, "reader", timeout=timeout)


def test_a_service_that_nobody_knows_is_refused(users: Service, mail: Service) -> None:
    written = appended(users)
    with pytest.raises(UnknownProjection, match="knows no service 'mail'; it knows none"):
        wait(users, written, "welcome", service="mail")
    users.run("ferry")
    mail.consuming("near", record, "own-stream")
    mail.producing("outwards", "own-stream")
    mail.create_stream("own-stream")
    for name in ("welcome", "near", "outwards"):
        mail.run(name)
    with pytest.raises(UnknownProjection, match="no service 'mial'; did you mean 'mail'"):
        wait(users, written, "welcome", service="mial")
    with pytest.raises(UnknownProjection, match="'wellcome' of service 'mail'; did you mean 'we"):
        wait(users, written, "wellcome", service="mail")
    for name, kind in (("near", "consuming"), ("outwards", "producing")):
        with pytest.raises(ProjectionError, match=f"{kind} one that reads the local store"):
            wait(users, written, name, service="mail")
    with pytest.raises(ProjectionError, match="reads users-stream of the shared store, and they"):
        wait(users, appended(users, "orders-stream"), "welcome", service="mail")


def test_a_store_that_is_away_is_told_of(users: Service) -> None:
    away = replace(users.config, shared_url="postgresql:///shared?host=/nowhere")
    written = appended(users)
    with pytest.raises(StoreUnavailable, match="shared store"):
        wait(users, written, "far", config=away)
    users.run("reader")
    wait(users, written, "reader", timeout=0, config=away)  # which does without it


# ---- where it is, when the time is up


def test_the_error_says_where_an_own_projection_stands(users: Service) -> None:
    written = appended(users, count=2)
    said = refused(users, written, "reader")
    assert said.startswith(
        f"projection 'reader' has not dealt with 2 events, the last of them {written.ids[1]} "
        "within 0 s: nobody runs it (state: never run, 2 behind). Start one: `eventferry worker`"
    )
    users.deploy("reader", refuse)
    users.run("reader")
    said = refused(users, written, "reader")
    assert f"it has failed at Numbered {written.ids[0]} (users-stream:" in said
    assert "ValueError: a bug at 1. `eventferry projections status reader`" in said
    assert "and more of it" not in said
    users.consuming("slow", refuse, STREAM, attempts=3, backoff=timedelta(days=1))
    users.look("slow")
    assert "attempt 1 of 3 has failed at Numbered" in refused(users, written, "slow")
    users.control("reader", lambda it: it.pause("a move"))
    said = refused(users, written, "reader")
    assert "it is paused by a test: a move. `eventferry projections resume reader`" in said
    users.control("reader", lambda it: it.delete())
    assert refused(users, written, "reader").endswith("it has been deleted")


def test_the_error_says_that_the_events_are_not_ferried(users: Service, mail: Service) -> None:
    written = appended(users)
    said = refused(users, written, "far")
    assert "not ferried yet by 'ferry': nobody runs it (state: never run, 1 behind)" in said
    users.run("ferry")
    users.run("far")
    both = [written, appended(users)]
    assert "not ferried yet" in refused(users, both, "far")  # the second one
    users.run("ferry")
    assert "nobody runs it" in refused(users, both, "far")
    mail.run("welcome")
    users.control("ferry", lambda it: it.pause("a move"))
    written = appended(users)
    said = refused(users, written, "welcome", service="mail")
    assert "not ferried yet by 'ferry': it is paused by a test: a move" in said
    del users.projections["ferry"]
    assert "no producing projection of service 'users' ferries" in refused(users, written, "far")


def test_a_parked_event_is_not_handled_until_it_is_unparked(users: Service) -> None:
    users.consuming("reader", refuse, STREAM, on_failure="park")
    written = appended(users)
    assert users.run("reader").end is End.CAUGHT_UP
    assert "has parked them: `eventferry projections unpark reader`" in refused(
        users, written, "reader"
    )
    wait(users, users.local.append(STREAM, []), "reader", timeout=0)
    users.deploy("reader", record)
    with waiting(users, written, "reader"):
        users.control("reader", lambda it: it.unpark())
    assert users.recorded("reader") == [1]


def test_another_history_is_none_that_is_handled(users: Service) -> None:
    users.append(STREAM, numbered(9))
    users.run("reader")
    with psycopg.connect(users.local_url) as conn:
        conn.execute("UPDATE eventferry.streams SET incarnation = gen_random_uuid()")
    refused(users, next(iter(users.local.read(STREAM))), "reader")


# ---- those of other services


def until_known(service: Service) -> None:
    """Returns when a worker of the service has reported."""
    statement = "SELECT FROM eventferry.reports WHERE service = %s"
    until(lambda: query(service.shared_url, statement, (service.name,)), "it has reported")


@contextmanager
def both(users: Service, mail: Service) -> Iterator[None]:
    """Workers of both services that only a notification wakes."""
    users.poll_interval = mail.poll_interval = NEVER
    users.run("ferry")
    with users.worker("ferry") as ferry, mail.worker() as reader:
        ferry.until_asleep()
        reader.until_asleep()
        until_known(mail)
        yield


@workers_through_pgbouncer_too
def test_a_service_reads_what_another_one_has_written_of_its_event(
    users: Service, mail: Service
) -> None:
    users.poll_interval = mail.poll_interval = timedelta(milliseconds=20)
    users.run("ferry")
    with users.worker("ferry"), mail.worker():
        until_known(mail)
        for n in range(1, 4):
            wait(users, appended(users, first=n), "welcome", service="mail")
            assert mail.recorded() == list(range(1, n + 1))
    assert asked(users) == []


def test_a_worker_that_sleeps_answers(users: Service, mail: Service) -> None:
    with both(users, mail):
        written = appended(users, count=3)
        wait(users, written, "welcome", service="mail")
        assert mail.recorded() == [1, 2, 3]
        # long since; and several at once
        with (
            waiting(users, written, "welcome", service="mail"),
            waiting(users, [written, appended(users, first=4)], "welcome", service="mail"),
        ):
            pass
        assert mail.recorded() == [1, 2, 3, 4]
    assert asked(users) == []


def test_who_runs_it_now_and_then_answers_when_it_leaves(users: Service, mail: Service) -> None:
    users.run("ferry")
    mail.run("welcome")
    written = appended(users)
    users.run("ferry")
    with waiting(users, written, "welcome", service="mail"):
        until(lambda: asked(users) == [("welcome", None)])
        mail.run("welcome")
    assert mail.recorded() == [1]


def test_who_is_at_it_answers_when_the_run_has_ended(
    users: Service, mail: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "WAITED_FOR_S", 3600.0)
    go_on = threading.Event()

    def slow(event: RecordedEvent, context: Context) -> None:
        assert go_on.wait(PATIENCE_S)
        record(event, context)

    mail.deploy("welcome", slow)
    with both(users, mail), waiting(users, appended(users), "welcome", service="mail"):
        until(lambda: asked(users) == [("welcome", None)])
        go_on.set()
    assert mail.recorded() == [1]


def test_one_of_several_workers_answers_and_who_is_long_at_it_too(
    users: Service, mail: Service
) -> None:
    go_on = threading.Event()

    def slow(event: RecordedEvent, context: Context) -> None:
        if event.data["n"] == 2:
            assert go_on.wait(PATIENCE_S)
        record(event, context)

    mail.consuming("welcome", slow, STREAM, environment="shared", batch_size=1)
    with both(users, mail), mail.worker("welcome"):
        first, second = appended(users), appended(users, first=2)
        wait(users, first, "welcome", service="mail")
        assert "it was" in refused(users, second, "welcome", service="mail")
        with waiting(users, second, "welcome", service="mail"):
            until(lambda: asked(users) == [("welcome", None)])
            go_on.set()
    assert mail.recorded() == [1, 2]


def test_a_parked_event_of_another_service_is_told_of(users: Service, mail: Service) -> None:
    mail.consuming("welcome", refuse, STREAM, environment="shared", on_failure="park")
    with both(users, mail):
        written = appended(users)
        with waiting(users, written, "welcome", service="mail"):
            until(lambda: asked(users) == [("welcome", "parked")])
            said = refused(users, written, "welcome", service="mail", timeout=1.0)
            assert said.endswith(
                "it has parked them. In 'mail': `eventferry projections unpark welcome`"
            )
            mail.deploy("welcome", record)
            mail.control("welcome", lambda it: it.unpark())
    assert mail.recorded() == [1]


def test_the_error_says_how_the_other_service_is(users: Service, mail: Service) -> None:
    mail.deploy("welcome", refuse)
    users.run("ferry")
    written = appended(users)
    users.run("ferry")
    assert mail.run("welcome").end is End.FAILED  # and it leaves a report
    said = refused(users, written, "welcome", service="mail")
    assert said.startswith(
        f"projection 'welcome' of service 'mail' has not dealt with event {written.ids[0]} "
    )
    assert "s ago it was failed, 1 behind: ValueError: a bug at 1. In 'mail': `eventf" in said
    with psycopg.connect(users.shared_url) as conn:
        conn.execute("UPDATE eventferry.reports SET reported_at = reported_at - interval '1 hour'")
    said = refused(users, written, "welcome", service="mail")
    assert "nobody has said anything of it for 36" in said
    assert said.endswith("does a worker of 'mail' run?")


def test_a_wait_whose_process_has_died_is_forgotten_by_the_next(
    users: Service, mail: Service
) -> None:
    with both(users, mail):
        written = appended(users)
        with psycopg.connect(users.shared_url) as conn:
            conn.execute(
                "INSERT INTO eventferry.waits"
                " (id, service, projection, stream, position, events, until) VALUES"
                " (gen_random_uuid(), 'mail', 'welcome', %s, 1, '{}', now() - interval '2 min')",
                (STREAM,),
            )
        wait(users, written, "welcome", service="mail")
    assert asked(users) == []
