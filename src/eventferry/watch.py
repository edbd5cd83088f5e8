"""Who is awake, and who must be woken: one worker's ear at one store.

"There is work" is a fact of the tables; this only makes it known fast. Nobody notifies while the
reader is awake, so a reader that is about to sleep says so first:

    1. LISTEN is committed
    2. `sleep`: a shared lock a stream, held by the connection that listens
    3. one more look, by the caller: the horizon, and what is in flight
    4. sleep, until a notification, or the poll

An append takes its marker first and tests that lock after it. If nobody held it, the marker was
there before step 3, so that the reader has seen it and stays awake. A reader that soon finds
nothing again keeps its locks; a busy one lets them go (`awake`). With the connection go the locks:
nobody is notified who does not listen.

The poll bounds everything: one small transaction an interval, for all streams together.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection

from eventferry import sql
from eventferry.connection import Pool, options
from eventferry.health import Health
from eventferry.logline import first_line
from eventferry.store._native._async import is_direct, observe

log = logging.getLogger("eventferry.watch")

RECONNECT_S = 1.0
ANSWER_S = 2.0
"""The connection that listens answers within this time, or is given up."""
ATTEMPTS = 20
"""How often a sleeper tries for its lock, which an append may be testing at this very instant."""


@dataclass(slots=True, kw_only=True)
class Watch:
    """One store, watched for the projections of a worker."""

    environment: str
    """Which one: local or shared."""
    pool: Pool
    listen_url: str | None
    """For LISTEN, which needs a direct connection; None: only poll."""
    poll_s: float
    readers: dict[str, tuple[str, ...]]
    """The streams of this store that each projection reads."""
    wake: Callable[[Iterable[str]], None]
    """Told the names of projections that should look."""
    on_runners: Callable[[], None] = lambda: None
    """Told when the processes of the service are asked something."""
    service: str = ""
    """Ours; for waits of other services."""
    on_waits: Callable[[], None] = lambda: None
    """Told when somebody may wait for a projection of the service."""
    health: Health = field(default_factory=Health)
    """What probes are told: by the poll, or where there is none, by who listens."""
    _ear: AsyncConnection[Any] | None = None
    """The connection that listens, while there is one."""
    _socket: int = -1
    """Its file descriptor, which a connection that is lost does not tell any more."""
    _lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is found to be gone."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Keeps what `_ear` holds in step with `_held` and `_asleep`."""
    _held: dict[str, str] = field(default_factory=dict)
    """The streams whose lock we hold, by their number, as notifications give it."""
    _asleep: set[str] = field(default_factory=set)
    """The projections that rely on being notified."""

    def is_asleep(self, projection: str) -> bool:
        """Whether appends to the projection's streams notify us."""
        return projection in self._asleep

    async def sleep(self, projection: str) -> bool:
        """Asks to be notified; look once more after this. False: there is only the poll."""
        async with self._lock:
            for attempt in range(ATTEMPTS):
                missing = set(self.readers[projection]).difference(self._held.values())
                if self._ear is None:
                    return False
                if not missing:
                    self._asleep.add(projection)
                    return True
                if attempt:
                    await asyncio.sleep(0.001 * random.random() * attempt)
                for number, name, is_held in await self._ask(self._ear, "say_asleep", missing):
                    if is_held:
                        self._held[number] = name
            return False

    async def awake(self, projection: str) -> None:
        """Lets the appenders off notifying, as the projection looks by itself for a while."""
        async with self._lock:
            self._asleep.discard(projection)
            needed = {stream for name in self._asleep for stream in self.readers[name]}
            idle = {n: s for n, s in self._held.items() if s not in needed}
            if idle and self._ear is not None:
                await self._ask(self._ear, "say_awake", set(idle.values()))
                for number in idle:
                    self._held.pop(number, None)

    async def listen(self) -> None:
        """Listens until it is cancelled; comes back after every loss of the connection."""
        is_away, store = False, {"store": self.environment}
        while self.listen_url is not None:
            try:
                async with self._listening(self.listen_url):
                    if is_away:
                        log.info("listening to the %s store again", self.environment, extra=store)
                    await self._lost.wait()
                    log.warning(
                        "lost the connection that listens to the %s store; polling until there is "
                        "another",
                        self.environment,
                        extra=store,
                    )
            except _NotDirect:
                log.warning(
                    "a pooler stands before the %s store, and passes no notifications on: only "
                    "polling. Set %s_listen_url to a URL without the pooler, or to 'off'",
                    self.environment,
                    self.environment,
                    extra=store,
                )
                return
            except Exception as error:
                if not is_away:
                    self._say("can't listen to the %s store, polling meanwhile: %s", error)
                if not self.readers:
                    self.health.unavailable(self.environment, error)
            is_away = True
            await asyncio.sleep(RECONNECT_S * random.uniform(0.5, 1.5))

    async def poll(self) -> None:
        """Looks for new events at every interval, until it is cancelled."""
        streams = sorted({stream for read in self.readers.values() for stream in read})
        if not streams:
            return
        is_away, heads, store = False, dict[str, int](), {"store": self.environment}
        looked_at = -1  # the head of the store when nothing was in flight, last time
        while True:
            await asyncio.sleep(self.poll_s * random.uniform(0.9, 1.1))
            if self._ear is None:  # nobody tells us
                self.on_waits()
            try:
                async with self.pool.connection() as conn:
                    seen = await observe(conn, streams)
                    self.health.available(self.environment)
                    if is_away:
                        log.info("polling the %s store again", self.environment, extra=store)
                    is_away = False
                    if seen.head == looked_at:
                        continue
                    cursor = await conn.execute(sql.query("heads"), (streams,))
                    new = dict(await cursor.fetchall())
            except Exception as error:
                if not is_away:
                    self._say("could not poll the %s store: %s", error)
                is_away = True
                self.health.unavailable(self.environment, error)
                await self.pool.drain()  # the pool's other connections are hardly any better
                continue
            looked_at = seen.head if seen.in_flight == 0 else -1
            self._wake_readers(s for s, position in new.items() if position > heads.get(s, -1))
            heads = new

    def _say(self, message: str, error: Exception) -> None:
        """Tells of an error, once: it may last."""
        known = {"store": self.environment, "error_type": type(error).__qualname__}
        log.warning(message, self.environment, first_line(error), exc_info=_bug(error), extra=known)

    @asynccontextmanager
    async def _listening(self, url: str) -> AsyncIterator[None]:
        """A connection that listens. Its socket is watched by the loop between its statements."""
        async with await AsyncConnection.connect(url, **options("listen")) as conn:
            if not await is_direct(conn):  # our locks would stay on a connection of others
                raise _NotDirect
            conn.add_notify_handler(lambda notify: self._notified(notify.payload))
            await conn.execute(sql.query("listen"))
            self._lost.clear()
            if not self.readers:
                self.health.available(self.environment)
            self._ear, self._socket = conn, conn.fileno()
            asyncio.get_running_loop().add_reader(self._socket, self._hear, conn)
            # what came while nobody listened: everyone looks once more
            self.wake(self.readers)
            self.on_waits()
            try:
                yield
            finally:
                async with self._lock:
                    self._leave(conn)

    def _hear(self, conn: AsyncConnection[Any]) -> None:
        """Something came on the socket."""
        try:
            conn.pgconn.consume_input()
            while notify := conn.pgconn.notifies():
                self._notified(notify.extra.decode())
        except psycopg.OperationalError:
            self._leave(conn)
            self._lost.set()

    def _leave(self, conn: AsyncConnection[Any]) -> None:
        if self._ear is conn:
            self._ear = None
            self._held.clear()
            self._asleep.clear()
            asyncio.get_running_loop().remove_reader(self._socket)

    async def _ask(
        self, conn: AsyncConnection[Any], query: str, streams: set[str]
    ) -> list[tuple[Any, ...]]:
        """A statement on the connection that listens; nothing, if it turns out to be gone.

        Or if it does not answer: who only wants to sleep must not be held up by that.
        """
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)  # psycopg waits for the answer by itself
        asking = asyncio.create_task(conn.execute(sql.query(query), (list(streams),)))
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait({asking}, timeout=ANSWER_S)
        if not asking.done() or asking.exception():
            asking.cancel()  # nobody waits for that either
            self._leave(conn)
            self._lost.set()
            return []
        rows = await asking.result().fetchall()
        loop.add_reader(self._socket, self._hear, conn)
        self._hear(conn)  # what came with the answer: that it is gone, perhaps
        return rows if self._ear is conn else []

    def _notified(self, payload: str) -> None:
        kind, _, name = payload.partition(":")
        if kind == "projection":
            self.wake([name])
        elif payload == "runners":
            self.on_runners()
        elif kind == "waits":
            if name == self.service:
                self.on_waits()
        elif payload in self._held:
            self._wake_readers([self._held[payload]])

    def _wake_readers(self, streams: Iterable[str]) -> None:
        changed = set(streams)
        self.wake([name for name, read in self.readers.items() if changed.intersection(read)])


def _bug(error: Exception) -> Exception | None:
    """The error, if its traceback would tell us something: it is none of the database's."""
    return None if isinstance(error, psycopg.Error) else error


class _NotDirect(Exception):
    """The connection for LISTEN is one to a pooler."""
