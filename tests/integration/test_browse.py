"""Streams and events for people who look."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest

from eventferry import Event, browse
from eventferry.browse import _page
from eventferry.engine.context._sync import Context
from eventferry.errors import InvalidStreamName, UnknownStream
from eventferry.event import RecordedEvent
from eventferry.pools import Pools
from tests.conftest import MakeService
from tests.services import Service, numbered, record

T = TypeVar("T")

START = datetime(2026, 1, 1, tzinfo=UTC)


def looked(service: Service, look: Callable[[Pools], Awaitable[T]]) -> T:
    async def looking() -> T:
        async with Pools(service.config) as pools:
            return await look(pools)

    return asyncio.run(looking())


def page(service: Service, environment: str = "local", **asked: Any) -> browse.Page:
    return looked(service, lambda pools: browse.page(pools, environment, **asked))


def numbers(found: browse.Page) -> list[int]:
    return [int((event.data_json or "").partition(":")[2].strip(" }")) for event in found.events]


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream("a-stream", "b-stream")
    return loner


def append_hourly(service: Service, stream: str, count: int) -> None:
    """One event an hour."""
    service.execute(
        f"""INSERT INTO streams."{stream}" (type, entity_id, data, recorded_at)
            SELECT 'Type' || n %% 3, 'entity-' || n %% 5, json_build_object('n', n),
                   %s::timestamptz + n * interval '1 hour'
              FROM generate_series(1, %s) AS n""",
        (START, count),
    )


def test_the_newest_come_first_and_pages_lead_to_each_other(users: Service) -> None:
    users.append("a-stream", numbered(3))
    users.append("b-stream", numbered(3, 4))
    users.append("a-stream", numbered(1, 7))

    newest = page(users, limit=3)
    assert numbers(newest) == [7, 6, 5]
    assert [event.stream for event in newest.events] == ["a-stream", "b-stream", "b-stream"]
    assert newest.newer is None
    assert not newest.is_exhausted

    older = page(users, limit=3, before=newest.older)
    assert numbers(older) == [4, 3, 2]
    last = page(users, limit=3, before=older.older)
    assert (numbers(last), last.older, last.is_exhausted) == ([1], None, True)

    back = page(users, limit=3, after=last.newer)
    assert numbers(back) == [4, 3, 2]
    assert numbers(page(users, limit=3, before=back.older)) == [1]
    end = page(users, limit=3, after=back.newer)
    assert (numbers(end), end.newer, end.is_exhausted) == ([7, 6, 5], None, True)


def test_a_page_of_one_stream_has_no_other_ones_events(users: Service) -> None:
    users.append("a-stream", numbered(2))
    users.append("b-stream", numbered(2, 3))
    assert numbers(page(users, streams=["a-stream"])) == [2, 1]
    with pytest.raises(UnknownStream, match="has no stream 'c-stream'"):
        page(users, streams=["c-stream"])
    with pytest.raises(InvalidStreamName):
        page(users, streams=['a"; DROP'])


def test_an_empty_store_has_an_empty_page(users: Service) -> None:
    empty = page(users)
    assert (empty.events, empty.older, empty.newer, empty.looked_at) == ([], None, None, 0)
    assert empty.is_exhausted


def test_what_is_behind_an_open_append_is_not_shown_yet(users: Service) -> None:
    users.append("a-stream", numbered(1))
    with psycopg.connect(users.local_url) as conn:
        conn.execute("""INSERT INTO streams."a-stream" (type, data) VALUES ('Open', '{"n": 2}')""")
        users.append("b-stream", numbered(1, 3))
        found = page(users)
        assert numbers(found) == [1]
        assert found.in_flight == 1
        assert found.horizon == found.events[0].position
    assert numbers(page(users)) == [3, 2, 1]


def test_filters_by_type_entity_and_time(users: Service) -> None:
    append_hourly(users, "a-stream", 20)
    append_hourly(users, "b-stream", 3)
    assert numbers(page(users, types=["Type1"], streams=["a-stream"])) == [19, 16, 13, 10, 7, 4, 1]
    assert numbers(page(users, entity_id="entity-2")) == [2, 17, 12, 7, 2]
    assert numbers(page(users, entity_id="entity-2", types=["Type2"])) == [2, 17, 2]
    asked: dict[str, Any] = {
        "since": START + timedelta(hours=5),
        "until": START + timedelta(hours=8),
        "streams": ["a-stream"],
    }
    window = page(users, **asked)
    assert numbers(window) == [7, 6, 5]
    assert window.is_exhausted
    first = page(users, limit=2, **asked)
    assert numbers(page(users, limit=2, before=first.older, **asked)) == [5]
    assert page(users, since=START + timedelta(days=9)).events == []


def test_who_finds_nothing_in_what_he_may_look_at_is_told_where_to_go_on(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_page, "LOOK", 10)
    append_hourly(users, "a-stream", 25)
    users.append("a-stream", Event("Rare", {"n": 26}))
    append_hourly(users, "b-stream", 24)

    found: list[int] = []
    before, steps = None, 0
    while not found:
        looked_at = page(users, types=["Rare"], before=before)
        assert looked_at.looked_at == 10
        assert not looked_at.is_exhausted
        found, before, steps = numbers(looked_at), looked_at.older, steps + 1
    assert (found, steps) == ([26], 3)
    # upwards too
    up = page(users, types=["Rare"], after=0)
    assert (up.events, up.newer, up.is_exhausted) == ([], 10, False)


def test_an_entity_with_too_many_events_is_looked_for_by_position(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_page, "LOOK", 4)
    append_hourly(users, "a-stream", 30)
    few = page(users, entity_id="entity-2", limit=1)
    assert (numbers(few), few.is_exhausted) == ([27], False)
    assert few.looked_at == 4


def test_large_json_is_left_out_of_a_page_but_not_of_the_event(users: Service) -> None:
    text = "".join(map(str, range(5_000)))
    users.append("a-stream", Event("Large", {"text": text}))
    (summary,) = page(users).events
    assert summary.data_json is None
    found = looked(users, lambda pools: browse.event(pools, None, summary.id))
    assert found is not None
    assert found.event.data == {"text": text}


def test_a_time_without_a_zone_and_two_directions_are_refused(users: Service) -> None:
    with pytest.raises(ValueError, match="since needs a time zone"):
        page(users, since=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="before a position or after one"):
        page(users, before=1, after=1)


def test_streams_are_listed_with_what_is_cheap_to_know(users: Service) -> None:
    users.append("a-stream", numbered(3))
    users.execute('ANALYZE streams."a-stream"')
    a, b = looked(users, lambda pools: browse.streams(pools, "local"))
    assert (a.name, a.owner, a.events, a.head, a.may_read) == ("a-stream", "users", 3, 3, True)
    assert a.bytes is not None
    assert a.bytes > 0
    assert a.last_at is not None
    assert (b.events, b.head, b.last_at) == (0, None, None)


def test_what_a_role_may_not_read_is_listed_and_left_out(users: Service) -> None:
    users.append("a-stream", numbered(1))
    users.append("b-stream", numbered(1, 2))
    users.execute("""
        DO $$ BEGIN
            CREATE ROLE half_blind LOGIN;
        EXCEPTION WHEN duplicate_object THEN NULL; END $$""")
    users.execute("""
        GRANT USAGE ON SCHEMA eventferry, streams TO half_blind;
        GRANT SELECT ON ALL TABLES IN SCHEMA eventferry TO half_blind;
        GRANT SELECT ON streams."b-stream" TO half_blind""")
    users.local_url = users.shared_url = users.local_url.replace("postgres@", "half_blind@")
    a, b = looked(users, lambda pools: browse.streams(pools, "local"))
    assert (a.may_read, a.head, b.may_read, b.head) == (False, None, True, 2)
    assert numbers(page(users)) == [2]


@pytest.fixture
def landscape(make_service: MakeService) -> tuple[Service, Service]:
    """users ferries to the shared store, mail reads that."""
    users, mail = make_service("users"), make_service("mail")
    users.create_stream("a-stream")
    users.producing("ferry", "a-stream")
    mail.create_stream("mail-stream")
    mail.create_effects()
    mail.consuming("mails", record, "a-stream", environment="shared")
    return users, mail


def test_an_event_is_found_in_both_stores(landscape: tuple[Service, Service]) -> None:
    users, mail = landscape
    users.append("a-stream", numbered(2))
    (local, _) = page(users).events
    alone = looked(users, lambda pools: browse.event(pools, None, local.id))
    assert alone is not None
    assert [place.environment for place in alone.places] == ["local"]
    users.run("ferry")
    both = looked(users, lambda pools: browse.event(pools, None, local.id))
    assert both is not None
    assert both.event.data_json == local.data_json
    assert [(p.environment, p.stream, p.position) for p in both.places] == [
        ("local", "a-stream", 2),
        ("shared", "a-stream", 2),
    ]
    theirs = looked(mail, lambda pools: browse.event(pools, None, local.id))
    assert theirs is not None
    assert [place.environment for place in theirs.places] == ["shared"]
    assert theirs.event.source == "users"
    nothing = looked(users, lambda pools: browse.event(pools, None, UUID(int=7)))
    assert nothing is None
    in_stream = looked(
        users, lambda pools: browse.event(pools, "shared", local.id, stream="a-stream")
    )
    assert in_stream is not None


def handling(service: Service, event_id: UUID) -> dict[str, str]:
    async def look(pools: Pools) -> dict[str, str]:
        found = await browse.event(pools, None, event_id)
        assert found is not None
        return {h.projection: h.outcome for h in await browse.handled_by(pools, found)}

    return looked(service, look)


def refuse(event: RecordedEvent, context: Context) -> None:
    raise ValueError(f"no {event.data['n']}")


def test_what_projections_have_done_with_an_event(users: Service) -> None:
    users.create_effects()
    users.consuming("reader", record, "a-stream")
    users.consuming("never", record, "a-stream")
    users.consuming("other", record, "b-stream")
    users.consuming("picky", record, "a-stream", event_types=frozenset({"Else"}))
    users.consuming("late", record, "a-stream", start="now")
    users.consuming("failing", refuse, "a-stream")
    users.consuming("parking", refuse, "a-stream", on_failure="park")
    users.consuming("skipping", refuse, "a-stream", on_failure="skip")
    users.append("a-stream", [Event("Numbered", {"n": 1}, entity_id="x") for _ in range(2)])
    for name in ("reader", "picky", "late", "failing", "parking", "skipping"):
        users.look(name)
    second, first = page(users).events
    assert handling(users, first.id) == {
        "reader": "handled",
        "never": "not yet",
        "picky": "not wanted",
        "late": "before its start",
        "failing": "failing",
        "parking": "parked",
        "skipping": "skipped",
    }
    assert handling(users, second.id)["parking"] == "waiting"
    assert handling(users, second.id)["failing"] == "not yet"


def test_of_other_services_what_they_have_reported_is_known(
    landscape: tuple[Service, Service],
) -> None:
    users, mail = landscape
    users.append("a-stream", numbered(1))
    (summary,) = page(users).events
    assert handling(users, summary.id) == {"ferry": "not yet"}
    users.run("ferry")
    report(mail, "mails", lag=1, behind_s=3600.0)
    assert handling(users, summary.id) == {"ferry": "ferried", "mails": "not known"}
    assert handling(mail, summary.id)["mails"] == "not yet"
    mail.run("mails")
    report(mail, "mails", lag=0, behind_s=0.0, later="1 hour")
    assert handling(users, summary.id) == {"ferry": "ferried", "mails": "passed"}
    assert handling(mail, summary.id)["mails"] == "handled"


def report(
    service: Service, projection: str, *, lag: int, behind_s: float, later: str = "0 s"
) -> None:
    with psycopg.connect(service.shared_url, autocommit=True) as conn:
        conn.execute("DELETE FROM eventferry.reports")
        conn.execute(
            """INSERT INTO eventferry.reports
                      (service, projection, kind, environment, streams, mode, state,
                       lag, behind_s, version, reported_at)
               VALUES (%s, %s, 'consuming', 'shared', '{a-stream}', 'on demand', 'idle',
                       %s, %s, '1', clock_timestamp() + %s::interval)""",
            (service.name, projection, lag, behind_s, later),
        )


def relation(
    service: Service, event_id: UUID, after: dict[str, int] | None = None
) -> browse.Related:
    async def look(pools: Pools) -> browse.Related:
        found = await browse.event(pools, None, event_id)
        assert found is not None
        return await browse.related(pools, found, after=after)

    return looked(service, look)


def test_the_tree_of_what_caused_what_goes_across_streams_and_stores(
    landscape: tuple[Service, Service],
) -> None:
    users, mail = landscape

    def answer(event: RecordedEvent, context: Context) -> None:
        for n in (10, 11):
            context.append("mail-stream", Event("Mailed", {"n": n}))

    mail.consuming("mails", answer, "a-stream", environment="shared")
    users.append("a-stream", [*numbered(2), Event("Nul", {}, metadata={"no": "a"})])
    users.execute(
        """INSERT INTO streams."a-stream" (type, metadata) VALUES ('Nul', '{"x": "\\u0000"}')"""
    )
    users.run("ferry")
    mail.run("mails")
    first = page(users).events[-1]
    in_mail = relation(mail, first.id)
    assert [(r.depth, r.event.type) for r in in_mail.events] == [
        (0, "Numbered"),
        (1, "Mailed"),
        (1, "Mailed"),
    ]
    assert in_mail.correlation_id == str(first.id)
    assert in_mail.further == ()
    mailed = in_mail.events[1]
    from_below = relation(mail, mailed.event.id)
    assert [r.event.id for r in from_below.events] == [r.event.id for r in in_mail.events]
    assert from_below.missing_cause is None
    assert [p.environment for p in relation(users, first.id).events[0].places] == [
        "local",
        "shared",
    ]


def test_what_was_not_looked_at_can_be(users: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventferry.browse._relation.LOOK", 5)
    root = Event("Root", {"n": 0})
    users.append("a-stream", root)
    users.append("a-stream", numbered(6))
    users.append("b-stream", Event("Effect", metadata={"causation_id": str(root.id)}))
    found = relation(users, root.id)
    assert [r.event.type for r in found.events] == ["Root"]
    assert found.looked_at == 5
    (further,) = found.further
    rest = relation(users, root.id, {further.environment: further.after})
    assert [(r.depth, r.event.type) for r in rest.events] == [(0, "Root"), (1, "Effect")]
    assert rest.further == ()


def test_an_index_of_the_owner_is_used_however_far_the_events_are(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventferry.browse._relation.LOOK", 5)
    root = Event("Root", {"n": 0})
    users.append("a-stream", root)
    users.append("b-stream", numbered(20))
    users.append("a-stream", Event("Far", metadata={"correlation_id": str(root.id)}))
    assert len(relation(users, root.id).events) == 1
    users.execute("""CREATE INDEX ON streams."a-stream" ((metadata ->> 'correlation_id'))""")
    assert [r.event.type for r in relation(users, root.id).events] == ["Root", "Far"]


def test_a_cause_that_is_nowhere_and_causes_in_a_circle_are_said(users: Service) -> None:
    gone = Event("Gone")
    one, two = Event("One"), Event("Two")
    one = Event("One", id=one.id, metadata={"causation_id": str(two.id), "correlation_id": "c"})
    two = Event("Two", id=two.id, metadata={"causation_id": str(one.id), "correlation_id": "c"})
    orphan = Event("Orphan", metadata={"causation_id": str(gone.id)})
    users.append("a-stream", [one, two, orphan])
    assert relation(users, orphan.id).missing_cause == str(gone.id)
    circle = relation(users, one.id)
    assert {r.event.type for r in circle.events} == {"One", "Two"}
    assert circle.correlation_id == "c"
