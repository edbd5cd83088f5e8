"""Failures, parked events and what somebody has done, for people who look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
import pytest

from eventferry import Event, browse, sql
from eventferry.browse import _audit, _failures
from eventferry.engine.context._sync import Context
from eventferry.event import RecordedEvent
from eventferry.pools import Pools
from tests.conftest import MakeService
from tests.plans import require_bounded, statements
from tests.services import Service, numbered

T = TypeVar("T")
MANY = 20_000


def looked(service: Service, look: Callable[[Pools], Awaitable[T]]) -> T:
    async def looking() -> T:
        async with Pools(service.config) as pools:
            return await look(pools)

    return asyncio.run(looking())


def refuse(event: RecordedEvent, context: Context) -> None:
    if event.type == "Odd":
        raise KeyError("another")
    raise ValueError(f"no {event.data['n']}")


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream("a-stream")
    loner.consuming("one", refuse, "a-stream", on_failure="park", storm=1000)
    loner.consuming("two", refuse, "a-stream", on_failure="park", storm=1000)
    return loner


@pytest.fixture
def parked(users: Service) -> Service:
    """Each projection has parked six events with two errors; and one that waits behind the last."""
    users.append(
        "a-stream", [*numbered(5), Event("Odd", entity_id="x"), Event("Late", entity_id="x")]
    )
    for name in ("one", "two"):
        users.look(name)
    return users


def test_failures_that_are_alike_are_one_group(parked: Service) -> None:
    projections = list(parked.projections.values())
    odd, common = looked(parked, lambda pools: browse.alike_failures(pools, projections))
    assert (odd.count, common.count) == (2, 10)
    assert odd.example.error == "KeyError: 'another'"
    assert common.example.error == "ValueError: no 5"
    assert common.projections == ("one", "two")
    assert common.first_at < common.last_at


def test_parked_events_are_grouped_by_their_error_and_counted(parked: Service) -> None:
    common, odd = looked(parked, browse.alike_parked)
    assert (common.events, odd.events) == (10, 2)
    assert (common.error, common.projections) == ("ValueError: no 1", ("one", "two"))
    assert "refuse" in common.traceback
    failures = looked(
        parked, lambda pools: browse.alike_failures(pools, list(parked.projections.values()))
    )
    assert {f.fingerprint for f in failures} == {common.fingerprint, odd.fingerprint}


def parked_pages(service: Service, **asked: Any) -> list[browse.ParkedPage]:
    pages = [looked(service, lambda pools: browse.parked_page(pools, **asked))]
    while (after := pages[-1].following) is not None:
        pages.append(looked(service, lambda pools: browse.parked_page(pools, after=after, **asked)))
    return pages


def test_parked_events_come_page_by_page(parked: Service) -> None:
    pages = parked_pages(parked, limit=5)
    assert [len(page.parked) for page in pages] == [5, 5, 4]
    assert {page.count for page in pages} == {14}
    found = [(p.projection, p.position) for page in pages for p in page.parked]
    assert found == [(name, n) for name in ("one", "two") for n in range(1, 8)]
    assert [p.error is None for p in pages[-1].parked] == [False, False, False, True]


def test_parked_events_are_found_by_projection_type_and_error(parked: Service) -> None:
    (page,) = parked_pages(parked, projection="two")
    assert (len(page.parked), page.count) == (7, 7)
    (page,) = parked_pages(parked, type="Odd")
    assert [p.event_type for p in page.parked] == ["Odd", "Odd"]
    _common, odd = looked(parked, browse.alike_parked)
    (page,) = parked_pages(parked, fingerprint=odd.fingerprint)
    assert ([p.event_type for p in page.parked], page.count) == (["Odd", "Odd"], 2)
    (page,) = parked_pages(parked, fingerprint=odd.fingerprint, projection="one")
    assert [p.projection for p in page.parked] == ["one"]


def test_a_parked_event_that_fails_otherwise_has_another_fingerprint(parked: Service) -> None:
    def otherwise(event: RecordedEvent, context: Context) -> None:
        raise TypeError("something else")

    parked.deploy("one", otherwise)
    parked.control("one", lambda it: it.unpark())
    groups = looked(parked, browse.alike_parked)
    assert [(g.events, g.error.partition(":")[0]) for g in groups] == [
        (6, "TypeError"),
        (5, "ValueError"),
        (1, "KeyError"),
    ]


def test_who_looks_for_a_rare_type_of_parked_events_is_told_where_to_go_on(
    parked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_failures, "PARKED_LOOKED_AT", 4)
    pages = parked_pages(parked, type="Odd")
    assert [len(page.parked) for page in pages] == [0, 1, 0, 1]
    assert [page.looked_at for page in pages] == [4, 4, 4, 2]


def audit_pages(service: Service, **asked: Any) -> list[browse.ActionPage]:
    pages = [looked(service, lambda pools: browse.action_page(pools, **asked))]
    while (before := pages[-1].older) is not None:
        pages.append(
            looked(service, lambda pools: browse.action_page(pools, before=before, **asked))
        )
    return pages


@pytest.fixture
def audited(make_service: MakeService) -> Service:
    """Lines in both stores, in turns: so the order is that of time."""
    users = make_service("users")
    users.create_stream("a-stream")
    for name, url in [("one", users.local_url), ("ferry", users.shared_url)] * 4:
        for action in ("pause", "resume"):
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute(
                    """INSERT INTO eventferry.audit (who, service, projection, action)
                       VALUES ('ada', 'users', %s, %s), ('grace', 'another', %s, %s)""",
                    (name, action, name, action),
                )
    return users


EXPECTED = [("one", "pause"), ("one", "resume"), ("ferry", "pause"), ("ferry", "resume")] * 4


@pytest.mark.parametrize("limit", [1, 3, 4, 16, 50])
@pytest.mark.parametrize("look", [3, 20_000])
def test_the_audit_of_both_stores_is_one(
    audited: Service, limit: int, look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_audit, "AUDIT_LOOKED_AT", look)
    pages = audit_pages(audited, limit=limit)
    found = [(a.projection, a.action) for page in pages for a in page.actions]
    assert found == EXPECTED[::-1]
    assert all(len(page.actions) <= limit for page in pages)


def test_the_audit_is_filtered(audited: Service) -> None:
    def actions(**asked: str) -> list[tuple[str, str]]:
        (page,) = audit_pages(audited, **asked)
        return [(a.projection, a.action) for a in page.actions]

    assert actions(projection="ferry") == [("ferry", "resume"), ("ferry", "pause")] * 4
    assert actions(action="pause", projection="one") == [("one", "pause")] * 4
    assert len(actions(who="ada")) == 16
    assert actions(who="grace") == []  # another service's


@pytest.fixture
def crowded(loner: Service) -> Service:
    """A store in which much has gone wrong."""
    loner.execute(
        """INSERT INTO eventferry.parked_events (projection, stream, position, event_id,
                  event_type, attempts, error, traceback, fingerprint)
           SELECT 'p' || n %% 3, 'a-stream', n, gen_random_uuid(), 'Type', 1, 'Error: no',
                  repeat('x', 2000), CASE WHEN n = 7 THEN 'rare' ELSE 'common' END
             FROM generate_series(1, %s) AS n""",
        (MANY,),
    )
    loner.execute(
        """INSERT INTO eventferry.audit (who, service, projection, action)
           SELECT 'ada', 'users', 'p', 'pause' FROM generate_series(1, %s)""",
        (MANY,),
    )
    loner.execute(
        """INSERT INTO eventferry.failures
                  (projection, attempt, error_type, error, traceback, gave_up)
           SELECT 'p' || n %% 200, 1, 'Error', 'Error: no', repeat('x', 2000), true
             FROM generate_series(1, %s) AS n""",
        (MANY,),
    )
    loner.execute("ANALYZE")
    return loner


AUDIT = {"service": "users", "who": None, "action": None, "projection": None, "limit": 51}
QUERIES: dict[str, tuple[str, Any]] = {
    "errors": ("parked_alike", {"groups": 100, "count": 500}),
    "failures": ("latest_failures", (["p1", "p2"], 100, 200)),
    "audit": ("audit_page", AUDIT | {"at": None, "id": None, "look": 500}),
    "skips": ("skipped", {"service": "users", "projections": ["p"], "limit": 500, "event": ""}),
}


@pytest.mark.parametrize("what", QUERIES)
def test_no_more_is_read_than_is_to_be_looked_at(crowded: Service, what: str) -> None:
    name, parameters = QUERIES[what]
    bounded(crowded, sql.query(name), parameters)


@pytest.mark.parametrize("projection", [None, "p1"])
@pytest.mark.parametrize("fingerprint", [None, "common", "rare"])
def test_no_more_parked_events_are_read_than_are_to_be_looked_at(
    crowded: Service, projection: str | None, fingerprint: str | None
) -> None:
    for after in (None, ("p1", MANY // 2, "a-stream")):
        for name in ("parked_page", "count_parked_upto"):
            query, parameters = _failures.parked_query(name, projection, fingerprint, after)
            asked = {"type": "None", "look": 500, "limit": 51}
            bounded(crowded, query.as_string(), parameters | asked)


def bounded(service: Service, query: str, parameters: Any) -> None:
    with psycopg.connect(service.local_url) as conn:
        conn.execute(sql.query("look_carefully"))
        for statement in statements(query, parameters):
            cursor = conn.execute(statement)
        ((explained,),) = cursor.fetchall()
    require_bounded(explained, 600)
