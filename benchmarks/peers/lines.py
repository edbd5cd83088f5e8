"""The lines of the table: what each library does in turn, and what is looked at afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

import psycopg

from benchmarks.peers.environment import Installed
from benchmarks.peers.stage import Contestant, staged, until_quiet
from eventferry.embedded import EmbeddedServer

SECONDS: Final = 0.5
"""Of one measurement of a rate."""
BACKLOG: Final = 50_000
CATCHING_UP_S: Final = 2.0
"""Who is not through by then is measured by what he has done."""
HOPS: Final = 25
"""A round."""
PAUSE_S: Final = 0.03
CONTEND_S: Final = 2.0
CONTENDING_ROUNDS: Final = 3
WRITERS: Final = 8
TELL: Final = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('effects', ''); RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT ON effects FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TABLE parts (LIKE effects INCLUDING ALL);
CREATE TRIGGER tell AFTER INSERT ON parts FOR EACH ROW EXECUTE FUNCTION tell();
"""
PART: Final = "INSERT INTO parts (event_id, entity_id, type) VALUES ('', '', '')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One library on one line."""

    library: str
    version: str
    client: str
    line: str
    what: str
    value: float
    unit: str
    limit: float | None
    """What its client does alone, in the same rounds."""
    ratio: float | None
    """The median of the rounds' `value / limit`."""
    committed: int | None
    """Of so many events,"""
    lost: int | None
    """so many have no effect,"""
    doubled: int | None
    """and so many effects are of an event that had one."""
    guarantee: str
    how: str
    rounds: int
    command: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class NotThere(Exception):
    """Events are missing that a library has said to be committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What all lines have in common."""

    server: EmbeddedServer
    libraries: Sequence[Installed]
    rounds: int
    command: str
    say: Callable[[str], None]

    def results(self, line: str, what: str, unit: str, on: Sequence[Contestant]) -> list[Result]:
        """What the rounds have come to."""
        return [
            self.result(
                one,
                line,
                what,
                unit,
                value=median(value for value, _ in one.measured),
                limit=median(limit for _, limit in one.measured),
                ratio=median(value / limit for value, limit in one.measured),
            )
            for one in on
        ]

    def result(
        self,
        one: Contestant,
        line: str,
        what: str,
        unit: str,
        *,
        value: float,
        limit: float | None = None,
        ratio: float | None = None,
        committed: int | None = None,
        lost: int | None = None,
        doubled: int | None = None,
        rounds: int | None = None,
    ) -> Result:
        return Result(
            library=one.installed.library,
            version=one.installed.version,
            client=one.hello["client"],
            line=line,
            what=what,
            value=value,
            unit=unit,
            limit=limit,
            ratio=ratio,
            committed=committed,
            lost=lost,
            doubled=doubled,
            guarantee=one.hello["guarantee"],
            how=one.hello["how"],
            rounds=rounds or self.rounds,
            command=self.command,
        )

    def in_turn(
        self, on: Sequence[Contestant], measure: Callable[[Contestant, int], tuple[float, float]]
    ) -> None:
        """Measures them in another order each round, after a round that does not count."""
        for number in range(self.rounds + 1):
            for one in [*on[number % len(on) :], *on[: number % len(on)]]:
                measured = measure(one, number)
                if number:
                    one.measured.append(measured)
                self.say(f"{one.installed.library}, round {number} of {self.rounds}")


def appending(run: Run) -> Iterator[Result]:
    """One and a hundred events a call, one and eight writers."""
    with staged(run.server, run.libraries) as on:
        for size in (1, 100):
            for writers in (1, WRITERS):
                load = {"writers": writers, "size": size, "seconds": SECONDS}

                def measure(one: Contestant, _number: int, load: Any = load) -> tuple[float, float]:
                    _, limit = one.writer.rate("bare", **load)
                    count, value = one.writer.rate("append", **load)
                    one.appended += count
                    return value, limit

                for one in on:
                    one.measured.clear()
                run.in_turn(on, measure)
                what = f"append, {size} a call, {writers} writer{'s' if writers > 1 else ''}"
                yield from run.results(f"append-{size}-{writers}", what, "events/s", on)
        for one in on:
            _require_all(one)


