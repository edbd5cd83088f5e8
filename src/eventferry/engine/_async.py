"""A batch of a consuming projection: lock the checkpoint, handle the events, move it, commit.

All of it in one transaction of the service's own database, so that a handler's writes and the
checkpoint are kept together or not at all.

    begin ──> lock ──> handle, event by event ──> move the checkpoint ──> commit
               │              │                        │
             Busy,          Failed                   Failed (the handler ended the transaction)
             Moved
"""

from __future__ import annotations

import asyncio  # async-only
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString, Protocol

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from eventferry import sql, tracing
from eventferry.checkpoint import Checkpoints, Mark, mark, moved
from eventferry.connection import ENDED, is_outage
from eventferry.engine.context._async import AsyncContext
from eventferry.engine.locking._async import Locked, lock, move, wait
from eventferry.engine.outcome import (
    Applied,
    Busy,
    Failed,
    Halted,
    Interrupted,
    Moved,
    Outcome,
)
from eventferry.errors import StoreUnavailable, TransactionLost
from eventferry.event import Events, RecordedEvent
from eventferry.projection import Projection

IDLE = psycopg.pq.TransactionStatus.IDLE
INERROR = psycopg.pq.TransactionStatus.INERROR
INTRANS = psycopg.pq.TransactionStatus.INTRANS

TRANSACTION_ENDED = (
    "the transaction of the batch has ended before its checkpoint moved: the handler has committed "
    "it, or rolled it back, or has changed the checkpoint. Leave context.connection's transaction "
    "to eventferry; for a part that may fail on its own, use "
    "`with context.connection.transaction():`"
)
SESSION_ENDED = (
    "the handler has rolled back a session of its batch, or closed it before a commit, as `with "
    "context.session:` does, so nothing of the batch can be committed. Leave the session's end to "
    "eventferry; for a part that may fail on its own, use `with session.begin_nested():`"
)


class AsyncTransactions(Protocol):
    """Where a batch gets its transaction from; SQLAlchemy's or Django's can take its place."""

    def begin(self) -> Any:
        """An async context manager: a connection in a transaction of its own."""


