"""The stage: a real PostgreSQL, two services with a database and a folder each, their processes.

Owns everything that must be gone when the demo is over. What it runs is the command line that
its users type, in the folder of a service, where its `projections.toml` is found.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, LiteralString, get_args

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from eventferry.demo import process
from eventferry.demo.failure import DemoFailed
from eventferry.demo.process import Process, until
from eventferry.embedded import EmbeddedServer
from eventferry.process import EVENTFERRY

Service = Literal["users", "mail"]
Database = Literal["users", "shared", "mail"]

STREAM = "users-stream"
MAIL_ROLES = ("mail-worker-1", "mail-worker-2")
"""Each worker of service mail logs in under a name of its own, so that one can tell whose
transaction is open."""
COMMAND_S = 60.0


@dataclass(slots=True)
class Stage:
    """What the acts play on; use `staged`."""

    folder: Path
    server: EmbeddedServer
    workers: dict[str, Process] = field(default_factory=dict)
    """By name: those that should be alive."""
    _writers: list[Process] = field(default_factory=list)
    _connections: dict[Database, psycopg.Connection[Any]] = field(default_factory=dict)

    def url(self, database: Database, role: str = "postgres") -> str:
        """The URL of a database, for one of our roles."""
        return self.server.url(database).replace("//postgres@", f"//{role}@")

    def query(self, database: Database, query: LiteralString, *parameters: object) -> list[Any]:
        """The rows, as dictionaries, of a query on a connection of the main thread."""
        return self._connection(database).execute(query, parameters).fetchall()

    def value(self, database: Database, query: LiteralString, *parameters: object) -> Any:
        """The only value of a query's only row."""
        (row,) = self.query(database, query, *parameters)
        (value,) = row.values()
        return value

    def execute(self, database: Database, statement: bytes | sql.Composed) -> None:
        """Statements that return nothing."""
        self._connection(database).execute(statement)

    def home(self, service: Service) -> Path:
        """The folder of a service."""
        return self.folder / service

    def command(self, service: Service, *arguments: str) -> str:
        """Runs a command in a service's folder, and returns what it printed.

        Raises:
            DemoFailed: it failed, or did not end.
        """
        code, output, errors = self.try_command(service, *arguments)
        if code != 0:
            raise DemoFailed(
                f"`{shown(*arguments)}` in {self.home(service)} ended with {code}:\n"
                f"{output}{errors}".rstrip()
            )
        return output

    def try_command(self, service: Service, *arguments: str) -> tuple[int, str, str]:
        """The exit code of a command in a service's folder, and what it printed."""
        try:
            done = subprocess.run(
                [*EVENTFERRY, *arguments],
                check=False,
                cwd=self.home(service),
                env=process.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_S,
            )
        except subprocess.TimeoutExpired as error:
            raise DemoFailed(
                f"`{shown(*arguments)}` did not end within {COMMAND_S:.0f} s"
            ) from error
        return done.returncode, done.stdout, done.stderr

    def start_worker(self, service: Service, name: str) -> Process:
        """Starts a worker of a service, as `eventferry worker`."""
        self.workers[name] = process.start(
            f"worker {name}",
            [*EVENTFERRY, "worker"],
            folder=self.home(service),
            output=self.folder / "logs" / f"{name}.log",
            variables={
                "EVENTFERRY_LOCAL_URL": self.url(service, name),
                "EVENTFERRY_SHARED_URL": self.url("shared", name),
            },
        )
        return self.workers[name]

    def start_writer(self, lines: Sequence[str], *, pace_s: float | None = None) -> Process:
        """Starts a process of service users that appends these events."""
        number = len(self._writers) + 1
        events = self.folder / "events" / f"{number}.jsonl"
        events.write_text("".join(f"{line}\n" for line in lines))
        arguments = [self.url("users"), STREAM, str(events), str(self.journal(number))]
        writer = process.start(
            f"writer {number}",
            [
                *(sys.executable, "-m", "eventferry.demo.writer", *arguments),
                *([] if pace_s is None else [str(pace_s)]),
            ],
            folder=self.folder,
            output=self.folder / "logs" / f"writer-{number}.log",
        )
        self._writers.append(writer)
        return writer

    def journal(self, number: int) -> Path:
        """What a writer has noted."""
        return self.folder / "events" / f"{number}.journal"

    def last_journal(self) -> Path:
        """What the last writer that was started has noted."""
        return self.journal(len(self._writers))

    def journals(self) -> list[Path]:
        """What all writers have noted."""
        return sorted((self.folder / "events").glob("*.journal"))

    def check(self) -> None:
        """Looks whether everything that should be alive is.

        Raises:
            DemoFailed: a worker has ended, or a writer has failed, or a projection.
        """
        self.check_processes()
        for service in ("users", "mail"):
            for failed in self.query(service, FAILED):
                raise DemoFailed("projection {name} has failed: {error}".format(**failed))

    def check_processes(self) -> None:
        """The same, of the processes alone.

        Raises:
            DemoFailed: a worker has ended, or a writer has failed.
        """
        for worker in self.workers.values():
            if worker.code is not None:
                raise DemoFailed(f"{worker.name} has ended by itself{worker.last_words()}")
        for writer in self._writers:
            if writer.code:
                raise DemoFailed(f"{writer.name} has failed{writer.last_words()}")

    def count(self) -> tuple[int, int, int]:
        """How many events have been appended, ferried, and handled."""
        appended, ferried, handled = (self.value(*count) for count in COUNTS.items())
        return appended, ferried, handled

    def wait_for_workers(self) -> None:
        """Until all of them are there, and listen.

        Raises:
            DemoFailed: a worker has ended, or is not ready in time.
        """
        until(self._are_ready, "the workers to be ready", within_s=30, check=self.check)

    def _connection(self, database: Database) -> psycopg.Connection[Any]:
        if database not in self._connections:
            self._connections[database] = psycopg.connect(
                self.url(database), autocommit=True, row_factory=dict_row
            )
        return self._connections[database]

    def _are_ready(self) -> bool:
        (ready,) = self.query("mail", READY, list(self.workers))
        return bool(ready["begun"] and ready["listening"] == len(self.workers))

    def close(self) -> None:
        """Ends all processes."""
        for connection in self._connections.values():
            with suppress(psycopg.Error):
                connection.close()
        for ending in (Process.terminate, Process.stop):
            for one in (*self.workers.values(), *self._writers):
                ending(one)


