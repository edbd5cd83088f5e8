"""The folder of an embedded PostgreSQL: what is where, who uses it, how its server is reached.

Whoever starts a server locks the folder, and the server's processes inherit the lock: it goes with
the last of them, however they end. So no file that a crash left behind is taken for a server.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from eventferry.errors import EventFerryError

HOST: Final = "127.0.0.1"
SUPERUSER: Final = "postgres"
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
LOOK_S: Final = 0.01
LOCK_PATIENCE_S: Final = 3.0
"""A server whose owner was killed a moment ago needs this long to end, at most."""


class EmbeddedServerError(EventFerryError):
    """The embedded PostgreSQL is not installed, or does not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How a server is reached: by the Unix socket in its folder, and perhaps by TCP."""

    folder: Path
    port: int | None
    """Its TCP port on 127.0.0.1; None: it has none."""
    password: str | None = None
    """What TCP connections need; None: nothing."""

    @property
    def socket_port(self) -> int:
        """The number in the socket's name; the folder tells servers apart, not the number."""
        return self.port or 5432

    def url(self, database: str = SUPERUSER, *, tcp: bool = False) -> str:
        """The URL of a database: by the Unix socket, or by TCP.

        Raises:
            EmbeddedServerError: `tcp`, and the server has no port.
        """
        if not tcp:
            folder = quote(str(self.folder), safe="/")
            return f"postgresql://{SUPERUSER}@/{database}?host={folder}&port={self.socket_port}"
        if self.port is None:
            raise EmbeddedServerError("this server has no TCP port: pass port=0 for a free one")
        secret = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"postgresql://{SUPERUSER}{secret}@{HOST}:{self.port}/{database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PidFile:
    """What a server says of itself in `postmaster.pid`."""

    pid: int
    port: int
    has_tcp: bool
    is_ready: bool


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The folder of an embedded server."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "pgdata"

    @property
    def log(self) -> Path:
        return self.path / "postgres.log"

    @property
    def access(self) -> Path:
        """The server's rules of who may connect, where a password is needed."""
        return self.path / "pg_hba.conf"

    def password(self) -> str:
        """The password of its server, made up for the first one who asks."""
        file = self.path / "password"
        with suppress(FileExistsError):
            new = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(new, "w") as opened:
                opened.write(secrets.token_urlsafe(16))
        return file.read_text()

    def lock(self) -> int:
        """Locks the folder; until the descriptor, and all that inherit it, are closed.

        Raises:
            EmbeddedServerError: somebody else's server runs here.
        """
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while not _locked(lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(lock)
                server = self.pid_file()
                process = f", as process {server.pid}" if server else ""
                raise EmbeddedServerError(
                    f"a PostgreSQL runs in {self.path} already{process}: stop whoever has started "
                    "it, or choose another folder"
                )
            time.sleep(LOOK_S)
        return lock

    def is_locked(self) -> bool:
        """Whether a server runs here, or is about to."""
        try:
            lock = os.open(self._lock, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            return not _locked(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    def forget_crash(self) -> None:
        """Removes the pid file of a server that has crashed, once the folder is ours.

        PostgreSQL does so itself, unless another program of the same user has the number now, as
        after a reboot. (Where there is no /proc, we can't know, and it refuses to start.)
        """
        with suppress(FileNotFoundError, ValueError, IndexError):
            file = self.data / "postmaster.pid"
            pid = int(file.read_text().splitlines()[0])
            if Path(f"/proc/{pid}/comm").read_text().strip() != "postgres":
                file.unlink()

    def wait_until_free(self) -> None:
        """Returns when the last process of a server that ends has ended, which is soon."""
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while self.is_locked() and time.monotonic() < deadline:
            time.sleep(LOOK_S)

    def pid_file(self) -> PidFile | None:
        """What stands in the file; None: there is none yet, or not all of it.

        Of a server that has crashed, unless the folder is locked or the pid is known.
        """
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return PidFile(
                pid=int(lines[0]),
                port=int(lines[3]),
                has_tcp=bool(lines[5].strip()),
                is_ready=lines[7].strip() == "ready",
            )
        except (FileNotFoundError, IndexError, ValueError):
            return None

    def last_words(self) -> str:
        """The end of the server's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])

    @property
    def _lock(self) -> Path:
        return self.path / "lock"


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that runs in a folder, whoever has started it."""

    folder: ServerFolder
    pid: int
    address: Address

    def stop(self) -> None:
        """Ends it, and returns when it has; also if it has ended meanwhile."""
        for how in (signal.SIGINT, signal.SIGQUIT):  # fast; then as a power cut would
            with suppress(ProcessLookupError):
                os.kill(self.pid, how)
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while self._is_there() and time.monotonic() < deadline:
                time.sleep(LOOK_S)

    def _is_there(self) -> bool:
        server = self.folder.pid_file()
        return server is not None and server.pid == self.pid and self.folder.is_locked()


def running(path: Path) -> RunningServer | None:
    """The server that runs in a folder, once it answers; None: none does.

    Raises:
        EmbeddedServerError: it does not get ready.
    """
    folder = ServerFolder(path.absolute())
    deadline = time.monotonic() + START_TIMEOUT_S
    while folder.is_locked():
        server = folder.pid_file()
        if server is not None and server.is_ready:
            port = server.port if server.has_tcp else None
            password = folder.password() if folder.access.exists() else None
            address = Address(folder=folder.path, port=port, password=password)
            return RunningServer(folder=folder, pid=server.pid, address=address)
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the PostgreSQL in {path} does not get ready:\n{folder.last_words()}"
            )
        time.sleep(LOOK_S)
    return None