class AsyncPoolTransactions:
    """Transactions on connections of a pool of ours."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        self._pool = pool

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction, on a connection object that is of no use when it has ended.

        A handler may leave a task behind that still holds the connection: it must not get into
        the transaction of another batch. So each gets a connection object of its own on the
        pool's connection, which is taken away from it at the end.
        """
        async with self._pool.connection() as pooled:
            conn = AsyncConnection(pooled.pgconn)
            conn._prepared = pooled._prepared  # statements live as long as the server connection
            try:
                await conn.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
                async with conn.transaction():
                    yield conn
            finally:
                conn.pgconn = ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncBatches:
    """The batches of one consuming projection."""

    service: str
    projection: Projection
    handle: Callable[..., Any]
    handle_batch: Callable[..., Any] | None
    reset: Callable[..., Any] | None
    transactions: AsyncTransactions
    clock: Callable[[], float] = time.monotonic
    on_calls: Callable[[Sequence[float]], None] = lambda _calls_s: None
    """Told after each batch how many seconds each call of the handler has taken."""

    async def apply(
        self, checkpoints: Checkpoints, events: Sequence[RecordedEvent], *, attempt: int
    ) -> Outcome:
        """Handles the events, which follow the checkpoints, and moves these: one transaction.

        Raises:
            psycopg.Error, StoreUnavailable: the database failed, not an event.
        """
        batch = _Batch(Events.of(events))

        async def work(conn: AsyncConnection[Any]) -> Outcome:
            locked = await self._lock(conn, checkpoints)
            if not isinstance(locked, Locked):
                return locked
            with batch.watched(conn):
                if locked.has_parked:
                    batch.behind = await self._behind(conn, events)
                await self._handle(conn, batch, checkpoints, attempt)
                await self._park(conn, batch)
                return await self._move(conn, checkpoints, batch, locked)

        return await self._attempt(batch, work)

    async def unpark(
        self, checkpoints: Checkpoints, events: Sequence[RecordedEvent], *, attempt: int
    ) -> Outcome:
        """Handles parked events of the projection, and forgets that they were: one transaction.

        Raises:
            psycopg.Error, StoreUnavailable: the database failed, not an event.
        """
        batch = _Batch(Events.of(events), was_parked=True)

        async def work(conn: AsyncConnection[Any]) -> Outcome:
            transaction = await self._wait(conn)
            if await self._count_parked(conn, events) < len(events):
                return Moved()
            with batch.watched(conn):
                await self._handle(conn, batch, checkpoints, attempt)
                batch.is_moving = True
                done = batch.events[: batch.index]
                cursor = await conn.execute(
                    sql.query("forget_parked"),
                    (self.projection.name, [e.id for e in done], transaction),
                )
                if cursor.rowcount != len(done):
                    raise TransactionLost(TRANSACTION_ENDED)
                return Applied(checkpoints, batch.index)

        return await self._attempt(batch, work)

    async def start_over(self, changes: Sequence[Change]) -> None:
        """Lets the handler undo what it has written, and makes the changes: one transaction.

        Raises:
            Exception: what the handler's `reset` has raised; nothing is changed then.
            psycopg.Error, StoreUnavailable
        """
        async with self.transactions.begin() as conn:
            transaction = await self._wait(conn)
            # first the changes: where there was no checkpoint to wait for, the new one keeps
            # every runner off
            for query, parameters in changes:
                await conn.execute(query, parameters)
            if self.reset is not None:
                async with self._context(conn, 1) as context:
                    await self.reset(context)
                    await context.flush()
                    await _settle(context)
            cursor = await conn.execute("SELECT pg_current_xact_id()::text")
            if (await cursor.fetchone() or ("",))[0] != transaction:
                raise TransactionLost(TRANSACTION_ENDED)

    async def _attempt(self, batch: _Batch, work: Callable[[AsyncConnection[Any]], Any]) -> Outcome:
        """The work in a transaction, and what has become of it."""
        try:
            async with self.transactions.begin() as conn:
                outcome: Outcome = await work(conn)
                return outcome
        except BaseException as error:  # a handler may raise anything: SystemExit, say
            if not self._is_failure(error, batch):
                if _is_stop(error):
                    raise
                if batch.begun:
                    raise Interrupted(f"a batch was interrupted: {error}") from error
                if batch.is_lost:
                    raise StoreUnavailable(f"a batch has lost its connection: {error}") from error
                raise
            return batch.failed(self._explained(error))
        finally:
            self.on_calls(batch.calls_s)

    async def _lock(
        self, conn: AsyncConnection[Any], checkpoints: Checkpoints
    ) -> Locked | Busy | Moved | Halted:
        return await lock(
            conn,
            self.service,
            self.projection.name,
            checkpoints,
            idle_timeout_s=self.projection.handler_timeout.total_seconds(),
            is_counted=True,
        )

    async def _wait(self, conn: AsyncConnection[Any]) -> str:
        """Waits for the checkpoints, wherever they are; the transaction's id."""
        idle = f"{self.projection.handler_timeout.total_seconds() * 1000:.0f}"
        return await wait(conn, self.service, self.projection.name, idle)

    async def _behind(
        self, conn: AsyncConnection[Any], events: Sequence[RecordedEvent]
    ) -> frozenset[tuple[str, str | None]]:
        """The entities among the events' that have parked ones: theirs wait behind these."""
        entities = {(e.stream, e.entity_id) for e in events if e.entity_id is not None}
        cursor = await conn.execute(
            sql.query("parked_entities"),
            (self.projection.name, [s for s, _ in entities], [e for _, e in entities]),
        )
        return frozenset(await cursor.fetchall())

    async def _count_parked(
        self, conn: AsyncConnection[Any], events: Sequence[RecordedEvent]
    ) -> int:
        cursor = await conn.execute(
            sql.query("count_parked"), (self.projection.name, [e.id for e in events])
        )
        (count,) = await cursor.fetchone() or (0,)
        return int(count)

    async def _park(self, conn: AsyncConnection[Any], batch: _Batch) -> None:
        for event in batch.set_aside(self.projection):
            batch.parked += 1
            await conn.execute(
                sql.query("park_event"),
                (
                    self.projection.name,
                    event.stream,
                    event.position,
                    event.id,
                    event.type,
                    event.entity_id,
                    0,
                    *(None, None, None),
                ),
            )

    async def _handle(
        self,
        conn: AsyncConnection[Any],
        batch: _Batch,
        checkpoints: Checkpoints,
        attempt: int,
    ) -> None:
        async with self._context(conn, attempt, checkpoints) as context:
            if self.handle_batch is not None:
                batch.index = len(batch.events) - 1  # nobody knows which one fails: up to the last
                if matching := batch.matching(self.projection):
                    batch.begun = self.clock()
                    context._batch = matching
                    with (
                        batch.timing_failures(self.clock),
                        tracing.handling_batch(matching, context, was_parked=batch.was_parked),
                    ):
                        await self.handle_batch(matching, context)
                        await context.flush()
                        await _settle(context)
                    batch.calls_s.append(self.clock() - batch.begun)
                batch.index = len(batch.events)
                return
            handle = self._traced(batch) if tracing.is_on() else self.handle
            is_handled = tracing.handled.set  # async-only: a task that it starts may outlast it
            wants_all = self.projection.event_types is None and not batch.behind
            clock, called = self.clock, batch.calls_s.append
            now = clock()
            ends = now + self.projection.batch_time.total_seconds()
            with batch.timing_failures(clock):
                for event in batch.events:
                    if now >= ends and batch.index:
                        break
                    if is_wanted := wants_all or batch.wants(event, self.projection):
                        batch.begun = now
                        context._event = event
                        is_handled(event)  # async-only
                        await handle(event, context)
                        # as nearly always: nothing to write, nothing to blame it for
                        if context._loan is not None or conn.pgconn.transaction_status != INTRANS:
                            await _settle(context)
                    batch.index += 1
                    now = clock()  # once an event, as it costs as much as the rest of this loop
                    if is_wanted:
                        called(now - batch.begun)
            await context.flush()

    def _traced(self, batch: _Batch) -> Callable[[RecordedEvent, AsyncContext], Any]:
        """The handler, with a span around each call, which sees what shows after it as well."""

        async def handle(event: RecordedEvent, context: AsyncContext) -> None:
            with tracing.handling(event, context, was_parked=batch.was_parked):
                await self.handle(event, context)
                if len(batch.events) == 1:  # else its writes go on together with others'
                    await context.flush()
                await _settle(context)

        return handle

    @asynccontextmanager
    async def _context(
        self, conn: AsyncConnection[Any], attempt: int, checkpoints: Checkpoints = ()
    ) -> AsyncIterator[AsyncContext]:
        context = AsyncContext(
            projection=self.projection.name,
            attempt=attempt,
            _connection=conn,
            _replay_until={c.stream: c.replay_until for c in checkpoints},
            # a host, such as Django, has other ways to write in its transactions
            _is_shared=not isinstance(self.transactions, AsyncPoolTransactions),
        )
        around = tracing.handled.get()
        tracing.handled.set(context)
        try:
            yield context
        finally:
            tracing.handled.set(around)
            if context._loan is not None:
                await context._loan.close()

    async def _move(
        self,
        conn: AsyncConnection[Any],
        checkpoints: Checkpoints,
        batch: _Batch,
        locked: Locked,
    ) -> Applied:
        batch.is_moving = True
        after = moved(checkpoints, batch.handled(len(checkpoints)))
        if not await move(conn, self.service, self.projection.name, checkpoints, after, locked):
            raise TransactionLost(TRANSACTION_ENDED)
        return Applied(after, batch.index, batch.parked)

    def _is_failure(self, error: BaseException, batch: _Batch) -> bool:
        """Whether the event is to blame, or the handler: not so in an outage of this database.

        An outage shows on the batch's own connection, whatever a handler makes of the error; an
        error of another database is the handler's.
        """
        if not batch.begun or _is_stop(error):
            return False
        if self.clock() - batch.begun > self.projection.handler_timeout.total_seconds():
            return True
        if batch.is_lost:
            return _is_late(error)
        return not (batch.is_aborted and any(is_outage(e) for e in _chain(error)))

    def _explained(self, error: BaseException) -> BaseException:
        """The error with a way out, where the driver's has none."""
        if not _is_late(error):
            return error
        timeout_s = self.projection.handler_timeout.total_seconds()
        lost = TransactionLost(
            f"the batch's transaction was idle for longer than handler_timeout ({timeout_s:g} s), "
            "so the server has ended it. Make the handler faster, or set a longer handler_timeout"
        )
        lost.__cause__ = error
        return lost


