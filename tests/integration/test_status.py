"""What `projections status` says of failures, pauses, parked events and open appends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventferry import Context, End, Event, EventStore, RecordedEvent, migrate
from eventferry.embedded import EmbeddedServer
from tests.command_line import CommandLine, Done
from tests.services import Service, numbered, record

STREAM = "users-stream"
READER = "reader"
WEEK = timedelta(days=7)

CONFIGURATION = f"""
service = "users"

[consuming.{READER}]
stream_names = ["{STREAM}"]
environment = "local"
handler = "handlers:handle_nothing"
attempts = 3
"""


class Failing:
    """Records, but fails at the given numbers."""

    def __init__(self, *poison: int) -> None:
        self.poison = poison

    def handle(self, event: RecordedEvent, context: Context) -> None:
        record(event, context)
        if event.data["n"] in self.poison:
            raise ValueError(f"a bug\nat {event.data['n']}")


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM)
    loner.create_effects()
    return loner


class Shown:
    """What the command says of the service's reader."""

    def __init__(self, folder: Path, url: str) -> None:
        self.commands = CommandLine(folder, url, url)
        self.commands.write(CONFIGURATION)

    def text(self, *options: str) -> Done:
        return self.commands("projections", "status", *options)

    def data(self) -> dict[str, Any]:
        (found,) = self.text("--json").envelope["data"]
        assert isinstance(found, dict)
        return found


@pytest.fixture
def shown(users: Service, tmp_path: Path) -> Shown:
    return Shown(tmp_path, users.local_url)


def fail(users: Service, *poison: int, count: int = 5, **options: Any) -> End:
    """Lets the reader come to its first failure."""
    users.consuming(READER, Failing(*poison), STREAM, **({"backoff": WEEK} | options))
    users.append(STREAM, numbered(count, entity_id="a"))
    return users.look(READER).end


def test_an_attempt_that_is_to_come_is_said(users: Service, shown: Shown) -> None:
    assert fail(users, 2, attempts=3) is End.RETRYING

    found = shown.data()
    assert found["state"] == "retrying"
    failure = found["failure"]
    assert (failure["attempts"], failure["allowed"], failure["is_final"]) == (1, 3, False)
    assert failure["next_attempt_at"] > failure["failed_at"]
    assert failure["due_s"] > 0
    done = shown.text()
    assert done.code == 0
    assert "reader is retrying: it failed, " in done.out
    assert "(attempt 1 of 3)" in done.out
    assert "at once: eventferry projections retry reader" in done.out


def test_all_attempts_that_failed_are_kept_to_be_seen(users: Service, shown: Shown) -> None:
    fail(users, 1, attempts=9, backoff=timedelta(0), backoff_max=timedelta(0))
    for _ in range(5):
        users.look(READER)

    found = shown.data()["failures"]
    assert [f["attempt"] for f in found] == [6, 5, 4, 3, 2, 1]
    assert {(f["error"], f["entity_id"], f["gave_up"]) for f in found} == {
        ("ValueError: a bug\nat 1", "a", False)
    }
    assert "raise ValueError" in found[-1]["traceback"]
    few, all_of_them = shown.text().out, shown.text("--verbose").out
    assert [n for n in range(1, 7) if f"attempt {n}: Numbered" in few] == [4, 5, 6]
    assert [n for n in range(1, 7) if f"attempt {n}: Numbered" in all_of_them] == [*range(1, 7)]
    assert "raise ValueError" in all_of_them
    assert "raise ValueError" not in few


def test_what_has_failed_for_good_says_the_ways_out(users: Service, shown: Shown) -> None:
    assert fail(users, 2, attempts=1) is End.FAILED

    done = shown.text()
    event = users.failure(READER).failing_event_id
    assert done.code == 1
    assert "reader failed, " in done.out
    assert "when it is fixed: eventferry projections retry reader\n" in done.out
    assert f"eventferry projections skip reader --event {event} --reason" in done.out


