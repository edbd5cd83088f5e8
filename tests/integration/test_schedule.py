"""The long-running projections, a process each: what ends comes back, what is told to end does."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventferry import Event
from tests.command_line import PROGRAM, CommandLine
from tests.conftest import MakeService
from tests.processes import kill, running, working_in
from tests.services import Service, listeners, numbered, query
from tests.waiting import PATIENCE_S, until, wait_for_lock

STREAM = "users-stream"
GATE = 42

CONFIGURATION = """
service = "users"
poll_interval = "100ms"

[producing.ferry]
stream_name = "users-stream"
background_process = true

[consuming.mails]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
attempts = 1
background_process = true
"""
OTHERS = """
[consuming.others]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
attempts = 1
background_process = true
"""
HANDLERS = """
import os
from pathlib import Path

BUG = Path(__file__).with_name("bug")

def handle(event, context):
    if event.type == "Crash" and context.projection == "mails" and BUG.exists():
        os._exit(9)
    if event.type == "Slow":
        context.connection.execute("SELECT pg_advisory_xact_lock_shared(42)")
    context.connection.execute(
        "INSERT INTO handled (projection, n, pid) VALUES (%s, %s, %s)",
        (context.projection, event.data["n"], os.getpid()),
    )
"""
HANDLED = """
CREATE TABLE handled (
    place bigint GENERATED ALWAYS AS IDENTITY, projection text, n integer, pid integer
)"""


@pytest.fixture
def users(make_service: MakeService) -> Service:
    service = make_service("users")
    service.create_stream(STREAM)
    service.execute(HANDLED)
    return service


@pytest.fixture
def commands(users: Service, tmp_path: Path) -> CommandLine:
    """The same service by its commands."""
    commands = CommandLine(tmp_path, users.local_url, users.shared_url)
    commands.write(CONFIGURATION, HANDLERS)
    return commands


@pytest.fixture
def gate(users: Service) -> Iterator[psycopg.Connection[Any]]:
    """Closed: who handles a `Slow` event waits inside of the batch. `rollback` opens it."""
    with psycopg.connect(users.local_url) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (GATE,))
        yield conn


@contextmanager
def scheduled(commands: CommandLine, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A schedule; with the block, it and all of its processes have ended."""
    try:
        with commands.started("schedule", "run", *options) as schedule:
            yield schedule
    finally:
        until(lambda: not working_in(commands.folder), "nothing is left behind")


