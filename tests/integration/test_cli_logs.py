"""The logs of a worker as they are collected: JSON lines, in a file too; and as people see them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventferry.embedded import EmbeddedServer
from tests.command_line import PROGRAM, CommandLine, cloud_event
from tests.conftest import MakeDatabase
from tests.pages import ROOT, blocks
from tests.waiting import PATIENCE_S, until

REFERENCE = ROOT / "docs" / "reference" / "logging.md"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = {
    "correlationid": "order-7",
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    "subject": "42",
}
SECRET = "ada@example.org"
FAILED = "00000000-0000-7000-8000-000000000002"
MARK = re.compile(r"(?<=users-stream):[0-9]+")
NAME = f"Poison {FAILED} at users-stream"

CONFIGURATION = """
service = "users"
poll_interval = "100ms"

[consuming.mails-projection]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
attempts = 2
backoff = "10ms"
"""

HANDLERS = """
def handle(event, context):
    context.logger.info("greeting", extra={"template": "welcome"})
    if event.type == "Poison":
        data = event.data["email"]
        context.connection.execute("INSERT INTO welcomes VALUES (%s), (%s)", [data, data])
"""

PATIENT = """
import time
from pathlib import Path

HERE = Path(__file__).parent

def handle(event, context):
    (HERE / "begun").touch()
    while not (HERE / "go").exists():
        time.sleep(0.005)
"""


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    users = CommandLine(tmp_path, make_database("local", "users"), make_database("shared")).ready()
    users.write(CONFIGURATION, HANDLERS)
    with psycopg.connect(users.local_url) as conn:
        conn.execute("CREATE TABLE welcomes (email text PRIMARY KEY)")
    return users


def append(users: CommandLine, *lines: str) -> None:
    assert users("events", "append", "users-stream", stdin="\n".join(lines)).code == 0


def append_poison(users: CommandLine) -> None:
    """Two events, the second of which breaks a constraint with what its data holds."""
    data = {"email": SECRET}
    append(
        users,
        cloud_event(1, data=data),
        cloud_event(2, "Poison", data=data, **TRACED),
    )


def parsed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def state(users: CommandLine) -> str:
    return str(users("projections", "status", "--json").envelope["data"][0]["state"])


def stop(process: subprocess.Popen[str]) -> str:
    """Ends it; what it has written to standard error."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return err


def test_each_line_is_an_object_that_says_what_it_is_about(users: CommandLine) -> None:
    append_poison(users)
    with users.started("worker", "--log-level", "debug") as worker:
        until(lambda: state(users) == "failed")
        text = stop(worker)

    lines = parsed(text)
    assert all(
        {"timestamp", "level", "logger", "message", "service"} <= line.keys() for line in lines
    )
    assert {line["service"] for line in lines} == {"users"}
    about = {
        "projection": "mails-projection",
        "stream": "users-stream",
        "event_id": FAILED,
        "event_type": "Poison",
        "entity_id": "42",
        "correlation_id": "order-7",
        "trace_id": TRACE,
    }
    last = next(line for line in lines if line["level"] == "ERROR")
    position = last["position"]
    assert {k: last[k] for k in about} == about
    assert (last["attempt"], last["error_type"]) == (2, "UniqueViolation")
    assert "line 6, in handle\n" in last["traceback"]
    (documented,) = map(json.loads, blocks(REFERENCE.read_text(), "json"))
    varies = {"timestamp": "", "traceback": ""}
    assert list(last) == list(documented)
    assert last | varies == documented | varies
    said = [line for line in lines if line.get("event_id") == FAILED]
    assert {line["position"] for line in said} == {position}
    greetings = [line["attempt"] for line in said if line.get("template") == "welcome"]
    assert greetings == [1, 1, 2]  # first in a batch, then alone
    failures = [line for line in said if "error" in line]
    assert [(line["level"], line["attempt"]) for line in failures] == [("WARNING", 1), ("ERROR", 2)]


def test_no_payload_gets_into_a_log_line(users: CommandLine) -> None:
    """Not even by the database's error, which says what it has refused. Its status says all."""
    append_poison(users)
    with users.started("worker", "--log-level", "debug") as worker:
        until(lambda: state(users) == "failed")
        text = stop(worker)
    once = users.process("worker", "--once")

    assert "duplicate key value violates unique constraint" in text
    assert "duplicate key value violates unique constraint" in once.err
    assert SECRET not in text + once.err
    assert SECRET in users("projections", "status").out


