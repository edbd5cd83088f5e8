"""The connections of a process that runs projections: to the local store, and to the shared one.

Async pools for reading, ferrying and `async def` handlers, a sync one for `def` handlers.
Opened with the schema checked, closed together; nothing is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import AsyncExitStack
from copy import copy
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from psycopg import AsyncConnection, Connection
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventferry import framework, migration, sql
from eventferry.config import Config
from eventferry.connection import Pool, options, shown, translated
from eventferry.errors import EventFerryError
from eventferry.projection import Projection
from eventferry.store._native._async import configure as configure_async
from eventferry.store._native._sync import configure

POOL: dict[str, Any] = {
    "min_size": 0,
    "open": False,
    "timeout": 10.0,
    # after an outage: how long a pool at most waits between two attempts to connect
    "reconnect_timeout": 10.0,
}


@dataclass(slots=True)
class Pools:
    """Connections to both stores of a service."""

    config: Config
    size: int = 8
    """Connections at most, in each pool."""
    shared_is: Literal["required", "optional", "unused"] = "required"
    """optional: for what has something to say without it, unused: for what does not wait for it,
    when the shared store is away."""
    opened: dict[str, Pool] = field(init=False, default_factory=dict)
    """By environment; the shared store may be missing, if it is not required."""
    away: EventFerryError | None = field(init=False, default=None)
    """Why an optional shared store is missing."""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    handlers: ConnectionPool[Connection[Any]] = field(init=False)
    """To the local store, for `def` handlers."""
    hosted: framework.HandlerTransactions | None = field(init=False, default=None)
    """What takes their place, where eventferry runs in a framework."""

    async def __aenter__(self) -> Self:
        """Opens the pools.

        Raises:
            StoreUnavailable, StoreNotMigrated, SchemaTooNew: one of the stores is not to be used.
            StoreError: one of them is another service's.
        """
        async with AsyncExitStack() as opening:
            self.opened["local"] = await self._open("local", opening)
            if self.config.shared_url == self.config.local_url:
                self.opened["shared"] = self.local
            elif self.shared_is != "unused":
                await self._open_shared(opening)
            self.handlers = ConnectionPool(
                self.config.local_url,
                kwargs=options(self.config.service),
                configure=configure,
                max_size=self.size,
                name="eventferry handlers",
                **POOL,
            )
            opening.callback(self.handlers.close)
            self.handlers.open()
            await self._open_hosted(opening)
            self._stack = opening.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def local(self) -> Pool:
        """To the local store."""
        return self.opened["local"]

    @property
    def shared(self) -> Pool:
        """To the shared store, which is not missing."""
        return self.opened["shared"]

    def of(self, environment: str) -> Pool:
        """The pool of an environment."""
        return self.opened[environment]

    def shown(self, environment: str) -> str:
        """What messages call the store of an environment."""
        return shown(self._url(environment), environment)

    def only(self, environments: Collection[str]) -> Self:
        """The same connections to some of the stores, for who looks while another one is away."""
        some = copy(self)
        some.opened = {name: pool for name, pool in self.opened.items() if name in environments}
        return some

    async def renew(self) -> None:
        """Gives up all connections, as after an outage any of them may be broken, or frozen."""
        for pool in set(self.opened.values()):
            await pool.drain()
        self.handlers.drain()
        if self.hosted is not None:
            await asyncio.to_thread(self.hosted.drain)

    def _require_own(self, found: Any, environment: str, store: str) -> None:
        if environment == "local":
            migration.refuse_foreign(found, store, "local", self.config.service)
        elif self.config.shared_url != self.config.local_url:
            migration.refuse_foreign(found, store, "shared", None)

    def _url(self, environment: str) -> str:
        return self.config.local_url if environment == "local" else self.config.shared_url

    async def _open_hosted(self, stack: AsyncExitStack) -> None:
        # in threads: a framework refuses to block a loop
        open_ = framework.current().transactions
        self.hosted = await asyncio.to_thread(open_, self.config.local_url)
        if self.hosted is not None:
            stack.push_async_callback(asyncio.to_thread, self.hosted.close)

    async def _open_shared(self, stack: AsyncExitStack) -> None:
        try:
            self.opened["shared"] = await self._open("shared", stack)
        except EventFerryError as error:
            if self.shared_is == "required":
                raise
            self.away = error

    async def _open(self, environment: str, stack: AsyncExitStack) -> Pool:
        arguments = options(self.config.service)
        store = self.shown(environment)
        # once by hand: a pool would hide a wrong password behind its time-out
        with translated(store):
            async with await AsyncConnection.connect(self._url(environment), **arguments) as conn:
                cursor = await conn.execute(sql.query("migrations"))
                migration.require_migrated(await cursor.fetchall(), store)
                cursor = await conn.execute(sql.query("whose_store"))
                self._require_own(await cursor.fetchone(), environment, store)
        pool: Pool = AsyncConnectionPool(
            self._url(environment),
            kwargs=arguments,
            configure=configure_async,
            max_size=self.size,
            name=f"eventferry {environment}",
            **POOL,
        )
        stack.push_async_callback(pool.close)
        await pool.open()
        return pool


def needs_shared(projection: Projection) -> bool:
    """Whether the projection reads or writes the shared store."""
    return projection.kind == "producing" or projection.environment == "shared"
