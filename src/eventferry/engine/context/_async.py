"""What a handler is given beside the event: the batch's transaction, and ways to write in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection

from eventferry import logline
from eventferry.event import Event, RecordedEvent
from eventferry.store import AsyncAppended, AsyncEventStore

if TYPE_CHECKING:
    from psycopg.abc import Params, QueryNoTemplate

    from eventferry.lending import AsyncLoan, AsyncSession

WRITES = 1000
WAIT_S = 0.25
"""So many writes of `execute` wait for each other, and for so long: a transaction that is idle for
the handler's whole timeout would be ended by the server."""


@dataclass(slots=True)
class AsyncContext:
    """What a handler is given beside the event; good for this batch only."""

    projection: str
    """The projection's name."""
    attempt: int
    """Which try of the event this is, since somebody has retried; 1 is the first."""
    _connection: AsyncConnection[Any] = field(repr=False)
    _replay_until: Mapping[str, int] = field(default_factory=dict, repr=False)
    """By stream: the head that it had when the projection began."""
    _event: RecordedEvent | None = field(default=None, repr=False)
    """What is being handled; None: a batch, or nothing."""
    _batch: Sequence[RecordedEvent] = field(default=(), repr=False)
    _loan: AsyncLoan | None = field(default=None, repr=False)
    _is_shared: bool = False
    """Whether others write in the transaction as well: what `execute` is given can't wait then."""
    _writes: list[tuple[QueryNoTemplate, Params]] = field(default_factory=list, repr=False)
    """What `execute` has been given, and the database has not."""
    _waits_since: float = 0.0
    """When the first of them was given, by the clock."""

    @property
    def is_replay(self) -> bool:
        """Whether the event was there before the projection began (`handle_batch`: all were).

        What was done about it then, such as a mail, is better not done again.
        """
        return all(e.position <= self._replay_until.get(e.stream, 0) for e in self._events)

    @property
    def _events(self) -> Sequence[RecordedEvent]:
        return self._batch if self._event is None else (self._event,)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """Logs under `eventferry.projection.` and the projection's name.

        Each line carries the projection, the attempt, and of the event its stream, position, id,
        type, entity, correlation and trace; in `handle_batch` only what all events have in common.
        """
        return logline.HandlerLogger(self.projection, self.attempt, self._events)

    @property
    def connection(self) -> AsyncConnection[Any]:
        """The batch's transaction: what is written here commits with the checkpoint.

        Don't commit it or roll it back; `async with connection.transaction():` makes a savepoint.
        It is of no use when the batch is over.

        Raises:
            RuntimeError: writes of `execute` are pending; `flush` them first.
        """
        self._share()
        return self._connection

    @property
    def session(self) -> AsyncSession:
        """The batch's transaction as a session of SQLAlchemy, with the extra `sqlalchemy`.

        One for the batch. After each event it writes what it holds, and its objects expire. Its
        `commit()` writes too, but commits nothing. Don't roll it back or close it;
        `async with session.begin_nested():` makes a savepoint. A session of another kind, such as
        SQLModel's: `eventferry.sqlalchemy.session`.

        Raises:
            RuntimeError: writes of `execute` are pending; `flush` them first.
        """
        return self._sessions().default()

    def _sessions(self) -> AsyncLoan:
        self._share()
        from eventferry.lending import AsyncLoan

        if self._loan is None:
            self._loan = AsyncLoan(self._connection)
        return self._loan

    async def execute(self, statement: QueryNoTemplate, parameters: Params | None = None) -> None:
        """Writes in the batch's transaction, together with what else the batch writes so.

        Several times as fast as `connection`, which waits for the answer to each statement. For
        writes whose answer nobody needs: they are done in their order, at the end of the batch at
        the latest. What the database refuses is the failure of its event all the same. Once the
        batch has used `connection` or `session`, and in Django's transactions, each is done at
        once, so that what belongs together stays in its order.

        Args:
            statement: As for psycopg's `execute`.
            parameters: Its parameters. They may wait: don't change what is inside of them.

        Raises:
            RuntimeError: the batch of this context is over.
        """
        if self._connection.closed:
            raise RuntimeError("the batch of this context is over: nothing can be written any more")
        if self._is_shared or parameters is None:
            await self.flush()
            await self._connection.execute(statement, parameters)
            return
        kept = dict(parameters) if isinstance(parameters, Mapping) else tuple(parameters)
        if not self._writes:
            self._waits_since = time.monotonic()
        self._writes.append((statement, kept))
        if len(self._writes) >= WRITES or time.monotonic() - self._waits_since > WAIT_S:
            await self.flush()

    async def flush(self) -> None:
        """Does the writes of `execute` that are pending, before something else is done.

        Raises:
            psycopg.Error: the database refuses one of them.
        """
        writes, self._writes = self._writes, []
        if not writes:
            return
        async with self._connection.pipeline(), self._connection.cursor() as cursor:
            for statement, same in groupby(writes, key=itemgetter(0)):
                await cursor.executemany(statement, [parameters for _, parameters in same])

    def _share(self) -> None:
        if self._writes:
            raise RuntimeError(
                "writes of context.execute are pending: flush() the context before its connection "
                "or session is used, or use only the one or the others"
            )
        self._is_shared = True

    async def append(
        self,
        stream: str,
        events: Event | Iterable[Event],
        *,
        expected_version: int | None = None,
    ) -> AsyncAppended:
        """Appends to a stream of the local store, in the batch's transaction.

        The events are correlated with the one being handled, and name it as their cause, unless
        their metadata says otherwise. In `handle_batch` they are not: use `Event.caused_by`.
        Arguments and errors are those of `AsyncEventStore.append`.
        """
        given = [events] if isinstance(events, Event) else list(events)
        caused = [event.caused_by(self._event) for event in given] if self._event else given
        await self.flush()
        return await AsyncEventStore().append(
            stream, caused, expected_version=expected_version, connection=self._connection
        )
