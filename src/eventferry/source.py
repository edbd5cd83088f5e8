"""What a projection reads: pages of work, with the proof that the store is still the same.

Owns the reading side of a run. A page begins at the checkpoints' own events, which are read again
to see that they are still there, and ends at the horizon or at its size, whichever comes first.
The horizon is asked first; the events are read by a later statement, in a new snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Protocol, overload

import psycopg
from psycopg import AsyncConnection

from eventferry import sql
from eventferry.checkpoint import (
    Checkpoint,
    Checkpoints,
    Mark,
    mark,
    moved,
    require_same_events,
    require_same_store,
)
from eventferry.connection import Pool
from eventferry.event import Events
from eventferry.projection import Start
from eventferry.store._horizon import Horizon
from eventferry.store._native._async import horizon, is_large, numbered_cursor
from eventferry.store._row import COLUMNS, PAGE_BYTES, Rows, is_full, select_from

FIRST_PAGE = 500
"""A run begins with so many events at most, and learns from them how large they are."""
END_OF_COPY = b"\xff\xff"
"""The last chunk of a binary COPY; each before it is a row."""
_COPY_HEADER = 19
"""The bytes of a binary COPY before its first row."""
_METADATA = COLUMNS.index("metadata")

Began = tuple[int, int]
"""The horizon and the head that the store had when a projection was first to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of a projection's work, in order."""

    work: Any
    """What the effect takes: events, or rows as the database writes them."""
    count: int
    """How many events; 0: there is no work."""
    begin: Checkpoints
    end: Checkpoints
    """The checkpoints when all of it is done."""
    full: bool
    """Whether there may be more behind it."""
    in_flight: int
    """Appends to the streams that were open when the page was read."""
    marks: Sequence[Mark] | None = None
    """Of the events, where they are rows that nobody decodes."""

    def first(self, count: int) -> Page:
        """The first events alone.

        Rows of a ferry stay together: it finds out by itself which of them fails.
        """
        if self.marks is not None or count >= self.count:
            return self
        events: Events = self.work[:count]
        end = moved(self.begin, map(mark, events.last_of_each(len(self.begin))))
        return replace(self, work=events, count=count, end=end)

    def rest(self, done: int, checkpoints: Checkpoints) -> Page:
        """What is left when the first events are done, and the checkpoints are there.

        Of rows, nothing: they are read again.
        """
        if done == self.count or self.marks is not None:
            return replace(self, count=0, begin=checkpoints)
        return replace(self, work=self.work[done:], count=self.count - done, begin=checkpoints)


class Source(Protocol):
    """The store that a projection reads from."""

    async def origin(self, start: Start, began: Began | None) -> Checkpoints:
        """The checkpoints of a projection that has not run yet; `began`: if it has waited."""

    async def page(self, checkpoints: Checkpoints, limit: int) -> Page:
        """Up to `limit` events after the checkpoints."""