# The workers that listen, by the names under which they have logged in; and whether the
# projection of service mail has found its stream, which the first run of the ferry makes.
READY = """
SELECT (SELECT count(DISTINCT usename) FROM pg_stat_activity
         WHERE usename = ANY (%s) AND application_name = 'eventferry listen') AS listening,
       (SELECT count(*) FROM eventferry.checkpoints) AS begun
"""
FAILED = "SELECT name, error FROM eventferry.projections WHERE state = 'failed'"
COUNTS: dict[Database, LiteralString] = {
    "users": 'SELECT count(*) FROM streams."users-stream"',
    "shared": 'SELECT count(*) FROM streams."users-stream"',
    "mail": "SELECT count(*) FROM mails",
}
"""The events that have got so far, in the order of their way."""


@contextmanager
def staged() -> Iterator[Stage]:
    """A stage with its databases, without tables and processes.

    Raises:
        EmbeddedServerError: there is no PostgreSQL, or it does not start.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="eventferry-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # as root, PostgreSQL runs as another user, who must get to his folder
        server = stack.enter_context(EmbeddedServer(folder / "pg"))
        stage = Stage(folder, server)
        stack.callback(stage.close)
        for name in ("logs", "events"):
            (folder / name).mkdir()
        for database in get_args(Database):
            server.create_database(database)
        for role in ("users-worker", *MAIL_ROLES):
            stage.execute(
                "shared", sql.SQL("CREATE ROLE {} SUPERUSER LOGIN").format(sql.Identifier(role))
            )
        for service in ("users", "mail"):
            _furnish(stage, service)
        yield stage


def _furnish(stage: Stage, service: Service) -> None:
    """A service's folder, and its own tables."""
    home = stage.home(service)
    home.mkdir()
    for template in files("eventferry.demo").joinpath("services", service).iterdir():
        if template.name.endswith(".sql"):
            stage.execute(service, template.read_text().encode())
        elif template.is_file():
            text = template.read_text().replace("{local_url}", stage.url(service))
            (home / template.name).write_text(text.replace("{shared_url}", stage.url("shared")))


def shown(*arguments: str) -> str:
    """A command as one types it."""
    return shlex.join(["eventferry", *arguments])