def ended(schedule: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[str, str]:
    """Ends it well; what it has said."""
    schedule.send_signal(number)
    out, err = schedule.communicate(timeout=PATIENCE_S)
    assert schedule.returncode == 0, err
    return out, err


def handled(users: Service, projection: str = "mails") -> list[int]:
    rows = query(
        users.local_url, "SELECT n FROM handled WHERE projection = %s ORDER BY place", (projection,)
    )
    return [row[0] for row in rows]


def until_handled(users: Service, upto: int, *projections: str) -> None:
    for projection in projections or ("mails",):
        wanted = list(range(1, upto + 1))
        until(lambda p=projection, w=wanted: handled(users, p) == w, f"{projection}: {upto}")  # type: ignore[misc]


def until_ferried(users: Service, upto: int) -> None:
    """The shared stream is made by the ferry's first run."""

    def numbers() -> list[int]:
        there = "SELECT FROM eventferry.streams WHERE name = %s"
        if not query(users.shared_url, there, (STREAM,)):
            return []
        return [event.data["n"] for event in users.shared.read(STREAM)]

    until(lambda: numbers() == list(range(1, upto + 1)), f"{upto} are ferried")


def pids(users: Service, projection: str) -> set[int]:
    """The processes that have handled events."""
    rows = query(
        users.local_url, "SELECT DISTINCT pid FROM handled WHERE projection = %s", (projection,)
    )
    return {row[0] for row in rows}


# ---- what ends comes back


def test_a_killed_projection_comes_back_and_goes_on(users: Service, commands: CommandLine) -> None:
    with scheduled(commands, "--json") as schedule:
        for n, words in enumerate([("consuming", "start", "mails"), ("producing", "start")], 1):
            users.append(STREAM, numbered(1, n))
            until_handled(users, n)
            until_ferried(users, n)
            kill(commands.folder, *words)
        users.append(STREAM, numbered(1, 3))
        until_handled(users, 3)
        until_ferried(users, 3)
        out, _ = ended(schedule)
    assert json.loads(out)["data"] == {
        "projections": [
            {"projection": "ferry", "starts": 2},
            {"projection": "mails", "starts": 2},
        ],
        "elsewhere": [],
    }


def test_one_that_crashes_again_and_again_does_not_touch_the_others(
    users: Service, commands: CommandLine
) -> None:
    commands.write(CONFIGURATION + OTHERS, HANDLERS)
    commands.break_handler()
    users.append(STREAM, [*numbered(1), Event("Crash", {"n": 2}), *numbered(1, 3)])
    with scheduled(commands) as schedule:
        until_handled(users, 3, "others")
        until(lambda: getattr(users.known("mails"), "state", None) == "failed", "it gives up")
        users.append(STREAM, numbered(1, 4))
        until_handled(users, 4, "others")
        assert handled(users) == [1]
        # it stands still, and waits to be retried, without another start
        until(lambda: running(commands.folder, "consuming", "start", "mails"), "it is back")
        commands.fix_handler()
        assert commands("projections", "retry", "mails").code == 0
        until_handled(users, 4)
        _, err = ended(schedule)
    assert len(pids(users, "others")) == 1
    assert err.count("projection mails: its process") >= 3
    assert "has ended with exit code 9; again in" in err


def test_a_stopped_projection_comes_back(users: Service, commands: CommandLine) -> None:
    with scheduled(commands) as schedule:
        users.append(STREAM, numbered(1))
        until_handled(users, 1)
        assert commands("consuming", "stop", "mails").code == 0
        users.append(STREAM, numbered(1, 2))
        until_handled(users, 2)
        _, err = ended(schedule)
    assert "has ended with exit code 0; again in" in err


def test_a_paused_projection_keeps_resting(users: Service, commands: CommandLine) -> None:
    with scheduled(commands, "--json") as schedule:
        users.append(STREAM, numbered(1))
        until_handled(users, 1)
        assert commands("projections", "pause", "mails", "--reason", "a rest").code == 0
        before = set(listeners(users.local_url))
        pid = kill(commands.folder, "consuming", "start", "mails")
        until(lambda: set(listeners(users.local_url)) - before, "it is back, and waits")
        users.append(STREAM, numbered(1, 2))
        until_ferried(users, 2)
        assert handled(users) == [1]
        assert commands("projections", "resume", "mails").code == 0
        until_handled(users, 2)
        out, _ = ended(schedule)
    assert pid in pids(users, "mails")
    assert json.loads(out)["data"]["projections"][1] == {"projection": "mails", "starts": 2}


# ---- one on a host


def test_a_second_one_ends_quietly_and_the_first_goes_on(
    users: Service, commands: CommandLine
) -> None:
    with scheduled(commands) as schedule:
        users.append(STREAM, numbered(1))
        until_handled(users, 1)
        for options in ((), ("--producing",), ("--consuming",)):
            done = commands.process("schedule", "run", *options)
            assert (done.code, done.out, done.err) == (0, "", "")
        done = commands.process("schedule", "run", "--json")
        assert done.envelope["data"] == {"projections": [], "elsewhere": ["ferry", "mails"]}
        done = commands.process("schedule", "run", "--log-level", "debug")
        assert "another schedule on this host keeps them running: ferry, mails" in done.err
        users.append(STREAM, numbered(1, 2))
        until_handled(users, 2)
        ended(schedule)
    assert len(pids(users, "mails")) == 1


def test_the_two_halves_run_beside_each_other(users: Service, commands: CommandLine) -> None:
    users.append(STREAM, numbered(1))
    with scheduled(commands, "--producing") as producing:
        until_ferried(users, 1)
        assert not running(commands.folder, "consuming", "start", "mails")
        with scheduled_beside(commands, "--consuming") as consuming:
            until_handled(users, 1)
            done = commands.process("schedule", "run", "--json")
            assert done.envelope["data"]["elsewhere"] == ["ferry", "mails"]
            ended(consuming)
        # one that is for both keeps what nobody keeps
        with scheduled_beside(commands, "--json") as rest:
            users.append(STREAM, numbered(1, 2))
            until_handled(users, 2)
            until_ferried(users, 2)
            assert len(running(commands.folder, "producing", "start", "ferry")) == 1
            out, _ = ended(rest)
        assert json.loads(out)["data"] == {
            "projections": [{"projection": "mails", "starts": 1}],
            "elsewhere": ["ferry"],
        }
        ended(producing)


@contextmanager
def scheduled_beside(commands: CommandLine, *options: str) -> Iterator[subprocess.Popen[str]]:
    with commands.started("schedule", "run", *options) as schedule:
        yield schedule


def test_a_folder_for_locks_that_is_somebody_elses_is_refused(
    commands: CommandLine, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        (tmp_path / "eventferry-0").symlink_to(elsewhere)
        (tmp_path / f"eventferry-{tmp_path.stat().st_uid}").unlink(missing_ok=True)
        (tmp_path / f"eventferry-{tmp_path.stat().st_uid}").symlink_to(elsewhere)
        done = commands.process("schedule", "run", TMPDIR=str(tmp_path))
    assert done.code == 2
    assert "it is somebody else's; remove it, or set TMPDIR" in done.err


# ---- how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_end_finishes_the_batches(
    users: Service, commands: CommandLine, gate: psycopg.Connection[Any], number: int
) -> None:
    users.append(STREAM, Event("Slow", {"n": 1}))
    with scheduled(commands) as schedule:
        wait_for_lock(users.local_url)
        schedule.send_signal(number)
        until(lambda: not running(commands.folder, "producing", "start"), "the idle one has ended")
        assert running(commands.folder, "consuming", "start", "mails")
        gate.rollback()
        assert schedule.wait(PATIENCE_S) == 0
    assert handled(users) == [1]


def test_who_is_told_twice_ends_at_once(
    users: Service, commands: CommandLine, gate: psycopg.Connection[Any]
) -> None:
    users.append(STREAM, Event("Slow", {"n": 1}))
    with scheduled(commands) as schedule:
        wait_for_lock(users.local_url)
        schedule.terminate()
        until(lambda: not running(commands.folder, "producing", "start"), "the idle one has ended")
        schedule.terminate()
        assert schedule.wait(PATIENCE_S) == 128 + signal.SIGTERM
        until(lambda: not working_in(commands.folder), "its processes have ended")
    assert handled(users) == []


def test_the_processes_of_a_killed_one_finish_their_batches_and_end(
    users: Service, commands: CommandLine, gate: psycopg.Connection[Any]
) -> None:
    users.append(STREAM, Event("Slow", {"n": 1}))
    with scheduled(commands) as schedule:
        wait_for_lock(users.local_url)
        schedule.kill()
        schedule.wait(PATIENCE_S)
        until(lambda: not running(commands.folder, "producing", "start"), "the idle one has ended")
        # the next minute's, beside what has not ended yet
        with scheduled_beside(commands) as following:
            until(lambda: running(commands.folder, "producing", "start"), "it has begun")
            gate.rollback()
            users.append(STREAM, numbered(1, 2))
            until_handled(users, 2)
            ended(following)
    assert handled(users) == [1, 2]


def test_whose_terminal_is_closed_finishes_the_batches(
    users: Service, commands: CommandLine
) -> None:
    users.append(STREAM, numbered(1))
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, "schedule", "run"],
        cwd=commands.folder,
        env=commands.environ,
        stdin=end,
        stderr=subprocess.DEVNULL,
    ) as schedule:
        try:
            os.close(end)
            until_handled(users, 1)
            os.close(terminal)
            schedule.send_signal(signal.SIGHUP)
            assert schedule.wait(PATIENCE_S) == 0
        finally:
            schedule.kill()
    assert working_in(commands.folder) == {}


