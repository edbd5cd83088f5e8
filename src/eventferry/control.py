"""What a person does to a projection: stop, pause, resume, skip, unpark, reset, delete, streams.

Each waits for the batch that is being handled, wherever that is, because it has to change the row
that the batch has locked; when it returns, it is so, and stands in the audit. Nothing here needs a
runner's cooperation: it may be dead, frozen, elsewhere, or never have been.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from psycopg import AsyncConnection

from eventferry import sql
from eventferry.assembly import Parts, checkpoints_of, handler_effect_of, source_of
from eventferry.audit import entry
from eventferry.checkpoint import Checkpoint, Checkpoints, Mark
from eventferry.engine._async import Change
from eventferry.engine.locking._async import wait
from eventferry.errors import ProjectionError
from eventferry.parking import ALL, Parked, Parking, Unparked, Which
from eventferry.pools import Pools
from eventferry.projection import Projection, Start
from eventferry.registry import Registered
from eventferry.source import origin

IDLE_MS = "60000"
"""How long a control's transaction may be idle before the server ends it."""

To = Start | Literal["last-common"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a reset does to one checkpoint."""

    stream: str
    before: int | None
    """The position; None: there is none yet."""
    after: int
    events: int
    """How many there are between: to be handled again, or left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control(Parts):
    """One projection, in somebody's hands."""

    pools: Pools
    projection: Projection
    who: str
    """For the audit."""

    async def pause(self, reason: str) -> None:
        """Lets no run go on until it is resumed; the batch that is being handled is over.

        Raises:
            ProjectionError: it has been deleted.
        """
        await self._require_there()
        async with self._changing("pause", reason) as conn, self._local(conn) as local:
            await local.execute(sql.query("pause_projection"), (self.who, reason, self._name))
            await self._hold(conn, True)

    async def resume(self) -> bool:
        """Lets runs go on; False: it was not paused.

        Raises:
            ProjectionError: it has been deleted.
        """
        await self._require_there()
        known = await self._known()
        found = await checkpoints_of(self.pools, self.projection)
        if (known is None or known.paused_at is None) and not any(c.held for c in found.values()):
            return False
        async with self._changing("resume") as conn, self._local(conn) as local:
            await self._hold(conn, False)
            await local.execute(sql.query("resume_projection"), (self._name,))
        return True

    async def stop(self) -> None:
        """Ends the run that goes on, after its batch; whoever has work then begins another.

        A process that runs the projection alone (`producing start`, `consuming start`) ends.

        Raises:
            ProjectionError: it has been deleted.
        """
        await self._require_there()
        # first what such a process looks at, then what ends its run, so that it sees both
        async with self.pools.local.connection() as local:
            await local.execute(sql.query("ask_to_stop"), (self._name,))
        async with self._changing("stop") as conn:
            await conn.execute(sql.query("stop_runs"), (self._service, self._name))

    async def skip(self, event_id: UUID, reason: str) -> Mark:
        """Leaves the failing event out, or forgets a parked one; it is never handled.

        Raises:
            ProjectionError: it is neither.
        """
        if await self.parked([event_id]):
            return (await self.forget([event_id], reason))[0]
        mark = await self._failing(event_id)
        async with self._changing("skip", reason, **_details(mark)) as conn:
            await self._failing(event_id)  # nobody has reset it, say, while we waited
            cursor = await conn.execute(
                sql.query("skip_event"),
                (mark.position, event_id, self._service, self._name, mark.stream, mark.position),
            )
            if cursor.rowcount != 1:
                raise ProjectionError(
                    f"projection {self._name!r} has got past event {event_id} meanwhile"
                )
        async with self.pools.local.connection() as conn:
            await conn.execute(sql.query("begin_again"), (self._name,))
        return mark

    async def forget(self, events: Sequence[UUID], reason: str) -> list[Mark]:
        """Forgets parked events, all or none; they are never handled.

        Raises:
            ProjectionError: one of them is not parked.
        """
        async with self._target.connection() as conn, conn.transaction():
            await wait(conn, self._service, self._name, IDLE_MS)
            parked = await self.parked(events)  # nobody has unparked one, say, while we waited
            known = {p.event_id for p in parked}
            if missing := [str(event) for event in events if event not in known]:
                raise ProjectionError(
                    f"projection {self._name!r} has not parked {', '.join(missing)}; several "
                    "events are skipped together if all are parked, so none is skipped now"
                )
            marks = [Mark(p.stream, p.position, p.event_id) for p in parked]
            async with self._local(conn) as local:
                await local.execute(sql.query("delete_parked_events"), (self._name, list(events)))
            for mark in marks:
                await conn.execute(*self._entry("skip", reason, **_details(mark), parked=True))
        return marks

    async def parked(self, events: Sequence[UUID] | None = None) -> list[Parked]:
        """The parked events, in order: all, or those of these ids."""
        return await self._parking.find(events)

    async def count_parked(self, which: Which = ALL) -> int:
        """How many are parked, of those that are asked for."""
        return await self._parking.count(which)

    async def unparked_next(self, which: Which = ALL) -> list[Parked]:
        """What `unpark` would hand to the handler, in order: the first ones.

        Raises:
            ProjectionError: another parked event of the entity comes before it.
        """
        return await self._parking.plan(which)

    async def unpark(self, which: Which = ALL) -> Unparked:
        """Hands parked events to the handler, in order, as `Parking.unpark` does."""
        return await self._parking.unpark(which)

    async def dropped(self, moves: Sequence[Move]) -> int:
        """How many parked events a reset forgets, as they come again."""
        streams, ends = [move.stream for move in moves], [move.after for move in moves]
        async with self.pools.local.connection() as conn:
            cursor = await conn.execute(
                sql.query("count_parked_behind"), (streams, ends, self._name)
            )
            (count,) = await cursor.fetchone() or (0,)
            return int(count)

    async def plan(self, to: To) -> list[Move]:
        """What `reset` would do."""
        return await self._moves(await self._origin(to))

    async def reset(self, to: To, reason: str | None = None) -> list[Move]:
        """Puts the checkpoints elsewhere; first the handler may undo what it has written.

        In one transaction, with the handler's `reset(context)`, if it has one: what it writes, the
        checkpoints, and that nothing is parked or has failed. A deleted projection begins again.

        Back to a last common event, the projection does not begin again, but goes on: its handler's
        `reset` is not called, and what was parked before that event stays so.

        Its streams are those of the configuration from then on.

        Raises:
            UnknownStream: one of them is not there.
            Exception: what the handler's `reset` has raised; nothing is changed then.
        """
        after = await self._origin(to)
        moves = await self._moves(after)
        await self._require_known()
        known = await self._known()
        held = known is not None and known.paused_at is not None
        told = [[m.stream, m.before, m.after] for m in moves]
        changes = [
            self._delete_checkpoints(),
            *(self._put(c, held=held) for c in after),
            *(self._forget_marks(c.stream, c.position) for c in after),
            self._entry("reset", reason, to=str(to), moves=told),
        ]
        own = [
            (sql.query("set_streams"), (list(self.projection.streams), self._name)),
            (sql.query("begin_again"), (self._name,)),
            (sql.query("keep_in"), (None, self._name)),
            # those that come again; the ones before stay parked
            *(self._delete_parked(c.stream, c.position) for c in after),
        ]
        if to == "last-common" and any(c.position for c in after):
            await self._go_on(changes, own)
        else:
            await self._start_over(changes, own)
        return moves

    async def delete(self, reason: str | None = None) -> None:
        """Forgets where the projection was; nobody brings it back by starting it, but `reset`."""
        await self._require_known()
        async with self._changing("delete", reason) as conn, self._local(conn) as local:
            await local.execute(sql.query("delete_projection"), (self._name,))
            await local.execute(*self._delete_parked())
            await conn.execute(*self._delete_checkpoints())
            await conn.execute(*self._forget_marks())
        await self._registry.wake(self._name)

    async def add_stream(self, stream: str, start: Start) -> int:
        """Lets the projection read another stream too, from there on; the position of that.

        Raises:
            UnknownStream: there is no such stream.
            ProjectionError: it reads it already, or is a producing one.
        """
        known = await self._streams()
        if stream in known:
            raise ProjectionError(f"projection {self._name!r} reads {stream!r} already")
        async with self.pools.of(self.projection.environment).connection() as conn:
            store = self.pools.shown(self.projection.environment)
            (begin,) = await origin(conn, (stream,), start, store, None)
        async with self._changing("add-stream", stream=stream) as conn:
            await conn.execute(*self._put(begin, held=False))
            await conn.execute(sql.query("add_stream"), (stream, self._name))
        return begin.position

    async def remove_stream(self, stream: str) -> None:
        """Lets the projection read the stream no longer; where it was there is forgotten.

        Raises:
            ProjectionError: it does not read it, or reads no other, or is a producing one.
        """
        known = await self._streams()
        left = [name for name in known if name != stream]
        if len(left) == len(known) or not left:
            what = "does not read" if len(left) == len(known) else "reads nothing but"
            raise ProjectionError(f"projection {self._name!r} {what} {stream!r}")
        async with self._changing("remove-stream", stream=stream) as conn:
            await conn.execute(*self._delete_checkpoints(stream))
            await conn.execute(*self._forget_marks(stream))
            await conn.execute(*self._delete_parked(stream))
            await conn.execute(sql.query("remove_stream"), (stream, self._name))
            failing = await self._known()
            if failing is not None and failing.failing_stream == stream:
                await conn.execute(sql.query("begin_again"), (self._name,))

    # ---- the parts of these

    async def _hold(self, conn: AsyncConnection[Any], held: bool) -> None:
        await conn.execute(sql.query("hold_checkpoints"), (held, self._service, self._name))

    @asynccontextmanager
    async def _local(self, conn: AsyncConnection[Any]) -> AsyncIterator[AsyncConnection[Any]]:
        """The local store, in the transaction where that is possible."""
        if self._target is self.pools.local:
            yield conn
        else:
            async with self.pools.local.connection() as local:
                yield local

    @asynccontextmanager
    async def _changing(
        self, action: str, reason: str | None = None, **details: Any
    ) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction where the checkpoints are, after the batch that holds them; audited."""
        async with self._target.connection() as conn, conn.transaction():
            await wait(conn, self._service, self._name, IDLE_MS)
            yield conn
            await conn.execute(*self._entry(action, reason, **details))

    async def _start_over(self, changes: Sequence[Change], own: Sequence[Change]) -> None:
        """Makes the changes where the checkpoints are, and its own in the local store."""
        handler = self.projection.handler
        if handler is None:
            await self._go_on(changes, own)
            return
        effect = handler_effect_of(self.pools, self.projection, handler)
        try:
            await effect.start_over([*changes, *own])
        finally:
            effect.close()

    async def _go_on(self, changes: Sequence[Change], own: Sequence[Change]) -> None:
        """The same, without the handler."""
        async with self._target.connection() as conn, conn.transaction():
            await wait(conn, self._service, self._name, IDLE_MS)
            for query, parameters in changes:
                await conn.execute(query, parameters)
            async with self._local(conn) as local, local.transaction():
                for query, parameters in own:
                    await local.execute(query, parameters)

    async def _failing(self, event_id: UUID) -> Mark:
        """The place of the event, at which the projection fails.

        Raises:
            ProjectionError: it fails at none, or at another one.
        """
        known = await self._known()
        if known is None or known.failing_event_id is None:
            raise ProjectionError(
                f"no event of projection {self._name!r} fails, and {event_id} is not parked"
            )
        if known.failing_event_id != event_id:
            raise ProjectionError(
                f"event {event_id} is neither parked nor the one at which projection "
                f"{self._name!r} fails: that is {known.failing_event_id} "
                f"({known.failing_event_type})"
            )
        assert known.failing_stream is not None
        assert known.failing_position is not None
        return Mark(known.failing_stream, known.failing_position, event_id)

    async def _origin(self, to: To) -> Checkpoints:
        source = source_of(self.pools, self.projection)
        if to != "last-common":
            return await source.origin(to, None)
        return await self._last_common(await source.origin("start", None))

    async def _last_common(self, begin: Checkpoints) -> Checkpoints:
        """The last events that the projection has read and the store still has.

        What comes behind them is a replay no more than it was: others may stand there now.
        """
        before = await checkpoints_of(self.pools, self.projection)
        marks: dict[str, list[Mark]] = {}
        async with self._target.connection() as conn:
            cursor = await conn.execute(sql.query("older_marks"), (self._service, self._name))
            for row in await cursor.fetchall():
                marks.setdefault(row[0], []).append(Mark(*row))
        async with self.pools.of(self.projection.environment).connection() as conn:
            found = [await _last_found(conn, marks.get(c.stream, ())) for c in begin]
        return tuple(
            replace(
                c,
                position=mark.position,
                event_id=mark.event_id,
                replay_until=before[c.stream].replay_until if c.stream in before else 0,
            )
            if mark
            else c
            for c, mark in zip(begin, found, strict=True)
        )

    async def _streams(self) -> tuple[str, ...]:
        """The streams that the projection has run with, or is to; of a consuming one."""
        if self.projection.kind == "producing":
            raise ProjectionError(
                f"projection {self._name!r} is a producing one, and ferries one stream; "
                "write another one for another stream"
            )
        await self._require_there()
        known = await self._known()
        return tuple(known.streams) if known else self.projection.streams

    async def _known(self) -> Registered | None:
        return (await self._registry.find([self._name])).get(self._name)

    async def _require_there(self) -> None:
        await self._require_known()
        known = await self._known()
        if known is not None and known.state == "deleted":
            raise ProjectionError(
                f"projection {self._name!r} has been deleted; to bring it back: "
                f"`eventferry projections reset {self._name}`"
            )

    async def _require_known(self) -> None:
        """Registers it, if nobody has yet: what is said of it is to last."""
        with suppress(ProjectionError):  # it has run with other streams: that is known, too
            await self._registry.register(self.projection)

    async def _moves(self, after: Checkpoints) -> list[Move]:
        before = await checkpoints_of(self.pools, self.projection)
        async with self.pools.of(self.projection.environment).connection() as conn:
            return [await _move(conn, before.get(c.stream), c) for c in after]

    def _delete_checkpoints(self, stream: str | None = None) -> Change:
        which = {"service": self._service, "projection": self._name, "stream": stream}
        return sql.query("delete_checkpoints"), which

    def _delete_parked(self, stream: str | None = None, after: int = 0) -> Change:
        which = {"projection": self._name, "stream": stream, "after": after}
        return sql.query("delete_parked"), which

    def _forget_marks(self, stream: str | None = None, after: int = 0) -> Change:
        which = {"service": self._service, "projection": self._name}
        return sql.query("forget_marks"), {**which, "stream": stream, "after": after}

    def _put(self, c: Checkpoint, *, held: bool) -> Change:
        return sql.query("put_checkpoint"), (
            self._service,
            self._name,
            c.stream,
            c.store,
            c.incarnation,
            c.position,
            c.event_id,
            c.replay_until,
            held,
        )

    def _entry(self, action: str, reason: str | None = None, **details: Any) -> Change:
        return entry(self.who, self._service, self._name, action, reason, **details)

    @property
    def _parking(self) -> Parking:
        return Parking(self.pools, self.projection, self.who)


async def _move(conn: AsyncConnection[Any], before: Checkpoint | None, after: Checkpoint) -> Move:
    count = 0
    if before is not None:
        ends = sorted((before.position, after.position))
        cursor = await conn.execute(sql.on_stream("count_between", after.stream), ends)
        (count,) = await cursor.fetchone() or (0,)
    return Move(
        stream=after.stream,
        before=before.position if before else None,
        after=after.position,
        events=count,
    )


async def _last_found(conn: AsyncConnection[Any], marks: Sequence[Mark]) -> Mark | None:
    """The latest of the marks, which are of one stream, that is still there."""
    for mark in marks:
        cursor = await conn.execute(sql.on_stream("positions", mark.stream), ([mark.event_id],))
        if await cursor.fetchone() == (mark.event_id, mark.position):
            return mark
    return None


def _details(mark: Mark) -> dict[str, Any]:
    return {"event": str(mark.event_id), "stream": mark.stream, "position": mark.position}
