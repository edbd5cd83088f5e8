"""Events that a projection has set aside: what they are, and handing them to the handler again.

An event that has failed is parked, and the later ones of its entity behind it, in order. Unparking
holds the checkpoint, so that no event of the entity can overtake: while it has parked ones, its new
ones are parked too, and when the last has been handled, it flows again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.rows import class_row

from eventferry import sql
from eventferry.assembly import Parts, checkpoints_of, handler_effect_of
from eventferry.audit import entry
from eventferry.engine.outcome import Applied, Failed
from eventferry.errors import ProjectionError
from eventferry.event import RecordedEvent
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.store._native._async import event_cursor
from eventferry.store._row import select_events

LISTED = 100
"""Parked events that are held, and listed, at a time: there may be very many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A parked event."""

    stream: str
    position: int
    event_id: UUID
    event_type: str
    entity_id: str | None
    attempts: int
    """Of this event; 0: it waits behind an earlier one of its entity."""
    error: str | None
    """The last one's; None: it has not been tried."""
    traceback: str | None
    fingerprint: str | None
    """Of the error; None: it has none, or was parked by older code."""
    parked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which parked events are asked for; where nothing is said, all."""

    entity: str | None = None
    """Those of the entity."""
    events: tuple[UUID, ...] = ()
    """These; of an entity, the first ones."""
    error: str | None = None
    """Those of entities whose first one has failed with an error of this fingerprint."""


ALL = Which()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unparked:
    """What has become of parked events."""

    handled: int
    left: int
    """Events that are still parked, of those that were asked for."""
    failed: tuple[tuple[str, str], ...]
    """Of the events that have failed again, the first `LISTED`: what it is, and the error."""


@dataclass(frozen=True, slots=True)
class Parking(Parts):
    """The parked events of a projection."""

    pools: Pools
    projection: Projection
    who: str
    """For the audit."""

    async def find(self, events: Sequence[UUID] | None = None) -> list[Parked]:
        """The parked events, in order: all, or those of these ids."""
        asked = {"projection": self._name, "events": None if events is None else list(events)}
        return await self._asked("parked_events", asked)

    async def count(self, which: Which = ALL) -> int:
        """How many are parked, of those that are asked for."""
        async with self.pools.local.connection() as conn:
            asked = {"events": list(which.events) or None, **self._which(which)}
            cursor = await conn.execute(sql.query("count_asked"), asked)
            (count,) = await cursor.fetchone() or (0,)
            return int(count)

    async def plan(self, which: Which = ALL) -> list[Parked]:
        """What `unpark` would hand to the handler, in order: the first `LISTED` of them.

        Raises:
            ProjectionError: another parked event of the entity comes before it.
        """
        found: list[Parked] = []
        async for line in self._lines(which):
            is_whole = which.events or line[0].entity_id is None
            found += line if is_whole else await self._line(line[0])
            if len(found) >= LISTED:
                break
        return found[:LISTED]

    async def unpark(self, which: Which = ALL) -> Unparked:
        """Hands parked events to the handler, in order; what succeeds is parked no longer.

        Where one of an entity fails again, the later ones of that entity stay parked behind it.
        However many there are, a page of them is held at a time.

        Raises:
            ProjectionError: another parked event of the entity comes before it, or the
                projection is paused.
        """
        await self._require_not_paused()
        if asked := await self.count(which):
            await self._chosen(which.events)
            await self._audit(which, asked)
        failed: list[tuple[str, str]] = []
        begun: set[object] = set()
        handled = 0
        async for line in self._lines(which):
            if (key := _key(line[0])) in begun:
                continue
            done, failure = await self._unpark_line(line, only=bool(which.events))
            handled += done
            if failure is not None:
                begun.add(key)  # what is its first one now has been tried, too
                failed += [(failure.event, failure.error)][: LISTED - len(failed)]
        # who is asked for by an error may have another one by now
        left = await self.count(which) if which.error is None else max(0, asked - handled)
        return Unparked(handled=handled, left=left, failed=tuple(failed))

    async def _audit(self, which: Which, count: int) -> None:
        """Before the first is handled: whatever becomes of it, that stands."""
        ids = [str(event) for event in which.events[:LISTED]]
        said = {
            "entity": which.entity,
            "error": which.error,
            "event": ids[0] if len(ids) == 1 else ids,
        }
        given: dict[str, Any] = {name: value for name, value in said.items() if value}
        begun = entry(
            self.who, self._service, self._name, "unpark", **(given or {"all": True}), events=count
        )
        async with self.pools.local.connection() as conn:
            await conn.execute(*begun)

    async def _lines(self, which: Which) -> AsyncIterator[list[Parked]]:
        """Of each entity the first one, or those that are asked for; in their order.

        Raises:
            ProjectionError: another parked event of the entity comes before it.
        """
        if which.events:
            for line in await self._chosen(which.events):
                yield line
            return
        asked = {**self._which(which), "position": 0, "stream": "", "limit": LISTED}
        while heads := await self._asked("parked_heads", asked):
            for head in heads:
                yield [head]
            asked |= {"position": heads[-1].position, "stream": heads[-1].stream}

    async def _chosen(self, events: Sequence[UUID]) -> list[list[Parked]]:
        """The events, an entity's together; one without an entity is alone.

        Raises:
            ProjectionError: another parked event of the entity comes before it.
        """
        lines: dict[object, list[Parked]] = {}
        for parked in await self.find(events):
            lines.setdefault(_key(parked), []).append(parked)
        for line in lines.values():
            if line[0].entity_id is None:
                continue
            for first, asked in zip(await self._line(line[0], len(line)), line, strict=False):
                if first.event_id != asked.event_id:
                    raise ProjectionError(
                        f"event {asked.event_id} waits behind {first.event_id} of the same "
                        f"entity; unpark the whole entity: --entity {first.entity_id}"
                    )
        return list(lines.values())

    async def _unpark_line(
        self, line: Sequence[Parked], *, only: bool
    ) -> tuple[int, Failed | None]:
        """Handles an entity's parked events, and those that come to them meanwhile.

        One by one, each in its transaction: those before one that fails, or ends the process, are
        kept.
        """
        assert self.projection.handler is not None
        effect = handler_effect_of(self.pools, self.projection, self.projection.handler)
        first, handled = line[0], 0
        try:
            while line:
                event = await self._read(line[0])
                checkpoints = tuple((await checkpoints_of(self.pools, self.projection)).values())
                outcome = await effect.unpark(checkpoints, [event], attempt=line[0].attempts + 1)
                if isinstance(outcome, Failed):
                    await self._failed_again(outcome)
                    return handled, outcome
                if not isinstance(outcome, Applied):  # somebody else is at it
                    return handled, None
                handled += outcome.count
                line = line[1:]
                if not (line or only or first.entity_id is None):
                    line = await self._line(first)
        finally:
            effect.close()
        return handled, None

    async def _line(self, of: Parked, limit: int = LISTED) -> list[Parked]:
        """The first ones that are parked of the entity by now."""
        return await self._asked("parked_line", (self._name, of.stream, of.entity_id, limit))

    async def _asked(self, query: LiteralString, parameters: Any) -> list[Parked]:
        async with (
            self.pools.local.connection() as conn,
            conn.cursor(row_factory=class_row(Parked)) as cursor,
        ):
            await cursor.execute(sql.query(query), parameters)
            return await cursor.fetchall()

    def _which(self, which: Which) -> dict[str, Any]:
        return {"projection": self._name, "entity": which.entity, "error": which.error}

    async def _failed_again(self, failed: Failed) -> None:
        assert failed.mark is not None
        async with self.pools.local.connection() as conn:
            await conn.execute(
                sql.query("record_parked_failure"),
                (
                    failed.error,
                    failed.traceback,
                    failed.fingerprint,
                    self._name,
                    failed.mark.event_id,
                ),
            )

    async def _read(self, parked: Parked) -> RecordedEvent:
        """The event itself.

        Raises:
            ProjectionError: it is not in its stream any more.
        """
        async with (
            self.pools.of(self.projection.environment).connection() as conn,
            event_cursor(conn) as cursor,
        ):
            await cursor.execute(select_events(parked.stream), ([parked.event_id],))
            if (event := await cursor.fetchone()) is not None:
                return event
        raise ProjectionError(
            f"event {parked.event_id} is parked, but is not in {parked.stream!r} any more; "
            f"to forget it: `eventferry projections skip {self._name} "
            f"--event {parked.event_id}`"
        )

    async def _require_not_paused(self) -> None:
        known = (await self._registry.find([self._name])).get(self._name)
        if known is not None and known.paused_at is not None:
            raise ProjectionError(
                f"projection {self._name!r} is paused by {known.paused_by}, and its handler rests: "
                f"{known.pause_reason}. First: `eventferry projections resume {self._name}`"
            )


def _key(parked: Parked) -> object:
    """Its entity; one without an entity is alone."""
    if parked.entity_id is None:
        return parked.event_id
    return parked.stream, parked.entity_id
