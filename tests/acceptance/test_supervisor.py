"""Debian's supervisor, with the programs that we ship."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psycopg
import pytest

from eventferry import Event
from tests.command_line import CommandLine
from tests.conftest import MakeService
from tests.environment import REPOSITORY, require
from tests.processes import kill, kill_all, running, working_in
from tests.services import Service, numbered, query
from tests.waiting import PATIENCE_S, until, wait_for_lock

pytestmark = pytest.mark.once

SUPERVISORD = shutil.which("supervisord")
PROGRAMS = REPOSITORY / "deploy" / "supervisor"
STREAM = "users-stream"
GATE = 42

# As Debian's /etc/supervisor/supervisord.conf, in a folder of the test's.
SUPERVISOR = """
[unix_http_server]
file={folder}/supervisor.sock

[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={folder}
user=root

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{folder}/supervisor.sock

[include]
files = {folder}/conf.d/*.conf
"""
CONFIGURATION = """
service = "users"
poll_interval = "100ms"
local_url = "{local}"
shared_url = "{shared}"

[producing.users-projection]
stream_name = "users-stream"
background_process = true

[consuming.long]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
background_process = true

[consuming.on-demand]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:handle"
"""
HANDLERS = """
def handle(event, context):
    if event.type == "Slow":
        context.connection.execute("SELECT pg_advisory_xact_lock_shared(42)")
    context.connection.execute(
        "INSERT INTO effects (projection, event_id, stream, position, n)"
        " VALUES (%s, %s, %s, %s, %s)",
        (context.projection, event.id, event.stream, event.position, event.data["n"]),
    )
"""


@pytest.fixture
def users(make_service: MakeService) -> Service:
    service = make_service("users")
    service.create_stream(STREAM)
    service.create_effects()
    return service


@dataclass(frozen=True, slots=True)
class Supervised:
    """A service's folder, and the supervisor of its programs."""

    folder: Path
    commands: CommandLine
    deploy: Callable[[str], None]
    """Other handlers."""

    @contextmanager
    def controlling(self, *command: str) -> Iterator[None]:
        """`supervisorctl …`, beside the block."""
        process = subprocess.Popen([*self._control, *command], stdout=subprocess.DEVNULL)
        yield
        assert process.wait(PATIENCE_S) == 0

    def states(self) -> set[str]:
        """Of all programs: RUNNING, STOPPED, …"""
        done = subprocess.run(
            [*self._control, "status"], check=False, capture_output=True, text=True
        )
        return {line.split()[1] for line in done.stdout.splitlines()}

    @property
    def _control(self) -> tuple[str, ...]:
        return ("supervisorctl", "-c", str(self.folder / "supervisord.conf"))


@contextmanager
def supervised(users: Service, *files: str) -> Iterator[Supervised]:
    """A supervisor with programs that we ship: only paths and the user are ours."""
    require(os.geteuid() == 0, "root, as which supervisor starts programs for other users")
    require(SUPERVISORD, "supervisor: apt-get install supervisor")
    assert SUPERVISORD is not None
    # Not pytest's tmp_path: a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="eventferry-test-"))
    commands = CommandLine(folder, users.local_url, users.shared_url)
    configuration = CONFIGURATION.format(local=users.local_url, shared=users.shared_url)
    commands.write(configuration, HANDLERS)
    (folder / "conf.d").mkdir()
    for name in files:
        text = (
            (PROGRAMS / name)
            .read_text()
            .replace("/srv/users/.venv/bin", str(Path(sys.executable).parent))
            .replace("/srv/users", str(folder))
            .replace("/var/log/eventferry", str(folder))
            .replace("user=users", "user=root")
        )
        (folder / "conf.d" / name).write_text(text)
    supervisor = folder / "supervisord.conf"
    supervisor.write_text(SUPERVISOR.format(folder=folder))
    process = subprocess.Popen(
        [SUPERVISORD, "--nodaemon", "--silent", "-c", str(supervisor)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until((folder / "supervisor.sock").exists, "supervisor has begun")
        yield Supervised(folder, commands, partial(commands.write, configuration))
        process.terminate()
        process.wait(PATIENCE_S * 2)
        until(lambda: not working_in(folder), "supervisor leaves nothing behind")
    finally:
        process.kill()
        process.wait()
        kill_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def until_recorded(users: Service, upto: int, *projections: str) -> None:
    for projection in projections:
        until(
            lambda p=projection: users.recorded(p) == list(range(1, upto + 1)),  # type: ignore[misc]
            f"{projection} has handled {upto}",
        )


@pytest.fixture
def gate(users: Service) -> Iterator[psycopg.Connection[object]]:
    """Closed: who handles a `Slow` event waits inside of the batch. `rollback` opens it."""
    with psycopg.connect(users.local_url) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (GATE,))
        yield conn


def test_what_is_killed_comes_back(users: Service) -> None:
    with supervised(users, "eventferry.conf") as supervisor:
        folder = supervisor.folder
        users.append(STREAM, numbered(1))
        until_recorded(users, 1, "long", "on-demand")
        workers = until(lambda: two(running(folder, "worker")), "two workers run")

        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        kill(folder, "consuming", "start", "long")
        users.append(STREAM, numbered(1, 2))
        until_recorded(users, 2, "long", "on-demand")
        until(lambda: two(running(folder, "worker")) - workers, "other workers run")

        schedule = kill(folder, "schedule", "run")
        users.append(STREAM, numbered(1, 3))
        until_recorded(users, 3, "long", "on-demand")
        until(
            lambda: running(folder, "schedule", "run") not in ([], [schedule]), "another one runs"
        )
    assert users.recorded("long") == users.recorded("on-demand") == [1, 2, 3]


def test_who_is_stopped_finishes_the_batch(
    users: Service, gate: psycopg.Connection[object]
) -> None:
    with supervised(users, "eventferry.conf") as supervisor:
        users.append(STREAM, Event("Slow", {"n": 1}))
        wait_for_lock(users.local_url, 2)
        with supervisor.controlling("stop", "all"):
            until(
                lambda: supervisor.states() == {"STOPPING", "STOPPED"},
                "who has nothing to do has ended",
            )
            gate.rollback()
        assert supervisor.states() == {"STOPPED"}
        assert users.recorded("long") == users.recorded("on-demand") == [1]
        assert working_in(supervisor.folder) == {}


def test_after_a_deployment_all_are_started_anew(users: Service) -> None:
    with supervised(users, "eventferry.conf") as supervisor:
        folder = supervisor.folder
        users.append(STREAM, numbered(1))
        until_recorded(users, 1, "long", "on-demand")
        before = until(lambda: two(running(folder, "worker")), "two workers run")
        before |= set(running(folder, "consuming", "start", "long"))
        known = "SELECT pid FROM eventferry.runners"
        until(
            lambda: before <= {row[0] for row in query(users.local_url, known)},
            "all have said that they are there",
        )
        supervisor.deploy(HANDLERS.replace('event.data["n"]', 'event.data["n"] * 10'))

        assert supervisor.commands("restart").code == 0
        users.append(STREAM, numbered(1, 2))
        until(lambda: sorted(users.recorded()) == [1, 1, 20, 20], "the new code has handled it")
        after = until(lambda: two(running(folder, "worker")), "two workers run")
        assert not before & (after | set(running(folder, "consuming", "start", "long")))


def test_one_projection_as_a_program_of_its_own(users: Service) -> None:
    with supervised(users, "one-projection.conf") as supervisor:
        for n, end in enumerate(("kill", "stop", None), 1):
            users.append(STREAM, numbered(1, n))
            until(lambda n=n: ferried(users) == list(range(1, n + 1)), f"{n} are ferried")  # type: ignore[misc]
            if end == "kill":
                kill(supervisor.folder, "producing", "start")
            elif end == "stop":
                assert supervisor.commands("producing", "stop", "users-projection").code == 0
        # paused, it waits, and is not started again and again
        pause = ("projections", "pause", "users-projection", "--reason", "a rest")
        assert supervisor.commands(*pause).code == 0
        kill(supervisor.folder, "producing", "start")
        until(lambda: supervisor.states() == {"RUNNING"}, "it is back, and stays")
        users.append(STREAM, numbered(1, 4))
        assert supervisor.commands("projections", "resume", "users-projection").code == 0
        until(lambda: ferried(users) == [1, 2, 3, 4], "it goes on")


def two(pids: list[int]) -> set[int]:
    return set(pids) if len(pids) == 2 else set()


def ferried(users: Service) -> list[int]:
    """The shared stream is made by the ferry's first run."""
    there = query(users.shared_url, "SELECT FROM eventferry.streams WHERE name = %s", (STREAM,))
    return [event.data["n"] for event in users.shared.read(STREAM)] if there else []
