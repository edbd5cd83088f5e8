"""A page of a producing projection: lock the checkpoint, copy the rows, move it, commit.

All of it in one transaction of the shared store, where the checkpoint is kept: an event and the
knowledge that it has been ferried are kept together or not at all. The page has been read from
the local store before, so that nothing of the shared store is held while that is slow.

Rows go as the bytes that the local store wrote; nothing here decodes them. Only where an event is
there already (a second ferry of the same stream) are they compared, by the shared store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection

from eventferry import sql, tracing
from eventferry.checkpoint import moved
from eventferry.engine._async import AsyncTransactions
from eventferry.engine.locking._async import Locked, lock, move
from eventferry.engine.outcome import Applied, Failed, Outcome
from eventferry.errors import EventIdConflict, StoreUnavailable, TransactionLost
from eventferry.projection import Projection
from eventferry.source import Page, copy_statement, metadata_of
from eventferry.store._row import COLUMNS

FROZEN_S = 5.0
"""A ferry has nothing to do between its statements: idle for this long, it is frozen, and must
not hold the shared stream's readers back any longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ferry:
    """The pages of one producing projection."""

    service: str
    projection: Projection
    target: str
    """The name of the shared stream."""
    transactions: AsyncTransactions

    async def apply(self, page: Page) -> Outcome:
        """Copies the page to the shared stream, and moves the checkpoint: one transaction.

        Where an event of the page is refused, those before it are kept; the rest is left.

        Raises:
            psycopg.Error, StoreUnavailable: the shared store failed, not an event.
        """
        metadata = metadata_of(page.work)
        with tracing.ferrying(self.projection.name, self.target, metadata) as span:
            try:
                outcome = await self._apply(page)
            except psycopg.errors.QueryCanceled as error:
                # by the time that we set ourselves: somebody locks the stream, say
                raise StoreUnavailable(f"the shared store did not take a page: {error}") from error
            if isinstance(outcome, Failed):
                tracing.ferried(span, 0, (outcome.error_type, outcome.summary))
            else:
                tracing.ferried(span, outcome.count if isinstance(outcome, Applied) else 0)
            return outcome

    async def _apply(self, page: Page) -> Outcome:
        assert page.marks is not None
        try:
            return await self._transaction(page, page.count, self._copy)
        except psycopg.errors.IntegrityError:
            pass  # some of it is there already, or is refused: slower, and event by event
        upto = page.count
        while True:
            try:
                return await self._transaction(page, upto, self._merge)
            except _Refused as refused:
                if refused.place == 1:
                    return Failed.because(
                        refused.error, mark=page.marks[0], event_type=refused.event_type
                    )
                upto = refused.place - 1
            except psycopg.errors.IntegrityError as error:
                if upto == 1:
                    return Failed.because(error, mark=page.marks[0])
                upto //= 2  # nobody says which one it is

    async def _transaction(self, page: Page, upto: int, put: Put) -> Outcome:
        """The first `upto` events of the page, or none of them."""
        assert page.marks is not None
        name = self.projection.name
        end = moved(page.begin, [page.marks[upto - 1]])
        async with self.transactions.begin() as conn:
            # a COPY that waits for a frozen ferry is no idle transaction, but a long statement
            locked = await lock(
                conn,
                self.service,
                name,
                page.begin,
                idle_timeout_s=FROZEN_S,
                statement_timeout_s=self.projection.handler_timeout.total_seconds(),
            )
            if not isinstance(locked, Locked):
                return locked
            await put(conn, page, upto)
            if not await move(conn, self.service, name, page.begin, end, locked):
                raise TransactionLost(
                    "the checkpoint of the ferry moved inside its own transaction"
                )
        return Applied(end, upto)

    async def _copy(self, conn: AsyncConnection[Any], page: Page, _upto: int) -> None:
        async with (
            conn.cursor() as cursor,
            cursor.copy(copy_statement("append_copy", self.target)) as copy,
        ):
            await copy.write(page.work)

    async def _merge(self, conn: AsyncConnection[Any], page: Page, upto: int) -> None:
        """Inserts what is not there yet; refuses what is there with other content.

        Raises:
            _Refused: the shared stream has another event under an id.
        """
        await conn.execute(sql.query("ferry_table"))
        async with (
            conn.cursor() as cursor,
            cursor.copy(sql.on_columns("ferry_copy", self.target, COLUMNS)) as copy,
        ):
            await copy.write(page.work)
        await conn.execute(sql.on_columns("ferry_insert", self.target, COLUMNS), (upto,))
        cursor = await conn.execute(sql.on_stream("ferry_differing", self.target), (upto,))
        differing = await cursor.fetchone()
        await conn.execute("DROP TABLE pg_temp.eventferry_page")
        if differing:
            place, id_, there, here = differing
            conflict = EventIdConflict(
                f"stream {self.target!r} of the shared store has another event under the id "
                f"{id_} ({there} there, {here} here). The same id must always mean the same event",
                stream=self.target,
                event_id=id_,
            )
            raise _Refused(place, here, conflict)


async def refusals(
    conn: AsyncConnection[Any], streams: Sequence[str], store: str
) -> dict[str, str]:
    """Of the shared streams to which our role can't ferry: why, and who must do what.

    Where a stream is not there, it can if it may create it.
    """
    cursor = await conn.execute(sql.query("shared_streams"), (list(streams),))
    return {
        stream: _refusal(stream, is_there, role, store)
        for stream, is_there, may, role in await cursor.fetchall()
        if not may
    }


def _refusal(stream: str, is_there: bool, role: str, store: str) -> str:
    columns = ", ".join(COLUMNS)
    grant = f'`GRANT SELECT, INSERT ({columns}) ON streams."{stream}" TO "{role}"`'
    if is_there:
        what, todo = f"role {role!r} may not append to stream {stream!r} of {store}", grant
    else:
        what = f"{store} has no stream {stream!r}, and role {role!r} may not create it there"
        todo = f"`eventferry streams create {stream} --environment shared`, then {grant}"
    return f"{what}. Ask an owner of that store for {todo}. The projection goes on by itself then"


Put = Callable[[AsyncConnection[Any], Page, int], Awaitable[None]]


class _Refused(Exception):
    """The event at this place of the page, from 1, can't be merged."""

    def __init__(self, place: int, event_type: str, error: EventIdConflict) -> None:
        self.place = place
        self.event_type = event_type
        self.error = error
        super().__init__(place)
