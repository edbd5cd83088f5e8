"""A worker starts, ends when it is told to, and goes on by itself when a store was away."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from eventferry import (
    ConfigurationError,
    Context,
    End,
    RecordedEvent,
    StoreNotMigrated,
    StoreUnavailable,
    UnknownProjection,
    migrate,
    run_projection,
    run_worker,
)
from eventferry.embedded import EmbeddedServer
from eventferry.worker import Worker
from tests.conftest import MakeService
from tests.deployed import Deployed, deployed
from tests.pgbouncer import workers_through_pgbouncer_too
from tests.services import (
    NEVER,
    SOON,
    Service,
    listeners,
    numbered,
    open_transactions,
    query,
    record,
    record_async,
)
from tests.waiting import PATIENCE_S, until, wait_for_lock

STREAM = "users-stream"
GATE = 42

CONFIGURATION = """
    service = "users"
    local_url = "{local_url}"
    shared_url = "{shared_url}"
    local_listen_url = "{local_listen_url}"
    shared_listen_url = "{shared_listen_url}"

    [consuming.reader]
    stream_names = ["users-stream"]
    environment = "local"
    handler = "handlers:handle"
    batch_size = 1
    """
HANDLERS = """
    def handle(event, context):
        context.connection.execute("SELECT pg_advisory_xact_lock_shared(42)")
        context.connection.execute(
            "INSERT INTO effects (projection, event_id, stream, position, n)"
            " VALUES (%s, %s, %s, %s, %s)",
            (context.projection, event.id, event.stream, event.position, event.data["n"]),
        )
    """


@pytest.fixture
def users(loner: Service) -> Service:
    loner.create_stream(STREAM)
    loner.create_effects()
    return loner


@pytest.fixture
def gate(users: Service) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Closed: handlers wait inside of their batch. `rollback` opens it."""
    with psycopg.connect(users.local_url) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (GATE,))
        yield conn


def configuration(users: Service) -> str:
    return CONFIGURATION.format(**users.way.keys(users.local_url, users.shared_url))


@pytest.fixture
def here(users: Service, tmp_path: Path) -> Iterator[Deployed]:
    with deployed(tmp_path, configuration(users), HANDLERS) as service:
        yield service


# ---- starting


def test_run_projection_reads_the_file_and_runs_until_idle(users: Service, here: Deployed) -> None:
    users.append(STREAM, numbered(3))
    ended = run_projection("reader", here.config)
    assert (ended.end, ended.handled) == (End.CAUGHT_UP, 3)
    assert run_projection("reader", str(here.config)).handled == 0
    assert users.recorded() == [1, 2, 3]


def test_an_unknown_projection_is_refused(here: Deployed) -> None:
    with pytest.raises(UnknownProjection, match="it has reader"):
        run_projection("raeder", here.config)
    with pytest.raises(ConfigurationError):
        run_worker(here.folder / "nothing.toml")


def test_a_store_that_is_not_ready_is_told_at_the_start(
    users: Service, empty_database: str, server: EmbeddedServer
) -> None:
    users.consuming("reader", record, STREAM)
    users.shared_url = empty_database
    with pytest.raises(StoreNotMigrated, match="eventferry migrate"):
        users.run("reader")
    users.shared_url = server.url("nowhere")
    with pytest.raises(StoreUnavailable, match="nowhere"):
        users.run("reader")


def test_a_worker_that_was_stopped_before_it_starts_does_nothing(users: Service) -> None:
    users.consuming("reader", record, STREAM)
    users.append(STREAM, numbered(1))
    worker = Worker(config=users.config, projections=list(users.projections.values()))
    worker.stop()
    worker.stop()
    asyncio.run(worker.run())
    assert users.recorded() == []


def test_a_worker_without_projections_waits_for_its_end(users: Service) -> None:
    async def run() -> None:
        worker = Worker(config=users.config, projections=[])
        asyncio.get_running_loop().call_soon(worker.stop)
        await worker.run()

    asyncio.run(run())


def test_one_slot_serves_many_projections(users: Service) -> None:
    for n in range(6):
        users.consuming(f"reader-{n}", record_async if n % 2 else record, STREAM, batch_size=3)
    with users.worker(concurrency=1):
        users.append(STREAM, numbered(20))
        for name in users.projections:
            until(lambda name=name: users.recorded(name) == list(range(1, 21)))  # type: ignore[misc]


