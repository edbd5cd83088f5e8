"""Figures o and p: how soon the dashboard answers, and what an open one costs the stores."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from statistics import mean

from eventferry.bench import sample
from eventferry.bench.figure import Figure, alone
from eventferry.bench.stage import STREAM, BenchUnavailable, Stage, Stores, require
from eventferry.bench.worker import transactions
from eventferry.dashboard.settings import LOOK_S
from eventferry.demo.process import until
from eventferry.store import EventStore

EVENTS = 1_000_000
ANSWERS = 21
"""Of each page, in a round."""
WATCHED_S = 15
"""In a round."""
APPEND_S = 0.5
READERS = """
[consuming.reader-projection]
stream_names = ["bench-stream"]
environment = "local"
handler = "eventferry.bench.handlers:nothing"

[producing.ferry-projection]
stream_name = "bench-stream"
"""


@dataclass(frozen=True, slots=True)
class _Site:
    """A dashboard that runs."""

    stores: Stores
    port: int

    def get(self, path: str) -> bytes:
        """A page as a browser gets it, on a connection that is kept open or not: it is local."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as conn:
            conn.request("GET", path)
            answer = conn.getresponse()
            body = answer.read()
        if answer.status != 200:
            raise BenchUnavailable(f"page {path} answers {answer.status}: {body[-500:]!r}")
        return body


def _site(stores: Stores, *options: str) -> _Site:
    stores.process(READERS, "dashboard", "--port", "0", "--json", *options)

    def said() -> int | None:
        for line in stores.log.read_text().splitlines() if stores.log.exists() else ():
            with suppress(ValueError):
                if "url" in (data := json.loads(line).get("data") or {}):
                    return int(data["url"].rpartition(":")[2])
        return None

    return _Site(stores, until(said, "the dashboard listens", within_s=30) or 0)


def pages(stage: Stage) -> Iterator[Figure]:
    """Each page, with a million events in a stream, which are read and ferried."""
    events = stage.sized(EVENTS, 1_000)
    with stage.stores() as stores:
        stores.fill(events)
        worker = stores.worker(READERS, "--once")
        require(worker.ended() == 0, f"the worker failed: {stores.last_words()}")
        conn = stores.connect("local")
        conn.execute("VACUUM ANALYZE")
        middle = f'SELECT id, entity_id FROM streams."{STREAM}" WHERE position >= %s LIMIT 1'
        id_, entity = conn.execute(middle, (events // 2,)).fetchone() or ("", "")
        site = _site(stores)
        for path in (
            "/",
            "/projections",
            "/projections/reader-projection",
            "/streams",
            f"/streams/local/{STREAM}",
            "/events",
            f"/events?type={sample.event().type}&before={events // 2}",
            "/events?type=NoSuchType",
            f"/events?entity={entity}",
            f"/events/{id_}",
            "/parked",
            "/audit",
            "/system",
        ):
            site.get(path)
            medians = [_median_ms(site, path) for _ in range(stage.rounds)]
            what = path.replace(str(id_), "ID").replace(f"={entity}", "=ID")
            yield alone("o", f"page {what}, {events:,} events", medians, unit="ms", target=100)


def _median_ms(site: _Site, path: str) -> float:
    taken = []
    for _ in range(ANSWERS):
        begun = time.perf_counter()
        site.get(path)
        taken.append((time.perf_counter() - begun) * 1000)
    return sorted(taken)[ANSWERS // 2]


def watching(stage: Stage) -> Iterator[Figure]:
    """An open page, while events are appended: each of a dashboard's statements is a transaction.

    But for what has to be looked at together, while appends are in flight, or in a snapshot of its
    own. What the writer does is taken off; nobody reads what he appends, so that each look differs
    from the last.
    """
    seconds = stage.sized(WATCHED_S, 2)
    with stage.stores() as stores:
        stores.fill(1_000)
        worker = stores.worker(READERS, "--once")
        require(worker.ended() == 0, f"the worker failed: {stores.last_words()}")
        refresh_s = LOOK_S * seconds / WATCHED_S  # as usual, unless all is smaller
        site = _site(stores, "--refresh", f"{refresh_s * 1000:.0f}ms")
        with _Writer(stores.store()):
            others = _rate(stage, stores, seconds)  # before anybody looks
            for path in ("/", "/projections/reader-projection", "/events"):
                costs = []
                for _ in range(stage.rounds):
                    with _Viewer(site, path) as viewer:
                        time.sleep(refresh_s)  # until the first look is over
                        costs.append(_rate(stage, stores, seconds) - others)
                    require(viewer.fetched > 0, f"{path} has not changed while it was open")
                figure = alone("p", f"open {path}", costs, unit="queries/s", target=3)
                yield replace(figure, ours=mean(costs), value=mean(costs))


def _rate(stage: Stage, stores: Stores, seconds: float) -> float:
    before = transactions(stage, stores)
    time.sleep(seconds)
    return (transactions(stage, stores) - before) / seconds


class _Writer(threading.Thread):
    """Appends an event every now and then, until its block ends."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(daemon=True)
        self._store = store
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(APPEND_S):
            self._store.append(STREAM, sample.event())

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()


class _Viewer(threading.Thread):
    """What a browser does with an open page: hears when to, and fetches it again."""

    def __init__(self, site: _Site, path: str) -> None:
        super().__init__(daemon=True)
        self.fetched = 0
        self._site = site
        self._path = path
        self._live = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
        self._is_over = False

    def run(self) -> None:
        page = self._site.get(self._path).decode()
        self._live.request("GET", page.partition('sse-connect="')[2].partition('"')[0])
        answer = self._live.getresponse()
        while not self._is_over and (line := answer.readline()):
            if line.startswith(b"event:"):
                self._site.get(self._path)
                self.fetched += 1

    def __enter__(self) -> _Viewer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self.join()
        self._live.close()
