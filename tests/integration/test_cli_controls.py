"""What a person does to projections by the command line: here, elsewhere, to what never ran."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from tests.command_line import PROGRAM, CommandLine, Done, cloud_event
from tests.conftest import MakeDatabase
from tests.services import listeners, query, sleeping
from tests.waiting import PATIENCE_S, until, wait_for_lock

CONFIGURATION = """
service = "users"
poll_interval = "100ms"

[producing.ferry]
stream_name = "users-stream"

[consuming.mails]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:Mails"
batch_size = 1
attempts = 1

[consuming.careful]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
attempts = 1
on_failure = "park"

[consuming.patient]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
attempts = 9
backoff = "1h"
backoff_max = "1h"

[consuming.waiting]
stream_names = ["later-stream"]
environment = "local"
handler = "handlers:handle"
"""

HANDLERS = """
import time
from pathlib import Path

HERE = Path(__file__).parent

def handle(event, context):
    if event.type == "Poison" and (HERE / "bug").exists():
        raise ValueError("a bug in the handler")
    context.connection.execute(
        "INSERT INTO effects (projection, n) VALUES (%s, %s)",
        (context.projection, event.data["number"]),
    )

class Mails:
    def handle(self, event, context):
        if event.type == "Slow":
            (HERE / "begun").touch()
            while not (HERE / "go").exists():
                time.sleep(0.005)
        handle(event, context)

    def reset(self, context):
        if (HERE / "bug").exists():
            raise ValueError("a bug in its reset")
        context.connection.execute("DELETE FROM effects WHERE projection = 'mails'")
"""


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    users = CommandLine(tmp_path, make_database("local", "users"), make_database("shared"))
    users.write(CONFIGURATION, HANDLERS)
    assert users("streams", "create", "users-stream").code == 0
    with psycopg.connect(users.local_url) as conn:
        conn.execute(
            "CREATE TABLE effects (place bigint GENERATED ALWAYS AS IDENTITY,"
            " projection text NOT NULL, n integer NOT NULL)"
        )
    return users


def append(users: CommandLine, *numbers: int, stream: str = "users-stream", **types: int) -> None:
    """Events of these numbers; `Poison=3` is the type of the third. Two take turns as entities."""
    named = {number: type_ for type_, number in types.items()}
    lines = [
        cloud_event(n, named.get(n, "UserRegistered"), subject="odd" if n % 2 else "even")
        for n in numbers
    ]
    done = users("events", "append", stream, stdin="\n".join(lines))
    assert done.code == 0, done


def event_id(number: int) -> str:
    return str(UUID(f"00000000-0000-7000-8000-{number:012}"))


def effects(users: CommandLine, projection: str) -> list[int]:
    """The numbers of the events that it has handled, in order."""
    rows = query(
        users.local_url, "SELECT n FROM effects WHERE projection = %s ORDER BY place", (projection,)
    )
    return [row[0] for row in rows]


def run(users: CommandLine, name: str) -> Done:
    """Runs it until it is caught up, or has failed."""
    kind = "producing" if name == "ferry" else "consuming"
    return users.process(kind, "start", name, "--until-idle")


def ran(users: CommandLine, name: str, code: int = 0) -> None:
    """Runs it; that ends like this."""
    done = run(users, name)
    assert done.code == code, done


def audit(users: CommandLine, *names: str) -> list[tuple[str, str, str | None]]:
    """Who did what, and why, the first first."""
    found = users("projections", "audit", *names, "--json").envelope["data"]
    return [(a["who"], a["action"], a["reason"]) for a in reversed(found)]


def actions(users: CommandLine, *names: str) -> list[str]:
    return [action for _, action, _ in audit(users, *names)]


@contextmanager
def running(users: CommandLine, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs projections, and listens to both stores by the time of the block."""
    with users.started(*arguments) as process:
        until(lambda: listeners(users.local_url) or process.poll() is not None, "it listens")
        assert process.poll() is None, process.communicate()
        yield process


