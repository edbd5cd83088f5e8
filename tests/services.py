"""Services for tests: stores, projections and handlers that are written in the test itself.

A `Service` stands for what a team has: a local store, the shared store, a configuration. Its
handlers are plain objects of the test instead of references in a file::

    users = make_service("users")
    users.create_stream("users-stream")
    users.producing("users-projection", "users-stream")
    users.append("users-stream", numbered(3))
    users.run("users-projection")

Most tests count effects: `record` writes one row an event, with no key that would hide a double,
and `Service.recorded` says what is there, in the order in which it was handled.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg.rows import class_row

from eventferry import sql
from eventferry.config import Config
from eventferry.control import Control
from eventferry.ended import End, Ended
from eventferry.engine.context._async import AsyncContext
from eventferry.engine.context._sync import Context
from eventferry.event import Event, RecordedEvent
from eventferry.handler import handler_of
from eventferry.health import Health
from eventferry.pools import Pools
from eventferry.program import chosen, run_projection
from eventferry.projection import Projection
from eventferry.registry import HEARTBEAT_S, Registered, Registry
from eventferry.run import Run
from eventferry.store import EventStore
from eventferry.worker import Worker
from tests.pgbouncer import DIRECT, Way
from tests.waiting import PATIENCE_S, until

T = TypeVar("T")

NEVER = timedelta(hours=1)
"""A poll interval with which only a notification can wake a worker in time."""
SOON = timedelta(milliseconds=20)

EFFECTS = """
CREATE TABLE effects (
    place      bigint GENERATED ALWAYS AS IDENTITY,
    projection text NOT NULL,
    event_id   uuid NOT NULL,
    stream     text NOT NULL,
    position   bigint NOT NULL,
    n          integer
)
"""
RECORD: LiteralString = (
    "INSERT INTO effects (projection, event_id, stream, position, n) VALUES (%s, %s, %s, %s, %s)"
)


def numbered(count: int, first: int = 1, **fields: Any) -> list[Event]:
    """Events whose data is {"n": first}, {"n": first + 1}, …"""
    return [Event("Numbered", {"n": n}, **fields) for n in range(first, first + count)]


def record(event: RecordedEvent, context: Context) -> None:
    """A handler whose effect is one row an event."""
    context.connection.execute(RECORD, _effect(event, context.projection))


async def record_async(event: RecordedEvent, context: AsyncContext) -> None:
    """The same, on the loop."""
    await context.connection.execute(RECORD, _effect(event, context.projection))


def _effect(event: RecordedEvent, projection: str) -> tuple[Any, ...]:
    return projection, event.id, event.stream, event.position, event.data.get("n")


class Service:
    """A service: its stores, its configuration, its projections."""

    def __init__(self, name: str, local_url: str, shared_url: str, *, way: Way = DIRECT) -> None:
        self.name = name
        self.local_url = local_url
        self.shared_url = shared_url
        self.way = way
        self.poll_interval = SOON
        self.listens = way.listens
        self.projections: dict[str, Projection] = {}
        self.local = EventStore(way.url(local_url))
        self.shared = EventStore(way.url(shared_url))

    def close(self) -> None:
        """Closes the connections of its stores; they come back when they are needed."""
        disconnect()
        self.local.close()
        self.shared.close()

    # ---- what its configuration says

    def consuming(
        self,
        name: str,
        handler: Any,
        *streams: str,
        environment: str = "local",
        **options: Any,
    ) -> Projection:
        """Adds a consuming projection, or changes it. It fails at the first attempt, by default."""
        self.projections[name] = Projection(
            name=name,
            kind="consuming",
            streams=streams,
            environment=environment,  # type: ignore[arg-type]
            handler=handler_of(handler, f"tests:{getattr(handler, '__name__', 'handler')}"),
            **{"attempts": 1, **options},
        )
        return self.projections[name]

    def producing(
        self, name: str, stream: str, shared_stream: str | None = None, **options: Any
    ) -> Projection:
        """Adds a producing projection, or changes it."""
        self.projections[name] = Projection(
            name=name,
            kind="producing",
            streams=(stream,),
            environment="local",
            shared_stream=shared_stream or stream,
            **{"attempts": 1, **options},
        )
        return self.projections[name]

    def deploy(self, name: str, handler: Any) -> None:
        """Gives a projection another handler: the fix."""
        self.projections[name] = replace(
            self.projections[name], handler=handler_of(handler, "tests:fixed")
        )

    @property
    def config(self) -> Config:
        return Config(
            service=self.name,
            path=Path(f"{self.name}/projections.toml"),
            local_url=self.way.url(self.local_url),
            shared_url=self.way.url(self.shared_url),
            local_listen_url=self.way.listen_url(self.local_url) if self.listens else None,
            shared_listen_url=self.way.listen_url(self.shared_url) if self.listens else None,
            poll_interval=self.poll_interval,
            projections=MappingProxyType(dict(self.projections)),
        )

    # ---- what it does

    def create_stream(self, *names: str) -> None:
        for name in names:
            self.local.create_stream(name)

    def append(self, stream: str, events: Event | Iterable[Event]) -> None:
        """Appends to its local store, each call a transaction."""
        self.local.append(stream, events)

    def run(self, name: str) -> Ended:
        """Runs a projection until it is caught up, or has failed."""
        return run_projection(name, self.config)

    def look(self, name: str) -> Ended:
        """Runs a projection once, whatever comes of it."""
        with self.running(name) as look:
            return look()

    @contextmanager
    def running(self, name: str) -> Iterator[Callable[[], Ended]]:
        """Connections that stay open from run to run, as a worker's do."""
        with asyncio.Runner() as runner:
            pools = Pools(self.config)
            runner.run(pools.__aenter__())
            try:

                def look() -> Ended:
                    return runner.run(Run(pools=pools, projection=self.projections[name])())

                if self.known(name) is None:
                    runner.run(Registry(pools.local).register(self.projections[name]))
                yield look
            finally:
                runner.run(pools.__aexit__(None, None, None))

    def retry(self, *names: str) -> list[str]:
        """Sets failed projections to run again; without names, all."""

        async def retry() -> list[str]:
            async with Pools(self.config) as pools:
                registry = Registry(pools.local)
                return await registry.retry(names or None, who="a test", service=self.name)

        return asyncio.run(retry())

    def control(self, name: str, use: Callable[[Control], Coroutine[Any, Any, T]]) -> T:
        """What a person does to a projection: `users.control("reader", lambda it: it.stop())`."""

        async def controlled() -> T:
            async with Pools(self.config) as pools:
                who = "a test"
                return await use(Control(pools=pools, projection=self.projections[name], who=who))

        return asyncio.run(controlled())

    @contextmanager
    def worker(
        self, *names: str, concurrency: int = 4, health: Health | None = None
    ) -> Iterator[RunningWorker]:
        """A worker, in a thread of its own; it has ended when the block ends."""
        worker = RunningWorker(
            self, chosen(self.config, names or None), concurrency, health or Health()
        )
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()

    # ---- what can be seen of it

    def known(self, name: str) -> Registered | None:
        """What its local store knows of a projection; None: it never ran."""
        with (
            psycopg.connect(self.local_url, autocommit=True) as conn,
            conn.cursor(row_factory=class_row(Registered)) as cursor,
        ):
            return cursor.execute(sql.query("projections"), (HEARTBEAT_S * 3, [name])).fetchone()

    def failure(self, name: str) -> Registered:
        """The same of a projection that has failed."""
        known = self.known(name)
        assert known is not None
        assert known.state == "failed", known
        return known

    def checkpoint(self, name: str, stream: str | None = None) -> int:
        """Where a projection is; 0: it has not begun."""
        projection = self.projections[name]
        url = self.shared_url if projection.kind == "producing" else self.local_url
        return self.checkpoint_of(name, stream or projection.streams[0], url)

    def checkpoint_of(self, name: str, stream: str, url: str | None = None) -> int:
        """The same of a projection that only the store knows."""
        row = query(
            url or self.local_url,
            "SELECT position FROM eventferry.checkpoints"
            " WHERE (service, projection, stream) = (%s, %s, %s)",
            (self.name, name, stream),
        )
        return int(row[0][0]) if row else 0

    def positions(self, stream: str, *, environment: str = "local") -> list[int]:
        """The positions of a stream's events, in order."""
        store = self.local if environment == "local" else self.shared
        return [event.position for event in store.read(stream)]

    def execute(self, statement: LiteralString, parameters: Sequence[Any] = ()) -> None:
        """A statement of the test's own, on the local store."""
        with psycopg.connect(self.local_url, autocommit=True) as conn:
            conn.execute(statement, parameters)

    def create_effects(self) -> None:
        """The table that `record` writes to."""
        self.execute(EFFECTS)

    def recorded(self, projection: str | None = None) -> list[int]:
        """The numbers of the events that `record` has handled, in the order of the effects."""
        rows = query(
            self.local_url,
            "SELECT n FROM effects WHERE %s::text IS NULL OR projection = %s ORDER BY place",
            (projection, projection),
        )
        return [row[0] for row in rows]


