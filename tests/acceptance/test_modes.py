"""On demand, in the background, from cron: in any combination, and changed while events come."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import MakeDatabase
from tests.deployed import Deployed, deployed
from tests.environment import REPOSITORY
from tests.services import disconnect, listeners, query
from tests.waiting import PATIENCE_S, until
from tests.writing import append, event_ids, insert, writing

pytestmark = pytest.mark.once

STREAM = "boilerplate-users-stream"
SOME = 50
"""So many events are handled in each stage."""

HOWTO = REPOSITORY / "docs/howto/produce-on-demand-and-long-running.md"
(COMBINATION,) = re.findall(r"^```toml\n(.*?)^```", HOWTO.read_text(), re.DOTALL | re.MULTILINE)
ON_DEMAND, LONG_RUNNING = re.findall(r"\[producing\.([\w-]+)\]", COMBINATION)

HEAD = """
service = "{service}"
local_url = "{local}"
shared_url = "{shared}"
"""
PRODUCING = """
[producing.boilerplate-users-projection]
stream_name = "boilerplate-users-stream"
background_process = false
"""
CONSUMING = """
[consuming.mails-projection]
stream_names = ["boilerplate-users-stream"]
environment = "shared"
handler = "handlers:handle"
background_process = false
"""
HANDLERS = """
    def handle(event, context):
        context.connection.execute("INSERT INTO handled (event_id) VALUES (%s)", [event.id])
    """
TABLE = "CREATE TABLE handled (place bigint GENERATED ALWAYS AS IDENTITY, event_id uuid)"


@dataclass(frozen=True)
class Landscape:
    """What happens in one service, another one handles."""

    users: Deployed
    mails: Deployed
    users_url: str
    mails_url: str
    shared_url: str

    def handled(self) -> list[Any]:
        return [
            row[0] for row in query(self.mails_url, "SELECT event_id FROM handled ORDER BY place")
        ]

    def until_some_more(self) -> None:
        """Returns when some events more than there are now have been handled."""
        self.until_handled(len(event_ids(self.users_url, STREAM)) + SOME)

    def until_handled(self, count: int) -> None:
        statement = "SELECT count(*) FROM handled"
        until(lambda: query(self.mails_url, statement)[0][0] >= count, f"{count} are handled")

    def require_each_once_in_order(self) -> None:
        """Of all events that there are; nothing is appended any more."""
        events = event_ids(self.users_url, STREAM)
        self.until_handled(len(events))
        assert event_ids(self.shared_url, STREAM) == events
        assert self.handled() == events


@pytest.fixture
def landscape(
    make_database: MakeDatabase, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Landscape]:
    """Its parameter is what the first service produces."""
    users, mails = make_database("local", "boilerplate"), make_database("local", "mails")
    shared = make_database("shared")
    with psycopg.connect(mails) as conn:
        conn.execute(TABLE)
    with psycopg.connect(users) as conn:
        conn.execute("SELECT eventferry.create_stream(%s)", [STREAM])
    heads = [
        HEAD.format(service=service, local=local, shared=shared)
        for service, local in (("boilerplate", users), ("mails", mails))
    ]
    with (
        deployed(tmp_path / "users", heads[0] + request.param) as one,
        deployed(tmp_path / "mails", heads[1] + CONSUMING, HANDLERS) as other,
    ):
        yield Landscape(one, other, users, mails, shared)
    disconnect()


@pytest.mark.parametrize("landscape", [COMBINATION], indirect=True, ids=["users"])
@pytest.mark.parametrize(
    "commands",
    [
        [("worker",), ("producing", "start", LONG_RUNNING)],
        [("worker", "--background")],
    ],
    ids=["a process each", "one worker for both"],
)
def test_two_projections_of_one_stream_ferry_each_event_once(
    landscape: Landscape, commands: list[tuple[str, ...]]
) -> None:
    """The example of the how-to as it stands: one on demand, the other one in the background."""
    with writing(landscape.users_url, STREAM, append, append, insert):
        landscape.mails.command("worker")
        for command in commands:
            landscape.users.command(*command)
        for _ in range(5):
            landscape.until_some_more()
    landscape.require_each_once_in_order()

    statement = "SELECT position FROM eventferry.checkpoints WHERE projection = ANY (%s)"
    both = [ON_DEMAND, LONG_RUNNING]
    last = query(landscape.users_url, f'SELECT max(position) FROM streams."{STREAM}"')
    until(lambda: query(landscape.shared_url, statement, (both,)) == last * 2, "both are there")
    assert landscape.users.stop() == [0] * len(commands)
    assert landscape.mails.stop() == [0]
    worked = "SELECT DISTINCT projection FROM eventferry.statistics WHERE events > 0 ORDER BY 1"
    assert query(landscape.users_url, worked) == [(name,) for name in sorted(both)]
    assert "ERROR" not in landscape.users.log


@dataclass
class Switched:
    """A service whose only projection is run as its configuration says: the mode is one line."""

    service: Deployed
    start: tuple[str, ...]
    """The command for the long-running process of the projection."""
    reads: str
    """The URL of the store that it reads."""

    def switch(self) -> None:
        """Edits the line."""
        before = self.service.config.read_text()
        here = "true" if "background_process = true" in before else "false"
        there = {"true": "false", "false": "true"}[here]
        line = "background_process = {}\n"
        assert before.count(line.format(here)) == 1
        self.service.config.write_text(before.replace(line.format(here), line.format(there)))

    def deploy(self) -> subprocess.Popen[bytes]:
        """Starts the process that the mode asks for; returns when it runs."""
        background = "background_process = true" in self.service.config.read_text()
        before = set(listeners(self.reads))
        process = self.service.command(*(self.start if background else ("worker",)))
        until(lambda: set(listeners(self.reads)) - before, "the new process runs")
        return process

    def run(self, *commands: tuple[str, ...]) -> None:
        """Runs commands side by side to their end, as cron jobs that overlap."""
        with ExitStack() as stack:
            for process in [self.service.command(*command) for command in commands]:
                stack.callback(self.service.workers.remove, process)
                assert process.wait(PATIENCE_S) == 0, self.service.log


@pytest.mark.parametrize("landscape", [PRODUCING], indirect=True, ids=["users"])
def test_the_mode_is_changed_while_events_come(landscape: Landscape) -> None:
    users = Switched(
        landscape.users,
        ("producing", "start", "boilerplate-users-projection"),
        landscape.users_url,
    )
    mails = Switched(
        landscape.mails, ("consuming", "start", "mails-projection"), landscape.shared_url
    )
    both = (users, mails)
    with writing(landscape.users_url, STREAM, append, append, insert):
        for each in both:
            each.deploy()
        landscape.until_some_more()
        # a rolling deployment: to the background and back, the new one beside the old one
        for _ in range(2):
            old = [(each.service, list(each.service.workers)) for each in both]
            for each in both:
                each.switch()
                each.deploy()
            landscape.until_some_more()
            for service, workers in old:
                assert service.stop(*workers) == [0], service.log
            landscape.until_some_more()
        # one after the other: to the background and back
        for _ in range(2):
            for each in both:
                assert each.service.stop() == [0], each.service.log
                each.switch()
                each.deploy()
            landscape.until_some_more()
        # to the background, from cron, two at once, also beside what runs on demand
        for each in both:
            each.switch()
            cron = (*each.start, "--until-idle", "--for", "2s")  # events may never pause
            each.run(cron, cron)
            assert each.service.stop() == [0], each.service.log
            each.run(cron)
        # and back to on demand
        for each in both:
            each.switch()
            each.deploy()
        landscape.until_some_more()
    for each in both:
        each.run(("worker", "--once"))
    landscape.require_each_once_in_order()
    for each in both:
        assert each.service.stop() == [0]
        assert "ERROR" not in each.service.log
