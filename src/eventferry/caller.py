"""What a caller may pass as `connection=`, and the driver's connection that is inside of it.

A store speaks on the caller's own connection, so that an append is a part of the caller's
transaction, and it speaks psycopg. One branch a kind of thing that may be passed; whose library
has not been imported can't have been passed, so nothing is imported to find out.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from typing import TypeAlias

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.utils.connection import ConnectionProxy
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import Session, scoped_session

    CallerConnection: TypeAlias = (
        psycopg.Connection[Any]
        | Connection
        | Session
        | scoped_session[Any]
        | BaseDatabaseWrapper
        | ConnectionProxy
    )
    AsyncCallerConnection: TypeAlias = (
        psycopg.AsyncConnection[Any] | AsyncConnection | AsyncSession | async_scoped_session[Any]
    )


def driver_connection(connection: CallerConnection) -> psycopg.Connection[Any]:
    """The driver's connection inside of what a caller has passed, its transaction begun.

    Raises:
        TypeError: nothing that `EventStore` takes.
    """
    if isinstance(connection, psycopg.Connection):
        return connection
    given = _unscoped(connection)
    if _is_a(given, "sqlalchemy.orm", "Session") or _is_a(given, "sqlalchemy", "Connection"):
        driver = _of_sqlalchemy(given)
    elif _is_of_django(given):
        driver = _of_django(given)
    else:
        raise _refusal(connection)
    if isinstance(driver, psycopg.Connection):
        return driver
    raise _refusal(driver)


async def async_driver_connection(
    connection: AsyncCallerConnection,
) -> psycopg.AsyncConnection[Any]:
    """The same for `AsyncEventStore`."""
    if isinstance(connection, psycopg.AsyncConnection):
        return connection
    given = _unscoped(connection)
    if _is_a(given, "sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection"):
        driver = await given.run_sync(_of_sqlalchemy)
        if isinstance(driver, psycopg.AsyncConnection):
            return driver
        raise _refusal(driver)
    raise _refusal(connection)


def has_ended(connection: CallerConnection | AsyncCallerConnection) -> bool:
    """Whether the caller has given the connection back, as after its `with`."""
    if isinstance(connection, psycopg.Connection | psycopg.AsyncConnection):
        return connection.closed
    if _is_of_django(connection):  # it connects again when it is used
        return False
    return not _unscoped(connection).in_transaction()


def _unscoped(connection: object) -> Any:
    """The session of this thread, or of this task, where it is one for each."""
    for module, name in _SCOPES:
        if _is_a(connection, module, name):
            return connection()  # type: ignore[operator]
    return connection


_SCOPES = (
    ("sqlalchemy.orm", "scoped_session"),
    ("sqlalchemy.ext.asyncio", "async_scoped_session"),
)


def _is_a(given: object, module: str, *names: str) -> bool:
    """Whether it is an object of one of these classes of a module."""
    found = sys.modules.get(module)
    return isinstance(given, tuple(getattr(found, name, ()) for name in names))


def _of_sqlalchemy(given: Any) -> Any:
    """The driver's connection, in a transaction which the session or connection will end."""
    if _is_a(given, "sqlalchemy", "Connection"):
        if not given.in_transaction():
            given.begin()
        return given.connection.driver_connection
    return given.connection().connection.driver_connection


def _is_of_django(given: object) -> bool:
    return _is_a(given, "django.utils.connection", "ConnectionProxy") or _is_a(
        given, "django.db.backends.base.base", "BaseDatabaseWrapper"
    )


def _of_django(given: Any) -> Any:
    """The driver's connection; Django has told it whether each statement commits by itself."""
    given.validate_thread_sharing()
    given.validate_no_broken_transaction()
    given.ensure_connection()
    return given.connection


def _refusal(given: object) -> TypeError:
    """Says what each form of the store takes."""
    found = type(given)
    return TypeError(
        f"connection can't be a {found.__module__}.{found.__name__}. EventStore takes a "
        "psycopg.Connection, SQLAlchemy's Session or Connection, or Django's to a PostgreSQL; "
        "AsyncEventStore a "
        "psycopg.AsyncConnection, or SQLAlchemy's AsyncSession or AsyncConnection"
    )