# ---- what is on disk


def test_a_hangup_reads_the_configuration_again_once_the_batches_are_finished(
    users: Service, commands: CommandLine, gate: psycopg.Connection[Any]
) -> None:
    users.append(STREAM, Event("Slow", {"n": 1}))
    with scheduled(commands, "--json") as schedule:
        wait_for_lock(users.local_url)
        commands.write(CONFIGURATION + OTHERS, HANDLERS)
        schedule.send_signal(signal.SIGHUP)
        until(lambda: not running(commands.folder, "producing", "start"), "the idle one has ended")
        gate.rollback()
        users.append(STREAM, numbered(1, 2))
        until_handled(users, 2, "mails", "others")
        until_ferried(users, 2)
        out, _ = ended(schedule)
    assert len(pids(users, "mails")) == 2
    kept = json.loads(out)["data"]["projections"]
    assert [one["projection"] for one in kept] == ["ferry", "mails", "others"]


def test_after_a_deployment_a_restart_begins_anew(users: Service, commands: CommandLine) -> None:
    with scheduled(commands, "--json") as schedule:
        users.append(STREAM, numbered(1))
        until_handled(users, 1)
        until_ferried(users, 1)
        commands.write(CONFIGURATION + OTHERS, HANDLERS)
        assert commands("restart").code == 0
        users.append(STREAM, numbered(1, 2))
        until_handled(users, 2, "mails", "others")
        until_ferried(users, 2)
        out, _ = ended(schedule)
    assert len(pids(users, "mails")) == 2
    kept = json.loads(out)["data"]["projections"]
    assert [one["projection"] for one in kept] == ["ferry", "mails", "others"]


def test_a_hangup_to_a_wrong_configuration_changes_nothing(
    users: Service, commands: CommandLine
) -> None:
    with scheduled(commands) as schedule:
        users.append(STREAM, numbered(1))
        until_handled(users, 1)
        commands.write(CONFIGURATION.replace("stream_name =", "stream_nam ="), HANDLERS)
        schedule.send_signal(signal.SIGHUP)
        assert schedule.stderr is not None
        said = next(line for line in schedule.stderr if "not read again" in line)
        users.append(STREAM, numbered(1, 2))
        until_handled(users, 2)
        ended(schedule)
    assert "stream_nam" in said
    assert len(pids(users, "mails")) == 1


def test_a_wrong_configuration_is_said(commands: CommandLine) -> None:
    commands.write("service = 5", HANDLERS)

    done = commands.process("schedule", "run")

    assert (done.code, done.out) == (2, "")
    assert "projections.toml: service" in done.err


def test_where_there_is_nothing_to_keep_cron_has_nothing_to_mail(commands: CommandLine) -> None:
    commands.write(CONFIGURATION.replace("= true", "= false"), HANDLERS)

    done = commands.process("schedule", "run")
    as_json = commands.process("schedule", "run", "--json")
    told = commands.process("schedule", "run", "--log-level", "debug")

    assert (done.code, done.out, done.err) == (0, "", "")
    assert as_json.envelope["data"] == {"projections": [], "elsewhere": []}
    assert "projections.toml has no such projection with background_process = true" in told.err
