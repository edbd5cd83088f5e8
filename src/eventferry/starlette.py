"""eventferry in a Starlette app: the transactions of its requests, and a worker for development.

    start ──> local store checked, pools opened ──> embedded worker, if wished ──> requests
                                                                                      │
    end <── pools closed <── the worker's batch ended <───────────────────────────────┘

Owns the connections that requests use, from the app's start to its end. What commits is one
transaction of the local store; it has committed when its block has ended. For FastAPI, see
`eventferry.fastapi`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg_pool import PoolTimeout

from eventferry import migration, tasks
from eventferry.config import Config, load
from eventferry.connection import translated
from eventferry.engine._async import AsyncPoolTransactions
from eventferry.engine._sync import PoolTransactions
from eventferry.errors import StoreUnavailable
from eventferry.event import Event
from eventferry.health import Health, Verdict
from eventferry.pools import Pools
from eventferry.store import Appended, AsyncAppended, AsyncEventStore, EventStore
from eventferry.worker import Worker

try:
    from starlette.requests import Request
    from starlette.responses import JSONResponse
except ImportError as error:
    raise ImportError('Starlette is missing: pip install "eventferry[fastapi]"') from error

__all__ = ["AsyncTransaction", "EventFerry", "Transaction"]

log = logging.getLogger("eventferry.worker")

READY_S = 2.0
"""A store that has not answered by then is not ready."""


@dataclass(frozen=True, slots=True)
class AsyncTransaction:
    """A transaction of the local store, on the event loop. Good for its block only."""

    connection: AsyncConnection[Any]
    """For what the service persists itself. Don't commit it or roll it back;
    `async with connection.transaction():` makes a savepoint."""

    async def append(
        self,
        stream: str,
        events: Event | Iterable[Event],
        *,
        expected_version: int | None = None,
    ) -> AsyncAppended:
        """Appends to a stream of the local store, in this transaction.

        Arguments and errors are those of `AsyncEventStore.append`.
        """
        return await AsyncEventStore().append(
            stream, events, expected_version=expected_version, connection=self.connection
        )


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction of the local store, for code that runs in a thread. Good for its block only."""

    connection: Connection[Any]
    """For what the service persists itself. Don't commit it or roll it back;
    `with connection.transaction():` makes a savepoint."""

    def append(
        self,
        stream: str,
        events: Event | Iterable[Event],
        *,
        expected_version: int | None = None,
    ) -> Appended:
        """Appends to a stream of the local store, in this transaction.

        Arguments and errors are those of `EventStore.append`.
        """
        return EventStore().append(
            stream, events, expected_version=expected_version, connection=self.connection
        )


