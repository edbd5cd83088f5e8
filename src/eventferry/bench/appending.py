"""Figures a and c: how fast one connection appends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from eventferry.bench import bare, sample
from eventferry.bench.figure import Figure, compare, rate
from eventferry.bench.stage import STREAM, Stage, Stores, require
from eventferry.store import AsyncEventStore

ONE_BY_ONE = 1_000
IN_BATCHES = 20_000
KEPT = f"""
SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE version = number)
  FROM (SELECT id, version, row_number() OVER (PARTITION BY entity_id ORDER BY position) AS number
          FROM streams."{STREAM}") AS event
"""


def one_by_one(stage: Stage) -> Iterator[Figure]:
    """One event a transaction, sync and async."""
    limit_is, count = "bare INSERT + COMMIT", stage.sized(ONE_BY_ONE, 20)
    with stage.stores() as stores, asyncio.Runner() as runner:
        conn, store = stores.connect("local"), stores.store()

        def append() -> None:
            for _ in range(count):
                store.append(STREAM, sample.event(), expected_version=0)

        async def append_async() -> None:
            for _ in range(count):
                await store_async.append(STREAM, sample.event(), expected_version=0)

        yield compare(
            "a",
            "append, 1 event a transaction",
            lambda: rate(count, append),
            lambda: rate(count, lambda: bare.insert(conn, count)),
            limit_is=limit_is,
            target=0.85,
            rounds=stage.rounds,
        )
        # both connect before it counts
        conn_async = runner.run(bare.connect_async(stores.local_url))
        store_async = AsyncEventStore(stores.local_url)
        yield compare(
            "a",
            "the same, async",
            lambda: rate(count, lambda: runner.run(append_async())),
            lambda: rate(count, lambda: runner.run(bare.insert_async(conn_async, count))),
            limit_is=limit_is,
            target=0.85,
            rounds=stage.rounds,
        )
        runner.run(conn_async.close())
        runner.run(store_async.close())
        _require_all(stores, 2 * count * (stage.rounds + 1))


def in_batches(stage: Stage) -> Iterator[Figure]:
    """A hundred, and a thousand, events a transaction."""
    count = stage.sized(IN_BATCHES, 1_000)
    for size in (100, 1_000):
        with stage.stores() as stores:
            yield _in_batches(stage, stores, count, size)
            _require_all(stores, count * (stage.rounds + 1))


def _in_batches(stage: Stage, stores: Stores, count: int, size: int) -> Figure:
    conn, store = stores.connect("local"), stores.store()

    def append() -> None:
        for batch in sample.batches(count, size):
            store.append(STREAM, batch, expected_version=0)

    return compare(
        "c",
        f"append, {size:,} events a call",
        lambda: rate(count, append),
        lambda: rate(count, lambda: bare.copy(conn, count, size)),
        limit_is="binary COPY of the same batches",
        target=0.80,
        rounds=stage.rounds,
    )


def _require_all(stores: Stores, count: int) -> None:
    """All are there, those of each entity in the order in which they were given."""
    found = stores.connect("local").execute(KEPT).fetchone()
    require(
        found == (count, count, count),
        f"of {count} events that were appended, {found} are there, have an id, are in order",
    )
