"""A store of the first schema, in full use, gets the newest one while everybody goes on.

`eventferry-schema-0001.tar.xz` is eventferry as it was when it had but one migration (commit
c84c221~1), without the demo and the embedded server. Made by::

    git archive c84c221~1 -- src/eventferry ':!src/eventferry/demo' ':!src/eventferry/embedded.py' |
        xz -9e > tests/migration/eventferry-schema-0001.tar.xz
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventferry import EventStore, StoreNotMigrated, migration
from tests.databases import Databases
from tests.deployed import Deployed, deployed
from tests.services import disconnect, listeners, query
from tests.waiting import until
from tests.writing import event_ids, insert, writing

ARCHIVE = Path(__file__).with_name("eventferry-schema-0001.tar.xz")
STREAM = "users-stream"
SOME = 100
"""So many events are handled in each stage."""

USERS = """
    service = "users"
    local_url = "{users}"
    shared_url = "{shared}"

    [producing.users-projection]
    stream_name = "users-stream"

    [consuming.audit-projection]
    stream_names = ["users-stream"]
    environment = "local"
    handler = "handlers:handle"
    """
MAILS = """
    service = "mails"
    local_url = "{mails}"
    shared_url = "{shared}"

    [consuming.mails-projection]
    stream_names = ["users-stream"]
    environment = "shared"
    handler = "handlers:handle"
    """
LATER = """
[consuming.later-projection]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:handle"
"""
HANDLERS = """
    def handle(event, context):
        context.connection.execute(
            "INSERT INTO handled (projection, event_id, is_replay) VALUES (%s, %s, %s)",
            (context.projection, event.id, getattr(context, "is_replay", None)),
        )
    """
TABLE = """
    CREATE TABLE handled (place bigint GENERATED ALWAYS AS IDENTITY, projection text,
                          event_id uuid, is_replay boolean)
    """
APPEND = """
import os, signal, time
from eventferry import Event, EventStore, migration

assert len(migration.known()) == 1, "this is the old code"
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
with EventStore(os.environ["STORE"]) as store:
    version = 0
    while not stopped:
        event = Event("Appended", {"text": "by the old code"}, entity_id="1")
        store.append("users-stream", event, expected_version=version)
        version += 1
        time.sleep(0.003)
