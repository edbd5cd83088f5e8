"""What a person does to a projection, where others run it meanwhile, or nobody ever has."""

from __future__ import annotations

import asyncio

import pytest

from eventferry.engine._sync import Context
from eventferry.event import RecordedEvent
from eventferry.history import Action, actions
from eventferry.pools import Pools
from eventferry.run import End
from tests.conftest import MakeService
from tests.services import Service, numbered, record


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream("a-stream", "b-stream")
    loner.create_effects()
    loner.consuming("reader", record, "a-stream")
    return loner


def audit(service: Service) -> list[Action]:
    async def read() -> list[Action]:
        async with Pools(service.config) as pools:
            return await actions(pools, list(service.projections.values()), 100)

    return asyncio.run(read())


def test_batches_before_a_reset_are_no_deaths_after_it(users: Service) -> None:
    for n in range(1, 6):
        users.append("a-stream", numbered(1, n))
        assert users.run("reader").handled == 1

    users.control("reader", lambda it: it.reset("start"))

    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]


def test_who_runs_with_a_removed_stream_does_not_begin_it_again(users: Service) -> None:
    users.consuming("reader", record, "a-stream", "b-stream")
    users.append("a-stream", numbered(2))
    users.append("b-stream", numbered(2, 11))
    with users.running("reader") as look:
        assert look().handled == 4

        users.control("reader", lambda it: it.remove_stream("b-stream"))
        users.append("a-stream", numbered(1, 3))
        ended = look()

    assert (ended.end, ended.handled) == (End.WAITING, 0)
    assert "restart this process" in (ended.error or "")
    users.consuming("reader", record, "a-stream")
    assert users.run("reader").handled == 1
    assert sorted(users.recorded()) == [1, 2, 3, 11, 12]


def test_a_failing_event_goes_with_its_stream(users: Service) -> None:
    def fails_at_b(event: RecordedEvent, context: Context) -> None:
        assert event.stream != "b-stream"
        record(event, context)

    users.consuming("reader", fails_at_b, "a-stream", "b-stream")
    users.append("b-stream", numbered(1))
    assert users.run("reader").end is End.FAILED

    users.control("reader", lambda it: it.remove_stream("b-stream"))

    users.consuming("reader", fails_at_b, "a-stream")
    users.append("a-stream", numbered(1, 2))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [2]


def test_a_stream_that_is_added_before_the_first_run_begins_where_it_is_said(
    users: Service,
) -> None:
    users.append("a-stream", numbered(1))
    users.append("b-stream", numbered(1, 11))

    users.control("reader", lambda it: it.add_stream("b-stream", "now"))

    users.consuming("reader", record, "a-stream", "b-stream")
    users.append("b-stream", numbered(1, 12))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 12]


def test_a_checkpoint_that_is_held_without_a_pause_can_be_resumed(users: Service) -> None:
    users.run("reader")
    # as a `resume` leaves it that dies between two stores
    users.execute("UPDATE eventferry.checkpoints SET held = true")
    assert users.run("reader").end is End.PAUSED

    assert users.control("reader", lambda it: it.resume())

    assert users.run("reader").end is End.CAUGHT_UP
    assert not users.control("reader", lambda it: it.resume())


def test_a_retry_of_either_kind_is_in_the_audit(make_service: MakeService) -> None:
    users = make_service()
    users.create_stream("a-stream")
    users.producing("ferry", "a-stream")
    users.consuming("reader", _refuse, "a-stream")
    users.append("a-stream", numbered(1))
    assert users.run("reader").end is End.FAILED
    users.run("ferry")
    users.execute("UPDATE eventferry.projections SET state = 'failed' WHERE name = 'ferry'")

    assert users.retry() == ["ferry", "reader"]
    users.control("ferry", lambda it: it.pause("a look"))

    found = [(a.who, a.projection, a.action, a.reason) for a in audit(users)]
    assert found == [
        ("a test", "ferry", "pause", "a look"),
        ("a test", "reader", "retry", None),
        ("a test", "ferry", "retry", None),
    ]


def _refuse(event: object) -> None:
    raise ValueError("no")
