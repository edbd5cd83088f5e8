"""`eventferry check`: each thing that can be wrong is found, and named with what helps."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
import pytest

from eventferry import Context, EventStore, RecordedEvent
from eventferry.cli.finding import Limits, findings
from eventferry.migration import known
from eventferry.status import ProjectionStatus, StreamStatus
from tests.command_line import CommandLine, Done
from tests.conftest import MakeDatabase
from tests.services import Service, numbered
from tests.waiting import PATIENCE_S, until

STREAM = "users-stream"
CONFIGURATION = """
service = "users"

[producing.ferry]
stream_name = "users-stream"

[consuming.reader]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
attempts = 3

[consuming.other]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
"""
HEALTHY = "all is well: 2 store(s), 3 projection(s)\n"


def refuse(event: RecordedEvent, context: Context) -> None:
    raise ValueError("a bug")


class Checked:
    """A service, and what `check` finds."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.service = service
        self.commands = CommandLine(folder, service.local_url, service.shared_url)
        self.commands.write(CONFIGURATION)

    def __call__(self, *options: str) -> Done:
        return self.commands.process("check", *options)

    def found(self, *options: str) -> list[dict[str, Any]]:
        data = self("--json", *options).envelope["data"]["findings"]
        assert isinstance(data, list)
        return data

    def the_one(self, *options: str) -> tuple[int, str, str, str]:
        """The exit code, and the only finding: its level, its type, what helps."""
        done = self("--json", *options)
        (found,) = done.envelope["data"]["findings"]
        return done.code, found["level"], found["type"], found["remedy"]


@pytest.fixture
def check(loner: Service, tmp_path: Path, make_database: MakeDatabase) -> Iterator[Checked]:
    service = Service("users", loner.local_url, make_database("shared"))
    service.create_stream(STREAM)
    service.shared.create_stream(STREAM)
    yield Checked(tmp_path, service)
    service.close()


def test_where_all_is_well_it_says_so(check: Checked) -> None:
    done = check()

    assert (done.code, done.out.splitlines(True)[-1], done.err) == (0, HEALTHY, "")
    assert check.found() == []


def test_each_store_and_each_mode_is_spelled_out(check: Checked) -> None:
    check.commands.write(CONFIGURATION + "background_process = true\n")
    with (
        check.commands.started("consuming", "start", "other") as process,
        check.commands.started("worker", "--concurrency", "1") as worker,
    ):
        host = socket.gethostname()
        other, ran = f"start {host}:{process.pid}", f"worker {host}:{worker.pid}"
        until(lambda: len(check("--json").envelope["data"]["projections"][2]["runners"]))
        until(lambda: len(check("--json").envelope["data"]["projections"][0]["runners"]))
        done = check()

        local, shared, *projections = done.out.splitlines()[:5]
        for line, store, most in ((local, "local", 25), (shared, "shared", 13)):
            assert line.startswith(f"{store} store postgresql://")
            schema = f"schema {known()[-1].number:04}"
            assert re.search(
                rf": {schema}, \d+ of \d+ connections open; a worker opens up to {most}$", line
            )
        assert projections == [
            f"ferry: producing, on demand, run by {ran}",
            f"reader: consuming, on demand, run by {ran}",
            f"other: consuming, background, run by {other}",
        ]
        for ending in (process, worker):
            ending.terminate()
            assert ending.wait(PATIENCE_S) == 0
    lines = check().out.splitlines()
    assert "reader: consuming, on demand, run by nobody now: eventferry worker" in lines
    assert (
        "other: consuming, background, run by nobody now: eventferry worker --background, "
        "eventferry schedule run, or eventferry consuming start other" in lines
    )


# ---- who is behind


def test_who_is_behind_is_said_if_it_is_more_than_allowed(check: Checked) -> None:
    check.service.append(STREAM, numbered(3))

    assert check.found() == []
    assert check.found("--max-lag", "3", "--max-age", "1h") == []
    done = check("--max-lag", "2")
    assert done.code == 1
    assert (
        "error: projection reader is 3 events behind (allowed: 2)"
        " -> eventferry projections status reader\n" in done.out
    )
    done = check("--max-age", "1ms", "--json")
    assert done.code == 1
    assert [(f["type"], f["projections"]) for f in done.envelope["data"]["findings"]] == [
        ("Lagging", ["ferry"]),
        ("Lagging", ["reader"]),
        ("Lagging", ["other"]),
    ]
    assert all(p["behind_s"] > 0 for p in done.envelope["data"]["projections"])


def test_more_lag_than_is_counted_can_not_be_allowed(check: Checked) -> None:
    """It would never be exceeded."""
    done = check("--max-lag", "100001")
    assert done.code == 2
    assert "less than or equal to 100000" in done.err


