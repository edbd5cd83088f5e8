"""Figures j, k and l: what a worker costs that is idle, reads many streams, or has much to do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Final

import psycopg

from eventferry.bench import sample
from eventferry.bench.figure import Figure, alone, compare, rate
from eventferry.bench.handlers import nothing
from eventferry.bench.stage import STREAM, Kind, Stage, Stores, require
from eventferry.demo.process import until
from eventferry.process import Process

PROJECTIONS, STREAMS = 100, 50
IDLE_S = 60
"""All rounds together: what a worker does once a minute is in it once."""
SETTLING_S = 25
"""Until all has been reported of the beginning, and the server has counted it."""
SPREAD: Final = (10, 100, 500)
SPREAD_EVENTS, AT_ONCE = 100_000, 20
"""In all streams together, and of one stream after each other."""
MANY = 1_000_000
READER = """
[consuming.reader-{number}-projection]
stream_names = ["idle-{stream}-stream"]
environment = "{kind}"
handler = "eventferry.bench.handlers:nothing"
"""
CATCHING_UP = """
[consuming.reader-projection]
stream_names = ["bench-stream"]
environment = "local"
handler = "eventferry.bench.handlers:nothing"
"""


def idle(stage: Stage) -> Iterator[Figure]:
    """A worker with a hundred projections over fifty streams of both stores, and nothing to do."""
    projections, streams = stage.sized(PROJECTIONS, 2), stage.sized(STREAMS, 2)
    seconds = stage.sized(IDLE_S, 2) / stage.rounds
    with stage.stores() as stores:
        kinds: tuple[Kind, Kind] = ("local", "shared")
        of = {number: kinds[number % 2] for number in range(streams)}
        for kind in kinds:
            store = stores.store(kind)
            for number in [n for n, its in of.items() if its == kind]:
                store.create_stream(f"idle-{number}-stream")
                store.append(f"idle-{number}-stream", sample.event())
        reads = [n % streams for n in range(projections)]
        worker = stores.worker(
            "".join(
                READER.format(number=n, stream=stream, kind=of[stream])
                for n, stream in enumerate(reads)
            )
        )
        with stores.connect("local") as conn:
            begun = "SELECT count(*) FROM eventferry.checkpoints WHERE position > 0"
            until(lambda: conn.execute(begun).fetchone() == (projections,), "readers", within_s=60)
        time.sleep(stage.sized(SETTLING_S))
        counted, cpu = [], []
        for _ in range(stage.rounds):
            before, spent = transactions(stage, stores), _cpu_s(worker)
            time.sleep(seconds)
            counted.append((transactions(stage, stores) - before) / seconds)
            cpu.append((_cpu_s(worker) - spent) / seconds * 100)
        require(worker.code is None, f"the worker has ended: {stores.last_words()}")
        yield _on_average(
            f"idle, {projections} projections over {streams} streams", counted,
            unit="transactions/s",
        )  # fmt: skip
        yield _on_average("the same, CPU of the worker", cpu, unit="% of a core")


def _on_average(what: str, measured: list[float], *, unit: str) -> Figure:
    """Of all rounds: the median would leave out what is done once a minute."""
    average = mean(measured)
    figure = alone("j", what, measured, unit=unit, target=2.0)
    return replace(figure, ours=average, value=average)


def transactions(stage: Stage, stores: Stores) -> int:
    """So far, in both stores; asked in another database."""
    names = [
        url.partition("?")[0].rpartition("/")[2] for url in (stores.local_url, stores.shared_url)
    ]
    total = 0
    for server, name in zip((stage.local_server, stage.shared_server), names, strict=True):
        with psycopg.connect(server, autocommit=True) as conn:
            row = conn.execute(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s",
                (name,),
            ).fetchone()
            total += row[0] if row else 0
    return total


def _cpu_s(process: Process) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def many_streams(stage: Stage) -> Iterator[Figure]:
    """One projection that reads one, ten, a hundred, five hundred streams."""
    events = stage.sized(SPREAD_EVENTS, 1_000)
    for count in map(stage.sized, SPREAD):
        with stage.stores() as stores:
            stores.fill(events)
            names = [f"spread-{number}-stream" for number in range(count)]
            store = stores.store()
            for name in names:
                store.create_stream(name)
            for number, batch in enumerate(sample.batches(events, AT_ONCE)):
                store.append(names[number % count], batch)
            stores.require_order(events, *names)
            # the checkpoints too, as autovacuum does within a minute
            stores.connect("local").execute("VACUUM ANALYZE")
            yield compare(
                "k",
                f"consume, one projection over {count} streams",
                lambda: _consumed(stores, events, *names),  # noqa: B023
                lambda: _consumed(stores, events, STREAM),
                limit_is="over one stream",
                target=0.50,
                rounds=stage.rounds,
            )


def _consumed(stores: Stores, count: int, *streams: str) -> float:
    projection = stores.consuming(nothing, *streams)
    return rate(count, lambda: stores.run(projection, count))


def memory(stage: Stage) -> Iterator[Figure]:
    """A worker that catches up a million events."""
    count = stage.sized(MANY, 1_000)
    with stage.stores() as stores:
        stores.fill(count)
        conn = stores.connect("local")
        worker = stores.worker(CATCHING_UP, "--once")
        peaks: list[tuple[int, float]] = []
        while worker.code is None:
            row = conn.execute("SELECT max(position) FROM eventferry.checkpoints").fetchone()
            if (peak := _peak_mb(worker)) is not None:
                peaks.append((row[0] or 0 if row else 0, peak))
            time.sleep(0.1)
        require(worker.code == 0, f"the worker failed: {stores.last_words()}")
        handled = conn.execute("SELECT sum(events) FROM eventferry.statistics").fetchone()
        require(handled == (count,), f"{handled and handled[0]} of {count} events were handled")
        early = max(peak for position, peak in peaks if position <= count / 4)
        yield alone(
            "l", f"peak memory, catching up {count:,} ({early:.0f} after a quarter)",
            [peaks[-1][1]], unit="MB", target=120,
        )  # fmt: skip


def _peak_mb(process: Process) -> float | None:
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return None
    found = [line for line in text.splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else None
