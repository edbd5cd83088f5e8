"""Where it is measured: databases of its own, on an embedded server or on those that URLs name.

All are dropped at the end. The settings are those that a server comes with: what is committed is
on the disk.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from eventferry.bench import sample
from eventferry.config import Config
from eventferry.connection import options
from eventferry.embedded import EmbeddedServer
from eventferry.ended import End, Ended
from eventferry.errors import EventFerryError
from eventferry.handler import handler_of
from eventferry.migration import migrate
from eventferry.process import EVENTFERRY, KILLED, Process, popen
from eventferry.projection import Projection
from eventferry.store import EventStore
from eventferry.store._native._sync import configure
from eventferry.worker import run_projection

Kind = Literal["local", "shared"]
STREAM: Final = "bench-stream"
SERVICE: Final = "bench"
EVENTS: Final = 200_000
"""How many are caught up with, usually."""
COLUMNS: Final = ("id", "type", "source", "entity_id", "version", "data", "metadata", "occurred_at")
"""Those that go from store to store."""
PLAIN: Final = """
CREATE SEQUENCE plain_position;
CREATE TABLE plain (LIKE streams."bench-stream" INCLUDING INDEXES);
ALTER TABLE plain
    ALTER stream SET DEFAULT 1,
    ALTER position SET DEFAULT nextval('plain_position'),
    ALTER source SET DEFAULT 'bench',
    ALTER occurred_at SET DEFAULT statement_timestamp(),
    ALTER recorded_at SET DEFAULT clock_timestamp();
"""
"""A plain table with the columns and indexes of a stream: what PostgreSQL does without us."""


class NotKept(EventFerryError):
    """A benchmark has found a promise broken: its figures are worth nothing."""


def require(kept: bool, what: str) -> None:
    """Refuses figures of runs that lost, doubled or reordered something.

    Raises:
        NotKept: it did.
    """
    if not kept:
        raise NotKept(f"{what}: eventferry has broken a promise. Please report it, with this line")


@dataclass(slots=True)
class Stores:
    """A service's two stores, with a stream in each, and a plain table beside."""

    name: str
    local_url: str
    shared_url: str
    folder: Path
    _stack: ExitStack
    _made: int = 0

    def connect(self, kind: Kind) -> psycopg.Connection[Any]:
        """A bare connection, as fast as psycopg has them: direct, in autocommit, preparing."""
        url = self.local_url if kind == "local" else self.shared_url
        conn = psycopg.connect(url, **options("bench"))
        self._stack.callback(conn.close)
        configure(conn)
        return conn

    def store(self, kind: Kind = "local") -> EventStore:
        """Ours."""
        store = EventStore(self.local_url if kind == "local" else self.shared_url)
        self._stack.callback(store.close)
        return store

    def fill(self, total: int, stream: str = STREAM) -> None:
        """Appends so many events."""
        store = self.store()
        for batch in sample.batches(total, 1000):
            store.append(stream, batch)

    def consuming(self, handler: object, *streams: str, **options: Any) -> Projection:
        """A projection of the local store that has not run yet."""
        self._made += 1
        return Projection(
            name=f"reader-{self._made}-projection",
            kind="consuming",
            streams=streams or (STREAM,),
            environment="local",
            handler=handler_of(handler, "bench:handler"),
            **options,
        )

    def producing(self, **options: Any) -> Projection:
        """The same to a shared stream of its own."""
        self._made += 1
        return Projection(
            name=f"ferry-{self._made}-projection",
            kind="producing",
            streams=(STREAM,),
            environment="local",
            shared_stream=f"bench-{self._made}-stream",
            **options,
        )

    def run(self, projection: Projection, count: int) -> Ended:
        """Runs it until it is caught up, which it must be after so many events.

        Raises:
            NotKept: it is not.
        """
        ended = run_projection(projection.name, self.config(projection))
        require(
            ended.end is End.CAUGHT_UP, f"{projection.name} ended as {ended.end}: {ended.error}"
        )
        require(ended.handled == count, f"{ended.handled} of {count} events were handled")
        return ended

    def config(self, *projections: Projection) -> Config:
        """A configuration with these projections."""
        return Config(
            service=self.name,
            path=self.folder / "projections.toml",
            local_url=self.local_url,
            shared_url=self.shared_url,
            local_listen_url=self.local_url,
            shared_listen_url=self.shared_url,
            poll_interval=timedelta(seconds=1),
            projections=MappingProxyType({p.name: p for p in projections}),
        )

    def worker(self, configuration: str, *arguments: str) -> Process:
        """A worker in a process of its own, with this configuration."""
        lines = f'local_url = "{self.local_url}"\nshared_url = "{self.shared_url}"\n'
        file = self.folder / "projections.toml"
        file.write_text(f'service = "{self.name}"\n{lines}{configuration}')
        command = [*EVENTFERRY, "worker", *arguments]
        with self._log.open("ab") as log:
            process = Process(
                _process=popen(command, folder=self.folder, output=log, script=KILLED)
            )
        self._stack.callback(process.stop)
        return process

    def last_words(self) -> str:
        """The end of what its worker has said."""
        return "\n".join(self._log.read_text().splitlines()[-15:])

    @property
    def _log(self) -> Path:
        return self.folder / "log"