def test_a_busy_stream_does_not_hold_a_slot_for_ever(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slice of time is over at once: the other gets its turn between any two pages."""
    monkeypatch.setattr("eventferry.run.SLICE_S", 0.0)
    users.consuming("busy", record, STREAM, batch_size=1)
    users.consuming("other", record, STREAM)
    users.append(STREAM, numbered(20))
    with users.worker(concurrency=1) as worker:
        until(lambda: len(users.recorded("busy")) == len(users.recorded("other")) == 20)
    ends = [(name, ended.end) for name, ended in worker.ended]
    assert ("busy", End.SLICED) in ends
    assert ends.index(("other", End.SLICED)) < len(ends) - 1 - ends[::-1].index(
        ("busy", End.SLICED)
    )


def test_a_stream_that_a_ferry_has_just_made_is_not_missed(make_service: MakeService) -> None:
    """Though there was nothing to ferry, and its reader had looked before."""
    users = make_service("users")
    users.create_stream(STREAM)
    users.consuming("reader", record, STREAM, environment="shared")
    users.producing("ferry", STREAM)
    worker = Worker(
        config=users.config, projections=list(users.projections.values()), concurrency=1
    )
    assert worker.projections[0].name == "reader"
    ended = asyncio.run(worker.run_until_idle())
    assert {name: one.end for name, one in ended.items()} == dict.fromkeys(
        ("reader", "ferry"), End.CAUGHT_UP
    )


def test_until_idle_follows_what_one_projection_appends_for_another(users: Service) -> None:
    users.create_stream("mails-stream")

    def forward(event: RecordedEvent, context: Context) -> None:
        context.append("mails-stream", numbered(1, first=event.data["n"]))

    users.consuming("late", record, "mails-stream")
    users.consuming("early", forward, STREAM)
    users.append(STREAM, numbered(4))
    worker = Worker(config=users.config, projections=list(users.projections.values()))
    ended = asyncio.run(worker.run_until_idle())
    assert {name: (e.end, e.handled) for name, e in ended.items()} == {
        "late": (End.CAUGHT_UP, 4),
        "early": (End.CAUGHT_UP, 4),
    }
    assert users.recorded() == [1, 2, 3, 4]


def test_until_idle_ends_while_projections_keep_each_other_busy(users: Service) -> None:
    """What was there goes through all of them; nobody waits for what goes round and round."""
    users.create_stream("mails-stream")
    answer = {STREAM: "mails-stream", "mails-stream": STREAM}

    def pass_on(event: RecordedEvent, context: Context) -> None:
        context.append(answer[event.stream], numbered(1, first=event.data["n"] + 1))

    users.consuming("there", pass_on, STREAM)
    users.consuming("back", pass_on, "mails-stream")
    users.append(STREAM, numbered(1))
    worker = Worker(config=users.config, projections=list(users.projections.values()))
    ended = asyncio.run(worker.run_until_idle())
    assert {e.end for e in ended.values()} == {End.CAUGHT_UP}
    assert sum(e.handled for e in ended.values()) >= 2


# ---- ending


def test_sigterm_ends_the_batch_and_then_the_process(
    users: Service, here: Deployed, gate: psycopg.Connection[object]
) -> None:
    users.append(STREAM, numbered(3))
    worker = here.start()
    wait_for_lock(users.local_url)
    worker.send_signal(signal.SIGTERM)
    until(lambda: "stopping after the batch" in here.log)
    gate.rollback()
    assert worker.wait(PATIENCE_S) == 0, here.log
    assert users.recorded() == [1], "the batch is finished, and no other one begun"
    assert users.checkpoint_of("reader", STREAM) == users.positions(STREAM)[0]
    until(lambda: not open_transactions(users.local_url))
    until(lambda: not listeners(users.local_url))


def test_a_worker_that_sleeps_ends_at_once(users: Service, here: Deployed) -> None:
    users.append(STREAM, numbered(1))
    worker = here.start()
    until(lambda: users.recorded() == [1])
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE_S) == 0, here.log
    assert "Traceback" not in here.log


def test_a_second_signal_ends_the_process_at_once(
    users: Service, here: Deployed, gate: psycopg.Connection[object]
) -> None:
    users.append(STREAM, numbered(1))
    worker = here.start()
    wait_for_lock(users.local_url)
    worker.send_signal(signal.SIGTERM)
    until(lambda: "stopping after the batch" in here.log)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 128 + signal.SIGTERM
    gate.rollback()
    until(lambda: not open_transactions(users.local_url))
    assert users.recorded() == []


@workers_through_pgbouncer_too
def test_what_a_killed_worker_was_at_is_handled_by_the_next(
    users: Service, here: Deployed, gate: psycopg.Connection[object]
) -> None:
    users.append(STREAM, numbered(3))
    first = here.start()
    wait_for_lock(users.local_url)
    second: subprocess.Popen[bytes] = here.start()
    here.kill(first)
    gate.rollback()
    until(lambda: users.recorded() == [1, 2, 3])
    assert here.workers == [second]
    assert here.stop() == [0]


FREEZING = """
    import os, signal
    from pathlib import Path

    def handle(event, context):
        context.connection.execute(
            "INSERT INTO effects (projection, event_id, stream, position, n)"
            " VALUES (%s, %s, %s, %s, %s)",
            (context.projection, event.id, event.stream, event.position, event.data["n"]),
        )
        if event.data["n"] == 2 and Path("freeze").exists():
            Path("freeze").unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
            context.connection.execute("SELECT 1")
    """


def test_a_frozen_worker_is_taken_over_and_does_no_harm_when_it_thaws(
    users: Service, tmp_path: Path
) -> None:
    """The server ends its transaction after handler_timeout, and another one goes on."""
    impatient = configuration(users) + 'handler_timeout = "300ms"\n'
    with deployed(tmp_path, impatient, FREEZING) as service:
        (tmp_path / "freeze").touch()
        users.append(STREAM, numbered(3))
        frozen = service.start()
        until(lambda: not (tmp_path / "freeze").exists())
        service.start()
        until(lambda: users.recorded() == [1, 2, 3])
        frozen.send_signal(signal.SIGCONT)
        users.append(STREAM, numbered(1, first=4))
        until(lambda: users.recorded() == [1, 2, 3, 4])
        assert service.stop() == [0, 0], service.log
    assert users.recorded() == [1, 2, 3, 4]
    known = users.known("reader")
    assert known is not None
    assert (known.state, known.error) == ("idle", None)


# ---- outages


def test_a_worker_goes_on_when_postgresql_has_crashed_and_is_back(
    own_server: EmbeddedServer,
) -> None:
    local, shared = (own_server.create_database(name) for name in ("local", "shared"))
    migrate(local, kind="local", service="users")
    migrate(shared, kind="shared")
    users = Service("users", local, shared)
    users.poll_interval = NEVER
    users.create_stream(STREAM)
    users.create_effects()
    users.producing("ferry", STREAM)
    users.consuming("reader", record, STREAM, environment="shared")
    users.run("ferry")
    n = 0
    with users.worker() as worker:
        worker.until_asleep()
        for _ in range(3):
            users.append(STREAM, numbered(200, first=n + 1))
            n += 200
            users.close()
            own_server.stop(crash=True)
            own_server.start()
            until(lambda n=n: len(users.recorded()) == n)  # type: ignore[misc]
        users.append(STREAM, numbered(1, first=n + 1))
        until(lambda: len(users.recorded()) == n + 1)
        worker.until_asleep()
    assert users.recorded() == list(range(1, n + 2))
    for name in users.projections:
        known = users.known(name)
        assert known is not None
        assert (known.state, known.error, known.attempts) == ("idle", None, 0)
    users.close()


def test_connections_that_are_ended_are_no_failure(users: Service) -> None:
    """An administrator ends every session of the service, again and again."""
    users.poll_interval = SOON
    users.consuming("reader", record, STREAM, batch_size=5)
    with users.worker() as worker:
        until(lambda: worker.last("reader"))
        for first in range(1, 101, 20):
            users.append(STREAM, numbered(20, first))
            query(
                users.local_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND application_name <> 'eventferry store'",
            )
        until(lambda: len(users.recorded()) == 100)
    assert users.recorded() == list(range(1, 101))
    known = users.known("reader")
    assert known is not None
    assert (known.state, known.error, known.attempts) == ("idle", None, 0)
