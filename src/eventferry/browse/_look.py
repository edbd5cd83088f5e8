"""Statements over many streams, and the transactions in which they are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from psycopg import AsyncConnection
from psycopg import sql as pgsql

from eventferry import sql
from eventferry.connection import Pool, translated
from eventferry.store._native._async import numbered_cursor
from eventferry.store._row import SELECTED
from eventferry.stream import require_stream_name

_COLUMNS = pgsql.SQL(", ").join(map(pgsql.Identifier, SELECTED))


@asynccontextmanager
async def looking(pool: Pool, store: str) -> AsyncIterator[AsyncConnection[Any]]:
    """A transaction that only reads, is given up when it takes long, and sees what is committed.

    Raises:
        StoreUnavailable, StoreError: the store is away, or refuses.
    """
    with translated(store):
        async with pool.connection() as conn, conn.transaction():
            await conn.execute(sql.query("look_carefully"))
            yield conn


async def asked(
    conn: AsyncConnection[Any], statement: bytes, *parameters: object
) -> list[tuple[Any, ...]]:
    """The rows of a statement whose parameters are $1, $2, …"""
    async with numbered_cursor(conn) as cursor:
        # to plan a branch a stream takes longer than to read: once a connection is enough
        await cursor.execute(statement, parameters, prepare=True)
        return await cursor.fetchall()


async def readable(conn: AsyncConnection[Any]) -> dict[str, bool]:
    """The streams that we may read; whether there is an index on the correlation of its events."""
    cursor = await conn.execute(sql.query("readable_streams"))
    return dict(await cursor.fetchall())


@lru_cache(maxsize=1024)
def on_each(name: str, streams: tuple[str, ...], *, down: bool = False) -> pgsql.Composed:
    """The statement `queries/{name}.sql` on each of the streams, all rows together.

    Raises:
        InvalidStreamName: no stream can be called that.
    """
    return pgsql.SQL(" UNION ALL ").join(
        pgsql.SQL("({})").format(_on(name, stream, down)) for stream in streams
    )


@lru_cache(maxsize=1024)
def statement_on_each(name: str, streams: tuple[str, ...]) -> bytes:
    """The same, to be asked as it is."""
    return on_each(name, streams).as_bytes(None)


def _on(name: str, stream: str, down: bool) -> pgsql.Composed:
    require_stream_name(stream)
    return sql.composed(
        name,
        label=pgsql.Literal(stream),
        columns=_COLUMNS,
        stream=sql.table(stream),
        direction=direction(down),
    )


def direction(down: bool) -> pgsql.SQL:
    """Of an order."""
    return pgsql.SQL("DESC") if down else pgsql.SQL("ASC")