@contextmanager
def at_a_slow_event(users: CommandLine) -> Iterator[subprocess.Popen[str]]:
    """`mails` are run by another process, which handles the first of three events, and waits."""
    append(users, 1, 2, 3, Slow=1)
    with users.started("consuming", "start", "mails") as process:
        until((users.folder / "begun").exists, "the batch has begun")
        yield process


def go(users: CommandLine) -> None:
    (users.folder / "go").touch()


# ---- pause and resume


def test_a_projection_that_runs_elsewhere_rests_while_it_is_paused(users: CommandLine) -> None:
    with running(users, "consuming", "start", "mails") as process:
        append(users, 1)
        until(lambda: effects(users, "mails") == [1])

        paused = users("projections", "pause", "mails", "--reason", " a look ", "--json")
        append(users, 2)
        elsewhere = users.process("worker", "--once", "--json")

        assert paused.code == 0
        assert paused.envelope["data"]["reason"] == "a look"
        ended = {p["projection"]: p["ended"] for p in elsewhere.envelope["data"]}
        assert (ended["mails"], ended["ferry"]) == ("paused", "caught up")
        assert effects(users, "mails") == [1]
        assert process.poll() is None

        resumed = users("projections", "resume", "mails")

        assert (resumed.code, resumed.out) == (0, "mails goes on\n")
        until(lambda: effects(users, "mails") == [1, 2], "it goes on by itself")
    assert actions(users, "mails") == ["pause", "resume"]


def test_no_batch_begins_after_the_one_that_a_pause_waits_for(users: CommandLine) -> None:
    with (
        at_a_slow_event(users) as process,
        users.started("projections", "pause", "mails", "--reason", "a look") as pausing,
    ):
        wait_for_lock(users.local_url)
        go(users)
        ends_well(pausing)
        assert users("consuming", "stop", "mails").code == 0
        ends_well(process)

    assert effects(users, "mails") == [1]


def test_what_never_ran_can_be_paused_and_start_says_who_did_it(users: CommandLine) -> None:
    append(users, 1)
    for name, kind in (("mails", "consuming"), ("ferry", "producing"), ("waiting", "consuming")):
        assert (
            users("projections", "pause", name, "--reason", "not yet", EVENTFERRY_USER="ann").code
            == 0
        )

        done = users.process(kind, "start", name)

        assert done.code == 1
        assert "ann has paused it at 20" in done.err
        assert f": not yet. `eventferry projections resume {name}`" in done.err
        assert audit(users, name) == [("ann", "pause", "not yet")]
    assert users("projections", "resume", "ferry").code == 0
    ran(users, "ferry")


def test_to_resume_what_is_not_paused_is_no_mistake(users: CommandLine) -> None:
    done = users("projections", "resume", "mails", "--json")

    assert done.code == 0
    assert done.envelope["data"] == {"projection": "mails", "resumed": False}
    assert audit(users) == []


@pytest.mark.parametrize("reason", [(), ("--reason", " ")])
def test_a_pause_needs_a_reason(users: CommandLine, reason: tuple[str, ...]) -> None:
    done = users("projections", "pause", "mails", *reason)

    assert done.code == 2
    assert "--reason" in done.err


# ---- stop


