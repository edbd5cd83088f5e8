"""Where it is measured: databases of its own, on an embedded server or on those that URLs name.

All are dropped at the end. The settings are those that a server comes with: what is committed is
on the disk.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from eventferry.bench import sample
from eventferry.config import Config
from eventferry.config._shape import ProducingTable
from eventferry.connection import options, require_url, translated
from eventferry.embedded import EmbeddedServer, EmbeddedServerError
from eventferry.ended import End, Ended
from eventferry.errors import EventFerryError, redacted
from eventferry.event import RecordedEvent
from eventferry.handler import handler_of
from eventferry.migration import migrate
from eventferry.process import EVENTFERRY, KILLED, Process, deaf_once_interrupted, popen
from eventferry.program import run_projection
from eventferry.projection import Projection
from eventferry.store import EventStore
from eventferry.store._native._sync import configure

Kind = Literal["local", "shared"]
STREAM: Final = "bench-stream"
SERVICE: Final = "bench"
OLDEST: Final = 15
"""PostgreSQL."""
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
    ALTER recorded_at SET DEFAULT statement_timestamp(),
    ALTER id SET DEFAULT gen_random_uuid();
"""
"""A plain table with the columns and indexes of a stream: what PostgreSQL does without us."""


class NotKept(EventFerryError):
    """A benchmark has found a promise broken: its figures are worth nothing."""


class BenchUnavailable(EventFerryError):
    """Something that measuring takes is missing here; the message says what."""


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
            batch_size=ProducingTable.model_fields["batch_size"].default,
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

    def require_order(self, count: int, *streams: str) -> None:
        """Reads the streams once, beside what is measured, and looks at what comes.

        Raises:
            NotKept: not all of so many events, or not in the order of their positions.
        """
        positions: list[int] = []

        def note(event: RecordedEvent) -> None:
            positions.append(event.position)

        self.run(self.consuming(note, *streams), count)
        in_order = all(a < b for a, b in pairwise(positions)) and len(positions) == count
        what = streams[0] if len(streams) == 1 else f"{len(streams)} streams"
        require(in_order, f"events of {what} were lost, doubled or reordered")

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
        return self.process(configuration, "worker", *arguments)

    def process(self, configuration: str, *command: str) -> Process:
        """A command in a process of its own, with this configuration."""
        urls = {"local_url": self.local_url, "shared_url": self.shared_url}
        said = {"service": self.name, **urls}
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in said.items()]
        (self.folder / "projections.toml").write_text("".join(lines) + configuration)
        # ours may name another configuration, and stores that are nobody's to measure with
        environ = {k: v for k, v in os.environ.items() if not k.startswith("EVENTFERRY_")}
        with self.log.open("ab") as log:
            process = Process(
                _process=popen(
                    [*EVENTFERRY, *command],
                    folder=self.folder,
                    output=log,
                    environ=environ,
                    script=KILLED,
                )
            )
        self._stack.callback(process.stop)
        return process

    def last_words(self) -> str:
        """The end of what its processes have said."""
        return "\n".join(self.log.read_text().splitlines()[-15:])

    @property
    def log(self) -> Path:
        """What its processes say."""
        return self.folder / "log"


@dataclass(slots=True)
class Stage:
    """The servers, and how much is to be measured; use `staged`."""

    local_server: str
    """The URL of any database on the server where local stores are made."""
    shared_server: str
    folder: Path
    is_embedded: bool
    """Whether the server was started for this."""
    pgbench: Path | None
    """None: there is none."""
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
        with ExitStack() as stack, deaf_once_interrupted():
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
        stack.callback(_drop, server, name)
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = _url(server, name)
        migrate(url, kind=kind, service=service)
        return url


def _drop(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as conn:
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        conn.execute(statement.format(sql.Identifier(name)))


def _url(server: str, database: str) -> str:
    """The URL of another database of a server, which may be given as `host=… user=…` too."""
    parts = {key: value for key, value in conninfo_to_dict(server).items() if key != "dbname"}
    return f"postgresql:///{database}?{urlencode(parts, quote_via=quote)}"


def _require_usable(server: str) -> None:
    """Refuses a server on which nothing could be measured, before anything is.

    Raises:
        StoreUnavailable, StoreError: it can't be reached, or the URL is none.
        BenchUnavailable: it is too old, or we may not create databases.
    """
    name = f"server {redacted(server)}"
    require_url(server, name)
    with translated(name), psycopg.connect(server, **options("bench")) as conn:
        version = conn.info.server_version
        statement = "SELECT rolcreatedb OR rolsuper, rolname FROM pg_roles WHERE rolname = user"
        ((may_create, role),) = conn.execute(statement).fetchall()
    if version < OLDEST * 10_000:
        raise BenchUnavailable(
            f"{name} is PostgreSQL {version // 10_000}: use one from {OLDEST} on"
        )
    if not may_create:
        raise BenchUnavailable(
            f"{name}: role {role} may not create databases, in which is measured. Give the URL "
            f'of a role that may: ALTER ROLE "{role}" CREATEDB'
        )


def _pgbench(folder: Path) -> Path | None:
    with suppress(EmbeddedServerError):
        return EmbeddedServer(folder).programs / "pgbench"
    found = shutil.which("pgbench")
    return Path(found) if found else None


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
        StoreUnavailable, StoreError: a server can't be reached, or a URL is none.
        BenchUnavailable: a server is too old, or lets us create no databases.
    """
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="eventferry-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)  # as root, PostgreSQL runs as another user
        is_embedded = urls is None
        if urls is None:
            server = stack.enter_context(EmbeddedServer(folder / "pg", settings=settings))
            urls = server.url(), server.url()
        for url in dict.fromkeys(urls):
            _require_usable(url)
        yield Stage(
            *urls,
            folder=folder,
            is_embedded=is_embedded,
            pgbench=_pgbench(folder),
            rounds=rounds,
            events=events,
            say=say,
        )