@dataclass(slots=True)
class Stage:
    """The servers, and how much is to be measured; use `staged`."""

    local_server: str
    """The URL of any database on the server where local stores are made."""
    shared_server: str
    folder: Path
    programs: Path | None
    """Where pgbench is; None: somewhere on the PATH."""
    rounds: int
    events: int
    """How many are caught up with: fewer than usual make everything else smaller too."""
    say: Callable[[str], None] = lambda _text: None

    def sized(self, usual: int, step: int = 1) -> int:
        """As much of a usual size as `events` is of its own; whole steps, one at least."""
        share = min(self.events, EVENTS) / EVENTS
        return max(step, int(usual * share) // step * step)

    @contextmanager
    def stores(self, *services: str) -> Iterator[Any]:
        """Fresh stores of one service, or of several (a list) that share the shared one."""
        names = services or (SERVICE,)
        with ExitStack() as stack:
            shared_url = self._create(stack, self.shared_server, "shared", None)
            made = []
            for name in names:
                local_url = self._create(stack, self.local_server, "local", name)
                folder = Path(tempfile.mkdtemp(dir=self.folder))
                made.append(Stores(name, local_url, shared_url, folder, stack))
                made[-1].store().create_stream(STREAM)
                with psycopg.connect(local_url, autocommit=True) as conn:
                    conn.execute(PLAIN)
            made[0].store("shared").create_stream(STREAM)
            with psycopg.connect(shared_url, autocommit=True) as conn:
                conn.execute(PLAIN)
            yield made if services else made[0]

    def _create(self, stack: ExitStack, server: str, kind: Kind, service: str | None) -> str:
        name = f"eventferry_bench_{secrets.token_hex(6)}"
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        stack.callback(_drop, server, name)
        url = _renamed(server, name)
        migrate(url, kind=kind, service=service)
        return url


def _drop(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as conn:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        conn.execute(statement.format(sql.Identifier(name)))


def _renamed(url: str, database: str) -> str:
    """The same server's URL, of another database."""
    from urllib.parse import urlsplit

    return urlsplit(url)._replace(path=f"/{database}").geturl()


@contextmanager
def staged(
    urls: tuple[str, str] | None,
    *,
    rounds: int,
    events: int,
    say: Callable[[str], None],
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Stage]:
    """A stage on the servers of two URLs, or on an embedded one, which ends with the block.

    Raises:
        EmbeddedServerError: there is no PostgreSQL, or it does not start.
        StoreUnavailable, StoreError: the servers can't be reached, or databases not be made.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="eventferry-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # as root, PostgreSQL runs as another user
        programs = None
        if urls is None:
            server = stack.enter_context(EmbeddedServer(folder / "pg", settings=settings))
            urls, programs = (server.url(), server.url()), server.programs
        yield Stage(*urls, folder=folder, programs=programs, rounds=rounds, events=events, say=say)