def ends_well(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, (out, err)


def test_a_start_that_is_idle_ends_when_it_is_stopped_and_may_be_started_again(
    users: CommandLine,
) -> None:
    for n in (1, 2):
        with running(users, "consuming", "start", "mails") as process:
            until(lambda: "users-stream" in sleeping(users.local_url), "it sleeps")
            append(users, n)
            until(lambda: n in effects(users, "mails"))  # noqa: B023
            stopped = users("consuming", "stop", "mails", "--json")
            ends_well(process)
        assert stopped.envelope["data"] == {"projection": "mails"}

    with running(users, "producing", "start", "ferry") as process:
        assert users("producing", "stop", "ferry").code == 0
        ends_well(process)
    assert (actions(users, "mails"), actions(users, "ferry")) == (["stop", "stop"], ["stop"])


def test_a_start_that_only_polls_ends_when_it_is_stopped(users: CommandLine) -> None:
    off = 'service = "users"\nlocal_listen_url = "off"\nshared_listen_url = "off"'
    users.write(CONFIGURATION.replace('service = "users"', off), HANDLERS)
    append(users, 1)
    with users.started("consuming", "start", "mails") as process:
        until(lambda: effects(users, "mails") == [1])
        assert users("consuming", "stop", "mails").code == 0
        ends_well(process)


def test_a_start_ends_after_its_batch_when_it_is_stopped(users: CommandLine) -> None:
    with (
        at_a_slow_event(users) as process,
        users.started("consuming", "stop", "mails") as stopping,
    ):
        wait_for_lock(users.local_url)
        assert stopping.stderr is not None
        assert "waiting for the batch that is being handled" in stopping.stderr.readline()
        go(users)
        ends_well(stopping)
        ends_well(process)

    assert effects(users, "mails") == [1]
    ran(users, "mails")
    assert effects(users, "mails") == [1, 2, 3]


@pytest.mark.parametrize(("name", "state"), [("patient", "retrying"), ("mails", "failed")])
def test_a_start_that_fails_ends_when_it_is_stopped(
    users: CommandLine, name: str, state: str
) -> None:
    users.break_handler()
    with running(users, "consuming", "start", name) as process:
        append(users, 1, Poison=1)
        until(lambda: _state(users, name) == state, state)
        assert users("consuming", "stop", name).code == 0
        ends_well(process)


def test_a_start_that_is_paused_or_waits_ends_when_it_is_stopped(users: CommandLine) -> None:
    for name in ("mails", "waiting"):
        with running(users, "consuming", "start", name) as process:
            if name == "mails":
                assert users("projections", "pause", name, "--reason", "a look").code == 0
            assert users("consuming", "stop", name).code == 0
            ends_well(process)


def _state(users: CommandLine, name: str) -> str:
    rows = query(
        users.local_url, "SELECT state FROM eventferry.projections WHERE name = %s", (name,)
    )
    return str(rows[0][0]) if rows else ""


def test_a_stop_of_what_nobody_runs_swallows_no_trigger(users: CommandLine) -> None:
    append(users, 1)
    assert users("consuming", "stop", "mails").code == 0, "it never ran"
    ran(users, "mails")
    assert users("consuming", "stop", "mails").code == 0
    append(users, 2)

    assert users.process("worker", "--once").code == 1, "one waits for its stream"

    assert effects(users, "mails") == [1, 2]


def test_a_worker_is_not_ended_by_a_stop(users: CommandLine) -> None:
    with running(users, "worker") as worker:
        append(users, 1)
        until(lambda: effects(users, "mails") == [1])
        assert users("consuming", "stop", "mails").code == 0
        append(users, 2)
        until(lambda: effects(users, "mails") == [1, 2])
        worker.send_signal(signal.SIGTERM)
        ends_well(worker)


def test_a_stop_of_the_other_kind_says_what_is_right(users: CommandLine) -> None:
    done = users("producing", "stop", "mails")

    assert done.code == 2
    assert "eventferry consuming stop mails" in done.err


# ---- start


def test_a_start_of_what_has_failed_says_the_error_and_how_to_go_on(users: CommandLine) -> None:
    users.break_handler()
    append(users, 1, Poison=1)
    ran(users, "mails", 1)

    done = users.process("consuming", "start", "mails", "--json")

    assert done.code == 1
    (error,) = done.envelope["errors"]
    assert error["type"] == "ProjectionFailed"
    assert "ValueError: a bug in the handler" in error["message"]
    assert "`eventferry projections retry mails`" in error["message"]


# ---- skip


def test_the_failing_event_is_left_out(users: CommandLine) -> None:
    users.break_handler()
    append(users, 1, 2, 3, Poison=2)
    ran(users, "mails", 1)

    done = users(
        "projections", "skip", "mails", "--event", event_id(2), "--reason", "a test", "--json"
    )

    assert done.code == 0, done
    data = done.envelope["data"]
    assert (data["event_id"], data["position"], data["parked"]) == (event_id(2), 2, False)
    ran(users, "mails")
    assert effects(users, "mails") == [1, 3]
    assert actions(users, "mails") == ["skip"]


def test_a_parked_event_is_forgotten(users: CommandLine) -> None:
    users.break_handler()
    append(users, 1, 2, 3, Poison=1)
    ran(users, "careful")

    done = users("projections", "skip", "careful", "--event", event_id(1), "--reason", "a test")

    assert "forgets the parked event" in done.out
    assert "1 parked behind it wait on: eventferry projections unpark careful --entity" in done.out
    assert users.process("projections", "unpark", "careful", "--all").code == 0
    assert effects(users, "careful") == [2, 3]


def test_several_parked_events_are_forgotten_all_or_none(users: CommandLine) -> None:
    users.break_handler()
    append(users, 1, 2, 3, Poison=1)
    ran(users, "careful")
    skip = ("projections", "skip", "careful", "--reason", "a test", "--json")

    def of(*numbers: int) -> list[str]:
        return [word for n in numbers for word in ("--event", event_id(n))]

    refused = users(*skip, *of(1, 99))
    assert refused.code == 1
    assert f"has not parked {event_id(99)}" in refused.envelope["errors"][0]["message"]
    assert audit(users) == []

    done = users(*skip, *of(1, 3, 1))
    assert done.code == 0, done
    assert [e["event_id"] for e in done.envelope["data"]["events"]] == [event_id(1), event_id(3)]
    assert actions(users, "careful") == ["skip", "skip"]
    users("projections", "unpark", "careful", "--all")
    assert 3 not in effects(users, "careful")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (event_id(1), 1, "fails, and 00000000-0000-7000-8000-000000000001 is not parked"),
        ("one", 2, "should be a valid UUID"),
    ],
)
def test_what_can_not_be_skipped_is_said(
    users: CommandLine, given: str, code: int, said: str
) -> None:
    done = users("projections", "skip", "mails", "--event", given, "--reason", "a test")

    assert done.code == code
    assert said in done.err
    assert audit(users) == []


