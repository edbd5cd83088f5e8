"""Figures d to h: how fast a backlog is read, handled and ferried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from psycopg import Connection, sql

from eventferry.bench import bare, handlers
from eventferry.bench.figure import Figure, compare, rate
from eventferry.bench.stage import COLUMNS, STREAM, Stage, Stores, require
from eventferry.engine.context._async import AsyncContext
from eventferry.engine.context._sync import Context
from eventferry.event import RecordedEvent

TABLE = sql.Identifier("streams", STREAM)
READ_MODEL = ("id", "entity_id", "type", "occurred_at")
TYPES = ("uuid", "text", "text", "timestamptz")
EFFECTS = """
CREATE TABLE effects (
    place bigint GENERATED ALWAYS AS IDENTITY, id uuid, entity_id text, type text,
    occurred_at timestamptz
)
"""
EFFECT = "INSERT INTO effects (id, entity_id, type, occurred_at) VALUES (%s, %s, %s, %s)"
# One row an event, in the order of the events.
MISPLACED = f"""
SELECT count(*)
  FROM (SELECT id, row_number() OVER (ORDER BY place) AS number FROM effects) AS effect
  FULL JOIN (SELECT id, row_number() OVER (ORDER BY position) AS number
               FROM streams."{STREAM}") AS event USING (id, number)
 WHERE effect.number IS NULL OR event.number IS NULL
