"""What a caller may pass as `connection=`, and the driver's connection that is inside of it.

A store speaks on the caller's own connection, so that an append is a part of the caller's
transaction. It speaks psycopg there; where SQLAlchemy has another driver below, SQLAlchemy.
One branch a kind of thing that may be passed; whose library has not been imported can't have
been passed, so nothing is imported to find out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import psycopg

from eventferry.connection import is_a

if TYPE_CHECKING:
    from typing import TypeAlias

    import sqlalchemy
    import sqlalchemy.ext.asyncio
    import sqlalchemy.orm
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.utils.connection import ConnectionProxy

    CallerConnection: TypeAlias = (
        psycopg.Connection[Any]
        | sqlalchemy.Connection
        | sqlalchemy.orm.Session
        | sqlalchemy.orm.scoped_session[Any]
        | BaseDatabaseWrapper
        | ConnectionProxy
    )
    AsyncCallerConnection: TypeAlias = (
        psycopg.AsyncConnection[Any]
        | sqlalchemy.ext.asyncio.AsyncConnection
        | sqlalchemy.ext.asyncio.AsyncSession
        | sqlalchemy.ext.asyncio.async_scoped_session[Any]
    )


def driver_connection(
    connection: CallerConnection,
) -> psycopg.Connection[Any] | sqlalchemy.Connection:
    """What to speak on, inside of what a caller has passed: in the caller's transaction.

    Raises:
        TypeError: nothing that `EventStore` takes.
    """
    if isinstance(connection, psycopg.Connection):
        return connection
    given = _unscoped(connection)
    if is_a(given, "sqlalchemy.orm", "Session") or is_a(given, "sqlalchemy", "Connection"):
        conn = begun(given)
        driver = conn.connection.driver_connection
        return driver if isinstance(driver, psycopg.Connection) else conn
    if _is_of_django(given):
        driver = _of_django(given)
        if isinstance(driver, psycopg.Connection):
            return driver
        raise _refusal(driver)
    raise _refusal(connection)


async def async_driver_connection(
    connection: AsyncCallerConnection,
) -> (
    psycopg.AsyncConnection[Any]
    | sqlalchemy.ext.asyncio.AsyncConnection
    | sqlalchemy.ext.asyncio.AsyncSession
):
    """The same for `AsyncEventStore`; of what is SQLAlchemy's then, `run_sync` gives `begun`."""
    if isinstance(connection, psycopg.AsyncConnection):
        return connection
    given = _unscoped(connection)
    if is_a(given, "sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection"):
        driver = await given.run_sync(lambda it: begun(it).connection.driver_connection)
        return driver if isinstance(driver, psycopg.AsyncConnection) else given
    raise _refusal(connection)


def give_up(connection: CallerConnection) -> None:
    """Tells SQLAlchemy that the driver's connection is lost.

    Else it would find out when it rolls back, and raise that instead of what has happened.
    """
    given = _unscoped(connection)
    if is_a(given, "sqlalchemy.orm", "Session") or is_a(given, "sqlalchemy", "Connection"):
        begun(given).invalidate()


async def async_give_up(connection: AsyncCallerConnection) -> None:
    """The same for `AsyncEventStore`."""
    given = _unscoped(connection)
    if is_a(given, "sqlalchemy.ext.asyncio", "AsyncSession", "AsyncConnection"):
        await given.run_sync(lambda it: begun(it).invalidate())


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
        if is_a(connection, module, name):
            return connection()  # type: ignore[operator]
    return connection


_SCOPES = (
    ("sqlalchemy.orm", "scoped_session"),
    ("sqlalchemy.ext.asyncio", "async_scoped_session"),
)


def begun(given: sqlalchemy.orm.Session | sqlalchemy.Connection) -> sqlalchemy.Connection:
    """SQLAlchemy's connection, in a transaction which the session, or the connection, will end.

    Raises:
        TypeError: it is one to another database than PostgreSQL.
    """
    conn: sqlalchemy.Connection
    if is_a(given, "sqlalchemy", "Connection"):
        conn = cast("sqlalchemy.Connection", given)
        if not conn.in_transaction():
            conn.begin()
    else:
        conn = cast("sqlalchemy.orm.Session", given).connection()
    if conn.dialect.name != "postgresql":
        raise TypeError(
            f"a store is a PostgreSQL, but the given connection is to {conn.dialect.name}"
        )
    return conn


def _is_of_django(given: object) -> bool:
    return is_a(given, "django.utils.connection", "ConnectionProxy") or is_a(
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