def catching_up(run: Run) -> Iterator[Result]:
    """A backlog, one INSERT an event."""

    def measure(one: Contestant, number: int) -> tuple[float, float]:
        _, limit = one.writer.rate("bare_effects", seconds=SECONDS)
        one.without_effects()
        begun = time.monotonic()
        with one.following(f"reader{number}", "backlog"):
            handled, ended = until_quiet(
                one, one.appended, quiet_s=CATCHING_UP_S, within_s=CATCHING_UP_S
            )
        _require_once(one)
        return handled / (ended - begun), limit

    with staged(run.server, run.libraries) as on:
        for one in on:
            while one.appended < BACKLOG:
                count, _ = one.writer.rate("append", writers=WRITERS, size=100, seconds=0.5)
                one.appended += count
            _require_all(one)
            one.conn.execute("VACUUM ANALYZE")
        run.in_turn(on, measure)
        yield from run.results("catch-up", "catch up, one INSERT an event", "events/s", on)


def hopping(run: Run) -> Iterator[Result]:
    """From before an append until its effect is committed, while nothing else goes on."""
    with staged(run.server, run.libraries) as on, ExitStack() as stack:
        listeners = {}
        for one in on:
            one.conn.execute(TELL)
            listener = stack.enter_context(psycopg.connect(one.url, autocommit=True))
            listener.execute("LISTEN effects")
            listeners[one.url] = listener

        def measure(one: Contestant, number: int) -> tuple[float, float]:
            listener = listeners[one.url]
            limit = median(_parts(one, listener) for _ in range(HOPS))
            one.without_effects()
            with one.following(f"reader{number}", "closely"):
                until_quiet(one, one.appended, quiet_s=10, within_s=10)
                for _ in range(3):
                    _hop(one, listener)
                return median(_hop(one, listener) for _ in range(HOPS)) * 1000, limit * 1000

        run.in_turn(on, measure)
        yield from run.results("hop", "append → committed effect, p50", "ms", on)


def contending(run: Run) -> Iterator[Result]:
    """Eight writers, while somebody follows: what does he never see?"""
    with staged(run.server, run.libraries) as on:
        for one in on:
            with one.following("reader", "live"):
                for number in range(CONTENDING_ROUNDS):
                    answer = one.writer.ask("contend", writers=WRITERS, seconds=CONTEND_S)
                    one.appended += answer["events"]
                    run.say(f"{one.installed.library}, {number + 1} of {CONTENDING_ROUNDS}")
                until_quiet(one, one.appended, quiet_s=4, within_s=60)
            _require_all(one)
            lost, doubled = one.lost_and_doubled()
            yield run.result(
                one,
                "lost",
                f"committed by {WRITERS} writers, never seen by who follows",
                "events",
                value=lost,
                committed=one.appended,
                lost=lost,
                doubled=doubled,
                rounds=CONTENDING_ROUNDS,
            )


LINES: Final = {
    "append": appending,
    "catch-up": catching_up,
    "hop": hopping,
    "lost": contending,
}


def _hop(one: Contestant, listener: psycopg.Connection[Any]) -> float:
    time.sleep(PAUSE_S)
    list(listener.notifies(timeout=0))
    one.writer.begin("one")
    one.appended += 1
    _told(listener, one)
    arrived = time.monotonic()
    return arrived - float(one.writer.answer()["begun"])


def _parts(one: Contestant, listener: psycopg.Connection[Any]) -> float:
    """What PostgreSQL takes for it: two commits, a notification after each, a read between."""
    time.sleep(PAUSE_S)
    list(listener.notifies(timeout=0))
    begun = time.monotonic()
    one.conn.execute(PART)
    _told(listener, one)
    one.conn.execute("SELECT * FROM parts ORDER BY place DESC LIMIT 1").fetchall()
    one.conn.execute(PART)
    _told(listener, one)
    return time.monotonic() - begun


def _told(listener: psycopg.Connection[Any], one: Contestant) -> None:
    if not list(listener.notifies(timeout=30, stop_after=1)):
        raise NotThere(f"{one.installed.library}: no effect within 30 s")


def _require_all(one: Contestant) -> None:
    found = one.count(one.events)
    if found != one.appended:
        raise NotThere(f"{one.installed.library}: {found} of {one.appended} events are there")


def _require_once(one: Contestant) -> None:
    lost, doubled = one.lost_and_doubled()
    if doubled or (lost and one.effects() >= one.appended):
        raise NotThere(f"{one.installed.library} caught up: {lost} lost, {doubled} doubled")