# ---- unpark


@pytest.fixture
def parked(users: CommandLine) -> CommandLine:
    """`careful` has parked 1 of the odd ones, and 3 and 5 behind it."""
    users.break_handler()
    append(users, 1, 2, 3, 4, Poison=1)
    ran(users, "careful")
    append(users, 5)
    ran(users, "careful")
    assert effects(users, "careful") == [2, 4]
    return users


def test_parked_events_are_handled_in_order_when_the_handler_is_mended(
    parked: CommandLine,
) -> None:
    listed = parked("projections", "unpark", "careful", "--all", "--dry-run", "--json")
    assert [e["position"] for e in listed.envelope["data"]["events"]] == [1, 3, 5]
    assert "in this order" in parked("projections", "unpark", "careful", "--all", "--dry-run").out

    failed = parked.process("projections", "unpark", "careful", "--entity", "odd", "--json")
    assert failed.code == 1
    data = failed.envelope["data"]
    assert (data["handled"], data["left"], len(data["failed"])) == (0, 3, 1)
    assert "a bug in the handler" in failed.envelope["errors"][0]["message"]

    parked.fix_handler()
    second = parked.process("projections", "unpark", "careful", "--event", event_id(3))
    assert second.code == 1
    assert f"waits behind {event_id(1)}" in second.err
    first = parked.process("projections", "unpark", "careful", "--event", event_id(1))
    assert (first.code, first.out) == (0, "careful: 1 event handled\n")
    rest = parked.process("projections", "unpark", "careful", "--entity", "odd")
    assert (rest.code, rest.out) == (0, "careful: 2 events handled\n")
    assert effects(parked, "careful") == [2, 4, 1, 3, 5]
    assert actions(parked, "careful") == ["unpark", "unpark", "unpark"]


