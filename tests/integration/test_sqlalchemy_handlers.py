"""Handlers write with SQLAlchemy's ORM, and what they write commits with the checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from eventferry import (
    AsyncContext,
    Context,
    End,
    Event,
    RecordedEvent,
    TransactionLost,
    lending,
)
from eventferry.sqlalchemy import session as session_of
from eventferry.testing import ServiceUnderTest
from tests.blocking import FORMS, Form
from tests.pgbouncer import runs_through_pgbouncer_too
from tests.services import Service, numbered, query, terminate
from tests.waiting import until

STREAM = "users-stream"


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    n: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")
    about: Mapped[dict[str, Any]] = mapped_column(sa.JSON, default=dict)


NOTES = """
    CREATE TABLE notes (
        n int PRIMARY KEY, text text NOT NULL CHECK (text <> 'wrong'), about json NOT NULL
    )"""

Work = Callable[[RecordedEvent, Session, Any], Any]


@pytest.fixture(scope="session")
def eventferry_schema() -> str:
    return NOTES


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM)
    loner.execute(NOTES)
    return loner


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return request.param  # type: ignore[no-any-return]


def handler(form: Form, work: Work) -> Any:
    """A handler that does this with its session, in a thread or on the loop."""
    if form == "sync":
        return lambda event, context: work(event, context.session, context)

    async def handle(event: RecordedEvent, context: AsyncContext) -> None:
        await context.session.run_sync(lambda session: work(event, session, context))

    return handle


def note(event: RecordedEvent, session: Session, context: Any) -> None:
    session.add(Note(n=event.data["n"], about=event.data))


def noted(users: Service) -> list[int]:
    return [n for (n,) in query(users.local_url, "SELECT n FROM notes ORDER BY n")]


@runs_through_pgbouncer_too
def test_what_is_added_commits_with_the_checkpoint(users: Service, form: Form) -> None:
    """The rows themselves say which transaction has written them."""
    users.consuming("reader", handler(form, note), STREAM)
    users.append(STREAM, numbered(5))
    assert users.run("reader").handled == 5
    assert noted(users) == [1, 2, 3, 4, 5]
    rows = query(users.local_url, "SELECT DISTINCT xmin::text FROM notes")
    checkpoints = query(
        users.local_url,
        "SELECT xmin::text FROM eventferry.checkpoints WHERE projection = 'reader'",
    )
    assert rows == checkpoints
    users.append(STREAM, numbered(1, first=6))
    users.run("reader")
    assert noted(users) == [1, 2, 3, 4, 5, 6]


async def test_an_async_session_is_used_as_ever(users: Service) -> None:
    seen: list[tuple[int, str]] = []

    async def handle(event: RecordedEvent, context: AsyncContext) -> None:
        async with context.session.begin_nested():
            context.session.add(mine := Note(n=event.data["n"], text="mine"))
        await context.session.commit()
        seen.append((mine.n, mine.text))
        rows = await context.session.scalars(sa.select(Note))
        seen.extend((one.n, one.text) for one in rows)

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    assert (await asyncio.to_thread(users.run, "reader")).end is End.CAUGHT_UP
    assert seen == [(1, "mine"), (1, "mine")]


def test_what_is_added_is_gone_with_its_event(users: Service, form: Form) -> None:
    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        note(event, session, context)
        session.flush()
        if event.data["n"] == 3:
            raise RuntimeError("no")

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(4))
    assert users.run("reader").end is End.FAILED
    assert noted(users) == [1, 2]
    assert users.checkpoint("reader") == users.positions(STREAM)[1]


def test_crashes_around_an_event_double_and_lose_nothing(
    eventferry_service: ServiceUnderTest, form: Form
) -> None:
    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        note(event, session, context)
        session.commit()
        session.execute(sa.update(Note).values(text=Note.text + "+"))

    eventferry_service.run_with_crashes(handler(form, work), numbered(2))


def test_an_error_of_the_flush_is_blamed_on_the_event_that_has_added(
    users: Service, form: Form
) -> None:
    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        session.add(Note(n=event.data["n"], text="wrong" if event.data["n"] == 2 else "right"))

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(4))
    users.run("reader")
    failure = users.failure("reader")
    assert failure.failing_position == users.positions(STREAM)[1]
    assert "IntegrityError" in str(failure.error)
    assert "notes_text_check" in str(failure.error)
    assert noted(users) == [1]


def test_a_commit_of_the_session_commits_nothing(users: Service, form: Form) -> None:
    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        note(event, session, context)
        session.commit()
        assert session.get(Note, event.data["n"])
        assert noted(users) == []
        if event.data["n"] == 2:
            session.connection().commit()
            raise RuntimeError("no")

    users.consuming("reader", handler(form, work), STREAM, batch_size=1)
    users.append(STREAM, numbered(1))
    assert users.run("reader").handled == 1
    assert noted(users) == [1]
    query(users.local_url, "DELETE FROM notes RETURNING n")
    users.append(STREAM, numbered(1, first=2))
    assert users.run("reader").end is End.FAILED
    assert noted(users) == []


def _rolled_back(session: Session) -> None:
    session.rollback()


def _closed(session: Session) -> None:
    session.close()


def _rolled_back_below(session: Session) -> None:
    session.connection().rollback()


def _swallowed(session: Session) -> None:
    session.add(Note(n=99, text="wrong"))
    try:
        session.flush()
    except IntegrityError:
        session.rollback()


@pytest.mark.parametrize("is_written", [True, False])
@pytest.mark.parametrize("end", [_rolled_back, _closed, _rolled_back_below, _swallowed])
def test_who_rolls_the_session_back_loses_the_event_and_no_other(
    users: Service, form: Form, end: Callable[[Session], None], is_written: bool
) -> None:
    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        note(event, session, context)
        if is_written:
            session.flush()
        if event.data["n"] == 2:
            end(session)

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(3))
    users.run("reader")
    failure = users.failure("reader")
    assert failure.failing_position == users.positions(STREAM)[1]
    said = "swallowed an error" if end is _swallowed else "rolled back a session"
    assert f"TransactionLost: the handler has {said}" in str(failure.error)
    assert noted(users) == [1]


def test_a_rollback_counts_while_the_engine_asks_the_server_what_it_is(users: Service) -> None:
    """The engine rolls back what it has asked, and that is no matter of the handler's."""

    async def handle(event: RecordedEvent, context: AsyncContext) -> None:
        await context.session.run_sync(lambda session: note(event, session, context))
        await context.session.flush()
        lending._async_engine.cache_clear()
        other = session_of(context, async_sessionmaker())
        await asyncio.gather(other.execute(sa.text("SELECT")), context.session.rollback())

    users.consuming("reader", handle, STREAM, attempts=1)
    users.append(STREAM, numbered(1))
    ended = users.run("reader")
    assert ended.end is End.FAILED
    assert "TransactionLost" in str(ended.error)
    assert noted(users) == []


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
def test_a_transaction_that_is_ended_by_hand_is_lost(
    users: Service, form: Form, statement: str
) -> None:
    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        session.execute(sa.text(statement))

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")
    assert "TransactionLost" in str(users.failure("reader").error)
    assert users.checkpoint("reader") == 0