@dataclass(slots=True)
class _Batch:
    """A batch on its way: which event is being handled, and since when."""

    events: Events
    was_parked: bool = False
    index: int = 0
    """How many events have been dealt with: the place of the one being handled."""
    begun: float = 0.0
    """When the handler was last called, by the clock; 0: not yet."""
    calls_s: list[float] = field(default_factory=list)
    """How long each call has taken, in seconds."""
    parked: int = 0
    """Events that were set aside behind others of their entity."""
    is_moving: bool = False
    is_lost: bool = False
    """Whether its connection has been lost."""
    is_aborted: bool = False
    """Whether the database has refused a statement, or the commit."""
    behind: frozenset[tuple[str, str | None]] = frozenset()
    """Streams and entities that have parked events: theirs are not handled, but parked as well."""

    @contextmanager
    def timing_failures(self, clock: Callable[[], float]) -> Iterator[None]:
        """Times the call that fails, too: it may be the longest one."""
        try:
            yield
        except BaseException:
            if self.begun:
                self.calls_s.append(clock() - self.begun)
            raise

    @contextmanager
    def watched(self, conn: AsyncConnection[Any]) -> Iterator[None]:
        """Remembers what an error has left of the transaction, before it is rolled back."""
        try:
            yield
        except BaseException:
            self.is_lost = conn.broken
            self.is_aborted = conn.broken or conn.info.transaction_status == INERROR
            raise
        self.is_aborted = True  # what comes now comes from the commit

    def wants(self, event: RecordedEvent, projection: Projection) -> bool:
        return projection.wants(event) and not (self.behind and self._is_behind(event))

    def matching(self, projection: Projection) -> list[RecordedEvent]:
        return [event for event in self.events if self.wants(event, projection)]

    def set_aside(self, projection: Projection) -> list[RecordedEvent]:
        dealt_with = self.events[: self.index] if self.behind else ()
        return [e for e in dealt_with if projection.wants(e) and self._is_behind(e)]

    def _is_behind(self, event: RecordedEvent) -> bool:
        return (event.stream, event.entity_id) in self.behind

    def handled(self, streams: int) -> Iterable[Mark]:
        return map(mark, self.events[: self.index].last_of_each(streams))

    def failed(self, error: BaseException) -> Failed:
        # what only shows at the end (a deferred constraint, a transaction gone) is the last one's
        index = min(self.index, len(self.events) - 1)
        if self.is_moving:
            index = max(0, self.index - 1)
        alone = len(self.events) == 1
        return Failed.at(self.events[index], error, index=index, alone=alone, is_late=self.is_lost)


