"""Decides ADR 0004: how does a producing projection move its pages between two databases?

Each variant moves the same rows from a stream of one database to a stream of another, page by
page, with everything a ferry does for a page: read it, lock the checkpoint with SKIP LOCKED, write,
move the checkpoint, commit. The page is read completely before the target's transaction begins, so
that a ferry that freezes while reading holds nobody's stream; "piped" variants don't, and are a
limit.

    python -m benchmarks.decisions.ferry [--rounds 5] [--pages 500 1000 2000 5000]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias, cast
from uuid import UUID

import psycopg
from psycopg.abc import AdaptContext
from psycopg.types.string import ByteaBinaryLoader, BytesBinaryDumper

from benchmarks.decisions.testbed import (
    DATA,
    METADATA,
    STORE,
    add_stream,
    good,
    rounds,
    server,
    show,
)

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
AsyncConnection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
Page: TypeAlias = list[tuple[Any, ...]]

TABLE = "streams.users"
COLUMNS = "id, type, source, entity_id, version, data, metadata, occurred_at"
# For write_row: values as they came off the wire, or decoded (a binary json is its text).
RAW = ["bytea"] * 8
DECODED = ["uuid", "text", "text", "text", "int4", "text", "text", "timestamptz"]


BOUNDARY = f"SELECT position, id FROM {TABLE} WHERE position > %s ORDER BY position LIMIT %s"
LAST = (
    "SELECT position, id FROM "
    f"(SELECT position, id FROM {TABLE} WHERE position > %s ORDER BY position LIMIT %s) page "
    "ORDER BY position DESC LIMIT 1"
)
PAGE = f"SELECT position, {COLUMNS} FROM {TABLE} WHERE position > %s ORDER BY position LIMIT %s"
TEXT_PAGE = (
    "SELECT position, id, type, source, entity_id, version, data::text, metadata::text, "
    f"occurred_at FROM {TABLE} WHERE position > %s ORDER BY position LIMIT %s"
)
COPY_IN = f"COPY {TABLE} ({COLUMNS}) FROM STDIN (FORMAT binary)"
LOCK = "SELECT position FROM eventferry.checkpoints WHERE name = 'ferry' FOR UPDATE SKIP LOCKED"
LOCAL = "SET LOCAL idle_in_transaction_session_timeout = 60000"
MOVE = "UPDATE eventferry.checkpoints SET position = %s, event_id = %s WHERE name = 'ferry'"
ONCE = "ON CONFLICT (id) DO NOTHING"
UNNEST = (
    f"INSERT INTO {TABLE} ({COLUMNS}) SELECT id, type, source, entity_id, version, "
    "data::json, metadata::json, occurred_at FROM unnest(%b::uuid[], %b::text[], %b::text[], "
    "%b::text[], %b::int4[], %b::text[], %b::text[], %b::timestamptz[]) WITH ORDINALITY "
    f"AS e({COLUMNS}, n) ORDER BY n {ONCE}"
)
ONE = (
    f"INSERT INTO {TABLE} ({COLUMNS}) VALUES "
    f"(%b, %b, %b, %b, %b::int4, %b::text::json, %b::text::json, %b) {ONCE}"
)
RAW_ONE = f"INSERT INTO {TABLE} ({COLUMNS}) VALUES (%b, %b, %b, %b, %b, %b, %b, %b) {ONCE}"
STAGE = "COPY page FROM STDIN (FORMAT binary)"
UNSTAGE = f"INSERT INTO {TABLE} ({COLUMNS}) SELECT {COLUMNS} FROM page ORDER BY ctid {ONCE}"


def copy_out(after: int, last: int) -> str:
    return (
        f"COPY (SELECT {COLUMNS} FROM {TABLE} WHERE position > {after} AND position <= {last} "
        "ORDER BY position) TO STDOUT (FORMAT binary)"
    )


class Undecoded(BytesBinaryDumper):
    """Hands bytes on as they came; the server finds the type from the column."""

    oid = 0


def read_undecoded(cursor: AdaptContext) -> None:
    for name in ("uuid", "text", "int4", "json", "timestamptz"):
        cursor.adapters.register_loader(name, ByteaBinaryLoader)


class Ferry:
    """Two connections; each method moves one page and returns the position it came to."""

    def __init__(self, source: Connection, target: Connection) -> None:
        self.source = source
        self.target = target

    def finish(self, last: int, event_id: object) -> None:
        self.target.execute(MOVE, (last, event_id), prepare=True)
        self.target.execute("COMMIT", prepare=True)

    def begin(self) -> None:
        with self.target.pipeline():
            self.target.execute("BEGIN", prepare=True)
            self.target.execute(LOCAL, prepare=True)
            self.target.execute(LOCK, prepare=True)

    def end(self, last: int, event_id: object) -> None:
        with self.target.pipeline():
            self.finish(last, event_id)

    def copy_piped(self, after: int, size: int) -> int:
        """COPY | COPY, a chunk (a row) at a time, the target's transaction being open."""
        last, event_id = self.boundary(after, size)
        self.begin()
        with (
            self.source.cursor() as reading,
            self.target.cursor() as writing,
            reading.copy(copy_out(after, last)) as reader,
            writing.copy(COPY_IN) as writer,
        ):
            for chunk in reader:
                writer.write(chunk)
        self.end(last, event_id)
        return last

    def boundary(self, after: int, size: int) -> tuple[int, object]:
        rows = self.source.execute(BOUNDARY, (after, size), binary=True, prepare=True).fetchall()
        return rows[-1][0], rows[-1][1]

    def copy_joined(self, after: int, size: int) -> int:
        """COPY out into memory first, then COPY in as one piece."""
        last, event_id = self.boundary(after, size)
        with self.source.cursor() as reading, reading.copy(copy_out(after, last)) as reader:
            page = b"".join(reader)
        self.begin()
        with self.target.cursor() as writing, writing.copy(COPY_IN) as writer:
            writer.write(page)
        self.end(last, event_id)
        return last

    def copy_last(self, after: int, size: int) -> int:
        """As copy_joined, but the boundary query returns one row."""
        found = self.source.execute(LAST, (after, size), prepare=True).fetchone()
        assert found
        last, event_id = int(found[0]), found[1]
        with self.source.cursor() as reading, reading.copy(copy_out(after, last)) as reader:
            page = b"".join(reader)
        self.begin()
        with self.target.cursor() as writing, writing.copy(COPY_IN) as writer:
            writer.write(page)
        self.end(last, event_id)
        return last

    def raw(self, after: int, size: int) -> tuple[int, object, list[tuple[Any, ...]]]:
        """A page whose values but the position are bytes as the server sent them."""
        with self.source.cursor(binary=True) as cursor:
            read_undecoded(cursor)
            rows = cursor.execute(PAGE, (after, size), prepare=True).fetchall()
        return rows[-1][0], rows[-1][1], rows

    def raw_copy(self, after: int, size: int) -> int:
        """SELECT undecoded binary values, write_row them undecoded."""
        last, event_id, rows = self.raw(after, size)
        self.begin()
        with self.target.cursor() as writing, writing.copy(COPY_IN) as writer:
            writer.set_types(RAW)
            for row in rows:
                writer.write_row(row[1:])
        self.end(last, bytes(cast(bytes, event_id)).hex())
        return last

    def select_copy(self, after: int, size: int) -> int:
        """SELECT decoded values, write_row them."""
        rows = self.source.execute(TEXT_PAGE, (after, size), binary=True, prepare=True).fetchall()
        self.begin()
        with self.target.cursor() as writing, writing.copy(COPY_IN) as writer:
            writer.set_types(DECODED)
            for row in rows:
                writer.write_row(row[1:])
        self.end(rows[-1][0], rows[-1][1])
        return int(rows[-1][0])

    def unnest(self, after: int, size: int) -> int:
        """SELECT decoded values, INSERT … SELECT unnest, all of the target in one pipeline."""
        rows = self.source.execute(TEXT_PAGE, (after, size), binary=True, prepare=True).fetchall()
        columns = [list(column) for column in zip(*rows, strict=True)]
        with self.target.pipeline():
            self.target.execute("BEGIN", prepare=True)
            self.target.execute(LOCAL, prepare=True)
            self.target.execute(LOCK, prepare=True)
            self.target.execute(UNNEST, columns[1:], prepare=True)
            self.finish(rows[-1][0], rows[-1][1])
        return int(rows[-1][0])

    def many(self, after: int, size: int) -> int:
        """SELECT decoded values, one INSERT a row, all of the target in one pipeline."""
        rows = self.source.execute(TEXT_PAGE, (after, size), binary=True, prepare=True).fetchall()
        with self.target.pipeline(), self.target.cursor() as cursor:
            self.target.execute("BEGIN", prepare=True)
            self.target.execute(LOCAL, prepare=True)
            self.target.execute(LOCK, prepare=True)
            cursor.executemany(ONE, [row[1:] for row in rows])
            self.finish(rows[-1][0], rows[-1][1])
        return int(rows[-1][0])

    def raw_many(self, after: int, size: int) -> int:
        """SELECT undecoded values, one INSERT a row of them, all of the target in one pipeline."""
        last, event_id, rows = self.raw(after, size)
        with self.target.pipeline(), self.target.cursor() as cursor:
            self.target.execute("BEGIN", prepare=True)
            self.target.execute(LOCAL, prepare=True)
            self.target.execute(LOCK, prepare=True)
            cursor.adapters.register_dumper(bytes, Undecoded)
            cursor.executemany(RAW_ONE, [row[1:] for row in rows])
            self.finish(last, bytes(cast(bytes, event_id)).hex())
        return last

    def staged(self, after: int, size: int) -> int:
        """COPY into a temporary table, INSERT … SELECT … ON CONFLICT from there."""
        last, event_id = self.boundary(after, size)
        with self.source.cursor() as reading, reading.copy(copy_out(after, last)) as reader:
            page = b"".join(reader)
        self.begin()
        with self.target.cursor() as writing, writing.copy(STAGE) as writer:
            writer.write(page)
        with self.target.pipeline():
            self.target.execute(UNSTAGE, prepare=True)
            self.finish(last, event_id)
        return last