"""


@contextmanager
def backlog(stage: Stage) -> Iterator[tuple[Stores, Connection[Any]]]:
    """Stores with all events to catch up with."""
    with stage.stores() as stores:
        stores.fill(stage.events)
        conn = stores.connect("local")
        conn.execute("VACUUM ANALYZE")
        conn.execute(EFFECTS)
        yield stores, conn


def reading(stage: Stage) -> Iterator[Figure]:
    """Events, a thousand a page, whose JSON nobody decodes."""
    with backlog(stage) as (stores, conn):
        store, count = stores.store(), stage.events

        def read() -> None:
            last, number = 0, 0
            for event in store.read(STREAM):
                number += 1
                if event.position <= last:
                    require(False, "events were read out of order")
                last = event.position
            require(number == count, f"{number} of {count} events were read")

        yield compare(
            "d",
            "read, 1,000 a page",
            lambda: rate(count, read),
            lambda: rate(count, lambda: bare.read(conn)),
            limit_is="psycopg fetching the same columns raw",
            target=0.70,
            rounds=stage.rounds,
        )


def consuming(stage: Stage) -> Iterator[Figure]:
    """A handler that does nothing; the checkpoint moves with each batch."""
    with backlog(stage) as (stores, conn):
        count = stage.events
        stores.require_order(count, STREAM)
        yield compare(
            "e",
            "consume, a handler that does nothing",
            lambda: _consumed(stores, handlers.nothing, count),
            lambda: rate(count, lambda: bare.read(conn)),
            limit_is="psycopg fetching the same columns raw",
            target=0.50,
            rounds=stage.rounds,
        )


def _insert(event: RecordedEvent, context: Context) -> None:
    context.execute(EFFECT, (event.id, event.entity_id, event.type, event.occurred_at))


async def _insert_async(event: RecordedEvent, context: AsyncContext) -> None:
    await context.execute(EFFECT, (event.id, event.entity_id, event.type, event.occurred_at))


def inserting(stage: Stage) -> Iterator[Figure]:
    """A handler that inserts a row, sync and async."""
    with backlog(stage) as (stores, conn):
        count, size = stage.events, stores.consuming(_insert).batch_size
        statement = sql.SQL("SELECT {} FROM {} ORDER BY position")
        rows = conn.execute(statement.format(bare.columns(READ_MODEL), TABLE)).fetchall()

        def batches() -> Iterator[Sequence[tuple[Any, ...]]]:
            for first in range(0, count, size):
                with conn.transaction():
                    yield rows[first : first + size]

        def pipelined() -> None:
            for batch in batches():
                with conn.pipeline():
                    for row in batch:
                        conn.execute(EFFECT, row)

        def many() -> None:
            for batch in batches():
                conn.cursor().executemany(EFFECT, batch)

        for handler, what, limit, limit_is in (
            (_insert, "one INSERT an event", pipelined, "the same INSERTs, pipelined"),
            (_insert_async, "the same, async", pipelined, "the same INSERTs, pipelined"),
            (_insert, "one INSERT an event", many, "the same INSERTs, by executemany"),
        ):
            yield compare(
                "f",
                f"consume, {what}",
                lambda handler=handler: _effective(stores, conn, handler, count),  # type: ignore[misc]
                lambda limit=limit: _emptied(conn, lambda: rate(count, limit)),  # type: ignore[misc]
                limit_is=limit_is,
                target=0.70,
                rounds=stage.rounds,
            )


class _Bulk:
    """A handler that copies whole batches to its read model."""

    def handle(self, event: RecordedEvent, context: Context) -> None:
        self.handle_batch([event], context)

    def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
        statement = sql.SQL("COPY effects ({}) FROM STDIN (FORMAT BINARY)")
        with (
            context.connection.cursor() as cursor,
            cursor.copy(statement.format(bare.columns(READ_MODEL))) as copy,
        ):
            copy.set_types(TYPES)
            for event in events:
                copy.write_row((event.id, event.entity_id, event.type, event.occurred_at))


def in_bulk(stage: Stage) -> Iterator[Figure]:
    """A handler that takes whole batches, and copies them to its read model."""
    with backlog(stage) as (stores, conn):
        count, target = stage.events, stores.connect("local")

        select, into = _select(READ_MODEL), _into("effects", READ_MODEL)
        picked = itemgetter(*map(COLUMNS.index, READ_MODEL))
        limits = {
            "COPY out of the events, COPY in of their rows": lambda: bare.by_row(
                conn, _select(COLUMNS), target, into, TYPES, picked
            ),
            "COPY to COPY of those rows, as bytes": lambda: bare.piped(conn, select, target, into),
        }
        for limit_is, copy in limits.items():
            yield compare(
                "g",
                "consume, handle_batch and COPY",
                lambda: _effective(stores, conn, _Bulk(), count),
                lambda copy=copy: _emptied(conn, lambda: rate(count, copy)),  # type: ignore[misc]
                limit_is=limit_is,
                target=0.50,
                rounds=stage.rounds,
            )


def ferrying(stage: Stage) -> Iterator[Figure]:
    """From the local store to the shared one."""
    with backlog(stage) as (stores, conn):
        count, target = stage.events, stores.connect("shared")

        def ferry() -> float:
            projection = stores.producing()
            measured = rate(count, lambda: stores.run(projection, count))
            shared = sql.Identifier("streams", str(projection.shared_stream))
            require(digest(target, shared) == digest(conn, TABLE), "what was ferried differs")
            return measured

        def pipe() -> float:
            target.execute("TRUNCATE plain")
            into = _into("plain", COLUMNS)
            return rate(count, lambda: bare.piped(conn, _select(COLUMNS), target, into))

        yield compare(
            "h",
            "produce, local to shared",
            ferry,
            pipe,
            limit_is="COPY … TO STDOUT piped into COPY … FROM STDIN",
            target=0.70,
            rounds=stage.rounds,
        )


def _consumed(stores: Stores, handler: object, count: int) -> float:
    projection = stores.consuming(handler)
    return rate(count, lambda: stores.run(projection, count))


def _effective(stores: Stores, conn: Connection[Any], handler: object, count: int) -> float:
    measured = _emptied(conn, lambda: _consumed(stores, handler, count))
    require(conn.execute(MISPLACED).fetchone() == (0,), "effects are lost, doubled or reordered")
    return measured


def _emptied(conn: Connection[Any], measure: Callable[[], float]) -> float:
    conn.execute("TRUNCATE effects")
    return measure()


def _select(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL("SELECT {} FROM {} ORDER BY position").format(bare.columns(columns), TABLE)


def _into(table: str, columns: Sequence[str]) -> sql.Composed:
    return sql.SQL("{} ({})").format(sql.Identifier(table), bare.columns(columns))


def digest(conn: Connection[Any], table: sql.Identifier) -> Any:
    """Of all events in their order."""
    statement = sql.SQL(
        "SELECT count(*), md5(string_agg(md5(ROW({})::text), '' ORDER BY position)) FROM {}"
    )
    return conn.execute(statement.format(bare.columns(COLUMNS), table)).fetchone()
