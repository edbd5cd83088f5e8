"""SQLAlchemy's sessions in the transaction of a batch.

A session gets its connection from an engine, as ever, but the engine lends the batch's: a
connection object of its own on the batch's server connection, which ends no transaction. What a
session commits becomes a part of the batch. After it has rolled back, the batch must not be
committed, and that is remembered, as nothing has been rolled back until the engine does it.

An engine is made once for each database: it then asks the server what it is, in the first batch
whose handler uses a session, and never again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast

import psycopg
from psycopg.adapt import AdaptersMap

from eventferry.connection import ENDED
from eventferry.errors import TransactionLost

try:
    from sqlalchemy import Engine, PoolProxiedConnection, create_engine, event
    from sqlalchemy.exc import ArgumentError
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
    from sqlalchemy.orm import Session, SessionTransaction
    from sqlalchemy.pool import NullPool
except ImportError as error:
    raise ImportError(
        'SQLAlchemy with asyncio is missing: pip install "eventferry[sqlalchemy]"'
    ) from error

__all__ = ["AsyncLoan", "AsyncSession", "Loan", "Session"]

S = TypeVar("S")


class _Loan(Generic[S]):
    """What is lent for a batch: any number of sessions, each made when it is first asked for."""

    def __init__(self, conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
        self.conn = conn
        self.is_rolled_back = False
        """Whether a session has rolled back, or was closed before a commit."""
        self._sessions: dict[Callable[..., Any], S] = {}
        self._lent: list[_Lent | _AsyncLent] = []
        self._is_over = False

    @contextmanager
    def borrowing(self) -> Iterator[None]:
        """What an engine connects to in here is the batch's connection.

        Raises:
            TransactionLost: the batch is over.
        """
        if self._is_over:
            raise TransactionLost("the batch of this session is over: use a session in its handler")
        token = _BORROWER.set(self)
        try:
            yield
        finally:
            _BORROWER.reset(token)

    def _made(self, factory: Callable[..., Any], bind: Engine | AsyncEngine) -> Any:
        """Its session, with all that it maps on the batch's connection; None: it makes no such."""
        try:
            return factory(bind=bind, binds=None, twophase=False)
        except ArgumentError:
            return None

    def _watch(self, session: Session) -> None:
        """Hears of a rollback, or a close before a commit, that has nothing to tell the server."""
        is_committed = False

        @event.listens_for(session, "after_commit")
        def committed(_: Session) -> None:
            nonlocal is_committed
            is_committed = True

        @event.listens_for(session, "after_transaction_end")
        def ended(_: Session, transaction: SessionTransaction) -> None:
            nonlocal is_committed
            if transaction.parent is None:
                self.is_rolled_back |= not is_committed
                is_committed = False

    def lend(self, lent: _Lent | _AsyncLent, adapters: AdaptersMap) -> None:
        """Sets up a connection of a session; `adapters`: SQLAlchemy's."""
        conn: Any = self.conn
        lent.loan = self
        lent.lock = conn.lock  # one statement at a time, whichever object it goes through
        lent._prepared = conn._prepared  # statements live as long as the server connection
        lent._adapters = AdaptersMap(adapters)
        self._lent.append(lent)

    def rolled_back(self) -> None:
        """A session has, unless it is but the engine, after what it has asked the server."""
        if _BORROWER.get(None) is None:
            self.is_rolled_back = True

    @contextmanager
    def _taken_back(self) -> Iterator[Iterable[S]]:
        """The sessions, to be closed; whatever is left of them is of no use then."""
        self._is_over = True
        try:
            yield self._sessions.values()
        finally:
            for lent in self._lent:
                lent.pgconn = ENDED


_BORROWER: ContextVar[_Loan[Any]] = ContextVar("borrower")


class Loan(_Loan[Session]):
    """What is lent to a `def` handler."""

    def default(self) -> Session:
        """The batch's session of SQLAlchemy's own kind."""
        return self.session(Session)

    def session(self, factory: Callable[..., S]) -> S:
        """The batch's session of this factory; it is called with `bind`.

        Raises:
            TypeError: it makes no `Session`.
        """
        if factory not in self._sessions:
            made = self._made(factory, _bound(_engine(*_database(self)), self))
            if not isinstance(made, Session):
                raise TypeError(_WANTED.format("def", "sqlalchemy.orm.Session", factory))
            self._watch(made)
            self._sessions[factory] = made
        return cast(S, self._sessions[factory])

    def flush(self) -> None:
        """Writes what the sessions hold, and lets the next event see what is there then."""
        for session in self._sessions.values():
            session.flush()
            if session.in_nested_transaction():  # else the close would roll back to its savepoint
                session.commit()
            session.expire_all()

    def close(self) -> None:
        """Takes everything back."""
        with self._taken_back() as sessions:
            for session in sessions:
                session.close()


