"""Real events cross two services whose workers are killed all the time.

8,577 events of a municipality's building permits: service `permits` appends them with 8 writers,
a producing projection ferries them, service `reporting` keeps a table of cases. In the end that
table is what the file says, every event has been handled once, and doing all of it again changes
nothing.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import psycopg
import pytest

from eventferry import Event, EventStore, cloudevent, run_projection
from tests.conftest import MakeDatabase
from tests.deployed import Deployed, deployed
from tests.pgbouncer import Way, runs_through_pgbouncer_too
from tests.services import disconnect, query
from tests.waiting import until

STREAM = "municipality-permits-stream"
WRITERS = 8
KILLS = 10
SEED = 20101002

PERMITS = """
    service = "permits"
    local_url = "{local_url}"
    shared_url = "{shared_url}"
    local_listen_url = "{local_listen_url}"
    shared_listen_url = "{shared_listen_url}"

    [producing.permits-projection]
    stream_name = "municipality-permits-stream"
    batch_size = 200
    """
REPORTING = """
    service = "reporting"
    local_url = "{local_url}"
    shared_url = "{shared_url}"
    local_listen_url = "{local_listen_url}"
    shared_listen_url = "{shared_listen_url}"

    [consuming.cases-projection]
    stream_names = ["municipality-permits-stream"]
    environment = "shared"
    handler = "handlers:Cases"
    batch_size = 100
    """
HANDLERS = """
    class Cases:
        def handle(self, event, context):
            context.connection.execute(
                "INSERT INTO handled (event_id, position) VALUES (%s, %s)",
                (event.id, event.position),
            )
            context.connection.execute(
                "INSERT INTO cases (id, last_activity, steps, first_at, last_at)"
                " VALUES (%(id)s, %(activity)s, 1, %(at)s, %(at)s)"
                " ON CONFLICT (id) DO UPDATE SET last_activity = excluded.last_activity,"
                " steps = cases.steps + 1, last_at = excluded.last_at",
                {"id": event.entity_id, "activity": event.data["activity"],
                 "at": event.occurred_at},
            )
    """
TABLES = """
    CREATE TABLE cases (id text PRIMARY KEY, last_activity text, steps integer,
                        first_at timestamptz, last_at timestamptz);
    CREATE TABLE handled (place bigint GENERATED ALWAYS AS IDENTITY,
                          event_id uuid, position bigint);
    """


@dataclass
class Case:
    last_activity: str
    steps: int
    first_at: datetime
    last_at: datetime


@dataclass
class Landscape:
    """Both services, as they are deployed, and their local stores."""

    permits: Deployed
    reporting: Deployed
    permits_url: str
    reporting_url: str

    def handled(self) -> int:
        return int(query(self.reporting_url, "SELECT count(*) FROM handled")[0][0])


@pytest.fixture
def landscape(make_database: MakeDatabase, tmp_path: Path, way: Way) -> Iterator[Landscape]:
    permits, reporting = make_database("local", "permits"), make_database("local", "reporting")
    shared = make_database("shared")
    with psycopg.connect(reporting, autocommit=True) as conn:
        conn.execute(TABLES)
    with (
        deployed(tmp_path / "permits", PERMITS.format(**way.keys(permits, shared))) as one,
        deployed(
            tmp_path / "reporting", REPORTING.format(**way.keys(reporting, shared)), HANDLERS
        ) as other,
    ):
        yield Landscape(one, other, way.url(permits), reporting)
    disconnect()


@runs_through_pgbouncer_too
def test_permits(landscape: Landscape, permits_path: Path) -> None:
    lines = permits_path.read_text().splitlines()
    expected = cases_of(lines)
    chance = random.Random(SEED)

    for _ in range(2):
        landscape.permits.start()
        landscape.reporting.start()
    with ThreadPoolExecutor() as writing:
        written = writing.submit(append_all, landscape.permits_url, lines)
        for at in sorted(chance.sample(range(1, len(lines)), KILLS)):
            until(lambda at=at: landscape.handled() >= at, f"{at} events are handled")  # type: ignore[misc]
            service = chance.choice([landscape.permits, landscape.reporting])
            service.kill(chance.choice(service.workers))
            service.start()
        written.result()
    until(lambda: landscape.handled() >= len(lines), "all events are handled")
    for service in (landscape.permits, landscape.reporting):
        assert set(service.stop()) <= {0, -signal.SIGTERM}, "done, or only just starting"
    require_result(landscape, lines, expected)

    append_all(landscape.permits_url, lines)
    assert run_projection("permits-projection", landscape.permits.config).handled == 0
    assert run_projection("cases-projection", landscape.reporting.config).handled == 0
    require_result(landscape, lines, expected)


def require_result(landscape: Landscape, lines: list[str], expected: dict[str, Case]) -> None:
    rows = query(
        landscape.reporting_url, "SELECT id, last_activity, steps, first_at, last_at FROM cases"
    )
    assert {row[0]: Case(*row[1:]) for row in rows} == expected
    handled = query(
        landscape.reporting_url, "SELECT event_id, position FROM handled ORDER BY place"
    )
    assert len(handled) == len({event_id for event_id, _ in handled}) == len(lines)
    positions = [position for _, position in handled]
    assert positions == sorted(positions), "in the order of the stream"


def cases_of(lines: list[str]) -> dict[str, Case]:
    """What the file says, without any of our code."""
    cases: dict[str, Case] = {}
    for line in lines:
        event = json.loads(line)
        at = datetime.fromisoformat(event["time"])
        case = cases.setdefault(event["subject"], Case("", 0, at, at))
        case.last_activity, case.last_at = event["data"]["activity"], at
        case.steps += 1
    return cases


def append_all(url: str, lines: list[str]) -> None:
    """By several writers, in transactions of mixed size; each case's events by one, in order."""
    of_writer: list[list[Event]] = [[] for _ in range(WRITERS)]
    for event in (cloudevent.parse(line).event for line in lines):
        of_writer[crc32(str(event.entity_id).encode()) % WRITERS].append(event)
    with EventStore(url) as store, ThreadPoolExecutor(WRITERS) as pool:
        store.create_stream(STREAM)
        seeds = range(SEED, SEED + WRITERS)
        list(pool.map(lambda events, seed: append(url, store, events, seed), of_writer, seeds))


def append(url: str, store: EventStore, events: list[Event], seed: int) -> None:
    chance = random.Random(seed)
    done = 0
    with psycopg.connect(url, prepare_threshold=None) as conn:  # as it must be behind a pooler
        while done < len(events):
            transaction = events[done : done + chance.choice([1, 1, 2, 5, 20, 100])]
            done += len(transaction)
            append_in(conn, store, transaction, chance)


def append_in(
    conn: psycopg.Connection[Any], store: EventStore, events: list[Event], chance: random.Random
) -> None:
    """One transaction; some are rolled back first, some append in parts."""
    if chance.random() < 0.1:
        store.append(STREAM, events, connection=conn)
        conn.rollback()
    half = chance.randrange(len(events) + 1)
    for part in (events[:half], events[half:]):
        store.append(STREAM, part, connection=conn)
    conn.commit()
