"""Django's transactions for handlers: what the ORM writes commits with the checkpoint.

A batch borrows one of a few connections of Django's, which are ours alone. While it lasts,
`django.db.connections[alias]` is that connection in the thread of the handler::

    borrow ──> atomic() ──> the engine's statements, and the handler's ──> COMMIT ──> on_commit
                                   │                                          │
                                   └──────────── an error: ROLLBACK ──────────┴──> give back

The transaction is begun and ended by psycopg, on a connection object of its own: READ COMMITTED,
whatever the settings say, and without Django's cursors and loaders. Django's `atomic()` around it
knows of it, so that savepoints, `on_commit` and `durable` are what they are in a view.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import django.db
import psycopg
from django.db import connections, transaction

from eventferry import sql
from eventferry.connection import ENDED, options, shown, translated
from eventferry.errors import StoreError, TransactionLost

log = logging.getLogger("eventferry.django")

IDLE = psycopg.pq.TransactionStatus.IDLE


class DjangoTransactions:
    """Transactions on connections of Django's to one of settings.DATABASES."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._lock = Lock()  # protects the two below
        self._idle: list[Any] = []
        self._drains = 0

    @contextmanager
    def begin(self) -> Iterator[psycopg.Connection[Any]]:
        """A transaction, on a connection object that is of no use when it has ended."""
        with self._borrowed() as wrapper:
            driver = wrapper.connection
            conn: psycopg.Connection[Any] = psycopg.Connection(driver.pgconn)
            conn._prepared = driver._prepared  # statements live as long as the server connection
            conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            try:
                with _atomic(self._alias):
                    with conn.transaction(), _kept_open(wrapper):
                        yield conn
                        _require_commit(wrapper)
                    hooks, wrapper.run_on_commit = wrapper.run_on_commit, []
            finally:
                conn.pgconn = ENDED
            _run(hooks)

    def drain(self) -> None:
        """Gives up all connections; those in use, when they are given back."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._drains += 1
        for wrapper in idle:
            wrapper.close()

    def close(self) -> None:
        """Leaves nothing behind."""
        self.drain()

    def require_same_store(self, local_url: str) -> None:
        """Refuses a local store that is not the database of the alias.

        Raises:
            StoreError: the ORM would write to one database, and checkpoints be in another.
            StoreUnavailable: one of the two does not answer.
        """
        store = shown(local_url, "local")
        with translated(store):
            with psycopg.connect(local_url, **options("store")) as conn:
                configured = _store_id(conn)
            with self.begin() as conn:
                of_django = _store_id(conn)
        if configured != of_django:
            raise StoreError(
                f"{store} is not settings.DATABASES[{self._alias!r}]: the ORM would write to "
                "another database than the one with the checkpoints. Give both the same one "
                "(local_url and EVENTFERRY_LOCAL_URL may be left out), or name the right alias: "
                'EVENTFERRY = {"database": "alias", …}'
            )

    @contextmanager
    def _borrowed(self) -> Iterator[Any]:
        """A connection of Django's, which is the alias's in this thread meanwhile."""
        with self._lock:
            drains, wrapper = self._drains, self._idle.pop() if self._idle else None
        if wrapper is None:
            wrapper = self._connected()
        connections[self._alias] = wrapper
        try:
            yield wrapper
        finally:
            del connections[self._alias]
            for other in connections.all(initialized_only=True):
                other.close()  # what a handler has opened, nobody else would close
            wrapper.queries_log.clear()  # under DEBUG, Django keeps all statements
            self._give_back(wrapper, drains)

    def _connected(self) -> Any:
        wrapper = connections.create_connection(self._alias)
        wrapper.inc_thread_sharing()  # from thread to thread, one after the other
        wrapper.close_if_unusable_or_obsolete = _nothing  # its age is no matter of a handler's
        try:
            with _drivers_errors():
                wrapper.connect()
                wrapper.set_autocommit(True)  # whatever the settings say: `atomic` begins and ends
        except BaseException:
            wrapper.close()
            raise
        return wrapper

    def _give_back(self, wrapper: Any, drains: int) -> None:
        driver = wrapper.connection
        # autocommit: what runs on commit may have changed it, and the next batch would not commit
        if driver and driver.autocommit and driver.info.transaction_status == IDLE:
            with self._lock:
                if drains == self._drains:
                    self._idle.append(wrapper)
                    return
        wrapper.close()


@contextmanager
def _atomic(using: str) -> Iterator[None]:
    """Django's `atomic()`, but for its own errors: those are the driver's."""
    atomic = transaction.atomic(using=using, durable=True)
    with _drivers_errors():
        atomic.__enter__()
    try:
        yield
    except BaseException as error:
        with _drivers_errors():
            atomic.__exit__(type(error), error, error.__traceback__)
        raise
    with _drivers_errors():
        atomic.__exit__(None, None, None)


@contextmanager
def _drivers_errors() -> Iterator[None]:
    """Takes Django's wrapping off: by the driver's errors, outages are known."""
    try:
        yield
    except django.db.Error as error:
        raise error.__cause__ or error from None


@contextmanager
def _kept_open(wrapper: Any) -> Iterator[None]:
    """Blames the handler that closes the connection, and would lose its batch by that."""

    def refuse() -> None:
        raise TransactionLost(
            "the handler has tried to close Django's connection, which its batch is in. "
            "Leave the connection to eventferry"
        )

    wrapper.close = refuse
    try:
        yield
    finally:
        del wrapper.close


def _require_commit(wrapper: Any) -> None:
    """Blames the handler after which Django would roll back without a word.

    Raises:
        TransactionLost: nothing of the batch would be committed.
    """
    if wrapper.needs_rollback:
        raise TransactionLost(
            "the handler has left Django's transaction to be rolled back: by "
            "transaction.set_rollback(True), or by swallowing an error that had come out of the "
            "ORM. Let the error out, or make a savepoint around what may fail: "
            "`with transaction.atomic():`"
        )


def _run(hooks: list[Any]) -> None:
    """Runs what was given to `transaction.on_commit`. The batch is committed, whatever they do."""
    for _, hook, *_ in hooks:
        try:
            hook()
        except BaseException:
            log.exception("a function given to transaction.on_commit() failed: %r", hook)


def _store_id(conn: psycopg.Connection[Any]) -> tuple[Any, ...] | None:
    return conn.execute(sql.query("store_id")).fetchone()


def _nothing() -> None:
    pass