def test_a_run_is_no_line_but_catching_up_is(users: CommandLine) -> None:
    with users.started("worker") as worker:
        for number in (1, 3, 4):
            append(users, cloud_event(number))
            until(lambda: state(users) == "idle" and lag(users) == 0)
        text = stop(worker)

    lines = [line for line in parsed(text) if line["logger"] == "eventferry.run"]
    assert [(line["level"], line["ended"]) for line in lines] == [("INFO", "caught up")]


def lag(users: CommandLine) -> int:
    return int(users("projections", "status", "--json").envelope["data"][0]["lag"])


def test_what_is_found_to_stand_still_is_said_once(users: CommandLine) -> None:
    append_poison(users)
    assert users.process("worker", "--once").code == 1

    log = users.folder / "worker.log"
    with users.started("worker", "--log-file", str(log)) as worker:
        until(lambda: log.exists() and "stands still" in log.read_text())
        users("projections", "pause", "mails-projection", "--reason", "not now")
        until(lambda: "not now" in log.read_text())
        users("projections", "retry", "mails-projection")
        users("projections", "resume", "mails-projection")
        until(lambda: "attempt 2 of 2" in log.read_text())
        stop(worker)

    told = [line for line in parsed(log.read_text()) if line["level"] in ("ERROR", "WARNING")]
    assert [(line["level"], MARK.sub("", line["message"].split(": ")[0])) for line in told] == [
        ("ERROR", "projection mails-projection stands still"),
        ("WARNING", "projection mails-projection is paused"),
        ("WARNING", f"projection mails-projection failed at {NAME}, attempt 1 of 2"),
        ("ERROR", f"projection mails-projection failed at {NAME}, attempt 2 of 2"),
        ("WARNING", "stopping after the batch; once more to stop at once"),
    ]
    assert {line["event_id"] for line in told if line["level"] == "ERROR"} == {FAILED}


def test_an_outage_is_said_once_by_whom_it_concerns(
    tmp_path: Path, own_server: EmbeddedServer
) -> None:
    """And that it is over, by those who were at it."""
    databases = [own_server.create_database(name) for name in ("local", "shared")]
    users = CommandLine(tmp_path, *databases)
    users.write()
    assert users("migrate").code == 0
    users = users.ready()
    users.write(CONFIGURATION, PATIENT)
    append(users, cloud_event(1))
    log = users.folder / "worker.log"
    with users.started("worker", "--log-file", str(log)) as worker:
        until((users.folder / "begun").exists)
        own_server.stop(crash=True)
        (users.folder / "go").touch()
        until(lambda: "can't go on" in log.read_text())
        own_server.start()
        until(lambda: "goes on" in log.read_text())
        until(lambda: "listening to the local store again" in log.read_text())
        stop(worker)

    told = Counter(
        line["message"].removeprefix("projection mails-projection ")[:11]
        for line in parsed(log.read_text())
        if line["level"] != "INFO" or line["logger"] != "eventferry.cli"
    )
    # where it was long enough for that
    assert told.pop("could not p", 0) == told.pop("polling the", 0) <= 1
    assert told == dict.fromkeys(
        ("handled 1 e", "can't go on", "goes on: th", "lost the co", "listening t", "stopping af"),
        1,
    )


def test_a_file_may_be_rotated(users: CommandLine) -> None:
    log, rotated = users.folder / "worker.log", users.folder / "worker.log.1"
    with users.started("worker", "--log-level", "debug", "--log-file", str(log)) as worker:
        append(users, cloud_event(1))
        until(lambda: log.exists() and "greeting" in log.read_text())
        log.rename(rotated)
        append(users, cloud_event(3))
        until(lambda: log.exists() and "greeting" in log.read_text())
        assert stop(worker) == ""

    before, after = (
        [line["event_id"][-2:] for line in parsed(file.read_text()) if "event_id" in line]
        for file in (rotated, log)
    )
    assert (before, after) == (["01"], ["03"])


