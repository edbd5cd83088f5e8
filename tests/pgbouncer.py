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

from eventferry.embedded import SUPERVISED, UNPRIVILEGED, EmbeddedServer
from tests.waiting import until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
PORT = 6432
CONFIGURATION = """
[databases]
* = host={host} port={port} user=postgres

[pgbouncer]
pool_mode = transaction
; so few that clients meet on the same server connections all the time
default_pool_size = 4
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
    listens: bool = True
    """Whether it has a direct connection for LISTEN."""

    def listen_url(self, direct: str) -> str | None:
        return direct if self.listens else None


DIRECT = Way()

also_through_pgbouncer = pytest.mark.parametrize(
    "way", ["direct", "pgbouncer", "pgbouncer, polling"], indirect=True
)
"""For tests whose services come from `make_service` or `loner`, or that use `way` themselves."""


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