@runs_through_pgbouncer_too
def test_a_savepoint_lets_a_handler_get_over_an_error(users: Service, form: Form) -> None:
    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Note(n=event.data["n"], text="wrong"))
        note(event, session, context)

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.CAUGHT_UP
    assert noted(users) == [1, 2, 3]


def test_a_savepoint_that_is_left_open_loses_nothing(users: Service, form: Form) -> None:
    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        session.begin_nested()
        note(event, session, context)

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(3))
    assert users.run("reader").handled == 3
    assert noted(users) == [1, 2, 3]


def test_an_event_sees_what_the_others_have_changed_meanwhile(users: Service, form: Form) -> None:
    """Objects expire after each event, though the session is the batch's."""
    users.execute("INSERT INTO notes VALUES (0, 'old', '{}')")
    seen: list[str] = []
    kept: list[Note] = []

    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        found = session.get_one(Note, 0)
        seen.append(found.text)
        kept.append(found)
        with psycopg.connect(users.local_url, autocommit=True) as other:
            other.execute("UPDATE notes SET text = 'new'")

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(2))
    users.run("reader")
    assert seen == ["old", "new"]


def test_session_connection_and_append_are_of_one_transaction(users: Service, form: Form) -> None:
    seen = []

    def handle(event: RecordedEvent, context: Context) -> None:
        context.session.add(Note(n=event.data["n"]))
        context.session.flush()
        seen.append(context.connection.execute("SELECT n FROM notes").fetchall())
        context.append(STREAM, Event("Noted"))

    async def handle_async(event: RecordedEvent, context: AsyncContext) -> None:
        context.session.add(Note(n=event.data["n"]))
        await context.session.flush()
        cursor = await context.connection.execute("SELECT n FROM notes")
        seen.append(await cursor.fetchall())
        await context.append(STREAM, Event("Noted"))

    handle_any = handle if form == "sync" else handle_async
    users.consuming("reader", handle_any, STREAM, event_types=frozenset({"Numbered"}))
    users.append(STREAM, numbered(1))
    users.run("reader")
    assert seen == [[(1,)]]
    assert [event.type for event in users.local.read(STREAM)] == ["Numbered", "Noted"]