def test_work_that_nobody_is_there_for_is_warned_of() -> None:
    def told(mode: Literal["on demand", "background"], **changes: Any) -> list[str | None]:
        stream = StreamStatus(
            stream=STREAM, exists=True, position=1, horizon=9, last_position=9, held_back=0,
            lag=changes.pop("lag", 1), behind_s=changes.pop("behind_s", 61.0),
        )  # fmt: skip
        status = ProjectionStatus(
            name="reader", kind="consuming", environment="local", mode=mode, queue="mails",
            state=changes.pop("state", "idle"), waiting=None, streams=(stream,), in_flight=(),
            failure=None, paused=None, parked=None, runner=None, shared_stream=None, rate=0.0,
            runners=changes.pop("runners", ()),
        )  # fmt: skip
        limits = Limits(open_s=60.0, lag=None, age_s=None)
        return [finding.remedy for finding in findings([status], limits)]

    assert told("on demand") == ["eventferry worker --queue mails"]
    (remedy,) = told("background")
    assert remedy is not None
    assert remedy.endswith("eventferry schedule run, or eventferry consuming start reader")
    assert told("on demand", behind_s=59.0) == []
    assert told("on demand", lag=0, behind_s=0.0) == []
    assert told("on demand", state="running") == []


# ---- the configuration and the stores


def test_a_configuration_that_is_wrong_is_said_whole(check: Checked) -> None:
    check.commands.write(CONFIGURATION.replace("handlers:handle", "handlers:nothing"))

    done = check()

    assert done.code == 2
    assert done.err.count("error: ") == 2
    assert "consuming.reader" in done.err
    assert "consuming.other" in done.err


def test_two_ferries_of_one_stream_are_warned_of(check: Checked) -> None:
    second = '[producing.second]\nstream_name = "users-stream"\n'
    check.commands.write(CONFIGURATION + second)

    done = check()

    assert done.code == 0
    assert "\nwarning: " in done.out
    assert "as producing.ferry does" in done.out
    assert check("--strict").code == 1


def test_a_store_that_is_away_is_named_and_the_other_checked(
    check: Checked, tmp_path: Path
) -> None:
    check.service.execute("ALTER SEQUENCE eventferry.positions CACHE 7")
    away = CommandLine(tmp_path, check.service.local_url, "postgresql://localhost:1/nowhere")

    done = away.process("check", "--json")

    assert done.code == 2
    assert [f["type"] for f in done.envelope["data"]["findings"]] == [
        "Integrity",
        "StoreUnavailable",
    ]
    assert [e["type"] for e in done.envelope["errors"]] == ["Integrity", "StoreUnavailable"]


def test_a_store_that_is_not_migrated_is_named(
    check: Checked, tmp_path: Path, empty_database: str
) -> None:
    done = CommandLine(tmp_path, check.service.local_url, empty_database).process("check")

    assert done.code == 2
    assert "is not migrated" in done.out
    assert "`eventferry migrate`" in done.out


def test_stores_that_are_swapped_are_noticed(check: Checked, tmp_path: Path) -> None:
    swapped = CommandLine(tmp_path, check.service.shared_url, check.service.local_url)

    done = swapped.process("check")

    assert done.code != 0
    assert done.out.count("Are local_url and shared_url swapped") == 2


TABLE = 'streams."users-stream"'


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER SEQUENCE eventferry.positions CACHE 10", "sessions draw 10 positions at once"),
        ("SELECT setval('eventferry.positions', 2)", "that was drawn is 2, but there is an event"),
        (f"ALTER TABLE {TABLE} ENABLE TRIGGER mark", "mark does not fire for everybody"),
        (f"ALTER TABLE {TABLE} DISABLE TRIGGER ALL", "mark and refuse_change does not fire"),
        (f"ALTER TABLE eventferry.events DETACH PARTITION {TABLE}", "is no partition"),
    ],
)
def test_a_store_that_is_not_whole_is_mended_by_the_statement_that_is_told(
    check: Checked, statement: LiteralString, said: str
) -> None:
    check.service.append(STREAM, numbered(3))
    check.service.execute(statement)

    code, level, kind, remedy = check.the_one()

    assert (code, level, kind) == (1, "error", "Integrity")
    assert said in check.found()[0]["message"]
    migrated = check.commands("migrate")
    assert migrated.code == 1, "who migrates is told, too"
    assert said in migrated.err
    assert remedy in migrated.err
    check.service.execute(remedy)  # type: ignore[arg-type,unused-ignore]
    assert check().out.endswith(HEALTHY)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"DROP TRIGGER mark ON {TABLE}", "stream users-stream has no trigger mark"),
        (f"DROP TABLE {TABLE}", "stream users-stream has lost its table"),
    ],
)
def test_what_no_statement_brings_back_is_found_all_the_same(
    check: Checked, statement: LiteralString, said: str
) -> None:
    check.service.execute(statement)

    assert check("--json").code != 0
    assert said in check.found()[0]["message"]


