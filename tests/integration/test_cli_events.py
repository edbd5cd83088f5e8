"""CloudEvents lines into a stream and out of it, by the command line."""

from __future__ import annotations

import codecs
import gzip
import json
import signal
import subprocess
import tracemalloc
from pathlib import Path

import psycopg
import pytest

from eventferry.cli.importing import BATCH, MAX_LINE
from eventferry.embedded import EmbeddedServer
from tests.command_line import PROGRAM, CommandLine, cloud_event
from tests.conftest import MakeDatabase
from tests.databases import Databases
from tests.services import query
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    return CommandLine(tmp_path, make_database("local", "users"), make_database("shared")).ready()


def decoded(lines: str) -> list[object]:
    return [json.loads(line) for line in lines.splitlines()]


def numbers(users: CommandLine) -> list[int]:
    """What is in the stream, by the numbers of `cloud_event`, in order."""
    rows = query(
        users.local_url,
        "SELECT (data->>'number')::int FROM streams.\"users-stream\" ORDER BY position",
    )
    return [number for (number,) in rows]


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
        (cloud_event(701, time="0001-01-01T00:00:00Z"), "must be from 0001-01-03"),
        (cloud_event(701, time="9999-12-31T00:00:00-00:30"), "to 9999-12-29"),
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
    assert numbers(users) == list(range(1, 703))


LINE_1, LINE_2 = (cloud_event(number).encode() for number in (1, 2))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(LINE_2[:50] + b"\xc3(" + LINE_2[50:], "its byte 51 is 0xc3", id="no UTF-8"),
        pytest.param(LINE_2[:-20], "the line is not JSON: ", id="cut off"),
        pytest.param(LINE_2[:40], "not JSON: Unterminated string", id="cut off in a string"),
        pytest.param(gzip.compress(LINE_2), "Is the file compressed", id="gzip"),
        pytest.param(LINE_2.decode().encode("utf-16"), "of another encoding?", id="UTF-16"),
        pytest.param(bytes(range(11, 256)), "its byte 118 is 0x80", id="binary"),
        pytest.param(bytes(100), "one CloudEvent a line, in JSON", id="NULs"),
        pytest.param(b"[" + LINE_2 + b"]", "a JSON object, not an array", id="array"),
        pytest.param(b'{\n "specversion": "1.0"\n}', "one CloudEvent a line", id="several lines"),
        pytest.param(LINE_2.replace(b'": 2', b'": 1e400'), "JSON has no such number", id="1e400"),
        pytest.param(cloud_event(2, subject="\0").encode(), "entity_id holds a char", id="NUL"),
        pytest.param(cloud_event(2, type_="\ud800").encode(), "type holds a char", id="surrogate"),
        pytest.param(
            cloud_event(2, data={"x": "x" * 2**24}).encode(), "at most 16,777,212 are", id="large"
        ),
    ],
)
def test_what_is_no_event_stops_with_its_line(users: CommandLine, bad: bytes, reason: str) -> None:
    file = users.folder / "events.jsonl"
    file.write_bytes(LINE_1 + b"\n" + bad)

    stopped = users("events", "append", "users-stream", "events.jsonl")

    assert stopped.code == 1
    assert stopped.err.startswith("error: events.jsonl: line 2: ")
    assert reason in stopped.err
    from_line = stopped.err.split()[-1]
    assert numbers(users) == list(range(1, int(from_line)))

    file.write_bytes(LINE_1 + b"\n" + LINE_2)
    users("events", "append", "users-stream", "events.jsonl", "--from-line", from_line)
    assert numbers(users) == [1, 2]


@pytest.mark.parametrize(
    ("content", "appended"),
    [
        pytest.param(LINE_1 + b"\n" + LINE_2, [1, 2], id="no end of the last line"),
        pytest.param(LINE_1 + b"\r\n" + LINE_2 + b"\r\n", [1, 2], id="CRLF"),
        pytest.param(codecs.BOM_UTF8 + LINE_1 + b"\n" + LINE_2, [1, 2], id="byte order mark"),
        pytest.param(b"\n \t\r\n" + LINE_1 + b"\n\n", [1], id="blank lines"),
        pytest.param(b"\n\n\n", [], id="nothing but blank lines"),
        pytest.param(b"", [], id="empty"),
    ],
)
def test_a_file_may_be_written_in_the_way_of_any_system(
    users: CommandLine, content: bytes, appended: list[int]
) -> None:
    (users.folder / "events.jsonl").write_bytes(content)

    done = users("events", "append", "users-stream", "events.jsonl")

    assert (done.code, done.err) == (0, "")
    assert numbers(users) == appended


