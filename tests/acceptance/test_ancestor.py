"""What the ancestor was shown to do wrong, and must not happen here: the scenarios of the design.

The PHP stack whose behaviour eventferry ports was run, and each of these was seen (DESIGN §11).
Other tests go into the depth of each; here it stands as it happened there, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventferry import Context, End, Event, RecordedEvent
from tests.command_line import CommandLine
from tests.conftest import MakeService
from tests.services import NEVER, RunningWorker, Service, numbered, open_transactions, query, record
from tests.waiting import PATIENCE_S, until, wait_for_lock

STREAM = "users-stream"
ORDERS = "orders-stream"
GATE = 42
SCENARIOS = "ABCEFIJKLMNOPQRST"
ROUNDS = 60

CONFIGURATION = """
service = "users"
poll_interval = "100ms"

[consuming.mails]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
attempts = 1
handler_timeout = "200ms"
"""
FERRY = """
service = "users"
poll_interval = "100ms"

[producing.ferry]
stream_name = "users-stream"
"""
TWO_STREAMS = CONFIGURATION.replace('["users-stream"]', '["users-stream", "orders-stream"]')

HANDLERS = """
import os
import signal
from pathlib import Path

BUG = Path(__file__).with_name("bug")

def handle(event, context):
    if event.type == "Slow":
        context.connection.execute("SELECT pg_advisory_xact_lock_shared(42)")
    context.connection.execute(
        "INSERT INTO effects (projection, event_id, stream, position, n)"
        " VALUES (%s, %s, %s, %s, %s)",
        (context.projection, event.id, event.stream, event.position, event.data["n"]),
    )
    if event.type == "Poison" and BUG.exists():
        raise ValueError("a bug in the handler")
    if event.type == "Stop" and BUG.exists():
        BUG.unlink()
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("after it has asked to stop")
"""


@pytest.fixture
def users(make_service: MakeService) -> Service:
    service = make_service("users")
    service.create_stream(STREAM)
    service.create_effects()
    return service


@pytest.fixture
def commands(users: Service, tmp_path: Path) -> CommandLine:
    """The same service by its commands, with one consuming projection: `mails`."""
    commands = CommandLine(tmp_path, users.local_url, users.shared_url)
    commands.write(CONFIGURATION, HANDLERS)
    return commands


@pytest.fixture
def gate(users: Service) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Closed: who handles a `Slow` event waits inside of the batch. `rollback` opens it."""
    with psycopg.connect(users.local_url) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (GATE,))
        yield conn


