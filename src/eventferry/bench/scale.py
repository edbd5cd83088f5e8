"""Figure m: the same with ten million events in the stream as with a hundred thousand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from eventferry import _json
from eventferry.bench import sample
from eventferry.bench.appending import ONE_BY_ONE
from eventferry.bench.figure import Figure, compare, rate
from eventferry.bench.hopping import Hops
from eventferry.bench.stage import STREAM, Stage, Stores, require
from eventferry.store import EventStore

FEW, MANY = 100_000, 10_000_000
READ = 50_000
HOPS = 100
FILL = f"""
INSERT INTO streams."{STREAM}" (type, entity_id, data, metadata)
SELECT %s, 'user-' || number, %s, %s FROM generate_series(1, %s) AS number
"""


def figures(stage: Stage) -> Iterator[Figure]:
    """a, d and i."""
    few_events, many_events = stage.sized(FEW, 1_000), stage.sized(MANY, 1_000)
    limit_is = f"with {few_events:,}"
    with stage.stores("few", "few-mail") as few, stage.stores("many", "many-mail") as many:
        for stores, total in ((few[0], few_events), (many[0], many_events)):
            _fill(stage, stores, total, few_events)
        ours, its = (services[0].store() for services in (many, few))
        yield compare(
            "m", f"a with {many_events:,} events behind it",
            lambda: _appended(stage, ours), lambda: _appended(stage, its),
            limit_is=limit_is, target=0.85, rounds=stage.rounds,
        )  # fmt: skip
        appended = (stage.rounds + 1) * stage.sized(ONE_BY_ONE, 20)
        for stores, total in ((few[0], few_events), (many[0], many_events)):
            _require_all(stores, total + appended)
        yield compare(
            "m", f"d with {many_events:,}",
            lambda: _read(stage, ours), lambda: _read(stage, its),
            limit_is=limit_is, target=0.85, rounds=stage.rounds,
        )  # fmt: skip
        count = stage.sized(HOPS, 5)
        hops = [Hops(*services) for services in (many, few)]
        yield compare(
            "m", f"i with {many_events:,}",
            lambda: 1 / hops[0].median_s(count), lambda: 1 / hops[1].median_s(count),
            limit_is=limit_is, target=0.85, rounds=stage.rounds, unit="hops/s",
        )  # fmt: skip
        for services in hops:
            services.check()


def _fill(stage: Stage, stores: Stores, total: int, step: int) -> None:
    conn = stores.connect("local")
    texts = [_json.dumps(it, what="") for it in (sample.DATA, sample.METADATA)]
    for done in range(0, total, step):
        stage.say(f"filling {done:,} of {total:,}")
        conn.execute(FILL, (sample.TYPE, *texts, min(step, total - done)))
    conn.execute("VACUUM ANALYZE")


def _require_all(stores: Stores, count: int) -> None:
    found = stores.connect("local").execute(f'SELECT count(*) FROM streams."{STREAM}"').fetchone()
    require(found == (count,), f"of {count} events, {found} are there")


def _appended(stage: Stage, store: EventStore) -> float:
    count = stage.sized(ONE_BY_ONE, 20)

    def append() -> None:
        for _ in range(count):
            store.append(STREAM, sample.event(), expected_version=0)

    return rate(count, append)


def _read(stage: Stage, store: EventStore) -> float:
    wanted = stage.sized(READ)

    def read() -> None:
        count = sum(1 for _ in islice(store.read(STREAM, after=wanted // 2), wanted))
        require(count == wanted, f"{count} of {wanted} events were read")

    return rate(wanted, read)
