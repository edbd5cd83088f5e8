"""Under load: every reader sees every committed event once, and all see the same order."""

from __future__ import annotations

import asyncio
import os
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Signal
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from eventferry import Event, EventStore
from eventferry.source import EventSource
from tests.conftest import MakeDatabase

STREAMS = ("a", "b")
WRITERS = 12
TRANSACTIONS = 40

Seen = list[tuple[str, int, UUID]]


@pytest.fixture
def url(make_database: MakeDatabase) -> str:
    url = make_database("local", "users")
    with EventStore(url) as store:
        for stream in STREAMS:
            store.create_stream(stream)
    return url


def test_every_reader_sees_every_committed_event_once_and_in_the_same_order(url: str) -> None:
    seed = int(os.environ.get("EVENTFERRY_TEST_SEED") or random.randrange(10**9))
    print(f"EVENTFERRY_TEST_SEED={seed}")  # shown by pytest if the test fails
    written = Signal()
    with ThreadPoolExecutor(WRITERS + 3) as pool:
        paging = [pool.submit(page, url, random.Random(seed + i), written) for i in (1, 2)]
        reading = pool.submit(read, url, "a", written)
        writing = [pool.submit(write, url, random.Random(f"{seed} {i}")) for i in range(WRITERS)]
        try:
            committed = {id_ for writer in writing for id_ in writer.result()}
        finally:
            written.set()
        one, other, alone = (future.result() for future in (*paging, reading))
    truth = in_store(url)
    assert {id_ for _, _, id_ in truth} == committed
    assert one == truth
    assert other == truth
    assert alone == [seen for seen in truth if seen[0] == "a"]


def in_store(url: str) -> Seen:
    with psycopg.connect(url) as conn:
        return conn.execute(
            "SELECT name, position, id FROM eventferry.events JOIN eventferry.streams "
            "ON stream = number ORDER BY position"
        ).fetchall()


# Readers


def page(url: str, dice: random.Random, written: Signal) -> Seen:
    """Reads both streams page by page, as a projection does."""

    async def run() -> Seen:
        pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            url, min_size=1, max_size=1, open=False
        )
        seen: Seen = []
        async with pool:
            source = EventSource(pool=pool, store="store", projection="test", streams=STREAMS)
            checkpoints = await source.origin("start", None)
            while True:
                last_round = written.is_set()  # asked before the page is
                page = await source.page(checkpoints, dice.randint(1, 60))
                seen += [(event.stream, event.position, event.id) for event in page.work]
                checkpoints = page.end
                if last_round and not page.count and not page.in_flight:
                    return seen

    return asyncio.run(run())


def read(url: str, stream: str, written: Signal) -> Seen:
    """Reads one stream, always going on after the last event."""
    seen: Seen = []
    with EventStore(url) as store:
        while True:
            last_round = written.is_set()
            after = seen[-1][1] if seen else 0
            found = [
                (e.stream, e.position, e.id) for e in store.read(stream, after=after, limit=50)
            ]
            seen += found
            if last_round and not found:
                return seen


# Writers


def write(url: str, dice: random.Random) -> set[UUID]:
    """Writes in every way there is; returns the ids of what it has committed."""
    committed: set[UUID] = set()
    with EventStore(url) as store, psycopg.connect(url) as conn:
        for _ in range(TRANSACTIONS):
            if dice.random() < 0.2:
                committed |= alone(store, dice)
                continue
            level = dice.choice(list(psycopg.IsolationLevel)[1:])
            conn.set_isolation_level(level)
            conn.execute("SELECT 1")  # begins it: else the first savepoint would be all of it
            pending: set[UUID] = set()
            for _ in range(dice.randint(1, 4)):
                pending |= part(store, conn, dice)
                if dice.random() < 0.3:  # holds it open, a little or rather long
                    conn.execute("SELECT pg_sleep(%s)", (dice.choice([0.001, 0.005, 0.05]),))
            if dice.random() < 0.25:
                conn.rollback()
            else:
                conn.commit()
                committed |= pending
    return committed


def alone(store: EventStore, dice: random.Random) -> set[UUID]:
    events = [Event("Alone") for _ in range(dice.choice([1, 1, 1, 20]))]
    return set(store.append(dice.choice(STREAMS), events).ids)


def part(store: EventStore, conn: psycopg.Connection[Any], dice: random.Random) -> set[UUID]:
    """Something that appends to one of the streams, perhaps in a savepoint that is rolled back."""
    stream: LiteralString = dice.choice(STREAMS)
    way = dice.choice([appended, inserted, inserted_again, copied])
    if dice.random() < 0.6:
        return way(store, conn, stream, dice)
    keep = dice.random() < 0.5
    with conn.transaction(force_rollback=not keep):
        ids = way(store, conn, stream, dice)
    return ids if keep else set()


def appended(
    store: EventStore, conn: psycopg.Connection[Any], stream: LiteralString, dice: random.Random
) -> set[UUID]:
    events = [Event("Appended") for _ in range(dice.choice([1, 3, 30]))]
    return set(store.append(stream, events, connection=conn).ids)


def inserted(
    _store: EventStore, conn: psycopg.Connection[Any], stream: LiteralString, dice: random.Random
) -> set[UUID]:
    ids: set[UUID] = set()
    for _ in range(dice.randint(1, 5)):
        statement: LiteralString = f"INSERT INTO streams.{stream} (type) VALUES ('I') RETURNING id"
        ids |= {row[0] for row in conn.execute(statement)}
    return ids


def inserted_again(
    _store: EventStore, conn: psycopg.Connection[Any], stream: LiteralString, _dice: random.Random
) -> set[UUID]:
    """Twice the same id; the second one is left out, but has drawn a position."""
    statement: LiteralString = (
        f"INSERT INTO streams.{stream} (id, type) VALUES (%(id)s, 'C'), (%(id)s, 'C') "
        "ON CONFLICT DO NOTHING RETURNING id"
    )
    return {row[0] for row in conn.execute(statement, {"id": Event("C").id})}


def copied(
    _store: EventStore, conn: psycopg.Connection[Any], stream: LiteralString, dice: random.Random
) -> set[UUID]:
    ids = {Event("C").id for _ in range(dice.randint(1, 30))}
    statement: LiteralString = f"COPY streams.{stream} (id, type) FROM STDIN"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for id_ in ids:
            copy.write_row((id_, "Copied"))
    return ids
