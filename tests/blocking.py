"""Async objects that tests can use as if they were their sync twins.

A test is written once, against `EventStore` and `psycopg.Connection`, and runs with the async
ones too: calls are awaited on an event loop of the client's own. So it does with SQLAlchemy's
sessions and connections, on whatever driver: every append is made on one of them then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import isawaitable
from typing import Any, Literal, Self, cast

import psycopg
import sqlalchemy
import sqlalchemy.ext.asyncio
import sqlalchemy.orm

from eventferry import AsyncEventStore, EventStore

Form = Literal["sync", "async"]
FORMS: tuple[Form, ...] = ("sync", "async")

SESSIONS = (
    "Session on psycopg",
    "Connection on psycopg2",
    "AsyncSession on asyncpg",
    "AsyncConnection on psycopg",
)
"""What SQLAlchemy calls them."""


class Client:
    """A service's program: makes stores and connections, and closes them at the end."""

    def __init__(self, form: Form, url: str) -> None:
        self.url = url
        self._stack = ExitStack()
        self._runner = asyncio.Runner() if form == "async" else None
        if self._runner is not None:
            self._stack.enter_context(self._runner)
        self.store = self.open_store(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open_store(self, target: Any = None) -> EventStore:
        """Another store: of this URL, of this pool, or of nothing."""
        if self._runner is None:
            return self._stack.enter_context(EventStore(target))
        store = cast(EventStore, Blocking(AsyncEventStore(plain(target)), self._runner))
        return self._stack.enter_context(store)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """The caller's own connection; what it has not committed is rolled back at the end."""
        conn = self._connected(**options)
        self._stack.callback(conn.close)
        return conn

    def _connected(self, **options: Any) -> psycopg.Connection[Any]:
        if self._runner is None:
            return psycopg.connect(self.url, **options)
        opened = self._runner.run(psycopg.AsyncConnection.connect(self.url, **options))
        return cast("psycopg.Connection[Any]", Blocking(opened, self._runner))

    def open_pool(self, **options: Any) -> Any:
        """A pool of the caller's."""
        from psycopg_pool import AsyncConnectionPool, ConnectionPool

        if self._runner is None:
            return self._stack.enter_context(ConnectionPool(self.url, **options))
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(self.url, open=False, **options)
        return self._stack.enter_context(Blocking(pool, self._runner))


class SessionClient(Client):
    """A program that uses SQLAlchemy: its connections are what `SESSIONS` names.

    Its store appends and reads in transactions of such connections, and commits them.
    """

    def __init__(self, form: str, url: str) -> None:
        self.form = form
        self._kind, _, driver = form.partition(" on ")
        is_async = self._kind.startswith("Async")
        super().__init__("async" if is_async else "sync", url)
        self.engine = engine(url, driver, is_async=is_async)
        self._stack.callback(self._awaited_now, self.engine.dispose)
        self.store = cast(EventStore, _Within(self.store, self._connected))

    def _connected(self, **options: Any) -> Any:
        engine = self.engine.execution_options(**options)
        if self._kind.endswith("Session"):
            opened = getattr(sqlalchemy.ext.asyncio, self._kind, sqlalchemy.orm.Session)(engine)
        else:
            opened = self._awaited_now(engine.connect)
        return opened if self._runner is None else Blocking(opened, self._runner)

    def _awaited_now(self, call: Callable[[], Any]) -> Any:
        result = call()
        return self._runner.run(_awaited(result)) if self._runner is not None else result


class _Within:
    """A store all of whose statements are in transactions of its caller's."""

    def __init__(self, store: EventStore, connect: Callable[[], Any]) -> None:
        self._store = store
        self._connect = connect

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return partial(self._within, method) if name in _TAKE_CONNECTION else method

    def _within(self, method: Any, *args: Any, connection: Any = None, **options: Any) -> Any:
        if connection is not None:
            return method(*args, connection=connection, **options)
        own = self._connect()
        try:
            result = method(*args, connection=own, **options)
            own.commit()
            return result
        finally:
            own.close()


_TAKE_CONNECTION = ("append", "create_stream", "read_entity", "streams")


def engine(url: str, driver: str, *, is_async: bool, **options: Any) -> Any:
    """SQLAlchemy's, on one of the drivers that it has."""
    create = sqlalchemy.ext.asyncio.create_async_engine if is_async else sqlalchemy.create_engine
    return create(url.replace("postgresql:", f"postgresql+{driver}:", 1), **options)


class Blocking:
    """An async object whose methods return when what they await has happened."""

    def __init__(self, wrapped: Any, runner: asyncio.Runner) -> None:
        self._wrapped = wrapped
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, name)
        if not callable(value):
            return self._result(value)
        return lambda *args, **kwargs: self._result(
            value(*map(plain, args), **{key: plain(arg) for key, arg in kwargs.items()})
        )

    def __enter__(self) -> Any:
        return self._result(self._wrapped.__aenter__())

    def __exit__(self, *error: Any) -> Any:
        return self._result(self._wrapped.__aexit__(*error))

    def __iter__(self) -> Iterator[Any]:
        items = aiter(self._wrapped)
        while (item := self._result(anext(items, END))) is not END:
            yield item

    def _result(self, value: Any) -> Any:
        if isawaitable(value):
            value = self._runner.run(_awaited(value))
        is_async = any(
            hasattr(type(value), name) for name in ("__aenter__", "__aiter__", "positions")
        )
        return Blocking(value, self._runner) if is_async else value


END = object()


async def _awaited(value: Any) -> Any:
    return await value


def plain(value: Any) -> Any:
    """What is inside of the wrapper, where there is one."""
    return value._wrapped if isinstance(value, Blocking) else value


@contextmanager
def opened(form: Form, url: str) -> Iterator[Client]:
    with Client(form, url) as client:
        yield client