def test_what_has_failed_alike_is_unparked_by_its_fingerprint(parked: CommandLine) -> None:
    listed = parked("projections", "unpark", "careful", "--all", "--dry-run", "--json")
    (error, *waiting) = [e["fingerprint"] for e in listed.envelope["data"]["events"]]
    assert waiting == [None, None]
    assert f"({error})" in parked.process("projections", "status", "careful").out
    asked = ("projections", "unpark", "careful", "--error", error)
    assert "3 events would be handed to the handler" in parked(*asked, "--dry-run").out
    parked.fix_handler()
    assert parked(*asked).out == "careful: 3 events handled\n"
    assert effects(parked, "careful") == [2, 4, 1, 3, 5]


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ((), 2, "one of --entity, --event, --error and --all"),
        (("--all", "--entity", "odd"), 2, "one of --entity, --event, --error and --all"),
        (("--entity", "odd"), 1, "no event of entity 'odd' is parked in projection mails"),
        (("--event", event_id(1)), 1, f"event {event_id(1)} is not parked in projection mails"),
        (
            ("--event", event_id(1), "--event", event_id(2)),
            1,
            f"event {event_id(1)}, {event_id(2)} are not parked in projection mails",
        ),
        (("--error", "0f1e2d"), 1, "no event is parked in projection mails with error '0f1e2d'"),
        (("--all",), 0, ""),
    ],
)
def test_what_can_not_be_unparked_is_said(
    users: CommandLine, given: tuple[str, ...], code: int, said: str
) -> None:
    done = users("projections", "unpark", "mails", *given, "--dry-run")

    assert done.code == code
    assert said in done.err
    assert users("projections", "unpark", "ferry", "--all", "--dry-run").code == 0


# ---- reset


def test_a_reset_calls_the_handlers_own(users: CommandLine) -> None:
    append(users, 1, 2)
    ran(users, "mails")

    dry = users.process("projections", "reset", "mails", "--dry-run", "--json")
    assert dry.code == 0
    assert dry.envelope["data"] == {
        "projection": "mails",
        "to": "start",
        "streams": [{"stream": "users-stream", "before": 2, "after": 0, "events": 2}],
        "has_reset": True,
        "parked": 0,
        "done": False,
    }
    assert effects(users, "mails") == [1, 2]

    done = users.process("projections", "reset", "mails", "--yes", "--reason", "a new table")
    assert done.code == 0
    assert "from position 2 to 0: 2 events are handled again" in done.out
    assert "its handler's reset is called" in done.out
    assert effects(users, "mails") == []
    ran(users, "mails")
    assert effects(users, "mails") == [1, 2]
    assert [line[1:] for line in audit(users, "mails")] == [("reset", "a new table")]


def test_a_reset_that_raises_changes_nothing(users: CommandLine) -> None:
    append(users, 1, 2)
    ran(users, "mails")
    users.break_handler()

    done = users.process("projections", "reset", "mails", "--yes")

    assert done.code == 1
    assert "has raised ValueError: a bug in its reset. Nothing is changed" in done.err
    ran(users, "mails")
    assert effects(users, "mails") == [1, 2]
    assert audit(users) == []


def test_a_reset_leaves_out_what_is_before_its_place(users: CommandLine) -> None:
    append(users, 1, 2, 3)
    done = users.process("projections", "reset", "careful", "--to", "1", "--yes")
    assert "begins after position 1; it has not run there" in done.out
    ran(users, "careful")
    assert effects(users, "careful") == [2, 3]
    append(users, 4, 5)

    done = users.process("projections", "reset", "careful", "--to", "now", "--yes")

    assert "from position 3 to 5: 2 events are left out" in done.out
    assert "its handler has no reset" in done.out
    ran(users, "careful")
    assert effects(users, "careful") == [2, 3]


def test_a_reset_to_what_is_lost_says_that_nothing_is_in_common(users: CommandLine) -> None:
    append(users, 1, 2)
    ran(users, "mails")
    with psycopg.connect(users.local_url) as conn:
        conn.execute("UPDATE eventferry.checkpoints SET event_id = gen_random_uuid()")
        conn.execute("DELETE FROM eventferry.marks")
    ran(users, "mails", 1)

    done = users.process("projections", "reset", "mails", "--to", "last-common", "--yes")

    assert "has nothing in common with what was read up to position 2" in done.out
    ran(users, "mails")
    assert effects(users, "mails") == [1, 2]


