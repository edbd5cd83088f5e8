"""A line's stage: for each library a database, a process that writes and one that follows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg

from benchmarks.peers.environment import Installed
from benchmarks.peers.process import PeerProcess
from benchmarks.peers.serving import Purpose
from eventferry.bench import sample
from eventferry.embedded import EmbeddedServer

# The columns and indexes of an event, and what a handler makes of one.
TABLES: Final = """
CREATE TABLE plain (
    position bigserial PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    type text NOT NULL,
    entity_id text NOT NULL,
    version integer NOT NULL,
    data json NOT NULL,
    metadata json NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (entity_id, version)
);
CREATE TABLE effects (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text NOT NULL,
    entity_id text NOT NULL,
    type text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE bare_effects (LIKE effects INCLUDING ALL);
"""
SAMPLE: Final = {"type": sample.TYPE, "data": sample.DATA, "metadata": sample.METADATA}


@dataclass(slots=True, kw_only=True)
class Contestant:
    """A library on the stage."""

    installed: Installed
    hello: dict[str, Any]
    conn: psycopg.Connection[Any]
    url: str
    events: str
    """A query for the ids of all events."""
    writer: PeerProcess
    follower: PeerProcess
    """The same process, where the library follows in the process that writes."""
    appended: int = 0
    """Events that were committed, by what the writer has been told."""
    measured: list[tuple[float, float]] = field(default_factory=list)
    """A round's value, and its limit."""

    def count(self, query: str) -> int:
        row = self.conn.execute(f"SELECT count(*) FROM ({query}) AS counted").fetchone()
        assert row is not None
        return int(row[0])

    def effects(self) -> int:
        """Quickly: so many rows, and no one has been rolled back."""
        row = self.conn.execute("SELECT coalesce(max(place), 0) FROM effects").fetchone()
        assert row is not None
        return int(row[0])

    def without_effects(self) -> None:
        self.conn.execute("TRUNCATE effects RESTART IDENTITY")

    def lost_and_doubled(self) -> tuple[int, int]:
        """Events without an effect, and effects of events that had one."""
        lost = self.count(f"({self.events}) EXCEPT SELECT event_id FROM effects")
        doubled = self.count("SELECT FROM effects") - self.count(
            "SELECT DISTINCT event_id FROM effects"
        )
        return lost, doubled

    @contextmanager
    def following(self, name: str, purpose: Purpose) -> Iterator[None]:
        self.follower.ask("follow", name=name, purpose=purpose)
        try:
            yield
        finally:
            self.follower.ask("stop")


@contextmanager
def staged(server: EmbeddedServer, libraries: Sequence[Installed]) -> Iterator[list[Contestant]]:
    """All of them, each in a fresh database."""
    with ExitStack() as stack:
        yield [_contestant(stack, server, it) for it in libraries]


def _contestant(stack: ExitStack, server: EmbeddedServer, installed: Installed) -> Contestant:
    name = f"peer_{secrets.token_hex(6)}"
    url = server.create_database(name)
    stack.callback(server.drop_database, name)
    conn = stack.enter_context(psycopg.connect(url, autocommit=True))
    conn.execute(TABLES)
    writer = stack.enter_context(PeerProcess(installed))
    hello = writer.ask("hello")
    events = writer.ask("set_up", url=url, sample=SAMPLE)["events"]
    follower = writer
    if not hello.get("follows_itself"):
        follower = stack.enter_context(PeerProcess(installed))
        follower.ask("open", url=url, sample=SAMPLE)
    return Contestant(
        installed=installed,
        hello=hello,
        conn=conn,
        url=url,
        events=events,
        writer=writer,
        follower=follower,
    )


def until_quiet(
    contestant: Contestant, total: int, *, quiet_s: float, within_s: float
) -> tuple[int, float]:
    """Waits until there are effects of so many events, or none has come for some time.

    Returns:
        How many there are, and when the last ones came, by the system's monotonic clock.
    """
    begun = since = time.monotonic()
    seen = 0
    while seen < total and (now := time.monotonic()) < min(since + quiet_s, begun + within_s):
        found = contestant.effects()
        if found != seen:
            seen, since = found, now
        time.sleep(0.01)
    return seen, since
