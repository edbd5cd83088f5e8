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

FEW, MANY = 100_000, 10_000_000
READ = 50_000
HOPS = 100
FILL = f"""
INSERT INTO streams."{STREAM}" (type, entity_id, data, metadata)
SELECT %s, 'user-' || number, %s, %s FROM generate_series(1, {FEW}) AS number
"""


def figures(stage: Stage) -> Iterator[Figure]:
    """a, d and i."""
    with stage.stores("few", "few-mail") as few, stage.stores("many", "many-mail") as many:
        for stores, total in ((few[0], FEW), (many[0], MANY)):
            _fill(stage, stores, total)
        yield compare(
            "m", "a with 10,000,000 events behind it",
            lambda: _appended(many[0]), lambda: _appended(few[0]),
            limit_is="with 100,000", target=0.85, rounds=stage.rounds,
        )  # fmt: skip
        yield compare(
            "m", "d with 10,000,000",
            lambda: _read(many[0]), lambda: _read(few[0]),
            limit_is="with 100,000", target=0.85, rounds=stage.rounds,
        )  # fmt: skip
        hops = [Hops(*services) for services in (many, few)]
        yield compare(
            "m", "i with 10,000,000",
            lambda: 1 / hops[0].median_s(HOPS), lambda: 1 / hops[1].median_s(HOPS),
            limit_is="with 100,000", target=0.85, rounds=stage.rounds, unit="hops/s",
        )  # fmt: skip


def _fill(stage: Stage, stores: Stores, total: int) -> None:
    conn = stores.connect("local")
    texts = [_json.dumps(it, what="") for it in (sample.DATA, sample.METADATA)]
    for done in range(0, total, FEW):
        stage.say(f"filling {done:,} of {total:,}")
        conn.execute(FILL, (sample.TYPE, *texts))
    conn.execute("VACUUM ANALYZE")


def _appended(stores: Stores) -> float:
    store = stores.store()

    def append() -> None:
        for _ in range(ONE_BY_ONE):
            store.append(STREAM, sample.event(), expected_version=0)

    return rate(ONE_BY_ONE, append)


def _read(stores: Stores) -> float:
    store = stores.store()

    def read() -> None:
        count = sum(1 for _ in islice(store.read(STREAM, after=FEW // 4), READ))
        require(count == READ, f"{count} of {READ} events were read")

    return rate(READ, read)
