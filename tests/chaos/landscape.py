"""Two services and the stores between them; and what must be there when all is over.

    users: users-stream ──journal──> effects     mails: mails-stream <──┐
                │                                           │           │
           users-ferry                          mails-ferry, second-ferry
                ▼                                           ▼           │
    shared: users-stream ──welcome, digest──> effects of mails, ────────┘
            mails-stream ──digest, answers──> effects of mails, of users

The services come to all stores through proxies, the test comes directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import LiteralString
from uuid import UUID

import psycopg

from eventferry.embedded import EmbeddedServer
from eventferry.migration import migrate
from tests.chaos.proxy import HOST, Proxy
from tests.chaos.supervisor import Supervisor
from tests.chaos.writer import Ledger
from tests.databases import running_server
from tests.deployed import Deployed, deployed
from tests.services import disconnect, query
from tests.waiting import until
from tests.writing import event_ids

RECOVERY_S = 60.0
"""After the last fault, everything is at its head within this time."""

HEAD = """
service = "{service}"
local_url = "{local}"
shared_url = "{shared}"
"""
RETRIES = """
attempts = 1000
backoff = "50ms"
backoff_max = "500ms"
batch_size = 50
"""
CONSUMING = """
handler_timeout = "2s"
"""
USERS = f"""
[producing.users-ferry]
stream_name = "users-stream"
{RETRIES}
[consuming.journal]
stream_names = ["users-stream"]
environment = "local"
handler = "handlers:journal"
background_process = true
{RETRIES}{CONSUMING}
[consuming.answers]
stream_names = ["mails-stream"]
environment = "shared"
handler = "handlers:Answers"
{RETRIES}{CONSUMING}"""
MAILS = f"""
[producing.mails-ferry]
stream_name = "mails-stream"
background_process = true
{RETRIES}
[producing.second-ferry]
stream_name = "mails-stream"
{RETRIES}
[consuming.welcome]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:welcome"
{RETRIES}{CONSUMING}
[consuming.digest]
stream_names = ["users-stream", "mails-stream"]
environment = "shared"
handler = "handlers:digest"
background_process = true
{RETRIES}{CONSUMING}"""
EFFECTS = """
CREATE TABLE effects (
    place       bigint GENERATED ALWAYS AS IDENTITY,
    projection  text NOT NULL,
    event_id    uuid NOT NULL,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id()
)
"""
HEAD_OF: LiteralString = """
SELECT coalesce(max(position), 0)
  FROM eventferry.events JOIN eventferry.streams ON number = stream
 WHERE name = %s
"""
DIAGNOSIS: LiteralString = """
SELECT 'projection', name, state, attempts, error FROM eventferry.projections
UNION ALL
SELECT application_name, state, wait_event, extract(epoch FROM now() - state_change)::int, query
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@dataclass
class Store:
    """A PostgreSQL of its own, and the way to it."""

    name: str
    server: EmbeddedServer
    proxy: Proxy
    url: str
    """The way of the test: direct."""
    lock: Lock = field(default_factory=Lock)
    """Held while the server is stopped and started."""

    @property
    def through(self) -> str:
        """The way of the services: through the proxy."""
        return f"postgresql://postgres@{HOST}:{self.proxy.port}/{self.name}"


@dataclass(frozen=True)
class Reader:
    """A projection."""

    name: str
    reads: Store
    streams: tuple[str, ...]
    writes: Store
    """Its checkpoints, and its effects."""

    def has_begun(self) -> bool:
        return all(checkpoint(self.writes, self.name, stream) for stream in self.streams)

    def is_at_head(self) -> bool:
        return all(
            checkpoint(self.writes, self.name, stream) == head(self.reads, stream)
            for stream in self.streams
        )


