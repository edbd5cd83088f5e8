"""A page of a producing projection: lock the checkpoint, copy the rows, move it, commit.

All of it in one transaction of the shared store, where the checkpoint is kept: an event and the
knowledge that it has been ferried are kept together or not at all. The page has been read from
the local store before, so that nothing of the shared store is held while that is slow.

Rows go as the bytes that the local store wrote; nothing here decodes them. Only where an event is
there already (a second ferry of the same stream) are they compared, by the shared store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection

from eventferry import sql
from eventferry.checkpoint import Mark
from eventferry.engine._async import AsyncTransactions, lock, move
from eventferry.engine.outcome import Applied, Busy, Failed, Moved, Outcome
from eventferry.errors import EventIdConflict, TransactionLost
from eventferry.projection import Projection
from eventferry.source import Page, copy_statement
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

        Raises:
            psycopg.Error, StoreUnavailable: the shared store failed, not an event.
        """
        try:
            return await self._transaction(page, self._copy)
        except psycopg.errors.UniqueViolation:
            pass  # some of it is there already: slower, and event by event
        try:
            return await self._transaction(page, self._merge)
        except EventIdConflict as error:
            return self._failed(error, page)
        except psycopg.errors.IntegrityError as error:
            return self._failed(error, page)

    async def _transaction(self, page: Page, put: Any) -> Applied | Busy | Moved:
        name = self.projection.name
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
            if not isinstance(locked, str):
                return locked
            await put(conn, page)
            if not await move(conn, self.service, name, page.begin, page.end, locked):
                raise TransactionLost(
                    "the checkpoint of the ferry moved inside its own transaction"
                )
        return Applied(page.end, page.count)

    async def _copy(self, conn: AsyncConnection[Any], page: Page) -> None:
        async with (
            conn.cursor() as cursor,
            cursor.copy(copy_statement("append_copy", self.target)) as copy,
        ):
            await copy.write(page.work)

    async def _merge(self, conn: AsyncConnection[Any], page: Page) -> None:
        """Inserts what is not there yet; refuses what is there with other content.

        Raises:
            EventIdConflict: the shared stream has another event under an id.
        """
        await conn.execute(sql.query("ferry_table"))
        async with (
            conn.cursor() as cursor,
            cursor.copy(sql.on_columns("ferry_copy", self.target, COLUMNS)) as copy,
        ):
            await copy.write(page.work)
        await conn.execute(sql.on_columns("ferry_insert", self.target, COLUMNS))
        cursor = await conn.execute(sql.on_stream("ferry_differing", self.target))
        differing = await cursor.fetchone()
        await conn.execute("DROP TABLE pg_temp.eventferry_page")
        if differing:
            raise EventIdConflict(
                f"stream {self.target!r} of the shared store has another event under the id "
                f"{differing[0]} ({differing[1]} there, {differing[2]} here). The same id must "
                "always mean the same event",
                stream=self.target,
                event_id=differing[0],
            )

    def _failed(self, error: Exception, page: Page) -> Failed:
        end = page.end[0]
        assert end.event_id is not None
        at = getattr(error, "event_id", None) or end.event_id
        return Failed.because(error, mark=Mark(end.stream, end.position, at))
