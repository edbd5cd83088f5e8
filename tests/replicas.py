"""Copies of stores and servers, as people make them: dumps, copied folders, standbys.

A dump is taken and restored with the programs of the newer server. All servers keep their folders
until the test ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from eventferry.embedded import EmbeddedServer
from eventferry.server_folder import HOST, SUPERUSER
from tests.databases import SETTINGS
from tests.environment import PROGRAMS, require
from tests.waiting import PATIENCE_S, until

OLDEST = Path("/usr/lib/postgresql/15/bin")
"""The programs of the oldest PostgreSQL that is supported."""
STANDBY = "standby"
"""What a standby calls itself, for `synchronous_standby_names`."""


@contextmanager
def oldest_server() -> Iterator[EmbeddedServer]:
    """A server of the oldest PostgreSQL that is supported."""
    require(OLDEST.exists(), f"PostgreSQL 15 in {OLDEST}")
    with _folder() as folder, EmbeddedServer(folder, 0, SETTINGS, programs=OLDEST) as server:
        yield server


# ---- dumps


def start_dump(url: str, file: Path, programs: Path) -> subprocess.Popen[bytes]:
    """Begins to dump a database to the file, as an archive."""
    return subprocess.Popen(
        [programs / "pg_dump", "--format=custom", f"--file={file}", f"--dbname={url}"],
    )


def dump(url: str, file: Path, programs: Path) -> None:
    """Dumps a database to the file, as an archive."""
    assert start_dump(url, file, programs).wait(PATIENCE_S) == 0


def restore(file: Path, server: EmbeddedServer, database: str) -> str:
    """Restores a dump to a new database, and returns its URL; any complaint is an error."""
    url = server.create_database(database)
    subprocess.run(
        [server.programs / "pg_restore", "--exit-on-error", f"--dbname={url}", file], check=True
    )
    return url


def move_roles(source: EmbeddedServer, target: EmbeddedServer) -> None:
    """Gives one server the roles of another, which no dump of a database holds."""
    roles = subprocess.run(
        [target.programs / "pg_dumpall", "--roles-only", f"--dbname={source.url()}"],
        check=True,
        capture_output=True,
    ).stdout
    subprocess.run(
        [target.programs / "psql", "--quiet", target.url()],  # postgres is there already
        input=roles,
        check=True,
        capture_output=True,
    )


# ---- the folder of a stopped server


def data_folder(server: EmbeddedServer) -> Path:
    return server.folder / "pgdata"


def back_up(server: EmbeddedServer) -> Path:
    """Copies the data of a running server, which is stopped meanwhile."""
    server.stop()
    copy = Path(tempfile.mkdtemp(prefix="backup-", dir=server.folder)) / "pgdata"
    subprocess.run(["cp", "-a", data_folder(server), copy], check=True)
    server.start()
    return copy


def put_back(server: EmbeddedServer, copy: Path) -> None:
    """Ends a server as a power cut would, and starts it with the data of the copy."""
    server.stop(crash=True)
    shutil.rmtree(data_folder(server))
    subprocess.run(["cp", "-a", copy, data_folder(server)], check=True)
    server.start()


# ---- standbys


@contextmanager
def running_standby(primary: EmbeddedServer) -> Iterator[EmbeddedServer]:
    """A standby that streams from the primary, asynchronously."""
    conninfo = f"host={HOST} port={primary.port} user={SUPERUSER} application_name={STANDBY}"
    settings = SETTINGS | {"primary_conninfo": conninfo}
    with _folder() as folder:
        standby = EmbeddedServer(folder, 0, settings, programs=PROGRAMS)
        data = data_folder(standby)
        subprocess.run(
            [
                primary.programs / "pg_basebackup",
                f"--dbname={conninfo}",
                f"--pgdata={data}",
                *("--checkpoint=fast", "--write-recovery-conf", "--no-sync"),
            ],
            check=True,
        )
        if os.geteuid() == 0:  # the server's user, and not we, must have it
            owner = f"--reference={data_folder(primary)}"
            subprocess.run(["chown", "--recursive", owner, data], check=True)
        with standby:
            until(lambda: is_streaming(primary), "the standby streams")
            yield standby


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="eventferry-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_streaming(primary: EmbeddedServer) -> bool:
    """Whether its standby has all that it has, and gets the rest as it comes."""
    with psycopg.connect(primary.url()) as conn:
        state = conn.execute(
            "SELECT FROM pg_stat_replication"
            " WHERE state = 'streaming' AND replay_lsn = pg_current_wal_lsn()"
        )
        return state.fetchone() is not None


def make_synchronous(primary: EmbeddedServer) -> None:
    """From now on no commit of the primary ends before the standby has it."""
    with psycopg.connect(primary.url(), autocommit=True) as conn:
        conn.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
        conn.execute("SELECT pg_reload_conf()")
        until(
            lambda: (
                conn.execute("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone()
                is not None
            ),
            "the standby is synchronous",
        )


def promote(standby: EmbeddedServer) -> None:
    """Makes the standby a primary."""
    with psycopg.connect(standby.url(), autocommit=True) as conn:
        conn.execute("SELECT pg_promote()")


def either(first: EmbeddedServer, second: EmbeddedServer, database: str) -> str:
    """The URL of a database on whichever of the servers is the primary."""
    hosts = ",".join(f"{HOST}:{server.port}" for server in (first, second))
    return f"postgresql://{SUPERUSER}@{hosts}/{database}?target_session_attrs=read-write"