@pytest.mark.parametrize("place", ["0x1", "-1", "end"])
def test_a_place_that_is_none_is_refused(users: CommandLine, place: str) -> None:
    done = users("projections", "reset", "mails", "--to", place, "--yes")

    assert done.code == 2
    assert "expected start, now, last-common or a position" in done.err


@pytest.mark.parametrize(
    "words", [("reset", "mails"), ("delete", "mails"), ("remove-stream", "mails", "users-stream")]
)
def test_what_can_not_be_undone_needs_a_yes(users: CommandLine, words: tuple[str, ...]) -> None:
    done = users("projections", *words)

    assert done.code == 2
    assert "add --yes" in done.err
    assert audit(users) == []


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, []), ("\n", 1, [1])])
def test_on_a_terminal_it_asks(users: CommandLine, answer: str, code: int, left: list[int]) -> None:
    append(users, 1)
    ran(users, "mails")
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*PROGRAM, "projections", "reset", "mails"],
            cwd=users.folder,
            env=users.environ,
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(ours, answer.encode())
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        os.close(ours)
        os.close(theirs)

    assert process.returncode == code, (out, err)
    assert out.count("1 events are handled again") == 1
    assert "Do it?" in err
    assert ("nothing is changed" in err) is bool(code)
    assert effects(users, "mails") == left


def test_what_runs_is_not_reset_unless_it_is_stopped(users: CommandLine) -> None:
    with at_a_slow_event(users) as process:
        refused = users.process("projections", "reset", "mails", "--yes")
        assert refused.code == 1
        assert "projection mails is run by" in refused.err
        assert "--stop ends that run first" in refused.err

        with users.started("projections", "reset", "mails", "--stop", "--yes") as resetting:
            wait_for_lock(users.local_url)
            go(users)
            ends_well(resetting)
        ends_well(process)

    assert effects(users, "mails") == []
    assert actions(users, "mails") == ["stop", "reset"]
    ran(users, "mails")
    assert effects(users, "mails") == [1, 2, 3]


def test_a_producing_projection_is_reset_in_the_shared_store(users: CommandLine) -> None:
    append(users, 1, 2)
    ran(users, "ferry")

    done = users.process("projections", "reset", "ferry", "--yes", EVENTFERRY_USER="ann")

    assert "2 events are handled again" in done.out
    assert "what is in users-stream already is not appended again" in done.out
    ran(users, "ferry")
    found = users("streams", "list", "--environment", "shared", "--json").envelope["data"]
    assert [stream["last_position"] for stream in found] == [2]
    assert audit(users, "ferry") == [("ann", "reset", None)]


# ---- delete


@pytest.mark.parametrize("name", ["mails", "ferry"])
def test_what_is_deleted_is_brought_back_by_nothing_but_a_reset(
    users: CommandLine, name: str
) -> None:
    append(users, 1)
    ran(users, name)

    deleted = users("projections", "delete", name, "--yes", "--reason", "too old", "--json")
    append(users, 2)
    kind = "producing" if name == "ferry" else "consuming"
    started = users.process(kind, "start", name)
    worker = users.process("worker", "--once", "--json")

    assert deleted.envelope["data"] == {"projection": name, "deleted": True}
    assert started.code == 1
    assert f"`eventferry projections reset {name}` brings it back" in started.err
    handled = {p["projection"]: p["handled"] for p in worker.envelope["data"]}
    assert (handled[name], handled["careful"]) == (0, 2)

    assert users.process("projections", "reset", name, "--to", "now", "--yes").code == 0
    append(users, 3)
    ran(users, name)
    assert actions(users, name) == ["delete", "reset"]
    if name == "mails":
        assert effects(users, name) == [3], "its reset has emptied the table"


def test_what_runs_elsewhere_ends_with_its_deletion(users: CommandLine) -> None:
    with at_a_slow_event(users), users.started("projections", "delete", "mails", "--yes") as one:
        wait_for_lock(users.local_url)
        go(users)
        ends_well(one)
        append(users, 4)
        worker = users.process("worker", "--once", "--json")

    ended = {p["projection"]: p["ended"] for p in worker.envelope["data"]}
    assert ended["mails"] == "paused"
    assert effects(users, "mails") == [1]