@dataclass
class Landscape:
    """All of it."""

    users: Store
    mails: Store
    shared: Store
    services: tuple[Deployed, Deployed]
    supervisor: Supervisor
    ledgers: dict[str, Ledger] = field(
        default_factory=lambda: {"users-stream": Ledger(), "mails-stream": Ledger()}
    )

    @property
    def stores(self) -> tuple[Store, ...]:
        return (self.users, self.mails, self.shared)

    @property
    def streams(self) -> dict[str, Store]:
        """Where each begins."""
        return {"users-stream": self.users, "mails-stream": self.mails}

    @property
    def projections(self) -> tuple[Reader, ...]:
        """All of them, in the order of the events' way."""
        one, other = self.streams
        return (
            Reader("journal", self.users, (one,), self.users),
            Reader("users-ferry", self.users, (one,), self.shared),
            Reader("welcome", self.shared, (one,), self.mails),
            Reader("mails-ferry", self.mails, (other,), self.shared),
            Reader("second-ferry", self.mails, (other,), self.shared),
            Reader("digest", self.shared, (one, other), self.mails),
            Reader("answers", self.shared, (other,), self.users),
        )

    @property
    def readers(self) -> tuple[Reader, ...]:
        """The consuming ones."""
        return tuple(p for p in self.projections if not p.name.endswith("-ferry"))

    def struck(self, what: str) -> int:
        """How often handlers have `raised`, or have `exited`."""
        return sum(
            len(list((service.folder / "marks").glob(f"{what}*"))) for service in self.services
        )

    def until_running(self) -> None:
        """Returns when every projection has done something."""
        self._until_all(Reader.has_begun, "have begun")

    # ---- in the end

    def until_recovered(self) -> None:
        """Returns when every projection is at its head, without anybody's command."""
        self._until_all(Reader.is_at_head, "are at their head")

    def _until_all(self, condition: Callable[[Reader], bool], what: str) -> None:
        try:
            until(
                # in this order: what one appends, the next ones read
                lambda: all(condition(projection) for projection in self.projections),
                f"all projections {what}",
                patience_s=RECOVERY_S,
            )
        except AssertionError:
            print(self.diagnosis())
            raise

    def diagnosis(self) -> str:
        """What is wrong where they are not at their head: who waits, for whom, and since when."""
        lines = []
        for projection in self.projections:
            for stream in projection.streams:
                at = checkpoint(projection.writes, projection.name, stream)
                lines.append(
                    f"{projection.name}: {at} of {head(projection.reads, stream)} {stream}"
                )
        for store in self.stores:
            lines += [f"{store.name}: {row}" for row in query(store.url, DIAGNOSIS)]
        return "\n".join(lines)

    def require_promises(self) -> None:
        """Each event that is committed is in the shared stream once, and was handled once."""
        for stream, store in self.streams.items():
            self._require_ledger(stream, store)
            require_versions(store, stream)
            require_same(
                event_ids(self.shared.url, stream), event_ids(store.url, stream), f"shared {stream}"
            )
        for reader in self.readers:
            require_same(
                handled(reader.writes, reader.name),
                events(reader.reads, reader.streams),
                f"what {reader.name} has handled",
            )
        answered = query(
            self.mails.url,
            "SELECT (metadata ->> 'causation_id')::uuid"
            """ FROM streams."mails-stream" WHERE type = 'Welcomed' ORDER BY position""",
        )
        require_same(
            [row[0] for row in answered], event_ids(self.users.url, "users-stream"), "welcomes"
        )
        for store in (self.users, self.mails):
            projections = query(store.url, "SELECT name, state, error FROM eventferry.projections")
            assert {row[1:] for row in projections} == {("idle", None)}, projections

    def _require_ledger(self, stream: str, store: Store) -> None:
        there = set(event_ids(store.url, stream))
        outcomes = self.ledgers[stream].outcomes.items()
        lost = [id_ for id_, outcome in outcomes if outcome == "committed" and id_ not in there]
        undead = [id_ for id_, outcome in outcomes if outcome == "rolled back" and id_ in there]
        assert not lost, f"{stream} has lost {len(lost)} committed events: {lost[:3]}"
        assert not undead, f"{stream} has {len(undead)} that were rolled back: {undead[:3]}"

    def batches(self) -> tuple[int, int]:
        """Of the consuming projections: begun, committed.

        Begun are at least so many: who crashes forgets a few.
        """
        begun = committed = 0
        for reader in self.readers:
            row = query(
                reader.writes.url,
                "SELECT eventferry.batches_begun(%s), count(DISTINCT transaction)"
                " FROM effects WHERE projection = %s",
                (reader.name, reader.name),
            )
            begun += row[0][0]
            committed += row[0][1]
        return begun, committed

    def failures(self) -> Counter[str]:
        """The attempts that were recorded as failed, by error."""
        statement: LiteralString = "SELECT error_type FROM eventferry.failures"
        return Counter(
            row[0] for store in (self.users, self.mails) for row in query(store.url, statement)
        )


