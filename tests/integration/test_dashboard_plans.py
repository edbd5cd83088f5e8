"""What pages ask of tables that grow is answered by indexes, however much is in them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import AsyncCursor, Cursor, RawCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.sql import Composable

from eventferry import sql
from eventferry.dashboard.app import application
from eventferry.dashboard.desk import Desk
from eventferry.dashboard.settings import Settings
from eventferry.event import RecordedEvent
from eventferry.store._native._sync import configure
from tests.plans import nodes
from tests.services import Service

pytestmark = pytest.mark.once

MANY = 20_000
GROWING = {"parked_events", "failures", "audit", "statistics", "marks"}
"""Beside the tables of streams; others have a row for each projection, process or migration."""
FILL = f"""
INSERT INTO streams."a-stream" (type, entity_id)
SELECT 'Type', n::text FROM generate_series(1, {MANY}) AS n;
INSERT INTO eventferry.parked_events
       (projection, stream, position, event_id, event_type, entity_id, attempts, error, traceback,
        fingerprint)
SELECT 'reader-' || n % 3, 'a-stream', position, id, type, entity_id, n % 2, 'no ' || n,
       repeat('a traceback ', 100), 'f' || n % 50
  FROM (SELECT *, row_number() OVER () AS n FROM streams."a-stream") AS event;
INSERT INTO eventferry.failures (projection, attempt, error_type, error, traceback, gave_up)
SELECT 'reader-' || n % 30, 1, 'KeyError', 'KeyError: ' || n, repeat('a traceback ', 100), false
  FROM generate_series(1, {MANY}) AS n;
INSERT INTO eventferry.audit (who, service, projection, action)
SELECT 'ada', 'users', 'reader-' || n % 30, 'retry' FROM generate_series(1, {MANY}) AS n;
INSERT INTO eventferry.statistics (projection, minute, events, failures, busy_s, since, until)
SELECT 'reader-' || p, date_trunc('minute', now()) - n * interval '1 minute', 1, 0, 0, now(), now()
  FROM generate_series(1, {MANY} / 10) AS n, generate_series(0, 29) AS p;
"""
PAGES = (
    "/",
    "/projections",
    "/projections/reader-0",
    "/projections/reader-0?span=7d",
    "/streams",
    "/streams/local/a-stream",
    "/events",
    "/events?type=None",
    "/events?entity=7",
    "/events/{id}",
    "/parked",
    "/parked?projection=reader-0&error=f3",
    "/parked?type=Type",
    "/audit",
    "/audit?projection=reader-0",
    "/system",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A statement that was executed."""

    text: str
    parameters: Any
    is_in_transaction: bool
    """That of somebody who only looks, with settings of its own."""


def ignore(event: RecordedEvent) -> None:
    pass


@pytest.fixture
def filled(loner: Service) -> Service:
    """Much of everything."""
    loner.create_stream("a-stream")
    for n in range(3):
        loner.consuming(f"reader-{n}", ignore, "a-stream", on_failure="park")
        loner.run(f"reader-{n}")
    with psycopg.connect(loner.local_url, autocommit=True) as conn:
        conn.execute(FILL)
        conn.execute("VACUUM ANALYZE")
    return loner


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """The statements of this process's loops."""
    seen: list[Asked] = []
    execute = AsyncCursor.execute

    async def noted(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        text = query.as_string(self) if isinstance(query, Composable) else query
        text = text.decode() if isinstance(text, bytes) else text
        is_in = self.connection.info.transaction_status is not TransactionStatus.IDLE
        seen.append(Asked(text, params, is_in))
        return await execute(self, query, params, **options)

    monkeypatch.setattr(AsyncCursor, "execute", noted)
    return seen


def seq_scanned(conn: psycopg.Connection[Any], one: Asked) -> set[str]:
    """The growing tables that a statement reads from end to end."""
    if not one.text.lstrip(" (").upper().startswith(("SELECT", "WITH")):
        return set()
    kind = RawCursor if "$1" in one.text else Cursor
    with conn.transaction(), kind(conn, row_factory=tuple_row) as cursor:
        if one.is_in_transaction:
            conn.execute(sql.query("look_carefully"))
        explain = "EXPLAIN (FORMAT JSON, VERBOSE) " + one.text
        ((plan,),) = cursor.execute(explain, one.parameters).fetchall()
    plan = json.loads(plan) if isinstance(plan, (str, bytes)) else plan
    return {
        f"{node['Schema']}.{node['Relation Name']}"
        for node in nodes(plan[0]["Plan"])
        if node["Node Type"] == "Seq Scan"
        and (node["Schema"] == "streams" or node["Relation Name"] in GROWING)
    }


def test_no_page_reads_a_growing_table_from_end_to_end(filled: Service, asked: list[Asked]) -> None:
    (id_,) = [event.id for event in filled.local.read("a-stream", after=MANY // 2, limit=1)]

    async def visit(client: httpx.AsyncClient, path: str) -> list[Asked]:
        asked.clear()
        answer = await client.get(path.format(id=id_))
        assert answer.status_code == 200, answer.text
        return list(asked)

    async def visited() -> dict[str, list[Asked]]:
        desk = Desk.of(filled.config, Settings(look_s=0))  # each page takes its look anew
        transport = httpx.ASGITransport(application(desk, "ada"))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            found = {path: await visit(client, path) for path in PAGES}
        await desk.close()
        return found

    statements = asyncio.run(visited())
    assert all(statements.values())
    with psycopg.connect(filled.local_url, autocommit=True) as conn:
        configure(conn)
        scanned = {
            path: found
            for path, its in statements.items()
            if (found := set().union(*(seq_scanned(conn, one) for one in its)))
        }
    assert scanned == {}