def test_handle_batch_and_reset_have_a_session_too(users: Service, form: Form) -> None:
    def add(events: Sequence[RecordedEvent], session: Session) -> None:
        session.add_all(Note(n=event.data["n"]) for event in events)

    def clear(session: Session) -> None:
        session.execute(sa.delete(Note))
        session.add(Note(n=0, text="begun again"))

    class Bulk:
        def handle(self, event: RecordedEvent, context: Context) -> None: ...

        def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
            add(events, context.session)

        def reset(self, context: Context) -> None:
            clear(context.session)

    class AsyncBulk:
        async def handle(self, event: RecordedEvent, context: AsyncContext) -> None: ...

        async def handle_batch(
            self, events: Sequence[RecordedEvent], context: AsyncContext
        ) -> None:
            await context.session.run_sync(lambda session: add(events, session))

        async def reset(self, context: AsyncContext) -> None:
            await context.session.run_sync(clear)

    users.consuming("reader", Bulk() if form == "sync" else AsyncBulk(), STREAM)
    users.append(STREAM, numbered(3))
    users.run("reader")
    assert noted(users) == [1, 2, 3]
    users.control("reader", lambda it: it.reset("start"))
    assert noted(users) == [0]
    users.run("reader")
    assert noted(users) == [0, 1, 2, 3]


class OwnSession(Session):
    """What SQLModel makes of a session, say."""


class OwnAsyncSession(AsyncSession):
    pass


elsewhere = sa.create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nowhere")


def test_a_session_may_be_of_ones_own_kind(users: Service, form: Form) -> None:
    """Whatever engines it has been given, it is in the batch's transaction."""
    kinds: list[type[Any]] = []
    makers: tuple[Any, ...] = (
        (OwnSession, sessionmaker(elsewhere, class_=OwnSession, binds={Base: elsewhere}))
        if form == "sync"
        else (OwnAsyncSession, async_sessionmaker(class_=OwnAsyncSession, expire_on_commit=False))
    )

    def use(event: RecordedEvent, context: Any) -> list[Any]:
        sessions = [session_of(context, make) for make in makers]
        assert sessions == [session_of(context, make) for make in makers]
        assert context.session is context.session
        kinds.extend(map(type, sessions))
        for number, session in enumerate(sessions):
            session.add(Note(n=10 * event.data["n"] + number))
        return sessions

    async def use_async(event: RecordedEvent, context: AsyncContext) -> None:
        use(event, context)

    users.consuming("reader", use if form == "sync" else use_async, STREAM)
    users.append(STREAM, numbered(2))
    users.run("reader")
    assert all(issubclass(kind, makers[0]) for kind in kinds)
    assert noted(users) == [10, 11, 20, 21]


