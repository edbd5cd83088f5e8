"""What a person does to a projection, where others run it meanwhile, or nobody ever has."""

from __future__ import annotations

import asyncio

import pytest

from eventferry.control import Control
from eventferry.ended import End, Ended
from eventferry.engine.context._sync import Context
from eventferry.errors import ProjectionError
from eventferry.event import RecordedEvent
from eventferry.history import Action, actions
from eventferry.pools import Pools
from eventferry.program import chosen
from eventferry.registry import Registry
from eventferry.run import Run
from eventferry.worker import Worker
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


@pytest.mark.parametrize("action", ["pause", "stop"])
def test_a_page_that_was_read_before_is_not_handled_after_it(users: Service, action: str) -> None:
    """Whatever a person says between two batches holds for the next one."""
    projection = users.consuming("reader", record, "a-stream", batch_size=2)
    users.append("a-stream", numbered(5))

    async def interrupted() -> Ended:
        async with Pools(users.config) as pools:
            await Registry(pools.local).register(projection)
            control = Control(pools=pools, projection=projection, who="a test")

            async def interrupt() -> None:
                await (control.pause("a look") if action == "pause" else control.stop())

            return await Run(pools=pools, projection=projection, on_backlog=interrupt)()

    ended = asyncio.run(interrupted())
    assert ended.end is (End.PAUSED if action == "pause" else End.STOPPED)
    assert users.recorded() == []


def test_a_start_that_finds_a_batch_busy_while_it_is_stopped_begins_no_other(
    users: Service,
) -> None:
    """The one that asks may be between its two steps just then: the next run must know as well."""
    users.append("a-stream", numbered(3))
    users.run("reader")
    users.control("reader", lambda it: it.stop())
    users.append("a-stream", numbered(3, 4))

    async def started_before() -> Ended:
        worker = Worker(config=users.config, projections=chosen(users.config), stops=0)
        return (await worker.run_until_idle())["reader"]

    assert asyncio.run(started_before()).end is End.STOPPED
    assert users.recorded() == [1, 2, 3]


def test_no_other_event_than_the_failing_one_is_skipped(users: Service) -> None:
    def fail(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] == 2:
            raise RuntimeError

    users.consuming("reader", fail, "a-stream")
    users.append("a-stream", numbered(3))
    users.run("reader")
    first, second, third = (event.id for event in users.local.read("a-stream"))
    for other in (first, third):
        with pytest.raises(ProjectionError, match=f"fails: that is {second}"):
            users.control("reader", lambda it, other=other: it.skip(other, "a mistake"))  # type: ignore[misc]
    assert users.run("reader").end is End.FAILED
    users.control("reader", lambda it: it.skip(second, "it is wrong"))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 3]


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