def test_who_stands_still_has_no_time_left(users: Service, shown: Shown) -> None:
    fail(users, 2, attempts=3)
    users.execute(
        "INSERT INTO eventferry.statistics"
        " SELECT 'reader', date_trunc('minute', now), 60, 0, 1, now - interval '60 s', now"
        "   FROM clock_timestamp() AS now"
    )
    assert shown.data()["time_left_s"] == 4  # it goes on by itself

    users.control(READER, lambda it: it.pause("until the fix"))
    assert (shown.data()["rate"], shown.data()["time_left_s"]) == (1, None)
    users.control(READER, lambda it: it.resume())
    users.execute("UPDATE eventferry.projections SET state = 'failed'")
    assert (shown.data()["rate"], shown.data()["time_left_s"]) == (1, None)


def test_when_all_is_well_old_failures_are_not_spoken_of(users: Service, shown: Shown) -> None:
    fail(users, 2, attempts=1)
    users.deploy(READER, record)
    users.retry()
    users.look(READER)

    assert "ValueError" not in shown.text().out
    assert "attempt 1: Numbered" in shown.text("--verbose").out
    assert len(shown.data()["failures"]) == 1


def test_a_pause_is_said_with_who_and_why(users: Service, shown: Shown) -> None:
    users.consuming(READER, record, STREAM)
    users.control(READER, lambda it: it.pause("the mail server\nmoves"))

    found = shown.data()
    assert found["state"] == "paused"
    assert (found["paused"]["by"], found["paused"]["reason"]) == (
        "a test",
        "the mail server\nmoves",
    )
    done = shown.text()
    assert done.code == 0
    assert "reader was paused by a test, " in done.out
    assert "ago: the mail server moves\n" in done.out
    assert "eventferry projections resume reader" in done.out

    users.control(READER, lambda it: it.resume())
    assert (shown.data()["state"], shown.data()["paused"]) == ("never run", None)


def test_one_that_has_failed_is_not_excused_by_a_pause(users: Service, shown: Shown) -> None:
    fail(users, 2, attempts=1)
    users.control(READER, lambda it: it.pause("until the fix"))

    assert shown.data()["state"] == "paused"
    done = shown.text()
    assert done.code == 1
    assert "projection reader has failed: ValueError: a bug at 2" in done.err


def test_one_that_is_deleted_is_said_to_be(users: Service, shown: Shown) -> None:
    fail(users, 2, attempts=1)
    users.control(READER, lambda it: it.delete())

    assert shown.data()["state"] == "deleted"
    done = shown.text()
    assert done.code == 0
    assert "eventferry projections reset reader" in done.out


def test_parked_events_are_counted_with_the_first_errors(users: Service, shown: Shown) -> None:
    users.consuming(READER, Failing(2, 4, 5, 6, 7), STREAM, on_failure="park")
    assert shown.data()["parked"] is None
    entities = ["a", "b", "b", "c", None, None, "d", "a"]
    users.append(
        STREAM, [Event("Numbered", {"n": n}, entity_id=e) for n, e in enumerate(entities, 1)]
    )
    users.run(READER)

    found = shown.data()
    assert found["state"] == "idle"
    parked = found["parked"]
    assert (parked["events"], parked["entities"]) == (6, 5)
    assert [(p["entity_id"], p["attempts"], p["error"]) for p in parked["first"]] == [
        ("b", 1, "ValueError: a bug\nat 2"),
        ("c", 1, "ValueError: a bug\nat 4"),
        (None, 1, "ValueError: a bug\nat 5"),
    ]
    done = shown.text()
    assert done.code == 0
    assert "reader has 6 parked events of 5 entities" in done.out
    assert f"{STREAM} at position 2 (entity b, attempt 1)" in done.out
    assert "when it is fixed: eventferry projections unpark reader --all" in done.out


# ---- open appends