@dataclass
class RunningWorker:
    """A worker in a thread, with a loop of its own."""

    service: Service
    projections: list[Projection]
    concurrency: int
    health: Health = field(default_factory=Health)
    ended: list[tuple[str, Ended]] = field(default_factory=list)
    """How each look has ended, in order."""
    _worker: Worker | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _error: BaseException | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="worker of a test")
        self._thread.start()
        until(lambda: self._loop is not None or self._error, "the worker runs")

    def stop(self) -> None:
        """Ends the worker as SIGTERM does; raises what it has raised."""
        assert self._thread is not None
        if self._thread.is_alive() and self._loop is not None and self._worker is not None:
            self._loop.call_soon_threadsafe(self._worker.stop)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the worker has not ended"
        if self._error is not None:
            raise self._error

    def until_asleep(self, *names: str) -> None:
        """Returns when the projections are caught up, and all appends to their streams notify.

        Where the service only polls, no append does. Who sleeps may have been notified, and not
        have woken yet: so their checkpoints say whether they are caught up.
        """
        wanted = names or [p.name for p in self.projections]
        for name in wanted:
            projection = self.service.projections[name]
            url = (
                self.service.local_url
                if projection.environment == "local"
                else self.service.shared_url
            )
            for stream in projection.streams:
                until(
                    lambda n=name, s=stream, u=url: self.service.checkpoint(n, s) >= last(u, s),  # type: ignore[misc]
                    f"{name} is at the head of {stream}",
                )
            if self.service.listens:
                until(lambda p=projection, u=url: set(p.streams) <= sleeping(u), f"{name} sleeps")  # type: ignore[misc]
            until(
                lambda n=name: self.last(n) is not None and self.last(n).end is End.CAUGHT_UP,  # type: ignore[misc,union-attr]
                f"{name} is caught up",
            )

    def until_handled(self, name: str, count: int) -> None:
        """Returns when the runs that are over have handled that many events."""
        until(
            lambda: sum(e.handled for n, e in self.ended if n == name) >= count,
            f"{name} has handled {count}",
        )

    def last(self, name: str) -> Ended | None:
        """How the last look of a projection has ended."""
        return next((e for n, e in reversed(self.ended) if n == name), None)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error

    async def _main(self) -> None:
        self._worker = Worker(
            config=self.service.config,
            projections=self.projections,
            concurrency=self.concurrency,
            health=self.health,
            on_ended=lambda projection, ended: self.ended.append((projection.name, ended)),
        )
        self._loop = asyncio.get_running_loop()
        async with self.health.beating():
            await self._worker.run()


