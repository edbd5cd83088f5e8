"""Running projections, seeing how they are, and retrying them, by the command line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.command_line import CONFIGURATION, CommandLine, Done, cloud_event
from tests.conftest import MakeDatabase
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    return CommandLine(tmp_path, make_database("local", "users"), make_database("shared")).ready()


def append(users: CommandLine, *numbers: int, poison: int = 0, environment: str = "local") -> None:
    lines = [cloud_event(n, "Poison" if n == poison else "UserRegistered") for n in numbers]
    done = users(
        "events", "append", "users-stream", "--environment", environment, stdin="\n".join(lines)
    )
    assert done.code == 0, done


def status(users: CommandLine, name: str) -> dict[str, Any]:
    found = users("projections", "status", name, "--json").envelope["data"][0]
    assert isinstance(found, dict)
    return found


@contextmanager
def ended_by(process: Any, number: int) -> Iterator[None]:
    yield
    process.send_signal(number)
    assert process.wait(PATIENCE_S) == 0


def fail(users: CommandLine) -> Done:
    """The third of four events is poison for the mails."""
    users.break_handler()
    append(users, 1, 2, 3, 4, poison=3, environment="shared")
    return users.process("consuming", "start", "mails-projection", "--until-idle")


def test_events_cross_by_two_commands(users: CommandLine) -> None:
    append(users, 1, 2, 3)

    produced = users.process("producing", "start", "users-projection", "--until-idle", "--json")
    consumed = users.process("worker", "--once", "--background", "--json")

    assert produced.envelope["data"] == [
        {"projection": "users-projection", "handled": 3, "ended": "caught up"}
    ]
    assert {(p["projection"], p["handled"]) for p in consumed.envelope["data"]} == {
        ("users-projection", 0),
        ("mails-projection", 3),
        ("long-projection", 3),
    }
    assert "mails-projection handled 3 events" in consumed.err


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("producing", "mails-projection", "eventferry consuming start mails-projection"),
        ("consuming", "users-projection", "eventferry producing start users-projection"),
        ("consuming", "mail-projection", "has no projection 'mail-projection'"),
    ],
)
def test_the_wrong_name_or_kind_says_what_is_right(
    users: CommandLine, kind: str, name: str, said: str
) -> None:
    done = users.process(kind, "start", name)

    assert done.code == 2
    assert said in done.err


def test_a_queue_without_projections_says_which_there_are(users: CommandLine) -> None:
    done = users.process("worker", "--queue", "mails")

    assert done.code == 2
    assert "its queues: domain-events; with --background, 1 long-running" in done.err


def test_a_worker_whose_projections_are_all_long_running_says_what_helps(
    users: CommandLine,
) -> None:
    """It would idle, as green as one that works."""
    _, section, long_running = CONFIGURATION.partition("[consuming.long")
    users.write('service = "users"' + "\n" + section + long_running)

    done = users.process("worker")

    assert (done.code, done.out) == (2, "")
    assert (
        "has no on-demand projection; with --background, 1 long-running one(s) run here" in done.err
    )
    assert users.process("worker", "--background", "--once").code == 0


def test_a_stream_that_does_not_exist_is_waited_for(
    tmp_path: Path, make_database: MakeDatabase
) -> None:
    users = CommandLine(tmp_path, make_database("local", "users"), make_database("shared"))
    users.write()

    done = users.process("consuming", "start", "mails-projection", "--until-idle")

    assert done.code == 1
    assert "eventferry streams create users-stream" in done.err
    assert status(users, "mails-projection")["state"] == "waiting"


def test_a_start_ends_when_its_time_is_up(users: CommandLine) -> None:
    append(users, 1)

    done = users.process("producing", "start", "users-projection", "--for", "500ms")

    assert (done.code, done.out) == (0, "users-projection: 1 event handled\n")


def test_a_start_that_waits_goes_on_when_it_is_retried(users: CommandLine) -> None:
    fail(users)
    start = ("consuming", "start", "mails-projection", "--wait")
    with users.started(*start) as process, ended_by(process, signal.SIGTERM):
        until(lambda: _listens(users.shared_url), "it runs, and has not ended")
        users.fix_handler()
        assert users("projections", "retry").code == 0
        until(lambda: status(users, "mails-projection")["lag"] == 0, "it goes on")


def test_a_start_can_not_wait_and_end_when_idle(users: CommandLine) -> None:
    done = users("consuming", "start", "mails-projection", "--wait", "--until-idle")

    assert done.code == 2
    assert "--until-idle ends where --wait stays: choose one of them" in done.err


def test_a_failure_is_seen_and_retried_where_no_worker_runs(users: CommandLine) -> None:
    failed = fail(users)
    assert failed.code == 1
    assert "ValueError: a bug in the handler" in failed.err

    shown = users("projections", "status", "mails-projection", "--verbose")
    assert shown.code == 1
    assert "Poison 00000000-0000-7000-8000-000000000003 of users-stream" in shown.out
    assert 'raise ValueError("a bug in the handler")' in shown.out
    found = status(users, "mails-projection")
    assert (found["state"], found["lag"], found["failure"]["attempts"]) == ("failed", 2, 1)
    assert (found["streams"][0]["position"], found["streams"][0]["horizon"]) == (2, 4)

    again = users.process("projections", "retry", "--wait", "--json")
    assert again.code == 1
    assert again.envelope["data"] == [{"projection": "mails-projection", "result": "failed"}]
    assert "failed again at Poison" in again.envelope["errors"][0]["message"]

    users.fix_handler()
    retried = users.process("projections", "retry", "mails-projection", "--wait")
    assert (retried.code, retried.out) == (0, "mails-projection: caught up\n")
    found = status(users, "mails-projection")
    assert (found["state"], found["lag"], found["failure"]) == ("idle", 0, None)


def test_nothing_to_retry_is_said(users: CommandLine) -> None:
    everything = users("projections", "retry")
    one = users("projections", "retry", "mails-projection", "--wait")

    assert (everything.code, everything.out) == (0, "nothing had failed\n")
    assert (one.code, one.out) == (0, "nothing to retry: mails-projection had not failed\n")


def test_a_retry_without_waiting_sets_it_to_run(users: CommandLine) -> None:
    fail(users)

    done = users("projections", "retry", "--json")

    assert done.envelope["data"] == [{"projection": "mails-projection", "result": None}]
    assert status(users, "mails-projection")["state"] == "idle"


def test_a_worker_is_woken_by_a_retry_and_followed(users: CommandLine) -> None:
    configuration = (users.folder / "projections.toml").read_text()
    # so slow a poll that only the wake-up can be in time
    users.write(configuration=configuration.replace('"100ms"', '"1h"'))
    fail(users)
    with users.started("worker") as worker, ended_by(worker, signal.SIGTERM):
        until(lambda: _listens(users.shared_url), "the worker listens")
        users.fix_handler()

        retried = users.process("projections", "retry", "--wait", "--timeout", "20s")

        assert (retried.code, retried.out) == (0, "mails-projection: caught up\n")
        assert "running here" not in retried.err


def test_a_retry_that_is_not_done_in_time_says_so(users: CommandLine) -> None:
    fail(users)
    # somebody else holds the checkpoint, and does nothing
    with psycopg.connect(users.local_url) as holder:
        holder.execute("SELECT FROM eventferry.checkpoints FOR UPDATE")
        assert status(users, "mails-projection")["state"] == "failed"

        done = users.process("projections", "retry", "--wait", "--timeout", "1s")

        assert done.code == 1
        assert "not done after 1 s, 2 events behind" in done.err
        found = status(users, "mails-projection")
        assert (found["state"], found["runner"]) == (
            "running",
            f"backend {holder.info.backend_pid}",
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_well_when_it_is_told_to(users: CommandLine, number: int) -> None:
    append(users, 1, 2, 3)
    with users.started("worker", "--background") as worker, ended_by(worker, number):
        until(lambda: status(users, "mails-projection")["streams"][0]["position"], "it crossed")


def test_a_worker_says_what_it_runs_and_how_it_is_woken(users: CommandLine) -> None:
    with users.started("worker") as worker:
        until(lambda: _listens(users.local_url), "the worker listens")
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=PATIENCE_S)

    assert "running producing users-projection: users-stream to users-stream" in said
    assert "running consuming mails-projection" in said
    assert "long-projection" not in said
    assert said.count("LISTEN, and a poll every 0.1 s") == 2


def test_status_names_who_holds_a_reader_back(users: CommandLine) -> None:
    append(users, 1)
    with psycopg.connect(users.local_url, application_name="slow-writer") as writer:
        writer.execute('INSERT INTO streams."users-stream" (type) VALUES (%s)', ("Slow",))
        append(users, 2)

        shown = users("projections", "status", "users-projection")
        found = status(users, "users-projection")
        pid = writer.info.backend_pid

    (open_append,) = found["in_flight"]
    assert open_append["pid"] == pid
    assert open_append["application"] == "slow-writer"
    assert open_append["state"] == "idle in transaction"
    assert f"held back by an append to users-stream by backend {pid}" in shown.out
    (stream,) = found["streams"]
    assert (stream["lag"], stream["held_back"], stream["horizon"]) == (2, 1, 1)
    assert found["state"] == "never run"


def test_status_shows_all_projections_in_a_table(users: CommandLine) -> None:
    head, *rows = users("projections", "status").out.splitlines()

    assert head.split("\t")[:4] == ["projection", "kind", "mode", "state"]
    assert [row.split("\t")[:4] for row in rows] == [
        ["users-projection", "producing", "on demand", "never run"],
        ["mails-projection", "consuming", "on demand", "never run"],
        ["long-projection", "consuming", "background", "never run"],
    ]


def _listens(url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'eventferry listen' AND state = 'idle'"
        ).fetchone()
    return bool(row and row[0])
