"""How eventferry connects to a store, and what it makes of a driver's errors.

Owns the connection options, the translation of errors by SQLSTATE and constraint name, and
the question whether an error is an outage (the store's fault, and worth another try) or not.
Nothing here sets the state of a session: PgBouncer may hand it to somebody else. Nothing is
prepared, until a connection of a pool is known to be direct (`store._native`).
"""

from __future__ import annotations

import re
import socket
import sys
from typing import Any, NoReturn

import psycopg
from psycopg import AsyncConnection
from psycopg import errors as pg
from psycopg.pq import DiagnosticField
from psycopg_pool import AsyncConnectionPool

from eventferry.errors import (
    UNPARSED,
    EventFerryError,
    EventTooLarge,
    InvalidEvent,
    InvalidStreamName,
    StoreError,
    StoreNotMigrated,
    StoreUnavailable,
    TransactionRequired,
    UnknownStream,
    WrongIsolation,
    redacted,
)

Pool = AsyncConnectionPool[AsyncConnection[Any]]
"""Connections to one store, for the event loop."""

CONNECT_TIMEOUT_S = 10


PREPARE_THRESHOLD = 5
"""A direct connection prepares a statement when it is executed this often."""


def options(name: str) -> dict[str, Any]:
    """What to pass to `psycopg.connect`, beside the URL, for a connection of ours.

    Args:
        name: What `pg_stat_activity` shows as the application.
    """
    return {
        "autocommit": True,
        "application_name": f"eventferry {name}",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "prepare_threshold": None,
        # a peer that is gone without a word is noticed in about 30 s, not in two hours
        "keepalives": 1,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }


def is_outage(error: BaseException) -> bool:
    """Whether the store (or the way to it) failed, rather than what it was asked to do.

    Lost connections, restarts, full connection tables, deadlocks, serialization failures,
    timeouts of locks: nothing is wrong with the event, and another try may do.
    """
    if isinstance(error, StoreUnavailable):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # never reached the server, or lost it on the way
        # an answer out of step: that of a transaction which the server has ended, by a pooler
        return isinstance(error, psycopg.OperationalError | psycopg.InternalError)
    return error.sqlstate[:2] in _OUTAGE_CLASSES or isinstance(error, _OUTAGES)


_OUTAGE_CLASSES = ("08", "53", "58")  # connection, insufficient resources, system error
_OUTAGES = (
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.DatabaseDropped,
    pg.IdleSessionTimeout,
    pg.IdleInTransactionSessionTimeout,  # we froze; where a handler is to blame, the engine knows
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.LockNotAvailable,
    pg.ReadOnlySqlTransaction,  # a failover in progress: the old primary is a standby now
)


class translated:  # noqa: N801 - reads as a function
    """Turns the driver's errors into ours; `store` names the store in their messages.

    A class, as every append goes through it: a generator would cost three times as much.
    """

    __slots__ = ("_store",)

    def __init__(self, store: str) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        driver = drivers_error(error) if isinstance(error, Exception) else None
        ours = None if driver is None else translation(driver, self._store)
        if ours is not None:
            raise ours from error


def drivers_error(error: Exception) -> psycopg.Error | None:
    """What the driver has said, in psycopg's words, whichever it was; None: it was none."""
    if isinstance(error, psycopg.Error):
        return error
    if is_a(error, "sqlalchemy.exc", "ResourceClosedError"):
        return psycopg.OperationalError(str(error))
    if not is_a(error, "sqlalchemy.exc", "DBAPIError"):
        return None
    orig: Any = error.orig  # type: ignore[attr-defined]
    if isinstance(orig, psycopg.Error):
        return orig
    said = getattr(orig, "diag", orig.__cause__)  # psycopg2's, or asyncpg's own error
    fields: dict[int, bytes | None] = {
        field: value.encode()
        for field, names in _FIELDS.items()
        if (value := next((v for name in names if (v := getattr(said, name, None))), None))
    }
    state = getattr(orig, "pgcode", None)
    try:
        kind = psycopg.OperationalError if state is None else pg.lookup(state)
    except KeyError:  # a trigger may raise a state of its own
        kind = psycopg.DatabaseError
    return kind(str(orig), info=fields)


_FIELDS = {
    DiagnosticField.MESSAGE_PRIMARY: ("message_primary", "message"),
    DiagnosticField.MESSAGE_HINT: ("message_hint", "hint"),
    DiagnosticField.SCHEMA_NAME: ("schema_name",),
    DiagnosticField.CONSTRAINT_NAME: ("constraint_name",),
}


