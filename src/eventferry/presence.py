"""What a process that runs projections says of itself, for those who look from elsewhere.

    local store    `runners`      that it is there, with which code, for which projections
                   `statistics`   what each projection has done, and its lag, minute by minute
    shared store   `reports`      how each projection is, for the map of all services
                   `waits`        to who waits for a projection: that it has dealt with his events

Nothing relies on it but people: what can't be written is left out, with a warning, and no
projection waits for it. Nor does what the local store is told wait for the shared one, because by
the former a process is asked to end (`eventferry restart`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from operator import itemgetter
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from eventferry import logline, sql, tasks
from eventferry._uuid import uuid7
from eventferry.connection import is_outage
from eventferry.ended import End, Ended
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.runner import BEAT_S
from eventferry.statistics import Unwritten
from eventferry.status import ProjectionStatus, status
from eventferry.version import code_version
from eventferry.waiting._async import answer
from eventferry.waiting._place import Place

log = logging.getLogger("eventferry.presence")

REPORT_S = 60.0
"""A report is written this often, though nothing is known to have changed."""
SHORT_S = 1.0
"""Who may be over soon says that it is there after this time."""
LEAVE_S = 2.0
"""Who ends takes no longer than this to say so: the store may be away, and supervisors kill after
10 s, of which the pools may need half."""
FORGET_S = 3600.0
"""What is too old is forgotten this often."""
WAITED_FOR_S = 1.0
"""While somebody waits for one of our projections, it is looked at this often, at least: it may be
run elsewhere, or be in a long run."""


@dataclass(slots=True, kw_only=True)
class Presence:
    """The presence of this process; for as long as its block runs."""

    pools: Pools
    projections: Sequence[Projection]
    command: str
    """What it is: `worker`, `start`, …"""
    on_asked: Callable[[], None]
    """Called when somebody asks all processes of the service to end."""
    lasts: bool = True
    """Whether it is to stay; otherwise it may be over in a moment."""
    _version: str = ""
    _id: UUID = field(default_factory=uuid7)
    _is_there: bool = False
    """Whether it may have said so."""
    _unwritten: Unwritten = field(default_factory=Unwritten)
    """What statistics have yet to say."""
    _last: dict[str, End] = field(default_factory=dict)
    """How the last run of each has ended."""
    _changed: set[str] = field(default_factory=set)
    """Those that may have something new to report."""
    _reported_at: dict[str, float] = field(default_factory=dict)
    """When each was last reported, by whomever."""
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _waited_for: set[str] = field(default_factory=set)
    """Those that somebody waits for."""
    _look_who_waits: asyncio.Event = field(default_factory=asyncio.Event)
    _refused: set[str] = field(default_factory=set)
    """What our role may not write; that was said once."""
    _failed: set[str] = field(default_factory=set)
    """What has failed by no outage; that was said once, too."""
    _counting: asyncio.Task[None] | None = None
    """The last to write statistics."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._version = code_version(self.pools.config)
        self._tasks = [
            asyncio.create_task(task, name="eventferry presence")
            for task in (self._beats(), self._reports(), self._answers(), self._forgets())
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await tasks.end(self._tasks)
        # a task, as an `asyncio.timeout` is over with the first driver that swallows a cancellation
        leaving = asyncio.create_task(self._leaves(), name="eventferry presence")
        await asyncio.wait({leaving}, timeout=LEAVE_S)
        await tasks.end([leaving, *([self._counting] if self._counting else [])])

    def ended(self, projection: Projection, ended: Ended) -> None:
        """A run of the projection has ended: it counts."""
        name = projection.name
        # a short run that finds nothing has nothing new to say
        before = self._last.get(name, None if self.lasts else End.CAUGHT_UP)
        if ended.handled or ended.failed or before is not ended.end:
            self._changed.add(name)
        if ended.end is End.SLICED and before is not ended.end:
            self.look()  # it will take a while: how fast it is should be known soon
        self._last[name] = ended.end
        self._unwritten.ended(name, ended)
        if name in self._waited_for:
            self.look_who_waits()

    def look(self) -> None:
        """Says at once what there is to say, and sees whether somebody has asked us to end."""
        self._look.set()

    def look_who_waits(self) -> None:
        """Answers at once who waits for one of the projections, as far as it has got."""
        self._look_who_waits.set()

    async def _beats(self) -> None:
        """What the local store is told."""
        await asyncio.sleep(self._soon_s)
        while True:
            self._look.clear()
            await self._try("runners", self._beat)
            await self._try("statistics", self._count)
            with suppress(TimeoutError):
                async with asyncio.timeout(_pause_s()):
                    await self._look.wait()

    async def _reports(self) -> None:
        """What the shared store is told."""
        await asyncio.sleep(self._soon_s)
        while True:
            await self._try("reports", self._report)
            await asyncio.sleep(_pause_s())

    async def _answers(self) -> None:
        """What those are told who wait for a projection of ours."""
        await asyncio.sleep(self._soon_s)
        while self._awaitable:
            self._look_who_waits.clear()
            await self._try("waits", self._answer)
            with suppress(TimeoutError):
                async with asyncio.timeout(WAITED_FOR_S if self._waited_for else _pause_s()):
                    await self._look_who_waits.wait()

    async def _forgets(self) -> None:
        """What is of no use any more, in both."""
        await asyncio.sleep(self._soon_s)
        while True:
            await self._try("statistics", self._forget)
            await self._try("reports", self._forget_reports)
            await asyncio.sleep(FORGET_S)

    @property
    def _awaitable(self) -> list[str]:
        """The projections that other services may wait for, as they get events of theirs."""
        return [p.name for p in self.projections if p.environment == "shared"]

    @property
    def _soon_s(self) -> float:
        return 0.0 if self.lasts else SHORT_S

    async def _leaves(self) -> None:
        if self._is_there:
            await self._try("runners", self._leave)
        await self._try("statistics", self._count)
        if not self.lasts:  # who lasts has reported lately, and does not wait for the shared store
            await self._try("reports", self._report)
            await self._try("statistics", self._count)  # how far behind that has found them
        if self._waited_for or not self.lasts:
            await self._try("waits", self._answer)

    async def _try(self, table: str, write: Callable[[], Any]) -> None:
        """Writes, if that is possible."""
        if table in self._refused:
            return
        try:
            await write()
        except psycopg.errors.InsufficientPrivilege as error:
            self._refused.add(table)
            log.warning(
                "can't write eventferry.%s: %s. Grant it, as docs/howto/least-privileges.md says; "
                "until then, %s",
                table,
                error.diag.message_primary,
                "other services wait in vain for what is handled here"
                if table == "waits"
                else "nobody sees what it would show",
            )
        except Exception as error:
            is_known = is_outage(error) or table in self._failed  # of an outage the runs tell
            if not is_outage(error):
                self._failed.add(table)
            level = logging.DEBUG if is_known else logging.WARNING
            said = logline.first_line(error)
            log.log(level, "can't write eventferry.%s: %s", table, said, exc_info=not is_known)

    async def _beat(self) -> None:
        names = [p.name for p in self.projections]
        me = self._id, socket.gethostname(), os.getpid(), self.command, names, self._version
        async with self.pools.local.connection() as conn:
            self._is_there = True  # though we be cancelled before the answer
            cursor = await conn.execute(sql.query("beat_runner"), (self._version, *me))
            row = await cursor.fetchone()
        if row and row[0]:
            self.on_asked()

    async def _leave(self) -> None:
        async with self.pools.local.connection() as conn:
            await conn.execute(sql.query("leave_runner"), (self._id,))

    async def _count(self) -> None:
        """Writes the statistics; who is cancelled meanwhile leaves that to who comes next.

        Given up amid its commit, nobody would know whether it counts, and count it twice.
        """
        if self._counting is not None:
            await asyncio.wait({self._counting})
        self._counting = asyncio.create_task(self._write_counts(), name="eventferry presence")
        await asyncio.shield(self._counting)

    async def _write_counts(self) -> None:
        with self._unwritten.taken() as rows:
            if not rows:
                return
            async with self.pools.local.connection() as conn, conn.transaction():
                for row in rows:
                    await conn.execute(sql.query("add_statistics"), row)

    async def _forget(self) -> None:
        async with self.pools.local.connection() as conn:
            await conn.execute(sql.query("forget_statistics"))

    async def _forget_reports(self) -> None:
        async with self.pools.shared.connection() as conn:
            await conn.execute(sql.query("forget_reports"), (self.pools.config.service,))

    async def _answer(self) -> None:
        """Tells who waits what has become of his events, where a projection is past them."""
        if not (names := self._awaitable):
            return
        service = self.pools.config.service
        async with (
            self.pools.shared.connection() as conn,
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(sql.query("open_waits"), (service, names))
            waits = await cursor.fetchall()
        # before their checkpoints are looked at, so that no run ends unseen
        self._waited_for = {wait["projection"] for wait in waits}
        answers, open_ = [], set()
        for wait in waits:
            id_, name = wait.pop("id"), wait.pop("projection")
            place = Place(**wait)
            async with self.pools.local.connection() as conn:
                found = await answer(conn, service, name, place, parks=True)
            if found is not None:
                answers.append((found, id_, place.stream, found))
            if found != "handled":
                open_.add(name)
        if answers:
            async with self.pools.shared.connection() as conn, conn.cursor() as cursor:
                await cursor.executemany(sql.query("answer_wait"), answers)
        self._waited_for = open_

    async def _report(self) -> None:
        """Reports the projections that nobody has reported lately, where something is new."""
        now = time.monotonic()

        def age_s(name: str) -> float:
            return now - self._reported_at.get(name, -inf)

        names = [p.name for p in self.projections]
        wanted = [n for n in names if n in self._changed or age_s(n) >= REPORT_S]
        if not wanted:
            return
        service = self.pools.config.service
        async with (
            self.pools.shared.connection() as conn,
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(sql.query("reports"), (service, wanted))
            known = {row["projection"]: row for row in await cursor.fetchall()}
        self._reported_at |= {name: now - row["age_s"] for name, row in known.items()}
        due = {n for n in wanted if age_s(n) >= (BEAT_S - 1 if n in self._changed else REPORT_S)}
        if not due:
            return
        self._changed -= due
        new = []
        for one in await status(self.pools, [p for p in self.projections if p.name in due]):
            if one.lag is not None:
                self._unwritten.seen(one.name, one.lag, one.behind_s or 0.0)
            said = _said(one) | {"version": self._version}
            before = known.get(one.name, {})
            if age_s(one.name) < REPORT_S and all(before[k] == v for k, v in said.items()):
                continue
            self._reported_at[one.name] = now
            new.append({"service": service, "projection": one.name, **said})
        if not new:
            return
        new.sort(key=itemgetter("projection"))  # two at once lock the rows in one order
        async with (
            self.pools.shared.connection() as conn,
            conn.transaction(),
            conn.cursor() as cursor,
        ):
            await cursor.executemany(sql.query("put_report"), new)


def _pause_s() -> float:
    return BEAT_S * random.uniform(0.9, 1.0)


def _said(found: ProjectionStatus) -> dict[str, Any]:
    """What a report says of a projection."""
    error = found.failure.error if found.failure else found.waiting
    return {
        "kind": found.kind,
        "environment": found.environment,
        "streams": [stream.stream for stream in found.streams],
        "shared_stream": found.shared_stream,
        "mode": found.mode,
        "state": found.state,
        "lag": found.lag,
        "behind_s": found.behind_s,
        "rate": round(found.rate, 1),
        "error": error,
    }