def test_a_file_that_can_not_be_written_any_more_fails_nothing(users: CommandLine) -> None:
    """Its lines go to standard error meanwhile."""
    folder = users.folder / "logs"
    folder.mkdir()
    log = folder / "worker.log"
    with users.started("worker", "--log-file", str(log)) as worker:
        append(users, cloud_event(1))
        until(lambda: log.exists() and "greeting" in log.read_text())
        folder.rename(users.folder / "moved")
        append(users, cloud_event(3))
        until(lambda: lag(users) == 0)
        folder.mkdir()
        append(users, cloud_event(4))
        until(lambda: log.exists() and "greeting" in log.read_text())
        text = stop(worker)

    assert [line["event_id"][-2:] for line in parsed(text) if "event_id" in line] == ["03"]
    assert state(users) == "idle"


WRITER = """
import logging, sys
from pathlib import Path
from eventferry.cli import logs
logs.begin(logs.LogLevel.INFO, Path(sys.argv[1]), service="users")
for n in range(200):
    logging.getLogger("writer").info("%s", sys.argv[2] * 20_000)
"""


def test_several_processes_may_write_one_file(users: CommandLine) -> None:
    log = users.folder / "all.log"
    writers = [subprocess.Popen([PROGRAM[0], "-c", WRITER, str(log), letter]) for letter in "abcd"]
    assert [writer.wait(PATIENCE_S) for writer in writers] == [0] * 4

    messages = [line["message"] for line in parsed(log.read_text())]
    assert sorted(messages) == [letter * 20_000 for letter in "abcd" for _ in range(200)]


@pytest.mark.parametrize("path", ["no-such-folder/worker.log", "."])
def test_a_file_that_can_not_be_opened_is_wrong_usage(users: CommandLine, path: str) -> None:
    done = users.process("worker", "--log-file", path)

    assert done.code == 2
    assert "--log-file" in done.err
    assert f"can't write to {path}" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", ["worker", "consuming start mails-projection"])
def test_what_ends_a_process_stands_in_its_log(users: CommandLine, command: str) -> None:
    log = users.folder / "worker.log"
    away = "postgresql://nobody:s3cret@127.0.0.1:1/users"
    done = users.process(*command.split(), "--log-file", str(log), EVENTFERRY_LOCAL_URL=away)
    assert done.code == 2
    assert "users is not available just now: " in done.err

    last = parsed(log.read_text())[-1]
    assert (last["level"], last["error_type"]) == ("ERROR", "StoreUnavailable")
    assert last["message"].replace("ended by StoreUnavailable", "error") == done.err.strip()
    assert "s3cret" not in log.read_text()


SET_UP = """
import logging
logging.basicConfig(filename="own.log", format="%(message)s of mine", level="INFO")
"""


def test_what_the_service_has_set_up_itself_stays(users: CommandLine) -> None:
    users.write(CONFIGURATION, SET_UP + HANDLERS)
    append(users, cloud_event(1))

    done = users.process("worker", "--once", "--log-file", "ours.log")

    assert (done.code, done.err) == (0, "")
    assert "greeting of mine\n" in (users.folder / "own.log").read_text()
    lines = parsed((users.folder / "ours.log").read_text())
    assert "greeting" in [line["message"] for line in lines]


@contextmanager
def on_terminal(users: CommandLine, *arguments: str) -> Iterator[tuple[int, Any]]:
    """A command whose standard error is a terminal; that end which people look at."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=users.folder,
        env=users.environ | {"TERM": "xterm", "NO_COLOR": "1"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield ours, process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_all(terminal: int) -> str:
    """All that is written, until nobody has it open any more."""
    found = b""
    try:
        while part := os.read(terminal, 65536):
            found += part
    except OSError:  # EIO: as Linux says that
        pass
    return found.decode().replace("\r\n", "\n")


def test_on_a_terminal_people_read_lines(users: CommandLine) -> None:
    append_poison(users)
    with on_terminal(users, "worker", "--once") as (terminal, process):
        text = read_all(terminal)
        assert process.wait(PATIENCE_S) == 1

    assert "{" not in text
    lines = text.splitlines()
    greeting = next(line for line in lines if "greeting" in line)
    assert greeting[9:] == "INFO    mails-projection: greeting"
    (error,) = (number for number, line in enumerate(lines) if line[9:].startswith("ERROR"))
    assert "projection mails-projection failed at Poison" in lines[error]
    assert any(line.endswith(", in handle") for line in lines[error:])
    assert SECRET not in text