class AsyncFerry:
    """The two best of Ferry, awaited."""

    def __init__(self, source: AsyncConnection, target: AsyncConnection) -> None:
        self.source = source
        self.target = target

    async def begin(self) -> None:
        async with self.target.pipeline():
            await self.target.execute("BEGIN", prepare=True)
            await self.target.execute(LOCAL, prepare=True)
            await self.target.execute(LOCK, prepare=True)

    async def end(self, last: int, event_id: object) -> None:
        async with self.target.pipeline():
            await self.target.execute(MOVE, (last, event_id), prepare=True)
            await self.target.execute("COMMIT", prepare=True)

    async def boundary(self, after: int, size: int) -> tuple[int, object]:
        cursor = await self.source.execute(BOUNDARY, (after, size), binary=True, prepare=True)
        rows = await cursor.fetchall()
        return rows[-1][0], rows[-1][1]

    async def copy_piped(self, after: int, size: int) -> int:
        last, event_id = await self.boundary(after, size)
        await self.begin()
        async with (
            self.source.cursor() as reading,
            self.target.cursor() as writing,
            reading.copy(copy_out(after, last)) as reader,
            writing.copy(COPY_IN) as writer,
        ):
            async for chunk in reader:
                await writer.write(chunk)
        await self.end(last, event_id)
        return last

    async def joined(self, after: int, size: int) -> tuple[int, object, bytes]:
        last, event_id = await self.boundary(after, size)
        async with self.source.cursor() as reading, reading.copy(copy_out(after, last)) as reader:
            return last, event_id, b"".join([chunk async for chunk in reader])

    async def copy_in(self, last: int, event_id: object, page: bytes) -> None:
        await self.begin()
        async with self.target.cursor() as writing, writing.copy(COPY_IN) as writer:
            await writer.write(page)
        await self.end(last, event_id)

    async def copy_joined(self, after: int, size: int) -> int:
        last, event_id, page = await self.joined(after, size)
        await self.copy_in(last, event_id, page)
        return last

    async def copy_joined_prefetched(self, size: int, total: int) -> None:
        last, event_id, page = await self.joined(0, size)
        while page:
            reading = asyncio.create_task(self.joined(last, size)) if last < total else None
            await self.copy_in(last, event_id, page)
            last, event_id, page = await reading if reading else (last, event_id, b"")

    async def raw_page(self, after: int, size: int) -> Page:
        async with self.source.cursor(binary=True) as cursor:
            read_undecoded(cursor)
            await cursor.execute(PAGE, (after, size), prepare=True)
            return await cursor.fetchall()

    async def page(self, after: int, size: int) -> Page:
        cursor = await self.source.execute(TEXT_PAGE, (after, size), binary=True, prepare=True)
        return await cursor.fetchall()

    async def copy_rows(self, rows: Page, types: list[str]) -> None:
        await self.begin()
        async with self.target.cursor() as writing, writing.copy(COPY_IN) as writer:
            writer.set_types(types)
            for row in rows:
                await writer.write_row(row[1:])
        event_id = rows[-1][1]
        await self.end(rows[-1][0], event_id if isinstance(event_id, UUID) else event_id.hex())

    async def unnest_rows(self, rows: Page) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        async with self.target.pipeline():
            await self.target.execute("BEGIN", prepare=True)
            await self.target.execute(LOCAL, prepare=True)
            await self.target.execute(LOCK, prepare=True)
            await self.target.execute(UNNEST, columns[1:], prepare=True)
            await self.target.execute(MOVE, (rows[-1][0], rows[-1][1]), prepare=True)
            await self.target.execute("COMMIT", prepare=True)

    async def raw_copy(self, after: int, size: int) -> int:
        rows = await self.raw_page(after, size)
        await self.copy_rows(rows, RAW)
        return int(rows[-1][0])

    async def select_copy(self, after: int, size: int) -> int:
        rows = await self.page(after, size)
        await self.copy_rows(rows, DECODED)
        return int(rows[-1][0])

    async def unnest(self, after: int, size: int) -> int:
        rows = await self.page(after, size)
        await self.unnest_rows(rows)
        return int(rows[-1][0])

    async def prefetch(
        self,
        read: Callable[[int, int], Coroutine[None, None, Page]],
        write: Callable[[Page], Coroutine[None, None, None]],
        size: int,
        total: int,
    ) -> None:
        """All pages; the next one is read while one is written."""
        rows = await read(0, size)
        while rows:
            at = int(rows[-1][0])
            reading = asyncio.create_task(read(at, size)) if at < total else None
            await write(rows)
            rows = await reading if reading else []

    async def raw_copy_prefetched(self, size: int, total: int) -> None:
        await self.prefetch(self.raw_page, lambda rows: self.copy_rows(rows, RAW), size, total)

    async def select_copy_prefetched(self, size: int, total: int) -> None:
        await self.prefetch(self.page, lambda rows: self.copy_rows(rows, DECODED), size, total)

    async def unnest_prefetched(self, size: int, total: int) -> None:
        await self.prefetch(self.page, self.unnest_rows, size, total)


