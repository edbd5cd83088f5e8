"""What an append in a session of SQLAlchemy costs, by driver.

Each transaction of a session appends n events and commits; the unit is events a second. The first
row is psycopg alone, without SQLAlchemy.

    python -m benchmarks.sqlalchemy_append [--seconds 1] [--rounds 5] [--sizes 1 10 100 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from benchmarks.decisions.testbed import DATA, METADATA, rounds, server, timed
from eventferry import AsyncEventStore, Event, EventStore, migrate

STREAM = "users-stream"


def events(count: int) -> list[Event]:
    data, metadata = json.loads(DATA), json.loads(METADATA)
    return [Event("UserRegistered", data, metadata=metadata) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100, 1000])
    given = parser.parse_args()
    with server() as running, asyncio.Runner() as runner:
        migrate(running.url, kind="local", service="users")
        with EventStore(running.url) as store:
            store.create_stream(STREAM)
        ways = appends(running.url, runner)
        print(f"{'':24}" + "".join(f"{size:>10,}" for size in given.sizes))
        measured: dict[str, list[float]] = {name: [] for name in ways}
        for size in given.sizes:
            variants = {
                name: partial(timed, partial(way, size), seconds=given.seconds, unit=size)
                for name, way in ways.items()
            }
            for name, results in rounds(variants, count=given.rounds).items():
                measured[name].append(statistics.median(results))
        for name, row in measured.items():
            print(f"{name:24}" + "".join(f"{rate:10,.0f}" for rate in row))


def appends(url: str, runner: asyncio.Runner) -> dict[str, Callable[[int], None]]:
    """The ways, by name; each takes the number of events."""
    store, async_store = EventStore(), AsyncEventStore()
    conn = psycopg.connect(url)

    def plain(count: int) -> None:
        store.append(STREAM, events(count), connection=conn)
        conn.commit()

    def sync(engine: Any, count: int) -> None:
        with Session(engine) as session:
            store.append(STREAM, events(count), connection=session)
            session.commit()

    async def awaited(engine: Any, count: int) -> None:
        async with AsyncSession(engine) as session:
            await async_store.append(STREAM, events(count), connection=session)
            await session.commit()

    def on(driver: str) -> str:
        return url.replace("postgresql:", f"postgresql+{driver}:", 1)

    ways: dict[str, Callable[[int], None]] = {"psycopg alone": plain}
    for driver in ("psycopg", "psycopg2"):
        ways[f"Session, {driver}"] = partial(sync, create_engine(on(driver)))
    for driver in ("psycopg", "asyncpg"):
        engine = create_async_engine(on(driver))
        ways[f"AsyncSession, {driver}"] = lambda n, e=engine: runner.run(awaited(e, n))  # type: ignore[misc]
    return ways


if __name__ == "__main__":
    main()
