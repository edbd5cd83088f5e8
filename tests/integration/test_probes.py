"""Workers that are asked over HTTP how they are, while all kinds of things happen to them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest
from psycopg_pool import AsyncConnectionPool

from eventferry.connection import options
from eventferry.embedded import EmbeddedServer
from eventferry.engine.context._async import AsyncContext
from eventferry.event import RecordedEvent
from eventferry.health import Health
from eventferry.pools import POOL
from eventferry.probes import Server, routes
from eventferry.store import EventStore
from eventferry.watch import Watch
from tests.command_line import CommandLine, cloud_event
from tests.conftest import MakeDatabase
from tests.databases import Databases
from tests.probing import ask, port_of, until_said
from tests.services import Service, disconnect, listeners, numbered, sleeping
from tests.waiting import PATIENCE_S, until

ANY_PORT = ("--http", "127.0.0.1:0")
SECRET = "hunter2secret"

ONE = """
service = "users"
poll_interval = "100ms"

[consuming.mails-projection]
stream_names = ["users-stream"]
environment = "{}"
handler = "handlers:handle"
"""


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    return CommandLine(tmp_path, make_database("local", "users"), make_database("shared")).ready()


def with_secret(url: str) -> str:
    """The URL with a password, which a server that trusts everybody does not look at."""
    return url.replace("postgres@", f"postgres:{SECRET}@")


@pytest.mark.parametrize(
    "command",
    [
        ("worker", "--background"),
        ("producing", "start", "users-projection"),
        ("consuming", "start", "mails-projection"),
    ],
    ids=" ".join,
)
def test_a_process_says_that_it_is_ready(users: CommandLine, command: tuple[str, ...]) -> None:
    with users.started(*command, *ANY_PORT) as process:
        port = port_of(process)
        said = until_said(port, "/readyz", 200, "ready")
        name = command[-1] if "start" in command else "mails-projection"
        assert name in said["projections"]
        until(lambda: ask(port, "/readyz").said["projections"][name] == "caught up")
        assert ask(port, "/livez").said["status"] == "alive"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_nothing_listens_unless_it_is_asked_to(users: CommandLine) -> None:
    with users.started("worker", "--background") as process:
        assert process.stderr is not None
        until(lambda: "woken from" in process.stderr.readline())  # type: ignore[union-attr]
        assert listening(process.pid) == []
    with users.started("worker", "--background", *ANY_PORT) as process:
        port = port_of(process)
        assert listening(process.pid) == [port]


def listening(pid: int) -> list[int]:
    """The TCP ports at which a process listens."""
    open_files = Path(f"/proc/{pid}/fd")
    own = {str(file.readlink()) for file in open_files.iterdir()}
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    listens = "0A"
    return [
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if row[3] == listens and f"socket:[{row[9]}]" in own
    ]


def test_a_failed_projection_leaves_the_process_ready(users: CommandLine) -> None:
    users.break_handler()
    poison = cloud_event(1, "Poison")
    assert not users(
        "events", "append", "users-stream", "--environment", "shared", stdin=poison
    ).code

    with users.started("worker", *ANY_PORT) as process:
        port = port_of(process)
        until_said(port, "/readyz", 200, "ready")
        until(lambda: ask(port, "/readyz").said["projections"]["mails-projection"] == "failed")
        assert ask(port, "/readyz").code == 200
        assert b"a bug in the handler" not in ask(port, "/readyz").body


def test_who_finishes_its_batch_is_alive_and_not_ready(users: CommandLine) -> None:
    users.write(
        handlers="""
            import time
            from pathlib import Path
            folder = Path(__file__).parent

            def handle(event, context):
                (folder / "begun").touch()
                while not (folder / "go").exists():
                    time.sleep(0.01)

            def handle_nothing(event):
                pass
            """.replace("\n            ", "\n")
    )
    done = users(
        "events", "append", "users-stream", "--environment", "shared", stdin=cloud_event(1)
    )
    assert done.code == 0
    with users.started("worker", *ANY_PORT) as process:
        port = port_of(process)
        until((users.folder / "begun").exists)
        until_said(port, "/readyz", 200, "ready")

        process.send_signal(signal.SIGTERM)
        until_said(port, "/readyz", 503, "stopping")
        assert ask(port, "/livez").code == 200

        (users.folder / "go").touch()
        assert process.wait(PATIENCE_S) == 0


def test_a_loop_that_is_blocked_is_not_alive(loner: Service) -> None:
    go = threading.Event()

    async def handle(event: RecordedEvent, context: AsyncContext) -> None:
        go.wait(PATIENCE_S)  # what nobody should do in an `async def`

    loner.create_stream("users-stream")
    loner.consuming("mails-projection", handle, "users-stream")
    health = Health(limit_s=0.5)
    with (
        Server("127.0.0.1", 0, routes(health)) as server,
        loner.worker("mails-projection", health=health),
    ):
        until_said(server.port, "/readyz", 200, "ready")
        loner.append("users-stream", numbered(1))
        said = until_said(server.port, "/livez", 503, "blocked")
        assert "has not turned for" in said["reason"]
        assert ask(server.port, "/readyz").code == 503
        go.set()
        until_said(server.port, "/livez", 200, "alive")
        until_said(server.port, "/readyz", 200, "ready")


@pytest.mark.parametrize("reads", ["local", "shared"])
def test_who_has_lost_a_store_is_not_ready_until_it_is_back(
    tmp_path: Path,
    make_database: MakeDatabase,
    own_server: EmbeddedServer,
    own_databases: Databases,
    reads: str,
) -> None:
    """Also the local store of who only reads the shared one, in which nothing is polled."""
    users = CommandLine(
        tmp_path,
        with_secret(own_databases.make("local", "users")),
        with_secret(make_database("shared")),
    ).ready()
    users.write(ONE.format(reads))
    with users.started("worker", *ANY_PORT) as process:
        port = port_of(process)
        before = until_said(port, "/readyz", 200, "ready")
        reads_url = users.local_url if reads == "local" else users.shared_url
        until(lambda: sleeping(reads_url), "it sleeps, and has nothing to ask the stores")

        own_server.stop()
        lost = until_said(port, "/readyz", 503, "unavailable")
        assert lost["reason"]
        assert ask(port, "/livez").code == 200

        own_server.start()
        after = until_said(port, "/readyz", 200, "ready")
    assert SECRET not in json.dumps([before, lost, after])
    assert SECRET in users.local_url


@pytest.mark.parametrize("readers", [{}, {"reader": ("users-stream",)}], ids=["listens", "polls"])
async def test_an_outage_is_noticed_while_all_projections_sleep(
    own_server: EmbeddedServer,
    own_databases: Databases,
    readers: dict[str, tuple[str, ...]],
) -> None:
    url = own_databases.make("local", "users")
    health = Health()
    health.registered(readers)

    async def until_ready(is_ready: bool) -> None:
        await asyncio.to_thread(until, lambda: health.ready().is_ok is is_ready)

    async with (
        AsyncConnectionPool(
            url, kwargs=options("a test"), max_size=1, **(POOL | {"timeout": 0.5})
        ) as pool,
        health.beating(),
        asyncio.TaskGroup() as tasks,
    ):
        with closing(EventStore(url)) as store:
            store.create_stream("users-stream")
        watch = Watch(
            environment="local",
            pool=pool,
            listen_url=url,
            poll_s=0.02,
            readers=readers,
            wake=lambda _: None,
            health=health,
        )
        watching = [tasks.create_task(task) for task in (watch.listen(), watch.poll())]
        await asyncio.to_thread(until, lambda: listeners(url))
        disconnect()
        await asyncio.to_thread(own_server.stop)
        await until_ready(False)
        await asyncio.to_thread(own_server.start)
        await until_ready(True)
        for task in watching:
            task.cancel()


def test_who_can_not_reach_its_store_says_so_and_not_over_http(users: CommandLine) -> None:
    nowhere = f"postgresql://me:{SECRET}@127.0.0.1:1/users"

    done = users.process("worker", *ANY_PORT, EVENTFERRY_LOCAL_URL=nowhere)

    assert done.code == 2
    assert "local store" in done.err
    assert SECRET not in done.err


def test_a_port_that_is_taken_is_said_before_anything_runs(users: CommandLine) -> None:
    users("events", "append", "users-stream", stdin=cloud_event(1))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = users.process("worker", "--once", "--http", f"127.0.0.1:{port}")

    assert (done.code, done.out) == (2, "")
    assert f"can't listen at port {port} of 127.0.0.1: Address already in use" in done.err
    found = users("projections", "status", "users-projection", "--json").envelope["data"]
    assert found[0]["state"] == "never run"


def test_an_address_that_is_none_is_wrong_usage(users: CommandLine) -> None:
    done = users("worker", "--http", "eighty")

    assert done.code == 2
    assert "expected a port such as 8080, or 127.0.0.1:8080" in done.err
