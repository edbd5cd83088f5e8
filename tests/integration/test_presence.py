"""What processes say of themselves: that they are there, what they have done, how things are."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from eventferry import Context, RecordedEvent, presence
from eventferry.embedded import EmbeddedServer
from eventferry.migration import migrate
from tests.command_line import CommandLine
from tests.conftest import MakeDatabase
from tests.services import Service, disconnect, numbered, query, record
from tests.waiting import PATIENCE_S, until

CONFIGURATION = """
service = "users"
poll_interval = "100ms"

[producing.ferry]
stream_name = "users-stream"

[consuming.reader]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
"""
STREAM = "users-stream"
HOST = socket.gethostname()


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    users = CommandLine(tmp_path, make_database("local", "users"), make_database("shared"))
    users.write(CONFIGURATION)
    assert users("streams", "create", STREAM).code == 0
    return users


@contextmanager
def running(
    users: CommandLine, *arguments: str, version: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A process that has said that it is there."""
    with users.started(*arguments, EVENTFERRY_VERSION=version) as process:
        until(lambda: pid(process) in there(users) or process.poll() is not None, "it is there")
        assert process.poll() is None, process.communicate()
        yield process


def pid(process: subprocess.Popen[str]) -> int:
    return process.pid


def there(users: CommandLine) -> dict[int, str]:
    """The processes in the store, with what they are."""
    return dict(query(users.local_url, "SELECT pid, command FROM eventferry.runners"))


def status(users: CommandLine, name: str) -> dict[str, Any]:
    (found,) = users("projections", "status", name, "--json").envelope["data"]
    assert isinstance(found, dict)
    return found


