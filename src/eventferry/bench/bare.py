"""The limits: the same work by psycopg alone, as fast as it goes, on plain tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection, sql
from psycopg.types.string import ByteaBinaryLoader, TextBinaryLoader

from eventferry import _json
from eventferry._uuid import uuid7
from eventferry.bench import sample
from eventferry.bench.stage import COLUMNS, STREAM
from eventferry.connection import options
from eventferry.store._native._async import configure as configure_async

GIVEN = ("id", "type", "entity_id", "version", "data", "metadata")
INSERT = (
    f"INSERT INTO plain ({', '.join(GIVEN)}) "
    "VALUES (%s::uuid, %s::text, %s::text, %s::int4, %s::json, %s::json)"
)
COPY = f"COPY plain ({', '.join(GIVEN)}) FROM STDIN (FORMAT BINARY)"
COPY_TYPES = ("uuid", "text", "text", "int4", "text", "text")
READ_TYPES = ("uuid", "text", "text", "text", "int4", "text", "text", "timestamptz")
"""Of `COLUMNS`; JSON stays text."""
READ = (
    sql.SQL(
        "SELECT position, {columns}, recorded_at FROM {table} WHERE position > %s"
        " ORDER BY position LIMIT 1000"
    )
    .format(
        columns=sql.SQL(", ").join(map(sql.Identifier, COLUMNS)),
        table=sql.Identifier("streams", STREAM),
    )
    .as_bytes(None)
)


def row(entity_id: str | None = None, version: int = 1) -> tuple[Any, ...]:
    """What an application that has no library gives its INSERT."""
    data, metadata = _json.dumps(sample.DATA, what=""), _json.dumps(sample.METADATA, what="")
    return uuid7(), sample.TYPE, entity_id or sample.entity(), version, data, metadata


def insert(conn: Connection[Any], count: int) -> None:
    """One row a transaction."""
    for _ in range(count):
        conn.execute(INSERT, row())


async def connect_async(url: str) -> AsyncConnection[Any]:
    """A connection on the loop, as `Stores.connect` makes them."""
    conn = await AsyncConnection.connect(url, **options("bench"))
    await configure_async(conn)
    return conn


async def insert_async(conn: AsyncConnection[Any], count: int) -> None:
    """As `insert`, on the loop."""
    for _ in range(count):
        await conn.execute(INSERT, row())


async def insert_at_once(url: str, count: int, connections: int) -> None:
    """The same on so many connections at once."""

    async def one() -> None:
        async with await connect_async(url) as conn:
            await insert_async(conn, count // connections)

    await asyncio.gather(*(one() for _ in range(connections)))


def copy(conn: Connection[Any], total: int, size: int) -> None:
    """So many rows a transaction."""
    for _ in range(total // size):
        entity_id = sample.entity()
        rows = [row(entity_id, number) for number in range(1, size + 1)]
        with conn.cursor() as cursor, cursor.copy(COPY) as copying:
            copying.set_types(COPY_TYPES)
            for one in rows:
                copying.write_row(one)


def read(conn: Connection[Any]) -> int:
    """All events of the stream, a thousand a page, JSON and moments undecoded; how many."""
    cursor = psycopg.Cursor(conn)
    cursor.format = psycopg.pq.Format.BINARY
    cursor.adapters.register_loader("json", TextBinaryLoader)
    cursor.adapters.register_loader("timestamptz", ByteaBinaryLoader)
    position = count = 0
    while rows := cursor.execute(READ, (position,)).fetchall():
        position, count = rows[-1][0], count + len(rows)
    return count


def piped(
    source: Connection[Any], select: sql.Composable, target: Connection[Any], into: sql.Composable
) -> None:
    """COPY … TO STDOUT, piped into COPY … FROM STDIN."""
    out = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(select)
    in_ = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(into)
    with source.cursor().copy(out) as reading, target.cursor().copy(in_) as writing:
        for chunk in reading:
            writing.write(chunk)


def by_row(
    source: Connection[Any],
    select: sql.Composable,
    target: Connection[Any],
    into: sql.Composable,
    types: Sequence[str],
    picked: Callable[[tuple[Any, ...]], tuple[Any, ...]],
) -> None:
    """COPY out of whole events, row by row, and COPY in of what is picked of each."""
    out = sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)").format(select)
    in_ = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(into)
    with source.cursor().copy(out) as reading, target.cursor().copy(in_) as writing:
        reading.set_types(READ_TYPES)
        writing.set_types(types)
        for row in reading.rows():
            writing.write_row(picked(row))


def columns(names: Iterable[str]) -> sql.Composed:
    """A list of columns."""
    return sql.SQL(", ").join(map(sql.Identifier, names))