def query(url: str, statement: LiteralString, parameters: Sequence[Any] = ()) -> list[Any]:
    """The rows of a statement of the test's own.

    Its connection stays open, as tests ask again and again; `disconnect` closes it.
    """
    with _asking:
        for attempt in (1, 2):
            if url not in _questions:
                _questions[url] = psycopg.connect(url, autocommit=True)
            try:
                return _questions[url].execute(statement, parameters).fetchall()
            except psycopg.OperationalError:  # its server was away since
                _questions.pop(url).close()
                if attempt == 2:
                    raise
    raise AssertionError


def last(url: str, stream: str) -> int:
    """The position of a stream's last event; 0: it is empty, or does not exist."""
    found = query(url, "SELECT head FROM eventferry.heads(ARRAY[%s])", (stream,))
    return int(found[0][0]) if found else 0


def disconnect() -> None:
    """Closes the connections of `query`."""
    with _asking:
        while _questions:
            _questions.popitem()[1].close()


_questions: dict[str, psycopg.Connection[Any]] = {}
_asking = threading.Lock()


def sleeping(url: str) -> set[str]:
    """The streams of a store whose appends notify, because somebody sleeps."""
    rows = query(
        url,
        """
        SELECT streams.name
          FROM eventferry.streams
          JOIN pg_locks ON locktype = 'advisory' AND objsubid = 2 AND objid = 0 AND granted
           AND mode = 'ShareLock'
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND classid = eventferry.sleeper_key(streams.number)::oid
        """,
    )
    return {row[0] for row in rows}


def listeners(url: str) -> list[int]:
    """The pids of the connections that listen to a store."""
    rows = query(
        url,
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'eventferry listen'",
    )
    return [row[0] for row in rows]


def open_transactions(url: str) -> list[tuple[Any, ...]]:
    """The sessions of a store's database, but for the one that asks, that are in a transaction."""
    return query(
        url,
        "SELECT pid, application_name, state, query FROM pg_stat_activity"
        " WHERE datname = current_database() AND xact_start IS NOT NULL"
        " AND pid <> pg_backend_pid()",
    )


def terminate(url: str, pid: int) -> None:
    """Ends a backend, and returns when it is gone."""
    query(url, "SELECT pg_terminate_backend(%s)", (pid,))
    until(
        lambda: not query(url, "SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)),
        "the backend is gone",
    )


def quiet() -> None:
    """For processes of tests: what a worker says of outages is no matter of theirs."""
    logging.disable(logging.CRITICAL)
