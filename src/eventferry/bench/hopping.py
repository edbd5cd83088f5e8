"""Figure i: how long an event takes from an append to its effect in another service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median, quantiles

from eventferry.bench import bare, handlers, sample
from eventferry.bench.figure import Figure
from eventferry.bench.stage import STREAM, Stage, Stores, require
from eventferry.demo.process import until

HOPS = 100
"""A round."""
PAUSE_S = 0.03
"""Between two events, so that everybody sleeps again."""
FERRY = """
[producing.ferry-projection]
stream_name = "bench-stream"
"""
TELLING = """
[consuming.tell-projection]
stream_names = ["bench-stream"]
environment = "shared"
handler = "eventferry.bench.handlers:tell"
start = "now"
"""


def hops(stage: Stage) -> Iterator[Figure]:
    """Both hops, on demand, each worker asleep."""
    with stage.stores("users", "mail") as (users, mail):
        hops, parts = Hops(users, mail), _Parts(users, mail)
        count = stage.sized(HOPS, 5)
        ours, limits = [], []
        for _ in range(stage.rounds):
            ours.append(hops.seconds(count))
            limits.append(median(parts.once() for _ in range(count)))
        hops.check()
    for name, at, target in (("p50", 49, 3.0), ("p99", 98, 10.0)):
        values = [quantiles(times, n=100)[at] for times in ours]
        ratios = [value / limit for value, limit in zip(values, limits, strict=True)]
        yield Figure(
            key="i",
            what=f"append → effect in another service, {name}",
            unit="ms",
            ours=median(values) * 1000,
            limit_is="the sum of its parts: 3 commits, 2 notifications, 2 reads",
            limit=median(limits) * 1000,
            value=median(ratios),
            lowest=min(ratios),
            highest=max(ratios),
            target=target,
            better="less",
            rounds=stage.rounds,
        )


class Hops:
    """Two services with a worker each."""

    def __init__(self, users: Stores, mail: Stores) -> None:
        self._mail = mail
        mail.connect("local").execute(handlers.ARRIVALS)
        self._listener = mail.connect("local")
        self._listener.execute("LISTEN arrivals")
        ferry = users.worker(FERRY, "--once")  # what is there already
        while ferry.code is None:
            time.sleep(0.1)
        require(ferry.code == 0, f"the ferry failed: {users.last_words()}")
        users.worker(FERRY)
        mail.worker(TELLING)
        with mail.connect("local") as conn:
            begun = "SELECT count(*) FROM eventferry.checkpoints"
            until(lambda: conn.execute(begun).fetchone() == (1,), "the reader", within_s=60)
        self._store = users.store()
        self._count = 0
        self.seconds(20)

    def seconds(self, count: int) -> list[float]:
        """Of each: from before the append until its effect is committed, and known to be."""
        return [self._hop() for _ in range(count)]

    def median_s(self, count: int) -> float:
        """The median of so many."""
        return median(self.seconds(count))

    def check(self) -> None:
        """Refuses figures of hops that lost or doubled an event."""
        row = self._mail.connect("local").execute(
            "SELECT count(*), count(DISTINCT event_id) FROM arrivals"
        )
        kept = row.fetchone() == (self._count, self._count)
        require(kept, "an event was lost or doubled on its way")

    def _hop(self) -> float:
        time.sleep(PAUSE_S)
        self._count += 1
        begun = time.perf_counter()
        appended = self._store.append(STREAM, sample.event(), expected_version=0)
        for told in self._listener.notifies(timeout=30):
            if told.payload == str(appended.ids[0]):
                return time.perf_counter() - begun
        require(False, f"event {appended.ids[0]} did not arrive within 30 s")
        raise AssertionError


class _Parts:
    """What PostgreSQL alone takes for it, one after the other."""

    def __init__(self, users: Stores, mail: Stores) -> None:
        self.commits = [users.connect("local"), users.connect("shared"), mail.connect("local")]
        self.listening = [users.connect("local"), users.connect("shared")]
        for conn in self.listening:
            conn.execute("LISTEN part")

    def once(self) -> float:
        time.sleep(PAUSE_S)
        begun = time.perf_counter()
        for conn in self.commits:
            conn.execute(bare.INSERT, bare.row())
        for conn, listener in zip(self.commits, self.listening, strict=False):
            conn.execute("NOTIFY part")
            next(listener.notifies(timeout=30))
            conn.execute("SELECT * FROM plain ORDER BY position DESC LIMIT 1").fetchall()
        return time.perf_counter() - begun