def test_a_session_of_the_other_form_is_refused_in_words(users: Service, form: Form) -> None:
    wrong = AsyncSession if form == "sync" else Session

    def use(event: RecordedEvent, context: Any) -> None:
        session_of(context, wrong)

    async def use_async(event: RecordedEvent, context: AsyncContext) -> None:
        use(event, context)

    users.consuming("reader", use if form == "sync" else use_async, STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")
    error = str(users.failure("reader").error)
    assert "handler the factory of a session must make a sqlalchemy." in error


def test_a_session_is_of_no_use_when_its_batch_is_over(users: Service, form: Form) -> None:
    sessions: list[Session] = []

    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        if sessions:
            sessions[0].add(Note(n=100))
            with pytest.raises(TransactionLost, match="the batch of this session is over"):
                sessions[0].flush()
        sessions.append(session)
        note(event, session, context)

    users.consuming("reader", handler(form, work), STREAM, batch_size=1)
    users.append(STREAM, numbered(2))
    assert users.run("reader").end is End.CAUGHT_UP
    assert sessions[0] is not sessions[1]
    assert noted(users) == [1, 2]


def test_a_connection_that_a_handler_has_kept_open_is_none_to_the_next_batch(
    users: Service,
) -> None:
    kept: list[sa.Connection] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        engine = context.session.get_bind()
        assert isinstance(engine, sa.Engine)
        kept.append(engine.connect())
        for conn in kept[:-1]:
            with pytest.raises(OperationalError, match="closed"):
                conn.execute(sa.text("SELECT"))
        kept[-1].execute(sa.text("SELECT"))

    users.consuming("reader", handle, STREAM, batch_size=1)
    users.append(STREAM, numbered(2))
    assert users.run("reader").end is End.CAUGHT_UP
    for conn in kept:
        conn.close()


def test_a_session_that_is_not_asked_for_costs_nothing(users: Service, form: Form) -> None:
    contexts: list[Any] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        contexts.append(context)

    async def handle_async(event: RecordedEvent, context: AsyncContext) -> None:
        contexts.append(context)

    users.consuming("reader", handle if form == "sync" else handle_async, STREAM)
    users.append(STREAM, numbered(1))
    users.run("reader")
    assert [context._loan for context in contexts] == [None]


def test_no_statement_is_sent_but_the_handlers(users: Service, form: Form) -> None:
    """Once an engine knows the server: neither BEGIN nor ROLLBACK, and no connection more."""
    pids: list[int] = []
    sent: list[str] = []

    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        engine = session.get_bind()
        if not sa.event.contains(engine, "before_cursor_execute", heard):
            sa.event.listen(engine, "before_cursor_execute", heard)
        pids.append(session.scalar(sa.text("SELECT pg_backend_pid()")) or 0)
        pids.append(context.connection.info.backend_pid)

    def heard(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(3))
    users.run("reader")
    assert sent == ["SELECT pg_backend_pid()"] * 3
    assert len(set(pids)) == 1


def test_a_lost_connection_is_an_outage_and_no_failure_of_the_event(
    users: Service, form: Form
) -> None:
    pids: list[int] = []

    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        pid = session.scalar(sa.text("SELECT pg_backend_pid()"))
        if not pids:
            pids.append(pid or 0)
            terminate(users.local_url, pids[0])
        note(event, session, context)

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(3))
    until(lambda: users.run("reader").end is End.CAUGHT_UP)
    assert noted(users) == [1, 2, 3]
    known = users.known("reader")
    assert known is not None
    assert known.error is None


@pytest.mark.parametrize("swallows", [False, True])
def test_a_deadlock_inside_of_the_orm_is_an_outage(
    users: Service, form: Form, swallows: bool
) -> None:
    """SQLAlchemy rolls back what has failed: the engine knows what it was nevertheless."""
    tries: list[int] = []

    def work(event: RecordedEvent, session: Session, context: Any) -> None:
        note(event, session, context)
        tries.append(event.data["n"])
        if len(tries) == 1:
            raised = sa.text("DO $$ BEGIN RAISE deadlock_detected; END $$")
            try:
                session.execute(raised)
            except DBAPIError as error:
                if swallows:
                    session.rollback()
                raise RuntimeError("wrapped") from error

    users.consuming("reader", handler(form, work), STREAM)
    users.append(STREAM, numbered(2))
    until(lambda: users.run("reader").end is End.CAUGHT_UP)
    assert noted(users) == [1, 2]