# ---- streams


def test_streams_are_added_and_removed(users: CommandLine) -> None:
    assert users("streams", "create", "jobs-stream").code == 0
    append(users, 1)
    append(users, 2, stream="jobs-stream")
    ran(users, "careful")

    done = users("projections", "add-stream", "careful", "jobs-stream", "--from", "now", "--json")

    assert done.envelope["data"] == {
        "projection": "careful",
        "stream": "jobs-stream",
        "position": 2,
    }
    both = CONFIGURATION.replace(
        '[consuming.careful]\nstream_names = ["users-stream"]',
        '[consuming.careful]\nstream_names = ["users-stream", "jobs-stream"]',
    )
    users.write(both, HANDLERS)
    append(users, 3, stream="jobs-stream")
    append(users, 4)
    ran(users, "careful")
    assert effects(users, "careful") == [1, 3, 4]

    assert users("projections", "remove-stream", "careful", "jobs-stream", "--yes").code == 0

    users.write(CONFIGURATION, HANDLERS)
    append(users, 5, stream="jobs-stream")
    append(users, 6)
    ran(users, "careful")
    assert effects(users, "careful") == [1, 3, 4, 6]
    assert actions(users, "careful") == ["add-stream", "remove-stream"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add-stream", "mails", "later-stream"), 2, "no stream 'later-stream'"),
        (("add-stream", "mails", "users-stream"), 1, "reads 'users-stream' already"),
        (("add-stream", "ferry", "later-stream"), 1, "is a producing one"),
        (("remove-stream", "mails", "later-stream", "--yes"), 1, "does not read 'later-stream'"),
        (("remove-stream", "mails", "users-stream", "--yes"), 1, "reads nothing but"),
    ],
)
def test_streams_that_can_not_be_added_or_removed(
    users: CommandLine, words: tuple[str, ...], code: int, said: str
) -> None:
    done = users("projections", *words)

    assert done.code == code
    assert said in done.err
    assert audit(users) == []


# ---- audit


def test_the_audit_says_who_did_what_when_and_why(users: CommandLine) -> None:
    users.break_handler()
    append(users, 1, Poison=1)
    ran(users, "mails", 1)
    assert users("projections", "retry", "--reason", "mended", EVENTFERRY_USER="ann").code == 0
    assert users("projections", "retry", "--reason", "again").code == 0, "nothing had failed"
    assert users("projections", "pause", "ferry", "--reason", "a look").code == 0

    assert [line[1:] for line in audit(users)] == [("retry", "mended"), ("pause", "a look")]
    assert audit(users, "mails") == [("ann", "retry", "mended")]
    (latest,) = users("projections", "audit", "--limit", "1", "--json").envelope["data"]
    assert (latest["projection"], latest["details"]) == ("ferry", {})
    assert "@" in latest["who"]
    head, *lines = users("projections", "audit").out.splitlines()
    assert head.split("\t") == ["at", "who", "projection", "action", "reason", "details"]
    assert [line.split("\t")[1:5] for line in lines][1] == ["ann", "mails", "retry", "mended"]


@pytest.mark.parametrize(
    "words",
    [
        ("projections", "pause", "mail", "--reason", "why"),
        ("projections", "resume", "mail"),
        ("projections", "skip", "mail", "--event", event_id(1), "--reason", "why"),
        ("projections", "unpark", "mail", "--all", "--dry-run"),
        ("projections", "delete", "mail", "--yes"),
        ("projections", "add-stream", "mail", "users-stream"),
        ("projections", "remove-stream", "mail", "users-stream", "--yes"),
        ("projections", "audit", "mail"),
        ("consuming", "stop", "mail"),
    ],
    ids=" ".join,
)
def test_an_unknown_projection_is_named_with_what_was_meant(
    users: CommandLine, words: tuple[str, ...]
) -> None:
    done = users(*words, "--json")

    assert done.code == 2
    (error,) = done.envelope["errors"]
    assert "has no projection 'mail'; did you mean 'mails'?" in error["message"]