@contextmanager
def open_append(url: str, **options: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, **options) as writer:
        writer.execute('INSERT INTO streams."users-stream" (type) VALUES (%s)', ("Slow",))
        yield writer
        writer.rollback()


def test_a_prepared_transaction_is_named(users: Service, shown: Shown) -> None:
    with open_append(users.local_url) as writer:
        writer.execute("PREPARE TRANSACTION 'of the bank'")
        with psycopg.connect(users.local_url, autocommit=True) as conn:
            try:
                (found,) = shown.data()["in_flight"]
                said = shown.text().out
            finally:
                conn.execute("ROLLBACK PREPARED 'of the bank'")

    assert (found["pid"], found["prepared"], found["user"]) == (None, "of the bank", "postgres")
    assert found["open_s"] >= 0
    assert "an append to users-stream of the prepared transaction 'of the bank' (user p" in said


@pytest.fixture
def roles(server: EmbeddedServer) -> Iterator[Callable[[str], str]]:
    """A database that `owner` has migrated, where `writer` appends, and `watcher` looks."""
    name = "of_roles"
    url = server.create_database(name)

    def of(role: str) -> str:
        return url.replace("//postgres@", f"//{role}@")

    with psycopg.connect(url, autocommit=True) as conn:
        for role in ("owner", "writer", "watcher"):
            conn.execute(f"CREATE ROLE {role} LOGIN")  # type: ignore[arg-type,unused-ignore]
        conn.execute(f"GRANT CREATE ON DATABASE {name} TO owner")  # type: ignore[arg-type,unused-ignore]
    migrate(of("owner"), kind="local", service="users")
    with EventStore(of("owner")) as store:
        store.create_stream(STREAM)
    with psycopg.connect(of("owner")) as conn:
        conn.execute("GRANT USAGE ON SCHEMA eventferry, streams TO writer, watcher")
        conn.execute("GRANT USAGE ON SEQUENCE eventferry.positions TO writer")
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA eventferry, streams TO watcher")
        conn.execute('GRANT INSERT ON streams."users-stream" TO writer')
    yield of
    server.drop_database(name)
    with psycopg.connect(server.url(), autocommit=True) as conn:
        for role in ("owner", "writer", "watcher"):
            conn.execute(f"DROP ROLE {role}")  # type: ignore[arg-type,unused-ignore]


def test_an_ordinary_role_sees_who_holds_it_back_if_the_owner_may(
    roles: Callable[[str], str], tmp_path: Path
) -> None:
    shown = Shown(tmp_path, roles("watcher"))
    with open_append(roles("writer"), application_name="slow-writer") as writer:
        pid = writer.info.backend_pid
        (found,) = shown.data()["in_flight"]
        said = shown.text().out
        with psycopg.connect(roles("postgres")) as conn:
            conn.execute("GRANT pg_read_all_stats TO owner")
        (seen,) = shown.data()["in_flight"]
        seen_said = shown.text().out

    named = {
        "stream": STREAM,
        "pid": pid,
        "user": "writer",
        "application": "slow-writer",
    }
    assert {key: found[key] for key in named} == named
    assert (found["state"], found["since"], found["unseen_by"]) == (None, None, "owner")
    assert "more is seen after GRANT pg_read_all_stats TO owner)" in said
    assert {key: seen[key] for key in named} == named
    assert (seen["state"], seen["unseen_by"]) == ("idle in transaction", None)
    assert seen["open_s"] >= 0
    assert re.search(
        r"\(slow-writer, user writer, idle in transaction, open for \d+ s\)", seen_said
    )


def test_what_others_do_elsewhere_is_not_shown(users: Service, shown: Shown) -> None:
    users.create_stream("other-stream")
    with psycopg.connect(users.local_url) as writer:
        writer.execute('INSERT INTO streams."other-stream" (type) VALUES (%s)', ("Slow",))
        assert shown.data()["in_flight"] == []