SYNC: dict[str, Callable[[Ferry, int, int], int]] = {
    "COPY, joined, COPY": Ferry.copy_joined,
    "COPY piped to COPY": Ferry.copy_piped,
    "COPY, joined, COPY; one-row boundary": Ferry.copy_last,
    "SELECT raw, COPY write_row": Ferry.raw_copy,
    "SELECT, COPY write_row": Ferry.select_copy,
    "SELECT, INSERT unnest": Ferry.unnest,
    "SELECT, executemany": Ferry.many,
    "SELECT raw, executemany": Ferry.raw_many,
    "COPY, temporary table, INSERT": Ferry.staged,
}
ASYNC = {
    "async COPY, joined, COPY": AsyncFerry.copy_joined,
    "async COPY piped to COPY": AsyncFerry.copy_piped,
    "async SELECT raw, COPY write_row": AsyncFerry.raw_copy,
    "async SELECT, COPY write_row": AsyncFerry.select_copy,
    "async SELECT, INSERT unnest": AsyncFerry.unnest,
}
PREFETCHED = {
    "async prefetched COPY, joined, COPY": AsyncFerry.copy_joined_prefetched,
    "async prefetched SELECT raw, COPY write_row": AsyncFerry.raw_copy_prefetched,
    "async prefetched SELECT, COPY write_row": AsyncFerry.select_copy_prefetched,
    "async prefetched SELECT, INSERT unnest": AsyncFerry.unnest_prefetched,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pages", type=int, nargs="*", default=[1000, 500, 2000, 5000, 1, 5, 20])
    parser.add_argument("--good", action="store_true", help="ninth decile, not median")
    options = parser.parse_args()

    with server() as lab:
        with lab.connect() as connection:
            connection.execute("CREATE DATABASE source")
            connection.execute("CREATE DATABASE target")
        source, target = lab.connect("source"), lab.connect("target")
        for one in (source, target):
            one.execute(STORE)
            add_stream(one, TABLE, 1)
        target.execute(
            "CREATE TABLE eventferry.checkpoints "
            "(name text PRIMARY KEY, position bigint, event_id uuid)"
        )
        target.execute("INSERT INTO eventferry.checkpoints VALUES ('ferry', 0, NULL)")
        target.execute(
            f"CREATE TEMP TABLE page ON COMMIT DELETE ROWS AS SELECT {COLUMNS} FROM {TABLE}"
        )
        source.execute(
            f"INSERT INTO {TABLE} (type, entity_id, version, data, metadata) "
            "SELECT 'UserRegistered', n::text, 1, %s, %s FROM generate_series(1, 20000) n",
            (DATA, METADATA),
        )
        source.execute(f"VACUUM ANALYZE {TABLE}")
        ferry = Ferry(source, target)
        loop = asyncio.new_event_loop()
        async_ferry = AsyncFerry(
            loop.run_until_complete(
                psycopg.AsyncConnection.connect(lab.database_url("source"), autocommit=True)
            ),
            loop.run_until_complete(
                psycopg.AsyncConnection.connect(lab.database_url("target"), autocommit=True)
            ),
        )

        def clocked(move_all: Callable[[], None], total: int) -> float:
            target.execute(f"TRUNCATE {TABLE}")
            start = time.perf_counter()
            move_all()
            return total / (time.perf_counter() - start)

        def all_pages(move: Callable[[Ferry, int, int], int], size: int, total: int) -> None:
            at = 0
            while at < total:
                at = move(ferry, at, size)

        async def await_pages(
            move: Callable[[AsyncFerry, int, int], Awaitable[int]], size: int, total: int
        ) -> None:
            at = 0
            while at < total:
                at = await move(async_ferry, at, size)

        def at_once(total: int) -> None:
            """The limit: one COPY | COPY of everything, no checkpoint."""
            with (
                source.cursor() as reading,
                target.cursor() as writing,
                reading.copy(copy_out(0, total)) as reader,
                writing.copy(COPY_IN) as writer,
            ):
                for chunk in reader:
                    writer.write(chunk)

        def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
            loop.run_until_complete(work())

        for size in options.pages:
            total = 20_000 if size >= 500 else size * 50
            moves: dict[str, Callable[[], None]] = {}
            for name, move in SYNC.items():
                moves[name] = partial(all_pages, move, size, total)
            for name, awaited in ASYNC.items():
                moves[name] = partial(run, partial(await_pages, awaited, size, total))
            for name, whole in PREFETCHED.items():
                moves[name] = partial(run, partial(whole, async_ferry, size, total))
            if size >= 500:
                moves["(limit: one COPY | COPY of all)"] = partial(at_once, total)
            variants = {name: partial(clocked, one, total) for name, one in moves.items()}
            show(
                f"Ferry pages of {size}",
                rounds(variants, count=options.rounds),
                baseline="COPY, joined, COPY",
                unit="rows/s",
                middle=good if options.good else statistics.median,
            )
        loop.run_until_complete(async_ferry.source.close())
        loop.run_until_complete(async_ferry.target.close())


if __name__ == "__main__":
    main()