# ---- the projections


def test_one_that_has_failed_is_found_with_its_command(check: Checked) -> None:
    users = check.service
    users.consuming("reader", refuse, STREAM, attempts=1)
    users.append(STREAM, numbered(1))
    users.run("reader")

    assert check.the_one() == (
        1,
        "error",
        "ProjectionFailed",
        "eventferry projections retry reader",
    )
    line = (
        "error: projection reader has failed: ValueError: a bug "
        "-> eventferry projections retry reader\n"
    )
    assert check().out.endswith(f"\n{line}")
    assert check().err == ""

    users.control("reader", lambda it: it.pause("for now"))
    assert check.the_one()[0] == 1


@pytest.mark.parametrize(
    ("options", "type_", "remedy"),
    [
        (
            {"attempts": 3, "backoff": timedelta(days=1)},
            "ProjectionRetrying",
            "eventferry projections status reader",
        ),
        (
            {"on_failure": "park"},
            "ParkedEvents",
            "eventferry projections unpark reader --all",
        ),
    ],
)
def test_what_may_pass_or_be_meant_is_a_warning(
    check: Checked, options: dict[str, Any], type_: str, remedy: str
) -> None:
    users = check.service
    users.consuming("reader", refuse, STREAM, **options)
    users.append(STREAM, numbered(1))
    users.look("reader")

    assert check.the_one() == (0, "warning", type_, remedy)
    assert check.the_one("--strict")[0] == 1
    assert "ValueError: a bug" in check().out


def test_pauses_and_deletions_are_warnings(check: Checked) -> None:
    users = check.service
    users.consuming("reader", refuse, STREAM)
    users.consuming("other", refuse, STREAM)
    users.control("reader", lambda it: it.pause("the mail server moves"))
    users.control("other", lambda it: it.delete())

    assert [(f["level"], f["type"], f["projections"]) for f in check.found()] == [
        ("warning", "ProjectionPaused", ["reader"]),
        ("warning", "ProjectionDeleted", ["other"]),
    ]
    assert check().code == 0


def test_one_that_waits_for_its_stream_is_found_with_its_command(check: Checked) -> None:
    check.commands.write(CONFIGURATION.replace('["users-stream"]', '["missing-stream"]', 1))

    assert check.the_one() == (
        1,
        "error",
        "UnknownStream",
        "eventferry streams create missing-stream --environment local",
    )


# ---- open appends


@contextmanager
def open_append(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, application_name="slow-writer") as writer:
        writer.execute('INSERT INTO streams."users-stream" (type) VALUES (%s)', ("Slow",))
        yield writer
        writer.rollback()


def test_an_append_that_stays_open_is_found_with_all_that_it_holds_back(check: Checked) -> None:
    with open_append(check.service.local_url) as writer:
        pid = writer.info.backend_pid
        assert check("--max-open", "1h").out.endswith(HEALTHY)
        (found,) = check.found("--max-open", "1ms")
        done = check("--max-open", "1ms")

    assert found["projections"] == ["ferry", "reader", "other"]
    assert found["remedy"] == f"SELECT pg_terminate_backend({pid})"
    assert done.code == 1
    assert f"local store: an append to users-stream by backend {pid} (slow-writer, " in done.out
    assert "holds back ferry, reader, other -> " in done.out


def test_a_prepared_transaction_that_stays_open_is_found(check: Checked) -> None:
    with open_append(check.service.local_url) as writer:
        writer.execute("PREPARE TRANSACTION 'of the bank'")
        try:
            (found,) = check.found("--max-open", "1ms")
        finally:
            check.service.execute("ROLLBACK PREPARED 'of the bank'")

    assert found["type"] == "OpenAppend"
    assert found["remedy"] == "ROLLBACK PREPARED 'of the bank', or COMMIT PREPARED"


def test_appends_that_no_projection_waits_for_are_left_alone(check: Checked) -> None:
    with open_append(check.service.shared_url):
        assert check("--max-open", "1ms").out.endswith(HEALTHY)


def test_in_a_database_that_is_both_it_is_checked_once(loner: Service, tmp_path: Path) -> None:
    with EventStore(loner.local_url) as store:
        store.create_stream(STREAM)
    commands = CommandLine(tmp_path, loner.local_url, loner.local_url)
    commands.write('service = "users"\n')
    loner.execute("ALTER SEQUENCE eventferry.positions CACHE 10")

    (found,) = commands.process("check", "--json").envelope["data"]["findings"]

    assert found["type"] == "Integrity"
