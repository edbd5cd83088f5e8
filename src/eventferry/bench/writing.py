"""Figures b and n: many who append at once, while projections run."""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from psycopg import sql

from eventferry import _json
from eventferry.bench import bare, handlers, sample
from eventferry.bench.figure import Figure, compare, rate
from eventferry.bench.stage import STREAM, Stage, Stores, require
from eventferry.demo.process import until
from eventferry.store import AsyncEventStore

CONNECTIONS = 16
SECONDS = 5
TOGETHER_S = 60
LIBRARY = 16_000
INSERT = "INSERT INTO {table} (type, entity_id, data, metadata) VALUES ({values});\n"
WATCHED = """
[consuming.nothing-projection]
stream_names = ["bench-stream"]
environment = "local"
handler = "eventferry.bench.handlers:nothing"
"""
FERRY = """
[producing.ferry-projection]
stream_name = "bench-stream"
"""
RECORDING = """
[consuming.record-{number}-projection]
stream_names = ["bench-stream"]
environment = "local"
handler = "eventferry.bench.handlers:record"
"""


def many_connections(stage: Stage) -> Iterator[Figure]:
    """Sixteen connections to one stream whose projections a worker runs."""
    with stage.stores() as stores:
        stores.worker(WATCHED)
        plain = sql.Identifier("plain")
        yield compare(
            "b",
            "pgbench INSERT, 16 connections, projections subscribed",
            lambda: _pgbench(stage, stores, sql.Identifier("streams", STREAM), SECONDS),
            lambda: _pgbench(stage, stores, plain, SECONDS),
            limit_is="pgbench INSERT into a plain table",
            target=0.80,
            rounds=stage.rounds,
        )
        with asyncio.Runner() as runner:
            yield compare(
                "b",
                "append, 16 connections, projections subscribed",
                lambda: rate(LIBRARY, lambda: runner.run(_append(stores.local_url))),
                lambda: rate(
                    LIBRARY,
                    lambda: runner.run(bare.insert_async(stores.local_url, LIBRARY, CONNECTIONS)),
                ),
                limit_is="bare psycopg, 16 connections",
                target=0.80,
                rounds=stage.rounds,
            )
        conn = stores.connect("local")
        head = 'SELECT max(position) FROM streams."bench-stream"'
        behind = f"SELECT count(*) = 0 FROM eventferry.checkpoints WHERE position < ({head})"
        until(lambda: (conn.execute(behind).fetchone() or (False,))[0], "the worker", within_s=60)


async def _append(url: str) -> None:
    async with AsyncEventStore(url) as store:

        async def one() -> None:
            for _ in range(LIBRARY // CONNECTIONS):
                await store.append(STREAM, sample.event(), expected_version=0)

        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


def all_at_once(stage: Stage) -> Iterator[Figure]:
    """Sixteen writers, four consuming projections and a producing one, for a minute."""
    stream = sql.Identifier("streams", STREAM)
    rates = []
    with stage.stores() as stores:
        stores.worker(WATCHED)
        rates.append(_pgbench(stage, stores, stream, SECONDS * 2))
    with stage.stores() as stores:
        conn = stores.connect("local")
        conn.execute(handlers.ARRIVALS)
        recording = "".join(RECORDING.format(number=n) for n in range(4))
        stores.worker(FERRY + recording, "--concurrency", "5")
        begun = time.monotonic()
        rates.append(_pgbench(stage, stores, stream, TOGETHER_S))
        counted = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(stream)).fetchone()
        count = counted[0] if counted else 0
        done = "SELECT count(*), count(DISTINCT (event_id, projection)) FROM arrivals"
        until(
            lambda: (conn.execute(done).fetchone() or (0,))[0] >= 4 * count,
            "four projections to handle all events",
            within_s=120,
            progress=lambda: conn.execute(done).fetchone(),
            every_s=0.5,
        )
        caught_up_s = time.monotonic() - begun - TOGETHER_S
        found = conn.execute(done).fetchone()
        require(found == (4 * count, 4 * count), f"of {4 * count} effects, {found} are there")
        shared = stores.connect("shared")
        ferried = sql.SQL("SELECT count(*) FROM {}").format(stream)
        until(
            lambda: (shared.execute(ferried).fetchone() or (0,))[0] == count,
            "all events to be ferried",
            within_s=60,
        )
    yield Figure(
        key="n",
        what=f"16 writers, 4 consuming, 1 producing; caught up {caught_up_s:.0f} s later",
        unit="events/s",
        ours=rates[1],
        limit_is="b's writers",
        limit=rates[0],
        value=rates[1] / rates[0],
        lowest=rates[1] / rates[0],
        highest=rates[1] / rates[0],
        target=0.60,
        rounds=1,
    )


def _pgbench(stage: Stage, stores: Stores, table: sql.Identifier, seconds: int) -> float:
    """Commits a second of one INSERT each."""
    script = stores.folder / "insert.sql"
    texts = [_json.dumps(it, what="") for it in (sample.DATA, sample.METADATA)]
    literals = ", ".join(sql.Literal(text).as_string() for text in texts)
    values = f"'{sample.TYPE}', 'user-' || :client_id, {literals}"
    script.write_text(INSERT.format(table=table.as_string(), values=values))
    program = stage.programs / "pgbench" if stage.programs else Path("pgbench")
    load = ("-n", "-M", "prepared", "-c", str(CONNECTIONS), "-j", "2", "-T", str(seconds))
    done = subprocess.run(
        [str(program), *load, "-f", str(script), stores.local_url],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    require(done.returncode == 0 and found is not None, f"pgbench failed: {done.stderr}")
    assert found is not None
    return float(found[1])
