"""What the local store says of each minute: what was done, how long it took, how far behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
import pytest

from eventferry import presence, sql, timing
from eventferry.engine.context._sync import Context
from eventferry.event import Event, RecordedEvent
from eventferry.pools import Pools
from eventferry.statistics import Minute, minutes
from tests.services import Service, numbered, query, record, record_async
from tests.waiting import until

STREAM = "users-stream"
LONG_AGO, FAR_AHEAD = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


@pytest.fixture
def users(make_service: Any) -> Service:
    service: Service = make_service("users")
    service.create_stream(STREAM)
    service.create_effects()
    return service


ADD: LiteralString = (
    "INSERT INTO eventferry.statistics"
    " (projection, minute, events, failures, busy_s, since, until)"
    " SELECT of.projection, timestamptz '2020-01-01 00:00Z' + n * interval '1 min',"
    "        n, 0, 0, now(), now()"
)
"""As code that is older writes, but for where n comes from."""


def found(
    service: Service, name: str, since: datetime = LONG_AGO, before: datetime = FAR_AHEAD
) -> list[Minute]:
    async def read() -> list[Minute]:
        async with Pools(service.config) as pools:
            return await minutes(pools.local, name, since, before)

    return asyncio.run(read())


def done(service: Service, name: str) -> tuple[int, int, int, int, int]:
    """Events, failures, retries, parked events and calls of all minutes."""
    rows = found(service, name)
    calls = sum((row.calls for row in rows), timing.NONE).calls
    return (
        sum(row.events for row in rows),
        sum(row.failures for row in rows),
        sum(row.retries for row in rows),
        sum(row.parked for row in rows),
        calls,
    )


def fail_at_3(event: RecordedEvent, context: Context) -> None:
    record(event, context)
    if event.data["n"] == 3:
        raise ValueError("a bug")


class InBatches:
    def handle(self, event: RecordedEvent, context: Context) -> None:
        raise AssertionError("it gets batches")

    def handle_batch(self, events: list[RecordedEvent], context: Context) -> None:
        for event in events:
            record(event, context)


@pytest.mark.parametrize("handler", [record, record_async])
def test_each_call_of_a_handler_is_timed(users: Service, handler: Any) -> None:
    users.consuming("reader", handler, STREAM, batch_size=2)
    users.append(STREAM, numbered(5))
    ended = users.run("reader")
    assert (ended.calls.calls, ended.batches.calls) == (5, 3)
    assert done(users, "reader") == (5, 0, 0, 0, 5)
    (row,) = found(users, "reader")[-1:]
    assert row.calls.sum_s == pytest.approx(ended.calls.sum_s)
    assert 0 < row.calls.sum_s <= row.busy_s
    assert row.calls.percentile(0.99) is not None
    assert (row.lag, row.behind_s) == (0, 0.0)


def test_only_events_that_the_handler_gets_are_calls(users: Service) -> None:
    users.consuming("reader", record, STREAM, event_types=frozenset({"Numbered"}))
    users.append(STREAM, [*numbered(2), *(Event("Other", {"n": n}) for n in range(7))])
    users.run("reader")
    assert done(users, "reader") == (9, 0, 0, 0, 2)


def test_a_batch_that_is_handled_at_once_is_one_call(users: Service) -> None:
    users.consuming("reader", InBatches(), STREAM, batch_size=2)
    users.append(STREAM, numbered(5))
    users.run("reader")
    assert done(users, "reader") == (5, 0, 0, 0, 3)


def test_a_ferry_has_batches_and_no_calls(users: Service) -> None:
    users.producing("ferry", STREAM)
    users.append(STREAM, numbered(5))
    ended = users.run("ferry")
    assert (ended.calls.calls, ended.batches.calls) == (0, 1)
    assert done(users, "ferry") == (5, 0, 0, 0, 0)


def test_calls_that_fail_are_timed_too(users: Service) -> None:
    users.consuming("reader", fail_at_3, STREAM)
    users.append(STREAM, numbered(5))
    users.run("reader")
    # three in the batch, and again one by one
    assert done(users, "reader") == (2, 1, 0, 0, 6)


def test_the_lag_of_what_has_failed_is_kept(users: Service) -> None:
    users.consuming("reader", fail_at_3, STREAM)
    users.append(STREAM, numbered(5))
    users.run("reader")
    row = found(users, "reader")[-1]
    assert row.lag == 3
    assert row.behind_s is not None
    assert row.behind_s > 0

    users.deploy("reader", record)
    users.retry()
    users.run("reader")
    row = found(users, "reader")[-1]
    assert (row.lag, row.behind_s) == (0, 0.0)


def test_retries_and_parked_events_are_counted(users: Service) -> None:
    users.consuming(
        "reader",
        fail_at_3,
        STREAM,
        attempts=3,
        backoff=timedelta(milliseconds=1),
        on_failure="park",
    )
    users.append(STREAM, numbered(2, entity_id="good"))
    users.append(STREAM, numbered(3, first=3, entity_id="bad"))
    users.run("reader")
    events, failures, retries, parked, _ = done(users, "reader")
    assert (events, failures, retries, parked) == (5, 3, 2, 3)


def test_what_a_run_has_done_before_an_outage_is_counted_once(users: Service) -> None:
    lost: list[int] = []

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] == 3 and not lost:
            lost.append(3)
            pid = context.connection.info.backend_pid
            query(users.local_url, "SELECT pg_terminate_backend(%s)", (pid,))
            context.connection.execute("SELECT 1")

    users.consuming("reader", handle, STREAM, batch_size=1)
    users.append(STREAM, numbered(5))
    ended = users.run("reader")
    assert lost
    assert users.recorded() == [1, 2, 3, 4, 5]
    assert ended.handled == 5
    assert done(users, "reader") == (5, 0, 0, 0, 6)


def test_what_can_not_be_written_is_kept(users: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.02)
    users.consuming("reader", record, STREAM)
    users.consuming("other", record, STREAM)
    users.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN RAISE 'no' USING ERRCODE = '57P01'; END$$;"
        " CREATE SEQUENCE refused; CREATE TRIGGER refuse BEFORE INSERT ON eventferry.statistics"
        " FOR EACH ROW WHEN (new.projection = 'reader' AND nextval('refused') > 0)"
        " EXECUTE FUNCTION refuse()"
    )

    def tries() -> int:
        ((count,),) = query(users.local_url, "SELECT last_value FROM refused")
        return int(count)

    with users.worker() as worker:
        for count in (2, 4):
            users.append(STREAM, numbered(2))
            worker.until_handled("reader", count)
            before = tries()
            until(lambda before=before: tries() > before, "it has tried")  # type: ignore[misc]
        users.execute("DROP TRIGGER refuse ON eventferry.statistics")
        until(lambda: done(users, "reader")[0] == 4, "it is written")
        until(lambda: done(users, "other")[0] == 4, "it is written")
    assert done(users, "reader")[4] == done(users, "other")[4] == 4


def test_minutes_are_between_two_times_and_in_order(users: Service) -> None:
    users.execute(
        ADD
        + " FROM generate_series(5, 0, -1) AS n, (VALUES ('reader'), ('other')) AS of (projection)"
    )
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    rows = found(users, "reader", begin + timedelta(minutes=1), begin + timedelta(minutes=4))
    assert [row.events for row in rows] == [1, 2, 3]
    assert rows[0].minute == begin + timedelta(minutes=1)
    # as an older version has written them
    assert (rows[0].calls, rows[0].lag, rows[0].retries) == (timing.NONE, None, 0)


def test_the_minutes_are_read_by_the_primary_key(users: Service) -> None:
    users.execute(
        ADD + " FROM generate_series(0, 999) AS n, generate_series(0, 9) AS of (projection)"
    )
    users.execute("ANALYZE eventferry.statistics")
    with psycopg.connect(users.local_url) as conn:
        plan = conn.execute(
            b"EXPLAIN " + sql.query("minutes").encode(),
            ("1", LONG_AGO, datetime(2020, 1, 1, 1, tzinfo=UTC)),
        ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "statistics_pkey" in text
    assert "Seq Scan" not in text


def test_who_rests_caught_up_writes_nothing(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.02)
    monkeypatch.setattr(presence, "REPORT_S", 0.04)
    users.consuming("reader", record, STREAM)
    users.consuming("failing", fail_at_3, STREAM)
    users.append(STREAM, numbered(3))
    for name in ("reader", "failing"):
        users.run(name)

    def written(name: str) -> list[Any]:
        """The versions of its rows."""
        return query(
            users.local_url,
            "SELECT minute, xmin::text FROM eventferry.statistics WHERE projection = %s",
            (name,),
        )

    before = written("reader")
    with users.worker() as worker:
        worker.until_asleep("reader")
        for _ in range(5):  # how far behind the other one is goes on to be told
            seen = written("failing")
            until(lambda seen=seen: written("failing") != seen, "its lag is written")  # type: ignore[misc]
    assert written("reader") == before
