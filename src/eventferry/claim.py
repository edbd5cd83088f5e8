"""Where a projection goes on: its checkpoints, which are made when it runs for the first time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from eventferry import sql
from eventferry.assembly import Parts, checkpoints_of, shared_stream_of, source_of
from eventferry.checkpoint import Checkpoints
from eventferry.errors import HistoryMismatch, ProjectionError
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.registry import Registered
from eventferry.store._native._async import observe


class Outdated(Exception):
    """The projection reads other streams than this process knows of."""


@dataclass(frozen=True, slots=True)
class Claim(Parts):
    """A projection that is about to run."""

    pools: Pools
    projection: Projection
    known: Registered | None
    """What its local store knows of it; None: it never ran."""

    async def __call__(self) -> tuple[Checkpoints, bool]:
        """The projection's checkpoints, and whether they have just been made.

        Raises:
            Outdated: the projection reads other streams by now.
            UnknownStream: one of its streams is not there; `wait` remembers when that was.
            HistoryMismatch: it would begin in a store that is not the one it was in.
        """
        found = await checkpoints_of(self.pools, self.projection)
        missing = set(self.projection.streams) - found.keys()
        if missing:
            await self._require_its_streams()
            await self._create_checkpoints(missing)
            found = await checkpoints_of(self.pools, self.projection)
        await self._remember_shared_store()
        return tuple(found[stream] for stream in self.projection.streams), bool(missing)

    async def wait(self) -> None:
        """What is appended from now on is not missed, when the missing stream appears."""
        if self.known is None or self.known.began_head is None:
            async with self.pools.of(self.projection.environment).connection() as conn:
                seen = await observe(conn, self.projection.streams)
            await self._registry.began(self._name, seen)

    async def _require_its_streams(self) -> None:
        """Begins no stream that somebody has taken from the projection while it ran here.

        Raises:
            Outdated: its streams are others now.
        """
        try:
            await self._registry.register(self.projection)
        except ProjectionError as error:
            raise Outdated(
                f"its configuration has changed; restart this process: {error}"
            ) from error

    async def _remember_shared_store(self) -> None:
        """So that a ferry that finds no checkpoint knows whether there was one, elsewhere."""
        known = self.known
        if self.projection.kind == "producing" and known and known.kept_in is None:
            async with self._target.connection() as conn:
                cursor = await conn.execute("SELECT id FROM eventferry.store")
                (store,) = await cursor.fetchone() or (None,)
            await self._registry.kept_in(self._name, store)

    async def _create_checkpoints(self, missing: set[str]) -> None:
        known = self.known
        began = None
        if known and known.began_horizon is not None and known.began_head is not None:
            began = known.began_horizon, known.began_head
        origin = await source_of(self.pools, self.projection).origin(self.projection.start, began)
        async with self._target.connection() as conn, conn.transaction():
            if self.projection.kind == "producing":
                await self._require_stores(conn, origin[0].store)
                stream = shared_stream_of(self.projection)
                await conn.execute(sql.query("create_shared_stream"), (stream, self._service))
            created = [
                (
                    self._service,
                    self._name,
                    c.stream,
                    c.store,
                    c.incarnation,
                    c.position,
                    c.event_id,
                    c.replay_until,
                )
                for c in origin
                if c.stream in missing
            ]
            await conn.cursor().executemany(sql.query("create_checkpoint"), created)

    async def _require_stores(self, conn: AsyncConnection[Any], source: UUID) -> None:
        """Begins no ferry to another shared store, or beside one of another local store.

        Args:
            conn: To the shared store, in the transaction that makes the checkpoint.
            source: The identity of the local store.

        Raises:
            HistoryMismatch: it is another shared store than the one with its checkpoint, or a
                service of this name ferries to it from another local store.
        """
        name, service, shown = self._name, self._service, self.pools.shown("shared")
        await conn.execute(
            "SELECT pg_advisory_xact_lock(17734, 3)"
        )  # of two at once, one sees both
        cursor = await conn.execute(sql.query("ferry_stores"), (service, source))
        here, other, of = await cursor.fetchone() or (None, None, None)
        if other is not None:
            raise HistoryMismatch(
                f"projection {name!r} was to ferry from local store {source}, but a service of "
                f"the same name, {service!r}, ferries from local store {other} (projection {of!r}) "
                f"to {shown}. Nothing was ferried. Is local_url wrong? Are two services called "
                f"{service!r}? Correct the URL, or rename one, then `eventferry projections retry "
                f"{name}`. If the local store has taken the other's place: `eventferry "
                f"projections reset {of} --to last-common` first"
            )
        kept_in = self.known.kept_in if self.known else None
        if kept_in not in (None, here):
            raise HistoryMismatch(
                f"projection {name!r} has its checkpoint in shared store {kept_in}, but {shown} "
                f"is store {here}, and has none of it. Nothing was ferried. Is shared_url wrong? "
                f"Correct it, then `eventferry projections retry {name}`. If this store has "
                f"taken the other's place: `eventferry projections reset {name} --to start` "
                "ferries everything to it"
            )