def head(store: Store, stream: str) -> int:
    """The position of a stream's last event; 0: it has none."""
    return int(query(store.url, HEAD_OF, (stream,))[0][0])


def checkpoint(store: Store, projection: str, stream: str) -> int | None:
    rows = query(
        store.url,
        "SELECT position FROM eventferry.checkpoints WHERE projection = %s AND stream = %s",
        (projection, stream),
    )
    return rows[0][0] if rows else None


def events(store: Store, streams: Sequence[str]) -> list[UUID]:
    """What streams have, in the one order of their store."""
    rows = query(
        store.url,
        "SELECT events.id FROM eventferry.events JOIN eventferry.streams ON number = stream"
        " WHERE name = ANY (%s) ORDER BY position",
        (list(streams),),
    )
    return [row[0] for row in rows]


def handled(store: Store, projection: str) -> list[UUID]:
    """What a projection has handled, in this order."""
    rows = query(
        store.url,
        "SELECT event_id FROM effects WHERE projection = %s ORDER BY place",
        (projection,),
    )
    return [row[0] for row in rows]


def require_versions(store: Store, stream: str) -> None:
    """The versions of each entity are 1, 2, 3, … in the order of the stream."""
    rows = query(
        store.url,
        "SELECT entity_id, array_agg(version ORDER BY position)"
        " FROM eventferry.events JOIN eventferry.streams ON number = stream"
        " WHERE name = %s AND version IS NOT NULL GROUP BY entity_id",
        (stream,),
    )
    assert rows, f"{stream} has no versions"
    for entity, versions in rows:
        assert versions == list(range(1, len(versions) + 1)), (stream, entity, versions)


def require_same(found: Sequence[UUID], expected: Sequence[UUID], what: str) -> None:
    """The same events, each once, in the same order."""
    double = [id_ for id_, count in Counter(found).items() if count > 1]
    missing = set(expected).difference(found)
    unknown = set(found).difference(expected)
    place = next((n for n, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
    assert list(found) == list(expected), (
        f"{what}: {len(found)} of {len(expected)} events; {len(double)} double, "
        f"{len(missing)} missing, {len(unknown)} unknown; the first difference is at {place}"
    )


@contextmanager
def landscape(folder: Path, workers: Sequence[Sequence[str]]) -> Iterator[Landscape]:
    """The stores run, the workers not yet.

    Args:
        folder: Of the services.
        workers: The commands of each service's processes.
    """
    with ExitStack() as stack:
        users, mails, shared = (
            stack.enter_context(running_store(name)) for name in ("users", "mails", "shared")
        )
        prepare(users, mails, shared)
        services = tuple(
            stack.enter_context(service(folder, store, shared, keys))
            for store, keys in ((users, USERS), (mails, MAILS))
        )
        supervisor = Supervisor(
            [(each, tuple(command)) for command in workers for each in services]
        )
        stack.callback(disconnect)
        stack.callback(supervisor.stop)
        yield Landscape(users, mails, shared, (services[0], services[1]), supervisor)


@contextmanager
def running_store(name: str) -> Iterator[Store]:
    with running_server(port=None) as server:
        url = server.create_database(name)
        with Proxy(server.folder / ".s.PGSQL.5432") as proxy:
            yield Store(name, server, proxy, url)


def prepare(users: Store, mails: Store, shared: Store) -> None:
    migrate(shared.url, kind="shared", service=None)
    for store in (users, mails):
        migrate(store.url, kind="local", service=store.name)
        with psycopg.connect(store.url) as conn:
            conn.execute(EFFECTS)
            conn.execute("SELECT eventferry.create_stream(%s)", [f"{store.name}-stream"])


@contextmanager
def service(folder: Path, local: Store, shared: Store, keys: str) -> Iterator[Deployed]:
    head_ = HEAD.format(service=local.name, local=local.through, shared=shared.through)
    handlers = Path(__file__).with_name("handlers.py").read_text()
    (folder / local.name / "marks").mkdir(parents=True)
    with deployed(folder / local.name, head_ + keys, handlers) as one:
        yield one
