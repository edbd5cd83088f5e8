"""Who is awake, and who must be woken: one worker's ear at one store.

"There is work" is a fact of the tables; this only makes it known fast. Nobody notifies while the
reader is awake, so a reader that is about to sleep says so first:

    1. LISTEN is committed
    2. `sleep`: a row in `sleepers`, committed
    3. one more look, by the caller: the horizon, and what is in flight
    4. sleep, until a notification, or the poll

An append takes its marker first and looks at `sleepers` after it. If it sees nobody there, its
marker was there before step 3, so that the reader has seen it and stays awake. A reader that
soon finds nothing again leaves its row where it is; a busy one takes it back (`awake`).

The poll bounds everything: one small transaction an interval, for all streams together.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from eventferry import sql
from eventferry.connection import options
from eventferry.errors import EventFerryError

log = logging.getLogger("eventferry.watch")

CHANNEL = "eventferry"
RECONNECT_S = 1.0


@dataclass(slots=True, kw_only=True)
class Watch:
    """One store, watched for the projections of a worker."""

    pool: AsyncConnectionPool[AsyncConnection[Any]]
    listen_url: str | None
    """A direct connection for LISTEN; None: only poll."""
    poll_s: float
    readers: dict[str, tuple[str, ...]]
    """The streams of this store that each projection reads."""
    wake: Callable[[Iterable[str]], None]
    """Told the names of projections that should look."""
    _listener: int | None = None
    """The pid of the backend that LISTENs, while it does."""
    _asleep: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By stream, the projections that rely on being notified."""
    _numbers: dict[str, str] = field(default_factory=dict)
    """The names of the streams, by number, as notifications give it."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Keeps the rows of `sleepers` in step with `_asleep`."""

    def is_asleep(self, projection: str) -> bool:
        """Whether appends to the projection's streams notify us."""
        streams = self.readers[projection]
        return self._listener is not None and all(projection in self._asleep[s] for s in streams)

    async def sleep(self, projection: str) -> bool:
        """Asks to be notified; look once more after this. False: there is only the poll."""
        async with self._lock:
            if self._listener is None:
                return False
            streams = self.readers[projection]
            await self._write("insert_sleepers", streams)
            for stream in streams:
                self._asleep[stream].add(projection)
            return True

    async def awake(self, projection: str) -> None:
        """Lets the appenders off notifying, as the projection looks by itself for a while."""
        async with self._lock:
            left = []
            for stream in self.readers[projection]:
                if projection in self._asleep[stream]:
                    self._asleep[stream].discard(projection)
                    if not self._asleep[stream]:
                        left.append(stream)
            if left and self._listener is not None:
                await self._write("delete_sleepers", left)

    async def listen(self) -> None:
        """Listens until it is cancelled; comes back after every loss of the connection."""
        while self.listen_url is not None:
            try:
                async with self._listening(self.listen_url) as conn:
                    async for notify in conn.notifies():
                        self._notified(notify.payload)
            except (psycopg.Error, EventFerryError) as error:
                log.warning("lost the connection that listens: %s", error)
            # its time-out is the poll's, until there is another one
            await asyncio.sleep(RECONNECT_S * random.uniform(0.5, 1.5))

    async def poll(self) -> None:
        """Looks for new events at every interval, until it is cancelled."""
        heads: dict[str, int] = {}
        looked_at = -1  # the head of the store when nothing was in flight, last time
        while True:
            await asyncio.sleep(self.poll_s * random.uniform(0.9, 1.1))
            try:
                async with self.pool.connection() as conn:
                    cursor = await conn.execute(sql.query("glance"), (list(self._streams()),))
                    head, in_flight = await cursor.fetchone() or (0, 0)
                    if head == looked_at:
                        continue
                    cursor = await conn.execute(sql.query("heads"), (list(self._streams()),))
                    new = dict(await cursor.fetchall())
            except (psycopg.Error, EventFerryError) as error:
                log.warning("could not poll: %s", error)
                continue
            looked_at = head if in_flight == 0 else -1
            self._wake_readers(s for s, position in new.items() if position > heads.get(s, -1))
            heads = new

    def _streams(self) -> set[str]:
        return {stream for streams in self.readers.values() for stream in streams}

    def _notified(self, payload: str) -> None:
        kind, _, name = payload.rpartition(":")
        if kind == "projection":
            self.wake([name])
        elif payload in self._numbers:
            self._wake_readers([self._numbers[payload]])

    def _wake_readers(self, streams: Iterable[str]) -> None:
        changed = set(streams)
        self.wake([name for name, read in self.readers.items() if changed.intersection(read)])

    @asynccontextmanager
    async def _listening(self, url: str) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection that listens, with the sleepers' rows in its name."""
        async with await AsyncConnection.connect(url, **options("listen")) as conn:
            await conn.execute(sql.query("listen"))
            async with self._lock:
                self._listener = conn.info.backend_pid
                self._asleep.clear()
            # what came while nobody listened: everyone looks once more
            self.wake(self.readers)
            try:
                yield conn
            finally:
                async with self._lock:
                    self._listener = None
                    self._asleep.clear()

    async def _write(self, query: str, streams: Iterable[str]) -> None:
        async with self.pool.connection() as conn:
            cursor = await conn.execute(sql.query(query), (self._listener, list(streams)))
            self._numbers |= {str(number): name for number, name in await cursor.fetchall()}