"""


@dataclass(frozen=True)
class Landscape:
    """Two services, and where their stores are."""

    users: Deployed
    mails: Deployed
    users_url: str
    mails_url: str
    shared_url: str

    def handled(self, projection: str) -> list[tuple[Any, bool | None]]:
        """What a projection has handled, in order, and whether as a replay."""
        return query(
            self.users_url if projection == "audit-projection" else self.mails_url,
            "SELECT event_id, is_replay FROM handled WHERE projection = %s ORDER BY place",
            (projection,),
        )

    def until_handled(self, count: int, what: str, *projections: str) -> None:
        """Returns when the projections, by default the first two, have handled so many events."""
        statement = "SELECT count(*) FROM handled WHERE projection = %s"
        for name in projections or ("audit-projection", "mails-projection"):
            url = self.users_url if name == "audit-projection" else self.mails_url
            until(lambda n=name, u=url: query(u, statement, (n,))[0][0] >= count, what)  # type: ignore[misc]

    def until_some_more(self, what: str) -> None:
        """Returns when they have handled some events more than there are now."""
        self.until_handled(len(event_ids(self.users_url, STREAM)) + SOME, what)

    def checkpoints(self) -> dict[str, tuple[int, ...]]:
        """Where each projection is."""
        statement = "SELECT projection, position FROM eventferry.checkpoints"
        urls = (self.users_url, self.mails_url, self.shared_url)
        return {name: position for url in urls for name, *position in query(url, statement)}


@pytest.fixture
def landscape(databases: Databases, tmp_path: Path) -> Iterator[Landscape]:
    urls = {name: databases.make_empty() for name in ("users", "mails", "shared")}
    for name in ("users", "mails"):
        with psycopg.connect(urls[name]) as conn:
            conn.execute(TABLE)
    with (
        deployed(tmp_path / "users", USERS.format(**urls), HANDLERS) as users,
        deployed(tmp_path / "mails", MAILS.format(**urls), HANDLERS) as mails,
    ):
        yield Landscape(users, mails, urls["users"], urls["mails"], urls["shared"])
    disconnect()


@pytest.fixture
def old(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that run the old code."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return {"PYTHONPATH": str(tmp_path / "old" / "src")}


def applied(url: str) -> list[int]:
    return [
        row[0] for row in query(url, "SELECT number FROM eventferry.migrations ORDER BY number")
    ]


def test_a_store_in_full_use_is_upgraded(landscape: Landscape, old: dict[str, str]) -> None:
    users, mails = landscape.users, landscape.mails
    stores = (landscape.users_url, landscape.mails_url, landscape.shared_url)
    newest = [m.number for m in migration.known()]

    # everything is old
    for service in (users, mails):
        assert service.run("migrate", **old) == 0, service.log
    assert [applied(url) for url in stores] == [[1]] * 3
    assert users.run("streams", "create", STREAM, **old) == 0, users.log
    old_workers = [(service, service.command("worker", **old)) for service in (users, mails)]
    old_writer = users.start(APPEND, STORE=landscape.users_url, **old)
    with writing(landscape.users_url, STREAM, insert, insert):
        landscape.until_some_more("the old code handles events")
        before = landscape.checkpoints()

        # the new code does nothing to a store that it does not know yet
        for url in stores:
            with EventStore(url) as store, pytest.raises(StoreNotMigrated, match="from 0002 on"):
                store.streams()
        for service in (users, mails):
            assert service.run("worker") == 2
            missing = (
                f"lacks {len(newest) - 1} migration(s), from 0002 on. Run `eventferry migrate`"
            )
            assert missing in service.log

        # the schema is new, and all that runs is old
        for service in (users, mails):
            assert service.run("migrate") == 0, service.log
        assert [applied(url) for url in stores] == [newest] * 3
        landscape.until_some_more("the old code goes on in the new schema")

        # old and new code side by side, then the new one alone
        for service, url in ((users, landscape.users_url), (mails, landscape.shared_url)):
            listening = len(listeners(url))
            service.command("worker")
            until(lambda n=listening, u=url: len(listeners(u)) > n, "the new worker runs")  # type: ignore[misc]
        landscape.until_some_more("old and new code side by side")
        for service, worker in old_workers:
            assert service.stop(worker) == [0], service.log
        landscape.until_some_more("the new code goes on alone")
        assert users.stop(old_writer) == [0], users.log

    # everything once, in order, and nothing again
    events = event_ids(landscape.users_url, STREAM)
    landscape.until_handled(len(events), "all events are handled")
    assert event_ids(landscape.shared_url, STREAM) == events
    for projection in ("audit-projection", "mails-projection"):
        handled = landscape.handled(projection)
        assert [event_id for event_id, _ in handled] == events
        by_old_and_new = {is_replay for _, is_replay in handled}
        assert by_old_and_new == {None, False}, "who began before the schema knew replays nothing"
    after = landscape.checkpoints()
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in before)

    # what begins now knows what was there before
    mails.stop()
    with mails.config.open("a") as configuration:
        configuration.write(LATER)
    mails.command("worker")
    landscape.until_handled(len(events), "the new projection has replayed", "later-projection")
    with psycopg.connect(landscape.users_url) as conn:
        insert(conn, STREAM)
    landscape.until_handled(len(events) + 1, "it handles the new event", "later-projection")
    last = event_ids(landscape.users_url, STREAM)[-1]
    assert landscape.handled("later-projection") == [(e, True) for e in events] + [(last, False)]
    assert set(users.stop() + mails.stop()) == {0}