def test_a_line_without_an_end_is_not_read_whole_and_can_be_left_out(users: CommandLine) -> None:
    with (users.folder / "events.jsonl").open("wb") as file:
        file.write(LINE_1 + b"\n")
        file.truncate(MAX_LINE * 6)  # NULs, on the disk for nothing
        file.seek(0, 2)
        file.write(b"\n" + LINE_2)

    tracemalloc.start()
    stopped = users("events", "append", "users-stream", "events.jsonl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert stopped.code == 1
    assert "events.jsonl: line 2: the line has more than 53,477,376 bytes" in stopped.err
    assert stopped.err.endswith("go on with --from-line 2\n")
    assert peak < 3 * MAX_LINE

    after_it = users("events", "append", "users-stream", "events.jsonl", "--from-line", "3")
    assert (after_it.code, numbers(users)) == (0, [1, 2])


def test_a_line_that_is_as_large_as_an_event_may_be_is_appended(users: CommandLine) -> None:
    text = "ж" * (2**23 - 10)  # 2 bytes each, and 6 in the line
    (users.folder / "events.jsonl").write_text(cloud_event(1, data={"text": text}))

    assert users("events", "append", "users-stream", "events.jsonl").code == 0

    ((kept,),) = query(users.local_url, "SELECT data->>'text' FROM streams.\"users-stream\"")
    assert kept == text


@pytest.mark.parametrize(
    ("name", "reason"),
    [("folder", "Is a directory"), ("nowhere", "No such file"), ("loop", "Too many levels of")],
)
def test_a_file_that_cannot_be_read_says_why(users: CommandLine, name: str, reason: str) -> None:
    (users.folder / "folder").mkdir()
    (users.folder / "loop").symlink_to("loop")

    done = users("events", "append", "users-stream", name)

    assert done.code == 2
    assert done.err.startswith(f"error: {name}: {reason}")


def test_an_import_that_is_killed_is_given_again_from_the_start(users: CommandLine) -> None:
    lines = [f"{cloud_event(number)}\n" for number in range(1, 2001)]
    with subprocess.Popen(
        [*PROGRAM, "events", "append", "users-stream"],
        cwd=users.folder,
        env=users.environ,
        stdin=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        process.stdin.write("".join(lines[: BATCH * 2 + 100]).encode())
        process.stdin.flush()
        until(lambda: len(numbers(users)) >= BATCH * 2, "two batches are in")
        process.kill()
    assert numbers(users) == list(range(1, BATCH * 2 + 1)), "whole batches"

    again = users("events", "append", "users-stream", stdin="".join(lines))

    assert again.out == "1,000 events appended to users-stream; 1,000 were there already\n"
    assert numbers(users) == list(range(1, 2001))


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


def test_who_follows_comes_back_after_an_outage_and_prints_nothing_twice(
    tmp_path: Path, own_server: EmbeddedServer, own_databases: Databases
) -> None:
    urls = own_databases.make("local", "users"), own_databases.make("shared")
    users = CommandLine(tmp_path, *urls)
    users.ready()
    users("events", "append", "users-stream", stdin=cloud_event(1))
    with users.started("events", "read", "users-stream", "--follow") as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        printed = [reader.stdout.readline()]

        own_server.stop()
        assert "going on in" in reader.stderr.readline()
        own_server.start()
        until(lambda: "is back; going on after position" in reader.stderr.readline())  # type: ignore[union-attr]

        users("events", "append", "users-stream", stdin=cloud_event(2))
        printed.append(reader.stdout.readline())
        reader.send_signal(signal.SIGINT)
        assert reader.wait(PATIENCE_S) == 130
        assert reader.stdout.read() == ""
    assert [json.loads(line)["data"]["number"] for line in printed] == [1, 2]


def test_who_would_follow_a_store_that_is_not_there_is_told_at_once(users: CommandLine) -> None:
    done = users(
        "events",
        "read",
        "users-stream",
        "--follow",
        EVENTFERRY_LOCAL_URL="postgresql://127.0.0.1:1/x",
    )

    assert done.code == 2
    assert "going on" not in done.err


def test_following_goes_forwards_without_an_end(users: CommandLine) -> None:
    for option in ("--backwards", "--limit=3", "--before=7"):
        assert users("events", "read", "users-stream", "--follow", option).code == 2


@pytest.mark.parametrize("command", ["read", "append"])
def test_a_stream_that_is_not_there_is_said_even_if_there_is_nothing_to_do(
    users: CommandLine, command: str
) -> None:
    for given in ("", cloud_event(1)):
        done = users("events", command, "no-stream", stdin=given)
        assert (done.code, done.out) == (2, "")
        assert "eventferry streams create no-stream" in done.err
        assert "--from-line" not in done.err
    assert users("events", command, "No Stream").code == 2


def test_the_shared_store_is_appended_to_and_read(users: CommandLine) -> None:
    shared = ("--environment", "shared")
    users("events", "append", "users-stream", *shared, stdin=cloud_event(1))

    assert len(decoded(users("events", "read", "users-stream", *shared).out)) == 1
    assert users("events", "read", "users-stream").out == ""


@pytest.mark.parametrize(
    "data",
    [
        r'{"x": "\u0000", "y": "\ud800"}',
        '{"big": 1e400, "exact": 0.12345678901234567890123, "twice": 1, "twice": 2}',
        '{"deep": ' + "[" * 250 + "]" * 250 + "}",
        '{"lines":\r\n\t1}',
    ],
)
def test_what_any_client_may_insert_is_read(users: CommandLine, data: str) -> None:
    with psycopg.connect(users.local_url) as conn:
        conn.execute('INSERT INTO streams."users-stream" (type, data) VALUES (%s, %s)', ("A", data))
        conn.execute("""INSERT INTO streams."users-stream" (type) VALUES ('B')""")
    read = users("events", "read", "users-stream")
    assert (read.code, read.err) == (0, "")
    odd, _ = read.out.splitlines()
    assert data.replace("\r", " ").replace("\n", " ") in odd