@dataclass(slots=True)
class Sizes:
    """How many events a page of a run may have, so that it takes a bounded amount of memory.

    As many as the page before says: its bytes as they were read. Whether the database counts what
    it keeps of them, which takes as long as to read them, is asked anew for each page: events may
    become large at any time.
    """

    are_bounded: bool = True
    """Whether the bytes of the next page are counted, as they must be where events are large."""
    _most: int = 0
    """0: nothing is known yet."""

    async def next(self, conn: AsyncConnection[Any], streams: Sequence[str], limit: int) -> int:
        """The limit of the next page, of which there should be no more than `limit`."""
        if not self._most:
            return min(limit, FIRST_PAGE)
        self.are_bounded = await is_large(conn, streams)
        return min(limit, self._most)

    def learn(self, count: int, size: int) -> None:
        """So many events had so many bytes."""
        if count:
            self._most = max(1, PAGE_BYTES * count // max(1, size))


@dataclass(slots=True, kw_only=True)
class EventSource:
    """Pages of events, for handlers."""

    pool: Pool
    store: str
    """What messages call the store."""
    projection: str
    streams: tuple[str, ...]
    _sizes: Sizes = field(default_factory=Sizes)

    async def origin(self, start: Start, began: Began | None) -> Checkpoints:
        async with self.pool.connection() as conn:
            return await origin(conn, self.streams, start, self.store, began)

    async def page(self, checkpoints: Checkpoints, limit: int) -> Page:
        async with self.pool.connection() as conn:
            seen = await look(conn, checkpoints, self.projection, self.store)
            size = await self._sizes.next(conn, self.streams, limit) + _own(checkpoints)
            bounds = _bounds(checkpoints, seen, size)
            statement = select_from(self.streams, bounded=self._sizes.are_bounded)
            async with numbered_cursor(conn) as cursor:
                if len(self.streams) == 1:
                    await cursor.execute(statement, bounds)
                else:  # to plan a branch a stream takes longer than to read: once is enough
                    async with conn.pipeline(), conn.transaction():
                        await conn.execute(sql.query("plan_once"))
                        await cursor.execute(statement, bounds, prepare=True)
                rows = Rows(cursor)
        among, count = len(self.streams), len(rows)
        events = Events(rows)
        marks = [mark(e) for e in chain(events.first_of_each(among), events.last_of_each(among))]
        full = is_full(rows, size, bounded=self._sizes.are_bounded)
        self._sizes.learn(count, rows.bytes())
        page = _page(checkpoints, seen, marks, count, full=full, projection=self.projection)
        own = count - page.count
        if own and among > 1:  # they are anywhere
            begin = {c.stream: c.position for c in checkpoints}
            work = [n for n in range(count) if rows.position(n) > begin[rows.stream(n)]]
            return replace(page, work=Events(rows, work))
        return replace(page, work=events[own:])


@dataclass(slots=True, kw_only=True)
class RowSource:
    """Pages of rows of one stream, as bytes that Python never decodes, for a ferry."""

    pool: Pool
    store: str
    """What messages call the store."""
    projection: str
    stream: str
    _sizes: Sizes = field(default_factory=Sizes)

    async def origin(self, start: Start, began: Began | None) -> Checkpoints:
        async with self.pool.connection() as conn:
            return await origin(conn, (self.stream,), start, self.store, began)

    async def page(self, checkpoints: Checkpoints, limit: int) -> Page:
        async with self.pool.connection() as conn:
            seen = await look(conn, checkpoints, self.projection, self.store)
            size = await self._sizes.next(conn, (self.stream,), limit) + _own(checkpoints)
            async with numbered_cursor(conn) as cursor:
                bounds = _bounds(checkpoints, seen, size)
                await cursor.execute(sql.on_stream("select_marks", self.stream), bounds)
                rows = Rows(cursor)
            count = _filling(rows) if self._sizes.are_bounded else len(rows)
            full = count < len(rows) or count >= size
            marks = Marks(self.stream, rows, range(count))
            ends = [marks[place] for place in sorted({0, count - 1})] if count else []
            page = _page(checkpoints, seen, ends, count, full=full, projection=self.projection)
            # Up to the horizon nothing can appear any more, and nothing ever changes:
            # the second reading sees the same events as the first.
            after, upto = checkpoints[0].position, page.end[0].position
            statement = copy_statement("copy_out", self.stream)
            copied = await copied_out(conn, statement, (after, upto)) if page.count else b""
            self._sizes.learn(page.count, len(copied))
        return replace(page, work=copied, marks=marks[count - page.count :])


async def copied_out(
    conn: AsyncConnection[Any], statement: bytes, parameters: Sequence[Any] = ()
) -> bytes:
    """What a COPY … TO STDOUT (FORMAT BINARY) gives."""
    rows: list[bytes] = []  # no views: there are many, and the garbage collector looks at them
    async with conn.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        async for waited_for in copy:
            rows.append(bytes(waited_for))
            # what has arrived with it: to wait for each row would take most of the time
            while rows[-1] != END_OF_COPY:
                size, row = conn.pgconn.get_copy_data(1)
                if size < 0:  # before its end
                    failed, *_ = iter(conn.pgconn.get_result, None)
                    raise psycopg.errors.error_from_result(failed)
                if not size:
                    break
                rows.append(bytes(row))
    return b"".join(rows)


def metadata_of(rows: bytes) -> Iterator[bytes]:
    """The metadata of rows as `copied_out` gives them, each as JSON, looked up when asked for."""
    place = _COPY_HEADER
    while (fields := int.from_bytes(rows[place : place + 2], signed=True)) > 0:
        place += 2
        for field_ in range(fields):
            size = int.from_bytes(rows[place : place + 4], signed=True)  # -1: it is NULL
            place += 4
            if field_ == _METADATA:
                yield rows[place : place + size]
            place += max(0, size)


@dataclass(frozen=True, slots=True)
class Marks(Sequence[Mark]):
    """Where the rows of a page are; each is decoded when it is looked at."""

    stream: str
    rows: Rows
    places: range

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Mark: ...
    @overload
    def __getitem__(self, place: slice) -> Marks: ...
    def __getitem__(self, place: int | slice) -> Mark | Marks:
        if isinstance(place, slice):
            return replace(self, places=self.places[place])
        position, id_, _ = self.rows[self.places[place]]
        return Mark(self.stream, position, id_)


def copy_statement(name: str, stream: str) -> bytes:
    """A COPY of the columns that go from store to store: all but position and recorded_at."""
    return sql.on_columns(name, stream, COLUMNS)


async def look(
    conn: AsyncConnection[Any], checkpoints: Checkpoints, projection: str, store: str
) -> Horizon:
    """The horizon of the projection's streams, in the store that its checkpoints came from.

    Raises:
        HistoryMismatch: it is another store, or another stream of the same name.
        UnknownStream: there is no such stream.
    """
    seen = await horizon(conn, [c.stream for c in checkpoints], store)
    require_same_store(checkpoints, seen, projection, store)
    return seen


async def origin(
    conn: AsyncConnection[Any],
    streams: tuple[str, ...],
    start: Start,
    store: str,
    began: Began | None,
) -> Checkpoints:
    """Where a projection begins: at an event, as every checkpoint is, or before the first."""
    seen = await horizon(conn, streams, store)
    now, head = began or (seen.position, seen.head)
    position = {"start": 0, "now": now}.get(str(start), start)
    made = []
    for stream, incarnation in zip(streams, seen.incarnations, strict=True):
        last = 0, None
        if position:
            cursor = await conn.execute(sql.on_stream("last_event_upto", stream), (position,))
            last = await cursor.fetchone() or last
        assert incarnation is not None
        made.append(
            Checkpoint(
                stream=stream,
                store=seen.store,
                incarnation=incarnation,
                position=last[0],
                event_id=last[1],
                replay_until=head,
            )
        )
    return tuple(made)


def _bounds(checkpoints: Checkpoints, seen: Horizon, limit: int) -> tuple[str, str, int]:
    """The parameters of a select: from each checkpoint's own event to the horizon.

    An append that is slow to take its marker can put the horizon behind a checkpoint for a
    moment: the checkpoint's own event is read all the same.
    """
    upto = [max(c.position, seen.position) for c in checkpoints]
    return sql.array(c.position for c in checkpoints), sql.array(upto), limit


def _own(checkpoints: Checkpoints) -> int:
    """How many rows of a page are the checkpoints' own events."""
    return sum(c.position > 0 for c in checkpoints)


def _filling(rows: Sequence[tuple[Any, ...]]) -> int:
    """How many rows fill a page with their bytes, or all."""
    total = 0
    for count, (*_, count_bytes) in enumerate(rows, 1):
        total += count_bytes
        if total >= PAGE_BYTES:
            return count
    return len(rows)


def _page(
    checkpoints: Checkpoints,
    seen: Horizon,
    marks: Sequence[Mark],
    count: int,
    *,
    full: bool,
    projection: str,
) -> Page:
    """The page that was read, without its work; `marks`: the first and the last of each stream.

    Raises:
        HistoryMismatch: a checkpoint's own event is not where it was.
    """
    own = require_same_events(checkpoints, marks, complete=not full, projection=projection)
    return Page(
        work=None,
        count=count - own,
        begin=checkpoints,
        end=moved(checkpoints, marks),
        full=full,
        in_flight=seen.in_flight,
    )