def is_a(given: object, module: str, *names: str) -> bool:
    """Whether it is an object of one of these classes of a module.

    Nothing is imported to find out: whose library is not there can't have made the object.
    """
    found = sys.modules.get(module)
    return isinstance(given, tuple(getattr(found, name, ()) for name in names))


def how_to_create(stream: str) -> str:
    """What to do where a stream is missing."""
    return (
        f"Create it: `eventferry streams create {stream}`, for a shared store with `--environment "
        "shared`, where the producing projection of its service makes it too "
        "(`eventferry streams list` shows what is there)"
    )


def translation(error: psycopg.Error, store: str) -> EventFerryError | None:
    """What this error of the driver means; None: it is nothing that we know better."""
    message = error.diag.message_primary or " ".join(str(error).split())
    constraint = error.diag.constraint_name or ""
    match error:
        case pg.UndefinedTable() if "streams." in message or error.diag.schema_name == "streams":
            # whatever quotes the server's language has
            stream = "".join(re.findall(r"streams\.([a-z0-9_-]+)", message)[:1])
            return UnknownStream(
                f"{store} has no stream {stream!r}. {how_to_create(stream)}",
                stream=stream,
            )
        case pg.UndefinedTable() | pg.InvalidSchemaName() | pg.UndefinedFunction() if (
            "eventferry" in message
        ):
            return StoreNotMigrated(
                f"{store} is not migrated ({message}). Run `eventferry migrate`"
            )
        case pg.InvalidName():
            return InvalidStreamName(f"{message}. {error.diag.message_hint or ''}".strip())
        case pg.CheckViolation() if constraint.endswith("_size"):
            return EventTooLarge(f"{store} refused an event: {constraint}, {_LIMITS}")
        case pg.CheckViolation() if constraint.startswith("events_"):
            return InvalidEvent(f"{store} refused an event: {message}")
        case pg.InvalidTextRepresentation() | pg.UntranslatableCharacter():
            return InvalidEvent(f"{store} refused an event: {message}")
        case pg.InsufficientPrivilege():
            return StoreError(f"{store} refused: {message}. Ask its owner for the privilege")
        case pg.InvalidTransactionState() if "horizon" in message:
            return WrongIsolation(f"{message}. {error.diag.message_hint or ''}".strip())
        case pg.InvalidPassword() | pg.InvalidAuthorizationSpecification():
            return StoreUnavailable(
                f"{store} does not let us in: {message}. Check user and password"
            )
        case pg.InvalidCatalogName():
            return StoreUnavailable(f"{store}: {message}. Create the database, or correct the URL")
        case psycopg.OperationalError() if error.sqlstate is None and _REFUSED.search(message):
            return StoreUnavailable(
                f"{store} does not let us in: {message}. Check user, password and database"
            )
        case _ if is_outage(error):
            return StoreUnavailable(f"{store} is not available just now: {message}")
    return None


# A connection that was refused comes without an SQLSTATE.
_REFUSED = re.compile(r"authentication failed|no password supplied|pg_hba\.conf|FATAL: .*not exist")
_LIMITS = "data may have 16 MiB, metadata 1 MiB; keep large things elsewhere and their address here"


def refuse_autocommit() -> NoReturn:
    """Refuses a caller's connection on which each statement would commit by itself.

    Raises:
        TransactionRequired
    """
    raise TransactionRequired(
        "the given connection is in autocommit and in no transaction, so the append would be "
        "committed at once and alone. Append inside `with connection.transaction():` (of "
        "SQLAlchemy: on an engine without isolation_level='AUTOCOMMIT'; of Django: inside `with "
        "transaction.atomic():`), or leave `connection` out"
    )


def _ended() -> psycopg.pq.abc.PGconn:
    pgconn = psycopg.pq.PGconn.connect_start(b"host=/")
    pgconn.finish()
    return pgconn


ENDED = _ended()
"""What a connection has left when it has been taken away: everything raises, nothing connects."""


def require_url(url: str, store: str) -> None:
    """Refuses a URL that can't be parsed; what the parser says may quote the password.

    Raises:
        StoreError: it is no URL.
    """
    if redacted(url) == UNPARSED:
        raise StoreError(
            f"{store}: expected a URL like postgresql://user:password@host:5432/database, "
            "with every special character of its parts as %XX"
        )


def runner_name() -> str:
    """This process, as others see it: host:pid."""
    import os

    return f"{socket.gethostname()}:{os.getpid()}"


def shown(url: str, kind: str) -> str:
    """How messages name a store: `local store postgresql://user:***@host/db`."""
    return f"{kind} store {redacted(url)}"
