"""What the decision benchmarks share: a throw-away PostgreSQL, interleaved rounds, a table.

Owns how things are measured, never what. It promises that variants are run in turn (A B C, B C A,
…) inside one process, in rounds so short that a noisy neighbour hits all of them alike, and that
every ratio is that of two medians. Absolute numbers are only for orientation.

The server runs with production durability (`fsync` and `synchronous_commit` are on). Checkpoints
and autovacuum are kept out of the rounds, because a round of three seconds can't average them.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from eventferry.embedded import EmbeddedServer

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "max_connections": "100",
}

# About 300 bytes of data and 150 of metadata: a usual event of a business application.
DATA = (
    '{"user_id":"018f6b1e-7a54-7c3e-9d2a-3f5b8c1d2e4f","email":"anna.lindqvist@example.com",'
    '"name":"Anna Lindqvist","address":{"street":"Birger Jarlsgatan 57","zip":"113 56",'
    '"city":"Stockholm","country":"SE"},"room_min_size":"24","room_max_size":"60",'
    '"price":{"amount":1249900,"currency":"SEK"},"tags":["new","web","b2c"]}'
)
METADATA = (
    '{"correlation_id":"018f6b1e-7a54-7c3e-9d2a-aaaaaaaaaaaa",'
    '"causation_id":"018f6b1e-7a54-7c3e-9d2a-bbbbbbbbbbbb",'
    '"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}'
)

# A stream's table: name, default of position, json or jsonb and default of recorded_at are open.
LEAF = """
CREATE TABLE {table} (
    position bigint NOT NULL DEFAULT {position} PRIMARY KEY,
    id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE,
    type text NOT NULL,
    source text NOT NULL DEFAULT 'boilerplate',
    entity_id text,
    version integer,
    data {json} NOT NULL,
    metadata {json} NOT NULL DEFAULT '{{}}',
    occurred_at timestamptz NOT NULL DEFAULT now(),
    recorded_at timestamptz NOT NULL DEFAULT {recorded_at}
);
CREATE UNIQUE INDEX ON {table} (entity_id, version) WHERE entity_id IS NOT NULL;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running PostgreSQL: its URL and the folder of its programs."""

    url: str
    programs: Path

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """An autocommit connection."""
        return psycopg.connect(self.database_url(database), autocommit=True)

    def database_url(self, database: str) -> str:
        return self.url.replace("/postgres?", f"/{database}?")

    def pgbench(self, script: str, *, clients: int, seconds: float, prepared: bool = True) -> float:
        """Transactions per second of a pgbench script."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            done = subprocess.run(
                [
                    str(self.programs / "pgbench"),
                    "--no-vacuum",
                    f"--protocol={'prepared' if prepared else 'simple'}",
                    f"--client={clients}",
                    f"--jobs={min(clients, 2)}",
                    f"--time={max(1, round(seconds))}",
                    f"--file={file.name}",
                    self.url,
                ],
                capture_output=True,
                text=True,
                check=False,
            )
        found = re.search(r"tps = ([\d.]+)", done.stdout)
        if done.returncode or not found:
            raise RuntimeError(f"pgbench failed: {done.stderr}")
        return float(found[1])


@contextmanager
def server(settings: Mapping[str, str] = SETTINGS) -> Iterator[Server]:
    """A new PostgreSQL on a real disk, behind a unix socket; deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="decision-"))
    try:
        with EmbeddedServer(folder, settings=settings) as running:
            yield Server(url=running.url(), programs=running.programs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def timed(work: Callable[[], object], *, seconds: float, unit: int = 1) -> float:
    """How many units a second `work` does, when it is called again and again for so long."""
    calls, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        work()
        calls += 1
    return calls * unit / spent


def rounds(
    variants: Mapping[str, Callable[[], float]], *, count: int = 5
) -> dict[str, list[float]]:
    """Every variant once a round, each round starting one further on; all results by variant."""
    names = list(variants)
    results: dict[str, list[float]] = {name: [] for name in names}
    for number in range(count):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            results[name].append(variants[name]())
    return results


def good(values: Sequence[float]) -> float:
    """The ninth decile: what many short rounds show when the machine is left alone."""
    return statistics.quantiles(values, n=10)[-1]


def show(
    title: str,
    results: Mapping[str, Sequence[float]],
    *,
    baseline: str,
    unit: str = "/s",
    middle: Callable[[Sequence[float]], float] = statistics.median,
) -> None:
    """Print a Markdown table: the median, its ratio to the baseline's, and the middle half.

    On a busy machine `middle` may be `good`, for many short rounds, or `min` for CPU time: noise only
    ever makes things slower.
    """
    width = max(len(name) for name in results)
    base = middle(results[baseline])
    print(f"\n### {title}\n")
    print(f"| {'variant'.ljust(width)} | {middle.__name__} {unit} | ratio | middle half |")
    print(f"|{'-' * (width + 2)}|---:|---:|---:|")
    for name, values in results.items():
        value = middle(values)
        low, _, high = statistics.quantiles(values) if len(values) > 1 else [value] * 3
        shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        print(
            f"| {name.ljust(width)} | {shown} | {value / base:.2f} | "
            f"{low / base:.2f}–{high / base:.2f} |",
            flush=True,
        )


STORE = """
CREATE SCHEMA eventferry; CREATE SCHEMA streams;
CREATE SEQUENCE eventferry.positions CACHE 1;
"""
MARK = """
CREATE FUNCTION eventferry.mark_{number}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE noted text;
BEGIN
IF current_setting('eventferry.m{number}', true) = pg_current_xact_id()::text THEN
    RETURN NULL; END IF;
IF pg_try_advisory_xact_lock_shared(29285 << 16 | {number},
    ((coalesce(pg_sequence_last_value('eventferry.positions'::regclass), 0) << 32) >> 32)::int4)
    IS NOT TRUE THEN RAISE EXCEPTION 'no marker'; END IF;
noted := set_config('eventferry.m{number}', pg_current_xact_id()::text, true);
IF current_setting('synchronous_commit') = 'off' THEN
    noted := set_config('synchronous_commit', 'on', true); END IF;
RETURN NULL; END $$;
CREATE TRIGGER mark BEFORE INSERT ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION eventferry.mark_{number}();
"""


def add_stream(
    connection: psycopg.Connection,
    table: str,
    number: int,
    *,
    recorded_at: str = "statement_timestamp()",
) -> None:
    """A stream as it will be: the leaf with its marker (ADR 0001) and json (ADR 0002)."""
    text = LEAF.format(
        table=table,
        json="json",
        position="nextval('eventferry.positions'::regclass)",
        recorded_at=recorded_at,
    )
    connection.execute(text + MARK.format(table=table, number=number))