class AsyncLoan(_Loan[AsyncSession]):
    """What is lent to an `async def` handler."""

    def default(self) -> AsyncSession:
        """The batch's session of SQLAlchemy's own kind."""
        return self.session(_async_session)

    def session(self, factory: Callable[..., S]) -> S:
        """The batch's session of this factory; it is called with `bind`.

        Raises:
            TypeError: it makes no `AsyncSession`.
        """
        if factory not in self._sessions:
            engine = AsyncEngine(_bound(_async_engine(*_database(self)), self))
            made = self._made(factory, engine)
            if not isinstance(made, AsyncSession):
                wanted = "sqlalchemy.ext.asyncio.AsyncSession"
                raise TypeError(_WANTED.format("async def", wanted, factory))
            self._watch(made.sync_session)
            self._sessions[factory] = made
        return cast(S, self._sessions[factory])

    async def flush(self) -> None:
        """Writes what the sessions hold, and lets the next event see what is there then."""
        for session in self._sessions.values():
            await session.flush()
            if session.in_nested_transaction():
                await session.commit()
            session.expire_all()

    async def close(self) -> None:
        """Takes everything back."""
        with self._taken_back() as sessions:
            for session in sessions:
                await session.close()


class _Lent(psycopg.Connection[Any]):
    """The batch's connection, as a session has it."""

    loan: _Loan[Any]
    lock: Any

    def commit(self) -> None:
        """The batch commits it, with its checkpoint."""

    def rollback(self) -> None:
        """The batch rolls it back."""
        self.loan.rolled_back()

    def close(self) -> None:
        """The batch's connection stays open."""
        self.pgconn = ENDED


class _AsyncLent(psycopg.AsyncConnection[Any]):
    """The same for asyncio."""

    loan: _Loan[Any]
    lock: Any

    async def commit(self) -> None:
        """The batch commits it, with its checkpoint."""

    async def rollback(self) -> None:
        """The batch rolls it back."""
        self.loan.rolled_back()

    async def close(self) -> None:
        """The batch's connection stays open."""
        self.pgconn = ENDED


def _bound(engine: Engine, loan: _Loan[Any]) -> Engine:
    """The engine, for the sessions of one batch: they get its connection, and no other's."""
    bound = engine.execution_options()

    def connect() -> PoolProxiedConnection:
        with loan.borrowing():
            return engine.raw_connection()

    bound.raw_connection = connect  # type: ignore[method-assign]
    return bound


@lru_cache
def _engine(*_database: object) -> Engine:
    engine = create_engine(_DRIVER, **_OPTIONS)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> Any:
        loan = _BORROWER.get()
        lent = _Lent(loan.conn.pgconn)
        loan.lend(lent, options["context"])
        return lent

    return engine


@lru_cache
def _async_engine(*_database: object) -> Engine:
    async def create(*_: Any, context: AdaptersMap, **_options: Any) -> _AsyncLent:
        loan = _BORROWER.get()
        lent = _AsyncLent(loan.conn.pgconn)
        loan.lend(lent, context)
        return lent

    connect = {"async_creator_fn": create}
    return create_async_engine(_DRIVER, connect_args=connect, **_OPTIONS).sync_engine


_DRIVER = "postgresql+psycopg://"
_OPTIONS: dict[str, Any] = {"poolclass": NullPool, "pool_reset_on_return": None}


def _database(loan: _Loan[Any]) -> tuple[object, ...]:
    """What an engine is made once for: what it learns of a server is right for no other."""
    pgconn = loan.conn.pgconn
    return pgconn.host, pgconn.port, pgconn.db, pgconn.server_version


def _async_session(**options: Any) -> AsyncSession:
    """Its objects can be used after a commit, without waiting for anything."""
    return AsyncSession(expire_on_commit=False, **options)


_WANTED = "in a `{}` handler the factory of a session must make a {}: {!r} does not"