@contextmanager
def open_append(users: Service, n: int) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that has appended, and stays open for the block."""
    with psycopg.connect(users.local_url) as conn:
        users.local.append(STREAM, numbered(1, n), connection=conn)
        yield conn


def until_looked(worker: RunningWorker) -> None:
    """Returns when the worker has had a look that began after this was called."""
    looks = len(worker.ended)
    until(lambda: len(worker.ended) > looks + 1, "the worker has looked")


def typed(*types: str, first: int = 1) -> list[Event]:
    return [Event(type_, {"n": n}) for n, type_ in enumerate(types, first)]


def status(commands: CommandLine, name: str = "mails") -> dict[str, Any]:
    found = commands("projections", "status", name, "--json").envelope["data"][0]
    assert isinstance(found, dict)
    return found


# ---- events that were lost


def test_an_event_of_a_transaction_that_stays_open_is_not_lost(users: Service) -> None:
    """(A) Later events commit first, and the reader is at them."""
    users.consuming("reader", record, STREAM)
    with users.worker("reader") as worker:
        for n in range(1, 30, 3):
            with open_append(users, n):
                users.append(STREAM, numbered(2, n + 1))
                until_looked(worker)
        until(lambda: len(users.recorded()) == 30, "all are handled")
    assert users.recorded() == list(range(1, 31))


def test_the_events_after_a_gap_are_not_lost(users: Service) -> None:
    """(B) One of them, and many, whose appends were rolled back."""
    users.consuming("reader", record, STREAM)
    with users.worker("reader") as worker:
        for gaps in (1, 500, 1):
            with open_append(users, 0) as conn:
                users.local.append(STREAM, numbered(gaps), connection=conn)
                users.append(STREAM, numbered(2))
                until_looked(worker)
                conn.rollback()
            users.append(STREAM, numbered(1, 3))
        until(lambda: len(users.recorded()) == 9, "all are handled")
    assert users.recorded() == [1, 2, 3] * 3


def test_a_rollback_does_not_stall_what_runs_on_demand(users: Service) -> None:
    """(C) Nobody polls: the append beside the rolled back one, and the next, wake the worker."""
    users.poll_interval = NEVER
    users.consuming("reader", record, STREAM)
    with users.worker("reader") as worker:
        worker.until_asleep("reader")
        with open_append(users, 0) as conn:
            users.append(STREAM, numbered(1))
            conn.rollback()
        until(lambda: users.recorded() == [1], "it does not wait for ever")
        worker.until_asleep("reader")
        users.append(STREAM, numbered(1, 2))
        until(lambda: users.recorded() == [1, 2], "nor for the next one")


def test_an_event_whose_handler_stops_and_then_raises_is_not_lost(
    users: Service, commands: CommandLine
) -> None:
    """(K) The run that ends by it does not take the event for handled."""
    commands.break_handler()
    users.append(STREAM, typed("Good", "Stop", "Good"))
    with commands.started("consuming", "start", "mails") as process:
        assert process.wait(PATIENCE_S) == 0
    assert not (commands.folder / "bug").exists(), "it has raised"
    assert 2 not in users.recorded()
    assert commands.process("worker", "--once").code == 0
    assert users.recorded() == [1, 2, 3]


def test_a_limit_never_gives_too_few_events(users: Service) -> None:
    """(I) Gaps in the positions are no events."""
    for n in range(1, 21):
        users.append(STREAM, numbered(1, n))
        with open_append(users, 0) as conn:
            users.local.append(STREAM, numbered(n % 5), connection=conn)
            conn.rollback()
    for limit in range(21):
        read = [event.data["n"] for event in users.local.read(STREAM, limit=limit)]
        assert read == list(range(1, limit + 1))


def test_the_second_of_two_triggers_is_not_left_undelivered(users: Service) -> None:
    """(T) Nobody polls, and the second one comes at any moment of the run after the first."""
    users.poll_interval = NEVER
    users.consuming("reader", record, STREAM)
    with users.worker("reader") as worker:
        worker.until_asleep("reader")
        for done in range(2, 2 * ROUNDS + 2, 2):
            users.append(STREAM, numbered(1, done - 1))
            users.append(STREAM, numbered(1, done))
            until(lambda d=done: len(users.recorded()) == d, f"both of round {done // 2}")  # type: ignore[misc]
    assert users.recorded() == list(range(1, 2 * ROUNDS + 1))


# ---- events that were handled twice


def test_two_runners_are_not_at_it_when_a_handler_takes_too_long(
    users: Service, commands: CommandLine, gate: psycopg.Connection[object]
) -> None:
    """(E) There is no lease that runs out: a second worker waits, however long the first takes."""
    users.append(STREAM, typed("Slow", "Slow"))
    with commands.started("worker"), commands.started("worker"):
        wait_for_lock(users.local_url)
        until(
            lambda: query(
                users.local_url,
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
                " AND xact_start < clock_timestamp() - interval '2 seconds'",
            ),
            "it takes ten times its time-out",
        )
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        assert query(users.local_url, waiting) == [(1,)]
        gate.rollback()
        until(lambda: len(users.recorded()) >= 2, "both are handled")
    assert users.recorded() == [1, 2]


def test_no_event_of_a_batch_is_handled_twice_after_kill_9(
    users: Service, commands: CommandLine, gate: psycopg.Connection[object]
) -> None:
    """(M) It has handled four of five, and dies at the last one."""
    users.append(STREAM, typed("Good", "Good", "Good", "Good", "Slow"))
    with commands.started("worker") as process:
        wait_for_lock(users.local_url)
        process.kill()
        process.wait(PATIENCE_S)
    gate.rollback()
    assert commands.process("worker", "--once").code == 0
    assert users.recorded() == [1, 2, 3, 4, 5]


def test_nothing_is_replayed_after_delete(users: Service, commands: CommandLine) -> None:
    """(L) Second half: who deletes it does not want all of it again, not even by cron."""
    users.append(STREAM, numbered(3))
    assert commands.process("worker", "--once").code == 0
    assert commands("projections", "delete", "mails", "--yes").code == 0
    users.append(STREAM, numbered(1, 4))
    commands.process("worker", "--once")
    assert commands.process("consuming", "start", "mails", "--until-idle").code == 1
    assert users.recorded() == [1, 2, 3]


# ---- readers that stood still


def test_stop_on_an_idle_projection_does_not_swallow_the_next_trigger(
    users: Service, commands: CommandLine
) -> None:
    """(L) First half: there is nothing to stop, so nothing is."""
    assert commands("consuming", "stop", "mails").code == 0
    users.append(STREAM, numbered(1))
    assert commands.process("worker", "--once").code == 0
    assert users.recorded() == [1]
    with commands.started("worker"):
        users.append(STREAM, numbered(1, 2))
        until(lambda: users.recorded() == [1, 2], "the worker is at it")
        assert commands("consuming", "stop", "mails").code == 0
        users.append(STREAM, numbered(1, 3))
        until(lambda: users.recorded() == [1, 2, 3], "and still is")


def test_a_projection_that_wants_few_events_is_not_stopped_by_the_others(users: Service) -> None:
    """(J) Whole batches are of other types."""
    users.consuming("reader", record, STREAM, event_types=frozenset({"Wanted"}), batch_size=3)
    users.append(STREAM, typed("Wanted", *["Other"] * 20, "Wanted", *["Other"] * 20))
    assert users.run("reader").end is End.CAUGHT_UP
    users.append(STREAM, typed("Wanted", first=43))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 22, 43]


def test_death_between_copying_an_event_and_saving_the_position_does_not_stop_a_ferry(
    users: Service, commands: CommandLine
) -> None:
    """(S) The events are in the shared stream, the checkpoint is not moved yet: kill -9."""
    commands.write(FERRY, HANDLERS)
    assert commands.process("worker", "--once").code == 0  # its checkpoint and its stream
    users.append(STREAM, numbered(3))
    with psycopg.connect(users.shared_url) as gate:
        gate.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$"
        )
        gate.execute(
            "CREATE TRIGGER wait BEFORE UPDATE OF position ON eventferry.checkpoints"
            " FOR EACH ROW EXECUTE FUNCTION wait()"
        )
        gate.commit()
        gate.execute("SELECT pg_advisory_xact_lock(%s)", (GATE,))
        with commands.started("worker") as process:
            wait_for_lock(users.shared_url)
            process.kill()
            process.wait(PATIENCE_S)
    assert commands.process("worker", "--once").code == 0
    assert [event.data["n"] for event in users.shared.read(STREAM)] == [1, 2, 3]
    users.append(STREAM, numbered(1, 4))
    assert commands.process("worker", "--once").code == 0
    assert [event.data["n"] for event in users.shared.read(STREAM)] == [1, 2, 3, 4]


# ---- what was said wrong, or not at all


def test_a_projection_that_a_poison_event_blocks_does_not_look_idle(
    users: Service, commands: CommandLine
) -> None:
    """(F) Its state, its error and its event are in the database."""
    commands.break_handler()
    users.append(STREAM, typed("Good", "Poison", "Good"))
    assert commands.process("worker", "--once").code == 1
    found = status(commands)
    assert (found["state"], found["failure"]["event_type"]) == ("failed", "Poison")
    assert found["failure"]["error"] == "ValueError: a bug in the handler"
    assert "in handle" in found["failure"]["traceback"]
    assert commands("projections", "status").code == 1
    started = commands.process("consuming", "start", "mails")
    assert (started.code, "a bug in the handler" in started.err) == (1, True)


def test_a_projection_does_not_stay_running_after_a_crash(
    users: Service, commands: CommandLine, gate: psycopg.Connection[object]
) -> None:
    """(N) Who runs is derived from what the runner holds, not from what it once wrote."""
    users.append(STREAM, typed("Slow"))
    with commands.started("consuming", "start", "mails") as process:
        wait_for_lock(users.local_url)
        assert status(commands)["state"] == "running"
        process.kill()
        process.wait(PATIENCE_S)
    gate.rollback()
    until(lambda: not open_transactions(users.local_url), "the server has noticed")
    assert status(commands)["state"] == "idle"
    assert commands.process("consuming", "start", "mails", "--until-idle").code == 0
    assert users.recorded() == [1]


def test_several_streams_do_not_come_in_the_order_of_the_writers_clocks(users: Service) -> None:
    """(O) Clocks go wrong, and a replay sees what was seen live: the order of the store."""
    users.create_stream(ORDERS)
    now = datetime.now(UTC)

    def append(n: int, stream: str, clock: timedelta) -> None:
        users.append(stream, Event("Told", {"n": n}, occurred_at=now + clock))

    def handler(event: RecordedEvent, context: Context) -> None:
        record(event, context)

    users.consuming("live", handler, STREAM, ORDERS)
    for n in range(1, 20, 2):
        append(n, STREAM, timedelta(minutes=-n))
        users.run("live")
        append(n + 1, ORDERS, timedelta(hours=-n))
        users.run("live")
    users.consuming("replay", handler, STREAM, ORDERS)
    users.run("replay")
    assert users.recorded("live") == users.recorded("replay") == list(range(1, 21))


def test_a_stream_that_is_taken_from_the_configuration_is_not_ignored(
    users: Service, commands: CommandLine
) -> None:
    """(P) What it has read is fixed; another wish is refused with the way out."""
    users.create_stream(ORDERS)
    commands.write(TWO_STREAMS, HANDLERS)
    users.append(ORDERS, numbered(1))
    assert commands.process("worker", "--once").code == 0
    commands.write(CONFIGURATION, HANDLERS)
    refused = commands.process("worker", "--once")
    assert refused.code == 1
    assert "projections remove-stream mails orders-stream" in " ".join(refused.err.split())
    assert commands("projections", "remove-stream", "mails", ORDERS, "--yes").code == 0
    users.append(ORDERS, numbered(1, 2))
    users.append(STREAM, numbered(1, 3))
    assert commands.process("worker", "--once").code == 0
    assert users.recorded() == [1, 3]


def test_the_events_of_a_stream_that_was_created_again_are_not_skipped_silently(
    users: Service, commands: CommandLine
) -> None:
    """(Q) Its positions go on behind the checkpoint, or before it: either way it is another one."""
    users.append(STREAM, numbered(3))
    assert commands.process("worker", "--once").code == 0
    users.execute('DROP TABLE streams."users-stream"')
    users.execute("DELETE FROM eventferry.streams WHERE name = 'users-stream'")
    users.create_stream(STREAM)
    users.append(STREAM, numbered(2, 4))
    assert commands.process("worker", "--once").code == 1
    found = status(commands)
    assert found["state"] == "failed"
    assert "dropped and created again" in found["failure"]["error"]
    assert commands.process("projections", "reset", "mails", "--to", "start", "--yes").code == 0
    assert commands.process("worker", "--once").code == 0
    assert users.recorded() == [1, 2, 3, 4, 5]


def test_a_stream_that_does_not_exist_is_not_passed_over_in_silence(
    users: Service, commands: CommandLine
) -> None:
    """(R) It is said which, and how to make it; and when it is there, it is read."""
    users.execute('DROP TABLE streams."users-stream"')
    users.execute("DELETE FROM eventferry.streams WHERE name = 'users-stream'")
    done = commands.process("consuming", "start", "mails", "--until-idle")
    assert done.code == 1
    assert "eventferry streams create users-stream" in " ".join(done.err.split())
    assert status(commands)["state"] == "waiting"
    users.create_stream(STREAM)
    users.append(STREAM, numbered(1))
    assert commands.process("consuming", "start", "mails", "--until-idle").code == 0
    assert users.recorded() == [1]


def test_no_scenario_is_left_out() -> None:
    tests: list[Callable[..., Any]] = [
        test for name, test in globals().items() if name.startswith("test_")
    ]
    named = [re.match(r"\((\w)\) ", test.__doc__ or "") for test in tests]
    assert {found[1] for found in named if found} == set(SCENARIOS)
