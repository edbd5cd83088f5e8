"""What is seen and done of projections at night, while the shared store is away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eventferry.embedded import EmbeddedServer
from tests.command_line import CommandLine, Done, cloud_event
from tests.conftest import MakeDatabase
from tests.databases import Databases
from tests.waiting import until

CONFIGURATION = """
service = "users"
poll_interval = "100ms"

[producing.ferry]
stream_name = "users-stream"

[consuming.near]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
attempts = 1
on_failure = "park"

[consuming.far]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:handle"
attempts = 1
on_failure = "park"

[consuming.failing]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:handle"
attempts = 1
"""
NAMES = ("ferry", "near", "far", "failing")
POISON = "00000000-0000-7000-8000-000000000002"


@pytest.fixture
def users(
    tmp_path: Path,
    make_database: MakeDatabase,
    own_server: EmbeddedServer,
    own_databases: Databases,
) -> CommandLine:
    """Its shared store has a server of its own; the second of three events has failed."""
    users = CommandLine(tmp_path, make_database("local", "users"), own_databases.make("shared"))
    ran(users)
    return users


@pytest.fixture
def away(users: CommandLine, own_server: EmbeddedServer) -> CommandLine:
    """The shared store is away."""
    own_server.stop()
    return users


def ran(users: CommandLine) -> None:
    users.ready().write(CONFIGURATION)
    users.break_handler()
    lines = [cloud_event(n, "Poison" if n == 2 else "UserRegistered") for n in (1, 2, 3)]
    assert users("events", "append", "users-stream", stdin="\n".join(lines)).code == 0
    done = users.process("worker", "--once")
    assert done.code == 1, done
    assert users("events", "append", "users-stream", stdin=cloud_event(4)).code == 0


def by_name(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {status["name"]: status for status in found}


def status(users: CommandLine) -> dict[str, dict[str, Any]]:
    return by_name(users("projections", "status", "--json").envelope["data"])


def audit(users: CommandLine) -> list[tuple[str, str]]:
    """What has been done to which, the first first."""
    found = users("projections", "audit", "--json").envelope["data"]
    return [(a["projection"], a["action"]) for a in reversed(found)]


def test_what_the_local_store_knows_is_shown(away: CommandLine) -> None:
    done = away("projections", "status", "--json")
    found = by_name(done.envelope["data"])

    assert done.code == 2
    errors = done.envelope["errors"]
    assert [e["type"] for e in errors] == ["StoreUnavailable", "ProjectionFailed"]
    assert errors[0]["message"].startswith("shared store postgresql://")
    assert errors[0]["message"].endswith("Shown is what the local store knows")
    assert {name: (found[name]["state"], found[name]["lag"]) for name in NAMES} == {
        "ferry": ("idle", None),
        "near": ("idle", 1),
        "far": ("idle", None),
        "failing": ("failed", None),
    }
    streams = {name: found[name]["streams"][0] for name in NAMES}
    known = ("exists", "position", "horizon", "last_position", "lag", "behind_s")
    assert [streams["far"][key] for key in known] == [None, 3, None, None, None, None]
    assert [streams["ferry"][key] for key in known] == [True, None, 4, 4, None, None]
    assert [streams["near"][key] for key in known[:-1]] == [True, 3, 4, 4, 1]
    assert {name: found[name]["parked"] and found[name]["parked"]["events"] for name in NAMES} == {
        "ferry": None,
        "near": 1,
        "far": 1,
        "failing": None,
    }
    assert found["failing"]["failure"]["event_id"] == POISON


def test_people_see_it_with_one_line_about_the_store(away: CommandLine) -> None:
    done = away("projections", "status")

    rows = [line.split("\t") for line in done.out.splitlines() if line.count("\t") > 8]
    assert [(row[0], *row[3:8]) for row in rows[1:]] == [
        ("ferry", "idle", "users-stream", "-", "4", "-"),
        ("near", "idle", "users-stream", "3", "4", "1"),
        ("far", "idle", "users-stream", "3", "-", "-"),
        ("failing", "failed", "users-stream", "1", "-", "-"),
    ]
    assert "eventferry projections retry failing" in done.out
    assert done.err.count("shared store") == 1
    assert done.code == 2


def test_who_does_not_need_the_shared_store_is_not_told_of_it(away: CommandLine) -> None:
    done = away("projections", "status", "near")

    assert (done.code, done.err) == (0, "")


def test_without_the_local_store_nothing_is_shown(users: CommandLine) -> None:
    url = "postgresql://nobody@127.0.0.1:1/away"
    done = users("projections", "status", "--json", EVENTFERRY_LOCAL_URL=url)

    assert (done.code, done.envelope["data"]) == (2, None)
    assert "local store" in done.envelope["errors"][0]["message"]


# ---- --watch


def answers(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    raise AssertionError(f"it has ended: {process.communicate()}")


def lags(answer: dict[str, Any]) -> dict[str, int | None]:
    return {name: found["lag"] for name, found in by_name(answer["data"] or []).items()}


def until_said(
    process: subprocess.Popen[str], is_so: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    said = answers(process)
    return until(lambda: next((a for a in [next(said)] if is_so(a)), None), "it is said") or {}


@pytest.mark.parametrize("begins", ["there", "away"])
def test_who_watches_sees_the_shared_store_come_and_go(
    users: CommandLine, own_server: EmbeddedServer, begins: str
) -> None:
    there = {"ferry": 1, "near": 1, "far": 0, "failing": 2}
    away = {"ferry": None, "near": 1, "far": None, "failing": None}
    if begins == "away":
        own_server.stop()
    with users.started("projections", "status", "--watch", "--every", "50ms", "--json") as process:
        if begins == "there":
            until_said(process, lambda answer: lags(answer) == there)
            own_server.stop()
        until_said(process, lambda answer: lags(answer) == away)
        own_server.start()
        until_said(process, lambda answer: lags(answer) == there)
        own_server.stop()
        until_said(process, lambda answer: lags(answer) == away)


def test_who_watches_sees_the_local_store_come_and_go(
    tmp_path: Path, own_server: EmbeddedServer, own_databases: Databases
) -> None:
    users = CommandLine(tmp_path, own_databases.make("local", "users"), "")
    users.write('service = "users"\n[consuming.near]' + CONFIGURATION.split("[consuming.near]")[1])
    with users.started(
        *("projections", "status", "--watch", "--every", "50ms", "--json"),
        EVENTFERRY_SHARED_URL="postgresql://nobody@127.0.0.1:1/away",
    ) as process:
        until_said(process, lambda answer: answer["data"] is not None)
        own_server.stop()
        lost = until_said(process, lambda answer: answer["data"] is None)
        assert lost["errors"]
        own_server.start()
        until_said(process, lambda answer: answer["data"] is not None)


# ---- controls


@pytest.mark.parametrize("name", ["near", "far"])
def test_what_only_the_local_store_keeps_is_changed(away: CommandLine, name: str) -> None:
    for command, state in (
        (("consuming", "stop", name), "idle"),
        (("projections", "pause", name, "--reason", "night"), "paused"),
        (("projections", "resume", name), "idle"),
        (("projections", "skip", name, "--event", POISON, "--reason", "night"), "idle"),
        (("projections", "delete", name, "--yes"), "deleted"),
    ):
        done = away(*command)
        assert (done.code, done.err) == (0, ""), command
        assert status(away)[name]["state"] == state
    listed = away("projections", "audit", name, "--json")
    assert listed.code == 0
    told = [action["action"] for action in reversed(listed.envelope["data"])]
    assert told[-5:] == ["stop", "pause", "resume", "skip", "delete"]


def test_the_failing_event_is_skipped(away: CommandLine) -> None:
    done = away("projections", "skip", "failing", "--event", POISON, "--reason", "night")

    assert done.code == 0, done.err
    assert status(away)["failing"]["state"] == "idle"


def test_what_has_failed_is_retried(away: CommandLine, own_server: EmbeddedServer) -> None:
    done = away("projections", "retry")
    assert (done.code, done.out.split(".")[0]) == (0, "set to run: failing"), done.err
    assert status(away)["failing"]["state"] == "idle"

    own_server.start()
    assert audit(away)[-1] == ("failing", "retry")


def test_a_local_reader_is_reset_and_unparked(away: CommandLine) -> None:
    away.fix_handler()
    for command in (("unpark", "near", "--all"), ("reset", "near", "--yes")):
        done = away.process("projections", *command)
        assert done.code == 0, done.err


def test_what_needs_the_shared_store_says_so_and_changes_nothing(
    users: CommandLine, own_server: EmbeddedServer
) -> None:
    before = status(users), audit(users)
    own_server.stop()
    for command in (
        ("producing", "stop", "ferry"),
        ("projections", "pause", "ferry", "--reason", "night"),
        ("projections", "resume", "ferry"),
        ("projections", "delete", "ferry", "--yes"),
        ("projections", "add-stream", "far", "more-stream"),
        ("projections", "retry", "failing", "--wait"),
    ):
        refused(users(*command))
    refused(users.process("projections", "reset", "far", "--yes", "--stop"))
    refused(users.process("projections", "unpark", "far", "--all"))

    own_server.start()
    assert audit(users) == before[1]
    after = status(users)
    for name in NAMES:
        for key in ("state", "paused", "parked", "failure"):
            assert after[name][key] == before[0][name][key]


def refused(done: Done) -> None:
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: shared store postgresql://")


def test_the_audit_shows_what_the_local_store_knows(
    users: CommandLine, own_server: EmbeddedServer
) -> None:
    for name in ("ferry", "near"):
        assert users("projections", "pause", name, "--reason", "night").code == 0
    own_server.stop()

    done = users("projections", "audit", "--json")

    assert done.code == 2
    assert [e["type"] for e in done.envelope["errors"]] == ["StoreUnavailable"]
    told = {(action["projection"], action["action"]) for action in done.envelope["data"]}
    assert ("near", "pause") in told
    assert ("ferry", "pause") not in told


# ---- check


def test_check_reports_failures_all_the_same(away: CommandLine) -> None:
    done = away.process("check", "--json")

    assert done.code == 2
    found = {
        finding["type"]: finding["projections"] for finding in done.envelope["data"]["findings"]
    }
    assert found["StoreUnavailable"] == []
    assert found["ProjectionFailed"] == ["failing"]