def ends_well(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, (out, err)


# ---- that they are there


def test_status_names_the_processes_that_run_a_projection(users: CommandLine) -> None:
    assert status(users, "reader")["runners"] == []
    with (
        running(users, "worker") as worker,
        running(users, "consuming", "start", "reader") as start,
    ):
        found = status(users, "reader")["runners"]
        assert [(r["command"], r["host"], r["pid"]) for r in found] == [
            ("worker", HOST, worker.pid),
            ("start", HOST, start.pid),
        ]
        assert [r["pid"] for r in status(users, "ferry")["runners"]] == [worker.pid]
        text = users("projections", "status", "reader").out
        assert [line.split("\t")[:2] for line in text.splitlines()[-2:]] == [
            ["worker", f"{HOST}:{worker.pid}"],
            ["start", f"{HOST}:{start.pid}"],
        ]
        worker.terminate()
        start.send_signal(signal.SIGINT)
        for process in (worker, start):
            ends_well(process)
    assert there(users) == {}


def test_one_that_is_killed_is_not_taken_for_alive(users: CommandLine) -> None:
    with running(users, "worker") as worker:
        worker.kill()
        worker.wait()
    assert worker.pid in there(users)
    with psycopg.connect(users.local_url) as conn:
        conn.execute("UPDATE eventferry.runners SET seen_at = seen_at - interval '31 s'")
    assert status(users, "reader")["runners"] == []
    done = users("restart", "--timeout", "1h")  # nobody waits for it
    assert (done.code, done.out, done.err) == (0, "none runs\n", "")


def test_a_process_with_older_code_than_another_is_marked(users: CommandLine) -> None:
    with running(users, "worker") as old:
        with (users.folder / "handlers.py").open("a") as handlers:
            handlers.write("# mended\n")
        with running(users, "worker") as new:
            found = {r["pid"]: r for r in status(users, "reader")["runners"]}
            assert (found[old.pid]["is_outdated"], found[new.pid]["is_outdated"]) == (True, False)
            assert found[old.pid]["version"] != found[new.pid]["version"]
            older = f"{found[old.pid]['version']}, older than {found[new.pid]['version']}"
            text = users("projections", "status", "reader").out
            assert f"\t{older}\treader\n" in text
            assert text.endswith("to run the newest version: eventferry restart\n")
            (finding,) = users.process("check", "--json").envelope["data"]["findings"]
            assert (finding["type"], finding["remedy"]) == ("Outdated", "eventferry restart")
            assert finding["projections"] == ["ferry", "reader"]


def test_who_has_gone_back_to_an_older_version_is_not_marked(users: CommandLine) -> None:
    def outdated() -> dict[int, bool]:
        return {r["pid"]: r["is_outdated"] for r in status(users, "reader")["runners"]}

    for version in ("1", "2"):
        with running(users, "worker", version=version) as worker:
            worker.terminate()
            ends_well(worker)
    with running(users, "worker", version="1") as back:
        assert outdated() == {back.pid: False}
        assert users.process("check", "--strict").code == 0
        with running(users, "worker", version="2") as new:  # so that the other one was left out
            assert outdated() == {back.pid: True, new.pid: False}
            new.kill()
            new.wait()
        with psycopg.connect(users.local_url) as conn:
            conn.execute(
                "UPDATE eventferry.runners SET seen_at = seen_at - interval '31 s' WHERE pid = %s",
                (new.pid,),
            )
        assert outdated() == {back.pid: False}
        with running(users, "worker", version="3") as newest:
            newest.terminate()
            ends_well(newest)
        assert outdated() == {back.pid: True}  # it is from before that one


def test_a_version_that_the_service_says_itself_is_taken(users: CommandLine) -> None:
    users.write('version = "in the file"\n' + CONFIGURATION)
    with running(users, "worker"):
        assert status(users, "reader")["runners"][0]["version"] == "in the file"
    with running(users, "worker", version="2026.11") as worker:
        found = {r["pid"]: r["version"] for r in status(users, "reader")["runners"]}
        assert found[worker.pid] == "2026.11"


# ---- restart


def test_restart_ends_all_processes_after_their_batches(users: CommandLine) -> None:
    with (
        running(users, "worker") as worker,
        running(users, "producing", "start", "ferry") as start,
    ):
        done = users("restart", "--json")
        for process in (worker, start):
            ends_well(process)
    assert done.code == 0
    assert [(r["command"], r["pid"], r["ended"]) for r in done.envelope["data"]] == [
        ("worker", worker.pid, True),
        ("start", start.pid, True),
    ]
    assert users("restart").out == "none runs\n"


def test_who_only_polls_is_restarted_too(
    users: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = 'local_listen_url = "off"\nshared_listen_url = "off"\n'
    users.write(off + CONFIGURATION)
    with running(users, "worker") as worker:
        assert users("restart").code == 0
        ends_well(worker)


def test_restart_needs_no_shared_store(users: CommandLine) -> None:
    with running(users, "worker") as worker:
        done = users("restart", EVENTFERRY_SHARED_URL="postgresql://nobody@127.0.0.1:1/away")
        assert (done.code, done.out) == (0, "1 process ended\n"), done.err
        ends_well(worker)


def test_restart_says_who_has_not_ended_in_time(users: CommandLine) -> None:
    with running(users, "worker") as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        done = users("restart", "--timeout", "10ms")
        os.kill(worker.pid, signal.SIGCONT)
        assert done.code == 1
        assert f"worker {HOST}:{worker.pid} " in done.err
        assert "has not ended" in done.err
        ends_well(worker)
    assert users("restart").out == "none runs\n"


def test_a_process_that_starts_while_another_ends_is_not_waited_for(users: CommandLine) -> None:
    with running(users, "worker") as old:
        os.kill(old.pid, signal.SIGSTOP)
        with users.started("restart") as restart:
            assert restart.stderr is not None
            assert f":{old.pid} " in restart.stderr.readline()
            with running(users, "worker") as new:
                os.kill(old.pid, signal.SIGCONT)
                out, err = restart.communicate(timeout=PATIENCE_S)
                assert (restart.returncode, out, err) == (0, "1 process ended\n", "")
                assert list(there(users)) == [new.pid]
                ends_well(old)


def test_who_is_asked_says_so_once(
    make_service: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.02)
    caplog.set_level(logging.INFO)
    users = make_service("users")
    users.create_stream(STREAM)
    has_begun, may_end = threading.Event(), threading.Event()

    def handle(_event: RecordedEvent) -> None:
        has_begun.set()
        assert may_end.wait(PATIENCE_S)

    users.consuming("reader", handle, STREAM)
    users.append(STREAM, numbered(1))
    with users.worker():
        assert has_begun.wait(PATIENCE_S)
        until(lambda: query(users.local_url, ROWS), "it is there")
        query(users.local_url, "UPDATE eventferry.runners SET asked_at = now() RETURNING id")
        until(lambda: "asked to end" in caplog.text, "it knows")
        before = query(users.local_url, ROWS)
        until(lambda: query(users.local_url, ROWS) != before, "it says again that it is there")
        before = query(users.local_url, ROWS)
        until(lambda: query(users.local_url, ROWS) != before, "and again")
        may_end.set()
        until(lambda: not query(users.local_url, ROWS), "it has ended")
    assert caplog.text.count("asked to end") == 1


ROWS: LiteralString = "SELECT seen_at FROM eventferry.runners"


# ---- what they have done, and how things are


def fail(event: RecordedEvent, context: Context) -> None:
    record(event, context)
    if event.data["n"] == 3:
        raise ValueError("a bug")


def statistics(service: Service) -> dict[str, tuple[int, int]]:
    """Events and failures of each projection, in all minutes."""
    rows = query(
        service.local_url,
        "SELECT projection, sum(events)::int, sum(failures)::int FROM eventferry.statistics"
        " GROUP BY projection",
    )
    return {name: (events, failures) for name, events, failures in rows}


def reports(service: Service) -> dict[str, tuple[Any, ...]]:
    rows = query(
        service.shared_url,
        "SELECT projection, kind, streams, shared_stream, state, lag, error"
        " FROM eventferry.reports WHERE service = %s",
        (service.name,),
    )
    return {name: tuple(found) for name, *found in rows}


def test_short_runs_count_and_report_too(make_service: Any) -> None:
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    users.producing("ferry", STREAM, "others-stream")
    users.consuming("reader", fail, STREAM)
    users.append(STREAM, numbered(5))
    users.run("ferry")
    users.run("reader")
    users.run("reader")  # has failed before, which is no failure of this run

    assert statistics(users) == {"ferry": (5, 0), "reader": (2, 1)}
    assert reports(users) == {
        "ferry": ("producing", [STREAM], "others-stream", "idle", 0, None),
        "reader": ("consuming", [STREAM], None, "failed", 3, "ValueError: a bug"),
    }
    assert query(users.local_url, "SELECT pid FROM eventferry.runners") == []
    rates = query(users.shared_url, "SELECT projection FROM eventferry.reports WHERE rate > 0")
    assert sorted(rates) == [("ferry",), ("reader",)]


def test_a_worker_reports_what_changes(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.05)
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", fail, STREAM)
    with users.worker() as worker:
        worker.until_asleep()
        until(lambda: reports(users).get("reader", ())[3:5] == ("idle", 0), "it is reported")
        users.append(STREAM, numbered(5))
        until(lambda: reports(users)["reader"][3:5] == ("failed", 3), "its failure is reported")
        until(lambda: statistics(users).get("reader") == (2, 1), "it is counted")
    assert statistics(users) == {"reader": (2, 1)}


def test_a_run_that_finds_nothing_looks_at_the_whole_once_a_minute(make_service: Any) -> None:
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", record, STREAM)
    users.run("reader")
    assert reports(users)["reader"][3] == "idle"

    def reported(ago_s: int) -> str:
        """The state that stands there after a run, when `said` was reported before it."""
        query(
            users.shared_url,
            "UPDATE eventferry.reports SET state = 'said',"
            " reported_at = clock_timestamp() - make_interval(secs => %s) RETURNING 1",
            (ago_s,),
        )
        users.run("reader")
        return str(reports(users)["reader"][3])

    assert reported(50) == "said"
    assert reported(60) == "idle"
    users.append(STREAM, numbered(1))
    assert reported(50) == "idle"
    users.append(STREAM, numbered(1))
    assert reported(0) == "said"  # every 10 s at most


def test_a_shared_store_that_is_away_keeps_nobody_from_leaving(
    make_database: MakeDatabase, own_server: EmbeddedServer
) -> None:
    shared_url = own_server.create_database("shared")
    migrate(shared_url, kind="shared")
    users = Service("users", make_database("local", "users"), shared_url)
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", record, STREAM)
    with users.worker() as worker:
        until(lambda: reports(users), "it has reported")
        disconnect()
        own_server.stop()
        users.append(STREAM, numbered(3))  # for a report that can't be written
        worker.until_asleep()
        query(users.local_url, "UPDATE eventferry.runners SET asked_at = now() RETURNING id")
        query(users.local_url, "SELECT pg_notify('eventferry', 'runners')")
        until(lambda: not query(users.local_url, ROWS), "it has left")
    assert statistics(users) == {"reader": (3, 0)}
    users.close()


def test_a_worker_ends_without_asking_the_shared_store(
    make_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 1000.0)
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", record, STREAM)
    with users.worker() as worker:
        until(lambda: reports(users), "it has reported")
        query(
            users.shared_url,
            "UPDATE eventferry.reports SET state = 'said',"
            " reported_at = reported_at - interval '1 h' RETURNING 1",
        )
        users.append(STREAM, numbered(1))
        worker.until_handled("reader", 1)
    assert reports(users)["reader"][3] == "said"
    assert statistics(users) == {"reader": (1, 0)}


def test_what_can_not_be_written_is_told_once(
    make_service: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(presence, "BEAT_S", 0.02)
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", record, STREAM)
    users.execute("ALTER TABLE eventferry.statistics ADD CHECK (events < 2)")
    with users.worker() as worker:
        for _ in range(2):
            users.append(STREAM, numbered(2))
            worker.until_asleep()
            before = query(users.local_url, ROWS)
            until(lambda b=before: query(users.local_url, ROWS) != b, "it beats")  # type: ignore[misc]
        worker.until_handled("reader", 4)
    assert caplog.text.count("can't write eventferry.statistics: new row for relation") == 1


def test_the_rate_and_the_time_that_is_left_are_said(users: CommandLine) -> None:
    assert users("events", "append", STREAM, stdin=EVENTS).code == 0
    with psycopg.connect(users.local_url) as conn:
        conn.execute(
            "INSERT INTO eventferry.statistics"
            " SELECT 'reader', date_trunc('minute', now), 300, 0, 1, now - interval '30 s', now"
            "   FROM clock_timestamp() AS now"
        )
    found = status(users, "reader")
    assert (found["lag"], found["rate"], found["time_left_s"]) == (2, 10.0, 0.2)
    assert found["behind_s"] > 0
    assert found["streams"][0]["behind_s"] == found["behind_s"]
    row = users("projections", "status", "reader").out.splitlines()[1].split("\t")
    assert row[7:] == ["2", row[8], "10/s", "0 s"]
    assert users.process("worker", "--once").code == 0
    found = status(users, "reader")
    assert (found["lag"], found["behind_s"], found["time_left_s"]) == (0, 0.0, None)


EVENTS = """\
{"specversion": "1.0", "id": "1", "source": "/a", "type": "Numbered", "data": {"n": 1}}
{"specversion": "1.0", "id": "2", "source": "/a", "type": "Numbered", "data": {"n": 2}}
"""


def test_what_is_old_is_forgotten(make_service: Any) -> None:
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", record, STREAM)
    users.execute(
        "INSERT INTO eventferry.statistics SELECT name, now() - age, 1, 0, 1, now(), now()"
        "  FROM (VALUES ('old', interval '8 days'), ('new', '6 days')) AS kept (name, age)"
    )
    users.execute(
        "INSERT INTO eventferry.runners (host, pid, command, projections, version, seen_at)"
        " VALUES ('gone', 1, 'worker', '{}', 'v1', now() - interval '25 h')"
    )
    users.execute(
        "INSERT INTO eventferry.versions VALUES ('v1', now() - interval '9 days',"
        " now() - interval '25 h'), ('v2', now(), now())"
    )
    with users.worker() as worker:
        worker.until_asleep()
        until(lambda: "old" not in statistics(users), "it is forgotten")
        assert statistics(users) == {"new": (1, 0)}
        assert query(users.local_url, "SELECT host FROM eventferry.runners") == [(HOST,)]
        known = query(users.local_url, "SELECT version FROM eventferry.versions")
        assert ("v1",) not in known
        assert ("v2",) in known


def test_short_runs_forget_what_they_have_done_long_ago(make_service: Any) -> None:
    users = make_service("users")
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", record, STREAM)
    users.append(STREAM, numbered(1))
    users.execute(
        "INSERT INTO eventferry.statistics"
        " SELECT 'reader', now() - age, 10, 0, 1, now(), now()"
        "  FROM (VALUES (interval '8 days'), ('6 days')) AS kept (age)"
    )
    users.run("reader")
    assert statistics(users) == {"reader": (11, 0)}


def test_reports_of_projections_that_are_gone_are_forgotten(make_service: Any) -> None:
    users, mails = make_service("users"), make_service("mails")
    users.create_stream(STREAM)
    users.create_effects()
    users.consuming("reader", record, STREAM)
    query(
        users.shared_url,
        "INSERT INTO eventferry.reports"
        " SELECT service, name, 'consuming', 'local', '{}', NULL, 'on demand', 'idle', 0, 0, NULL,"
        "        'v1', now() - age"
        "   FROM (VALUES ('users', 'gone', interval '8 days'), ('users', 'resting', '6 days'),"
        "                ('mails', 'of others', '8 days')) AS kept (service, name, age)"
        " RETURNING 1",
    )
    with users.worker():
        until(lambda: reports(users).keys() == {"reader", "resting"}, "it is forgotten")
    assert reports(mails).keys() == {"of others"}


# ---- --watch


def test_status_is_watched_until_ctrl_c(users: CommandLine) -> None:
    command = ("projections", "status", "reader", "--watch", "--every", "10ms", "--json")
    with users.started(*command) as watching:
        assert watching.stdout is not None
        assert '"never run"' in watching.stdout.readline()
        users.process("worker", "--once")
        until(lambda: '"idle"' in watching.stdout.readline(), "it sees what has changed")  # type: ignore[union-attr]
        watching.send_signal(signal.SIGINT)
        ends_well(watching)
