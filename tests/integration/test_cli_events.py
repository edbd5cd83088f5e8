"""CloudEvents lines into a stream and out of it, by the command line."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.command_line import PROGRAM, CommandLine, cloud_event
from tests.conftest import MakeDatabase
from tests.waiting import PATIENCE_S


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    return CommandLine(tmp_path, make_database("local", "users"), make_database("shared")).ready()


def decoded(lines: str) -> list[object]:
    return [json.loads(line) for line in lines.splitlines()]


def test_what_is_appended_is_read_again_as_the_same_json(users: CommandLine) -> None:
    given = [
        cloud_event(1),
        cloud_event(2, subject="user 7", entityversion=1, myextension="kept", dataschema="urn:x"),
        cloud_event(3, subject="user 7", entityversion=2, time="2026-01-31T13:00:00+01:00"),
        cloud_event(4, subject="user 8", entityversion=1, id="not a uuid"),
        json.dumps({"specversion": "1.0", "id": "bare", "source": "/x", "type": "Bare"}),
    ]

    appended = users("events", "append", "users-stream", "-", stdin="\n".join(given))

    assert (appended.code, appended.err) == (0, "")
    assert appended.out == "5 events appended to users-stream; 0 were there already\n"
    assert decoded(users("events", "read", "users-stream").out) == decoded("\n".join(given))


def test_appending_again_changes_nothing(users: CommandLine) -> None:
    given = "\n".join(
        [cloud_event(n) for n in range(1, 701)]
        + [cloud_event(800 + n, subject="s", entityversion=n) for n in range(1, 6)]
    )
    users("events", "append", "users-stream", stdin=given)
    before = users("events", "read", "users-stream").out

    again = users("events", "append", "users-stream", "--json", stdin=given)

    assert again.envelope["data"] == {
        "stream": "users-stream",
        "appended": 0,
        "there_already": 705,
        "next_line": 706,
    }
    assert users("events", "read", "users-stream").out == before


def test_a_line_that_comes_twice_is_appended_once(users: CommandLine) -> None:
    twice = f"{cloud_event(1)}\n{cloud_event(2)}\n{cloud_event(1)}\n"

    done = users("events", "append", "users-stream", stdin=twice)

    assert done.out == "2 events appended to users-stream; 1 were there already\n"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        (cloud_event(701, specversion="0.3"), "specversion"),
        (cloud_event(701, time="yesterday"), "time must be"),
        (cloud_event(1, data={"number": "other"}), "another event under the id"),
        (cloud_event(701, subject="s", entityversion=9), "expected at version 8"),
        (cloud_event(701, data={"nul": "\0"}), "NUL"),
    ],
)
def test_a_bad_line_stops_with_its_number_and_can_be_gone_on_from(
    users: CommandLine, bad: str, reason: str
) -> None:
    good = [cloud_event(n) for n in range(1, 701)]
    file = users.folder / "events.jsonl"
    file.write_text("\n".join([*good, bad, cloud_event(702)]))

    stopped = users("events", "append", "users-stream", str(file), "--json")

    (error,) = stopped.envelope["errors"]
    start = stopped.envelope["data"]["next_line"]
    assert stopped.code == 1
    assert f"{file}: line 701: " in error["message"]
    assert reason in error["message"]
    assert f"--from-line {start}" in error["message"]
    # what was imported is whole: everything before the line to go on from, and nothing after
    assert len(decoded(users("events", "read", "users-stream").out)) == start - 1

    file.write_text("\n".join([*good, cloud_event(701), cloud_event(702)]))
    again = users("events", "append", "users-stream", str(file), "--from-line", str(start))
    assert again.code == 0
    numbers = [e["data"]["number"] for e in decoded(users("events", "read", "users-stream").out)]  # type: ignore[index]
    assert numbers == list(range(1, 703))


def test_reading_goes_on_after_a_position_and_ends_at_a_limit(users: CommandLine) -> None:
    users("events", "append", "users-stream", stdin="\n".join(map(cloud_event, range(1, 6))))

    done = users("events", "read", "users-stream", "--after", "2", "--limit", "2")

    assert [e["data"]["number"] for e in decoded(done.out)] == [3, 4]  # type: ignore[index]


def test_with_json_the_events_are_the_data_of_the_envelope(users: CommandLine) -> None:
    users("events", "append", "users-stream", stdin="\n".join(map(cloud_event, range(1, 4))))

    done = users("events", "read", "users-stream", "--json")

    assert done.envelope == {
        "ok": True,
        "command": "events read",
        "data": decoded(users("events", "read", "users-stream").out),
        "errors": [],
    }


def test_a_reader_that_has_enough_ends_it_quietly(users: CommandLine) -> None:
    lines = "\n".join(cloud_event(n, data={"long": "x" * 500}) for n in range(1, 1001))
    users("events", "append", "users-stream", stdin=lines)

    with subprocess.Popen(
        [*PROGRAM, "events", "read", "users-stream"],
        cwd=users.folder,
        env=users.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (0, b"")


def test_a_reader_follows_what_is_appended(users: CommandLine) -> None:
    users("events", "append", "users-stream", stdin=cloud_event(1))
    with users.started("events", "read", "users-stream", "--follow") as reader:
        assert reader.stdout is not None
        first = json.loads(reader.stdout.readline())
        users("events", "append", "users-stream", stdin=cloud_event(2))
        second = json.loads(reader.stdout.readline())
        reader.send_signal(signal.SIGINT)
        reader.wait(PATIENCE_S)
    assert [event["data"] for event in (first, second)] == [
        json.loads(cloud_event(n))["data"] for n in (1, 2)
    ]


def test_following_goes_forwards_without_an_end(users: CommandLine) -> None:
    for option in ("--backwards", "--limit=3", "--before=7"):
        assert users("events", "read", "users-stream", "--follow", option).code == 2


def test_an_unknown_stream_says_how_to_create_it(users: CommandLine) -> None:
    for command in (("read", "no-stream"), ("append", "no-stream")):
        done = users("events", *command, stdin=cloud_event(1))
        assert done.code == 1
        assert "eventferry streams create no-stream" in done.err


def test_the_shared_store_is_appended_to_and_read(users: CommandLine) -> None:
    shared = ("--environment", "shared")
    users("events", "append", "users-stream", *shared, stdin=cloud_event(1))

    assert len(decoded(users("events", "read", "users-stream", *shared).out)) == 1
    assert users("events", "read", "users-stream").out == ""