def _is_stop(error: BaseException) -> bool:
    """Whether the process, or the task, is told to end: no failure of an event."""
    if isinstance(error, asyncio.CancelledError):  # async-only
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    if isinstance(error, KeyboardInterrupt):  # async-only
        return True
    return isinstance(error, GeneratorExit)


def _is_late(error: BaseException) -> bool:
    """Whether the server has ended the transaction, as nobody asked anything for too long."""
    return any(isinstance(e, psycopg.errors.IdleInTransactionSessionTimeout) for e in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that it was made of: an ORM wraps what the database says."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


async def _settle(context: AsyncContext) -> None:
    """Writes what is left in sessions, and blames the handler that has ended its transaction.

    Raises:
        TransactionLost: nothing of the batch could be committed.
    """
    _require_usable(context._connection)
    loan = context._loan
    if loan is not None:
        if not loan.is_rolled_back:
            await loan.flush()
        if loan.is_rolled_back:
            raise TransactionLost(SESSION_ENDED)
        _require_usable(context._connection)


def _require_usable(conn: AsyncConnection[Any]) -> None:
    """Blames the handler that swallowed an error of the database, or closed the connection.

    Raises:
        TransactionLost: nothing of the batch could be committed.
    """
    if conn.closed and not conn.broken:
        raise TransactionLost(
            "the handler has closed context.connection, and rolled back its batch by that. "
            "Leave the connection to eventferry"
        )
    if conn.info.transaction_status == IDLE:
        raise TransactionLost(TRANSACTION_ENDED)
    if conn.info.transaction_status == INERROR:
        raise TransactionLost(
            "the handler has swallowed an error of the database and left the transaction aborted. "
            "Let the error out, or make a savepoint around the statement that may fail: "
            "`with context.connection.transaction():`"
        )


Change = tuple[LiteralString, Sequence[Any] | Mapping[str, Any]]
"""A statement and its parameters."""