class EventFerry:
    """A service's local store in its web app.

    Nothing is read or connected before the app starts. The worker and the migration are for
    development: in production, `eventferry worker` and `eventferry migrate` have processes of
    their own. They are safe beside others all the same, in several processes of one app and while
    it reloads: the checkpoints' locks decide.

    Args:
        config: The configuration, or its file; None: found as the command line finds it.
        worker: Whether the app's process runs all projections of the service too, the long-running
            ones and those of every queue. Its `async def` handlers share the app's event loop.
        migrate: Whether the start makes or upgrades the stores, as `eventferry migrate` does.
        pool_size: Requests that have a transaction at a time, of `async def` routes and of `def`
            routes each; more of them wait.
    """

    def __init__(
        self,
        config: Config | Path | str | None = None,
        *,
        worker: bool = False,
        migrate: bool = False,
        pool_size: int = 16,
    ) -> None:
        self._given = config
        self._has_worker = worker
        self._migrates = migrate
        self._pool_size = pool_size
        self._opened: Pools | None = None
        self._worker: _EmbeddedWorker | None = None

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """The app's lifespan: `Starlette(lifespan=ferry.lifespan)`.

        Raises:
            ConfigurationError: the configuration is wrong; with all mistakes.
            StoreUnavailable: the local store can't be reached; with the worker: one of the stores.
            StoreNotMigrated: run `eventferry migrate`.
            SchemaTooNew: upgrade eventferry.
            ProjectionError: with the worker: a projection has run with other streams before.
        """
        async with self.running(app):
            yield

    @asynccontextmanager
    async def running(self, *apps: Any) -> AsyncIterator[None]:
        """The same inside a lifespan of one's own: `async with ferry.running(app): yield`.

        Errors are those of `lifespan`.

        Args:
            apps: Those whose FastAPI routes have transactions: the app, and what is mounted in it.
        """
        if self._opened is not None:
            raise RuntimeError("this EventFerry runs already; make one for each app")
        config = self._config()
        if self._migrates:
            await asyncio.to_thread(_migrate, config)
        self._turns = asyncio.Semaphore(self._pool_size)  # of this loop
        async with AsyncExitStack() as stack:
            stack.callback(self._forget)
            self._opened = await stack.enter_async_context(
                Pools(config, size=self._pool_size, shared_is="unused")
            )
            if self._has_worker:
                self._worker = await stack.enter_async_context(_EmbeddedWorker(config))
            for app in apps:
                app.state.eventferry = self
            yield

    @asynccontextmanager
    async def async_transaction(self) -> AsyncIterator[AsyncTransaction]:
        """A transaction, committed when its block ends, rolled back if that raises.

        Raises:
            StoreUnavailable: the local store gives no connection.
        """
        pool, store = self._pools.local, self._pools.shown("local")
        async with AsyncExitStack() as stack:
            with _beginning(store):
                try:
                    conn = await stack.enter_async_context(AsyncPoolTransactions(pool).begin())
                except PoolTimeout:
                    raise
                except psycopg.OperationalError:  # of the time before the store was restarted
                    await pool.drain()
                    conn = await stack.enter_async_context(AsyncPoolTransactions(pool).begin())
            yield AsyncTransaction(conn)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """The same for code that runs in a thread, such as a `def` route.

        Raises:
            StoreUnavailable: the local store gives no connection.
        """
        pool, store = self._pools.handlers, self._pools.shown("local")
        with ExitStack() as stack:
            with _beginning(store):
                try:
                    conn = stack.enter_context(PoolTransactions(pool).begin())
                except PoolTimeout:
                    raise
                except psycopg.OperationalError:
                    pool.drain()
                    conn = stack.enter_context(PoolTransactions(pool).begin())
            yield Transaction(conn)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The right to one of the connections of `transaction`.

        For who enters that in one thread and goes on in another: if many waited for a connection
        in threads, those who have one would get no thread to go on in.

        Raises:
            StoreUnavailable: others have all connections for too long.
        """
        patience_s, turns = self._pools.handlers.timeout, self._turns
        try:
            async with asyncio.timeout(patience_s):
                await turns.acquire()
        except TimeoutError as error:
            raise StoreUnavailable(
                f"{self._pools.shown('local')} gave no connection: {self._pool_size} requests have "
                f"had a transaction each for {patience_s:g} s"
            ) from error
        try:
            yield
        finally:
            turns.release()

    async def readyz(self, request: Request) -> JSONResponse:
        """A route for readiness probes: `app.add_route("/readyz", ferry.readyz)`.

        200 if the local store answers, and the embedded worker is well, if there is one; else 503,
        with the reason. A projection that has failed is no reason.
        """
        verdict = await self._verdict()
        return JSONResponse(
            {
                "status": verdict.status,
                "reason": verdict.reason,
                "projections": self._worker.health.projections if self._worker else {},
            },
            status_code=200 if verdict.is_ok else 503,
            headers={"Cache-Control": "no-store"},
        )

    async def _verdict(self) -> Verdict:
        try:
            async with asyncio.timeout(READY_S), self.async_transaction() as transaction:
                await transaction.connection.execute("SELECT")
        except TimeoutError:
            return Verdict("unavailable", reason=f"no answer of the store in {READY_S:g} s")
        except (StoreUnavailable, psycopg.OperationalError) as error:
            return Verdict("unavailable", reason=" ".join(str(error).split()))
        return self._worker.health.ready() if self._worker else Verdict("ready", is_ok=True)

    def _config(self) -> Config:
        if isinstance(self._given, Config):
            return self._given
        return load(self._given, import_handlers=self._has_worker)

    @property
    def _pools(self) -> Pools:
        if self._opened is None:
            raise RuntimeError(
                "this EventFerry does not run: give the app `lifespan=ferry.lifespan`, or use "
                "`async with ferry.running(app):` in a lifespan of its own. In tests, "
                "`with TestClient(app)` runs it"
            )
        return self._opened

    def _forget(self) -> None:
        self._opened = self._worker = None


@contextmanager
def _beginning(store: str) -> Iterator[None]:
    """The errors of a transaction's begin are ours; those inside of it are the route's."""
    with translated(store):
        try:
            yield
        except PoolTimeout as error:
            raise StoreUnavailable(f"{store} gave no connection: {error}") from error


def _migrate(config: Config) -> None:
    migration.migrate(config.local_url, kind="local", service=config.service)
    if not config.same_database:
        migration.migrate(config.shared_url, kind="shared")


class _EmbeddedWorker:
    """A worker as a task on the app's loop; the app goes on whatever becomes of it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._is_ending = False
        self._begin()

    def _begin(self) -> None:
        self.health = Health()
        self._worker = Worker(
            config=self._config,
            projections=tuple(self._config.projections.values()),
            command="app",
            health=self.health,
        )

    async def __aenter__(self) -> _EmbeddedWorker:
        """Returns when the worker has been seen to start.

        Raises:
            what `Worker.run` raises at the start
        """
        self._task = asyncio.create_task(self._run(), name="eventferry embedded worker")
        started = asyncio.create_task(self._worker.started.wait(), name="eventferry start")
        try:
            await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await tasks.end([self._task])
            raise
        finally:
            started.cancel()
        if self._task.done():
            self._task.result()
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_ending = True
        self._worker.stop()
        try:
            await asyncio.wait({self._task})
        finally:
            await tasks.end([self._task])

    async def _run(self) -> None:
        while True:
            async with self.health.beating():
                await self._worker.run()
            if self._is_ending or not self._worker.is_asked:
                return
            log.warning(
                "asked to end, by `eventferry restart`: the embedded worker begins anew, with the "
                "code that the app has loaded. Restart the app to load new code"
            )
            self._begin()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.critical(
            "the embedded worker has crashed: no projection runs in this process any more. The app "
            "goes on without it; restart the app, and report this error",
            exc_info=error,
        )
