"""What a process that runs projections says of itself, for those who look from elsewhere.

    local store    `runners`      that it is there, with which code, for which projections
                   `statistics`   how much each projection has done, minute by minute
    shared store   `reports`      how each projection is, for the map of all services

Nothing relies on it but people: what can't be written is left out, with a warning, and no
projection waits for it. The other way round, a process is asked here to end (`eventferry restart`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from eventferry import sql, tasks
from eventferry._uuid import uuid7
from eventferry.connection import is_outage
from eventferry.ended import End, Ended
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.runner import BEAT_S
from eventferry.status import ProjectionStatus, status
from eventferry.version import code_version

log = logging.getLogger("eventferry.presence")

REPORT_S = 60.0
"""What nobody runs is looked at this often; and a report that has not changed is written."""
SHORT_S = 1.0
"""Who may be over soon says that it is there after this time."""
LEAVE_S = 5.0
"""Who ends takes no longer than this to say so: the store may be away."""
FORGET_S = 3600.0
"""What is too old is forgotten this often."""


@dataclass(slots=True)
class _Count:
    """What a projection has done since the last beat."""

    events: int = 0
    failures: int = 0
    busy_s: float = 0.0


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
    """Whether it has said so."""
    _counts: dict[str, _Count] = field(default_factory=dict)
    _counted_at: float = 0.0
    _forgot_at: float | None = None
    _last: dict[str, End] = field(default_factory=dict)
    """How the last run of each has ended."""
    _changed: set[str] = field(default_factory=set)
    """Those that may have something new to report."""
    _reported_at: dict[str, float] = field(default_factory=dict)
    """When each was last looked at for a report."""
    _look: asyncio.Event = field(default_factory=asyncio.Event)
    _refused: set[str] = field(default_factory=set)
    """What our role may not write; that was said once."""
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._version = code_version(self.pools.config)
        self._counted_at = time.monotonic()
        self._task = asyncio.create_task(self._beats(), name="eventferry presence")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        await tasks.end([self._task])
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._try("statistics", self._count)
                await self._try("reports", self._report)
                if self._is_there:
                    await self._try("runners", self._leave)

    def ended(self, projection: Projection, ended: Ended) -> None:
        """A run of the projection has ended: it counts."""
        name = projection.name
        if ended.handled or ended.failed or self._last.get(name) is not ended.end:
            self._changed.add(name)
        self._last[name] = ended.end
        count = self._counts.setdefault(name, _Count())
        count.events += ended.handled
        count.failures += ended.failed
        if ended.handled:
            count.busy_s += ended.seconds

    def look(self) -> None:
        """Somebody may have asked us to end: looks at once."""
        self._look.set()

    async def _beats(self) -> None:
        await asyncio.sleep(0 if self.lasts else SHORT_S)
        while True:
            self._look.clear()
            await self._try("runners", self._beat)
            await self._try("statistics", self._count)
            await self._try("reports", self._report)
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._look.wait()

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
                "until then, nobody sees what it would show",
                table,
                error.diag.message_primary,
            )
        except Exception as error:  # an outage: the runs tell of that
            log.debug("can't write eventferry.%s: %s", table, error, exc_info=not is_outage(error))

    async def _beat(self) -> None:
        names = [p.name for p in self.projections]
        me = self._id, socket.gethostname(), os.getpid(), self.command, names, self._version
        async with self.pools.local.connection() as conn:
            cursor = await conn.execute(sql.query("beat_runner"), (self._version, *me))
            row = await cursor.fetchone()
        self._is_there = True
        if row and row[0]:
            self.on_asked()

    async def _leave(self) -> None:
        async with self.pools.local.connection() as conn:
            await conn.execute(sql.query("leave_runner"), (self._id,))

    async def _count(self) -> None:
        now = time.monotonic()
        seconds, self._counted_at = now - self._counted_at, now
        worth = [n for n, c in self._counts.items() if c.events or c.failures]
        forget = self._forgot_at is None or now - self._forgot_at > FORGET_S
        if not worth and not (forget and self._is_there):
            return
        async with self.pools.local.connection() as conn:
            for name in worth:
                count = self._counts.pop(name)
                values = (name, count.events, count.failures, count.busy_s, seconds)
                await conn.execute(sql.query("add_statistics"), values)
            if forget:
                self._forgot_at = now
                await conn.execute(sql.query("forget_statistics"))

    async def _report(self) -> None:
        """Reports the projections that nobody has reported lately, where something is new."""
        now = time.monotonic()
        wanted = [
            p.name
            for p in self.projections
            if p.name in self._changed or now - self._reported_at.get(p.name, -inf) > REPORT_S
        ]
        if not wanted:
            return
        service = self.pools.config.service
        async with (
            self.pools.shared.connection() as conn,
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(sql.query("reports"), (service, wanted))
            known = {row.pop("projection"): row for row in await cursor.fetchall()}
        due = [n for n in wanted if known.get(n, _NEVER)["age_s"] >= BEAT_S - 1]
        if not due:
            return
        self._changed.difference_update(due)
        self._reported_at |= dict.fromkeys(due, now)
        for one in await status(self.pools, [p for p in self.projections if p.name in due]):
            said = _said(one) | {"version": self._version}
            before = known.get(one.name, _NEVER)
            if before["age_s"] < REPORT_S and all(before[k] == v for k, v in said.items()):
                continue
            async with self.pools.shared.connection() as conn:
                await conn.execute(
                    sql.query("put_report"),
                    (
                        service,
                        one.name,
                        one.kind,
                        one.environment,
                        said["streams"],
                        one.shared_stream,
                        *(said[k] for k in ("mode", "state", "lag", "behind_s", "error")),
                        self._version,
                    ),
                )


_NEVER: dict[str, Any] = {"age_s": float("inf")}


def _said(found: ProjectionStatus) -> dict[str, Any]:
    """What a report says of a projection."""
    error = found.failure.error if found.failure else found.waiting
    return {
        "streams": [stream.stream for stream in found.streams],
        "mode": found.mode,
        "state": found.state,
        "lag": found.lag,
        "behind_s": found.behind_s,
        "error": error,
    }
