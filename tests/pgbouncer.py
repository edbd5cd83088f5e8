"""How a service of the tests comes to its databases: directly, or through a real PgBouncer."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from eventferry.embedded import UNPRIVILEGED, EmbeddedServer
from eventferry.process import SUPERVISED
from tests.waiting import until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
PORT = 6432
SESSIONS = 4
"""Of the server, for each database: so few that clients meet on the same ones all the time."""
CONFIGURATION = """
[databases]
* = host={host} port={port} user=postgres

[pgbouncer]
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 500
auth_type = any
listen_port = {own_port}
unix_socket_dir = {folder}
"""


@dataclass(frozen=True, slots=True)
class Way:
    """How a service comes to its databases."""

    url: Callable[[str], str] = str
    """What its configuration says, instead of a direct URL."""
    listen_url: Callable[[str], str] = str
    """The same of the URL for LISTEN."""
    listens: bool = True
    """Whether it listens at all."""

    def keys(self, local_url: str, shared_url: str) -> dict[str, str]:
        """The configuration's keys for two direct URLs."""
        return {
            "local_url": self.url(local_url),
            "shared_url": self.url(shared_url),
            "local_listen_url": self.listen_url(local_url) if self.listens else "off",
            "shared_listen_url": self.listen_url(shared_url) if self.listens else "off",
        }


DIRECT = Way()

runs_through_pgbouncer_too = pytest.mark.parametrize("way", ["direct", "pgbouncer"], indirect=True)
"""For tests whose services come from `make_service` or `loner`, or that use `way` themselves."""

workers_through_pgbouncer_too = pytest.mark.parametrize(
    "way", ["direct", "pgbouncer", "pgbouncer, polling"], indirect=True
)
"""For those with workers, which listen directly, or not at all."""


@contextmanager
def running_pgbouncer(server: EmbeddedServer) -> Iterator[Callable[[str], str]]:
    """A PgBouncer in transaction mode before the server: makes a direct URL one through it."""
    folder = Path(tempfile.mkdtemp(prefix="eventferry-test-"))
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(
            host=server.folder,
            port=server.url().rpartition("port=")[2],
            own_port=PORT,
            sessions=SESSIONS,
            folder=folder,
        )
    )
    as_user = []
    if os.geteuid() == 0:  # as which it refuses to run
        as_user = ["-u", UNPRIVILEGED]
        shutil.chown(folder, UNPRIVILEGED)
    with (folder / "pgbouncer.log").open("ab") as log:
        process = subprocess.Popen(
            ["sh", "-c", SUPERVISED, "sh", str(PROGRAM), "-q", *as_user, str(configuration)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )

    def through(direct: str) -> str:
        database = psycopg.conninfo.conninfo_to_dict(direct)["dbname"]
        return f"postgresql://postgres@/{database}?host={quote(str(folder))}&port={PORT}"

    try:
        until((folder / f".s.PGSQL.{PORT}").exists, "PgBouncer has its socket")
        yield through
    finally:
        process.terminate()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
        shutil.rmtree(folder, ignore_errors=True)
