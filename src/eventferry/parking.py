"""Events that a projection has set aside: what they are, and handing them to the handler again.

An event that has failed is parked, and the later ones of its entity behind it, in order. Unparking
holds the checkpoint, so that no event of the entity can overtake: while it has parked ones, its new
ones are parked too, and when the last has been handled, it flows again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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
    parked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unparked:
    """What has become of parked events."""

    handled: int
    left: int
    """Events that are still parked, of those that were asked for."""
    failed: tuple[tuple[str, str], ...]
    """Of each event that has failed again: what it is, and the error."""


@dataclass(frozen=True, slots=True)
class Parking(Parts):
    """The parked events of a projection."""

    pools: Pools
    projection: Projection
    who: str
    """For the audit."""

    async def find(self, *, entity: str | None = None, event: UUID | None = None) -> list[Parked]:
        """The parked events, in order: all, or those of an entity, or one."""
        async with (
            self.pools.local.connection() as conn,
            conn.cursor(row_factory=class_row(Parked)) as cursor,
        ):
            await cursor.execute(
                sql.query("parked_events"),
                {"projection": self._name, "entity": entity, "event": event},
            )
            return await cursor.fetchall()

    async def plan(self, *, entity: str | None = None, event: UUID | None = None) -> list[Parked]:
        """What `unpark` would hand to the handler, in order.

        Raises:
            ProjectionError: another parked event of the entity comes before it.
        """
        asked = await self.find(entity=entity, event=event)
        await self._require_first(asked, event)
        return [parked for line in _lines(asked) for parked in line]

    async def unpark(self, *, entity: str | None = None, event: UUID | None = None) -> Unparked:
        """Hands parked events to the handler, in order; what succeeds is parked no longer.

        Where one of an entity fails again, the later ones of that entity stay parked behind it.
        With `event`, that one must be the first of its entity.

        Raises:
            ProjectionError: another parked event of the entity comes before it, or the
                projection is paused.
        """
        await self._require_not_paused()
        asked = await self.plan(entity=entity, event=event)
        if asked:
            await self._audit(len(asked), entity, event)
        failed: list[tuple[str, str]] = []
        handled = 0
        for line in _lines(asked):
            done, failure = await self._unpark_line(line, only=event is not None)
            handled += done
            if failure is not None:
                failed.append((failure.event, failure.error))
        left = len(await self.find(entity=entity, event=event))
        return Unparked(handled=handled, left=left, failed=tuple(failed))

    async def _audit(self, count: int, entity: str | None, event: UUID | None) -> None:
        """Before the first is handled: whatever becomes of it, that stands."""
        which = {"entity": entity} if entity else {"event": str(event)} if event else {"all": True}
        begun = entry(self.who, self._service, self._name, "unpark", **which, events=count)
        async with self.pools.local.connection() as conn:
            await conn.execute(*begun)

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
                if only or first.entity_id is None:
                    return handled, None
                line = line[1:] or await self._line(first)
        finally:
            effect.close()
        return handled, None

    async def _line(self, of: Parked) -> list[Parked]:
        """What is parked of the entity by now."""
        found = await self.find(entity=of.entity_id)
        return [p for p in found if p.stream == of.stream]

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

    async def _require_first(self, asked: Sequence[Parked], event: UUID | None) -> None:
        if event is None or not asked or asked[0].entity_id is None:
            return
        first = (await self._line(asked[0]))[0]
        if first.event_id != event:
            raise ProjectionError(
                f"event {event} waits behind {first.event_id} of the same entity; "
                f"unpark the whole entity: --entity {first.entity_id}"
            )


def _lines(parked: Sequence[Parked]) -> list[list[Parked]]:
    """The parked events, an entity's together; one without an entity is alone."""
    lines: dict[object, list[Parked]] = {}
    for p in parked:
        key = (p.stream, p.entity_id) if p.entity_id is not None else p.event_id
        lines.setdefault(key, []).append(p)
    return list(lines.values())
