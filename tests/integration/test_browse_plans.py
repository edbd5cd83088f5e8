"""Whatever people look for, a bounded number of rows is read, and by indexes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventferry import browse
from eventferry.browse import _look
from eventferry.pools import Pools
from eventferry.store._native._async import numbered_cursor
from tests.plans import nodes, require_bounded, statements
from tests.services import Service

EVENTS = 20_000
LOOK = 500
START = datetime(2026, 1, 1, tzinfo=UTC)
Look = Callable[[Pools], Awaitable[Any]]


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """How the statements of `browse` on streams were executed."""
    seen: list[Any] = []
    ask = _look.asked

    async def explained(conn: Any, statement: bytes, *parameters: object) -> list[Any]:
        async with numbered_cursor(conn) as cursor:
            for step in statements(statement.decode(), parameters):
                await cursor.execute(step)
            ((plan,),) = await cursor.fetchall()
            seen.append(plan)
        return await ask(conn, statement, *parameters)

    for module in ("page", "event", "streams", "relation"):
        monkeypatch.setattr(f"eventferry.browse._{module}.asked", explained)
    monkeypatch.setattr("eventferry.browse._page.LOOK", LOOK)
    monkeypatch.setattr("eventferry.browse._relation.LOOK", LOOK)
    monkeypatch.setattr("eventferry.browse._relation.LOOK_BACK", LOOK)
    return seen


@pytest.fixture
def filled(loner: Service) -> Service:
    """Many events; one of `filled`'s entities has few of them, one many."""
    loner.create_stream("a-stream", "b-stream", "empty-stream")
    for stream in ("a-stream", "b-stream"):
        loner.execute(
            f"""INSERT INTO streams."{stream}" (type, entity_id, metadata, recorded_at)
                SELECT 'Type' || n %% 3,
                       CASE WHEN n %% 2 = 0 THEN 'frequent' ELSE (n / 40)::text END,
                       json_build_object('correlation_id', 'group-' || n / 5),
                       %s::timestamptz + n * interval '1 second'
                  FROM generate_series(1, %s) AS n""",
            (START, EVENTS),
        )
    loner.execute("ANALYZE")
    return loner


async def _newest(pools: Pools) -> browse.Found:
    newest = await browse.page(pools, "local", limit=1)
    found = await browse.event(pools, None, newest.events[0].id)
    assert found is not None
    return found


async def _related(pools: Pools) -> object:
    return await browse.related(pools, await _newest(pools))


async def _handled(pools: Pools) -> object:
    return await browse.handled_by(pools, await _newest(pools))


def pages(**asked: Any) -> list[Look]:
    return [
        lambda pools: browse.page(pools, "local", streams=["a-stream"], **asked),
        lambda pools: browse.page(pools, "local", **asked),
    ]


MIDDLE = START + timedelta(seconds=EVENTS // 2)
LOOKS: dict[str, list[Look]] = {
    "the newest": pages(),
    "before": pages(before=EVENTS),
    "after": pages(after=EVENTS),
    "a type": pages(types=["Type1"]),
    "a type that is not there": pages(types=["None"]),
    "an entity": pages(entity_id="7"),
    "an entity with many events": pages(entity_id="frequent", types=["None"]),
    "an entity that is not there": pages(entity_id="nobody"),
    "a time": pages(since=MIDDLE, until=MIDDLE + timedelta(minutes=5)),
    "a time and a type": pages(since=MIDDLE, types=["None"]),
    "streams": [lambda pools: browse.streams(pools, "local")],
    "an event": [_newest],
    "what belongs to it": [_related],
    "what was done with it": [_handled],
}


@pytest.mark.parametrize("what", LOOKS)
def test_no_more_is_read_than_is_to_be_looked_at(
    filled: Service, plans: list[Any], what: str
) -> None:
    async def look() -> None:
        async with Pools(filled.config) as pools:
            for one in LOOKS[what]:
                await one(pools)

    asyncio.run(look())
    assert plans
    for plan in plans:
        require_bounded(plan, 2 * (LOOK + 2))


def test_an_index_of_the_owner_is_used(filled: Service, plans: list[Any]) -> None:
    filled.execute("""CREATE INDEX mine ON streams."a-stream" ((metadata ->> 'correlation_id'))""")
    filled.execute("ANALYZE")

    async def look() -> None:
        async with Pools(filled.config) as pools:
            await _related(pools)

    asyncio.run(look())
    used = {node.get("Index Name") for plan in plans for node in nodes(json.loads(plan)[0]["Plan"])}
    assert "mine" in used
