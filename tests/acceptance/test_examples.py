"""The three services of examples/, as they are run: HTTP, their workers, and what kills them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import psycopg
import pytest

from eventferry import server_folder
from tests import processes
from tests.databases import Databases
from tests.pages import ROOT
from tests.probed import free_port
from tests.services import query
from tests.waiting import PATIENCE_S, until

EXAMPLES = ROOT / "examples"
READY = {"users": "/readyz", "shop": "/customers", "billing": "/invoices"}
WEB = ("-m", "uvicorn", "app:app", "--port", "{port}", "--no-access-log")
PROGRAMS: dict[str, dict[str, tuple[str, ...]]] = {
    "users": {"web": WEB},  # with a worker inside of it
    "shop": {
        "web": ("manage.py", "runserver", "--noreload", "{port}"),
        "worker": ("manage.py", "eventferry", "worker"),
    },
    "billing": {"web": WEB, "worker": ("-m", "eventferry", "worker")},
}
ENVIRON = {key: value for key, value in os.environ.items() if "EVENTFERRY" not in key}
REQUESTS = 200
CLIENTS = 8


@dataclass
class System:
    """The three services, as their users see them."""

    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in READY})
    client: httpx.Client = field(
        default_factory=lambda: httpx.Client(timeout=PATIENCE_S, trust_env=False, verify=False)
    )

    def ask(self, service: str, method: str, path: str, body: object = None) -> Any:
        """What is answered with success."""
        url = f"http://127.0.0.1:{self.ports[service]}{path}"
        answer = self.client.request(method, url, json=body)
        answer.raise_for_status()
        return answer.json()

    def until_ready(self) -> None:
        for service in READY:
            until(lambda s=service: self._is_ready(s), f"{service} answers")  # type: ignore[misc]

    def _is_ready(self, service: str) -> bool:
        try:
            return self.ask(service, "GET", READY[service]) is not None
        except httpx.HTTPError:
            return False

    def register(self, email: str) -> dict[str, str]:
        user = self.ask("users", "POST", "/users", {"name": "Ada", "email": email})
        return cast("dict[str, str]", user)

    def order(self, customer_id: str) -> str:
        """The order's id."""
        body = {"customer_id": customer_id, "item": "a loom", "amount_cents": 1250}
        return str(self.ask("shop", "POST", "/orders", body)["id"])

    def customers(self) -> list[str]:
        """Their addresses, as the shop knows them."""
        return [c["email"] for c in self.ask("shop", "GET", "/customers")["customers"]]

    def invoices(self) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", self.ask("billing", "GET", "/invoices"))

    def buy_and_pay(self) -> str:
        """One order, all the way; the customer's id."""
        ada = self.register("ada@example.org")
        assert self.ask("users", "GET", f"/users/{ada['id']}") == ada
        until(lambda: self.customers() == ["ada@example.org"], "the user is a customer")
        order = self.order(ada["id"])
        (invoice,) = until(self.invoices, "the order is billed")
        assert (invoice["order_id"], invoice["amount_cents"]) == (order, 1250)
        until(
            lambda: self.ask("shop", "GET", f"/orders/{order}")["invoice_id"] == invoice["id"],
            "the shop knows the invoice",
        )
        paid = self.ask("billing", "POST", f"/invoices/{invoice['id']}/pay")
        assert self.ask("billing", "POST", f"/invoices/{invoice['id']}/pay") == paid
        assert self.invoices() == [paid]
        return ada["id"]


@dataclass
class Deployment(System):
    """Each with its processes, in a folder of its own."""

    folder: Path = Path()
    urls: dict[str, str] = field(default_factory=dict)
    shared_url: str = ""
    running: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, service: str, name: str) -> None:
        words = (word.format(port=self.ports[service]) for word in PROGRAMS[service][name])
        with (self.folder / service / f"{name}.log").open("ab") as log:
            self.running[service, name] = subprocess.Popen(
                [sys.executable, "-W", "error", *words],
                cwd=self.folder / service,
                env=self.environ(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_all(self) -> None:
        for service, programs in PROGRAMS.items():
            for name in programs:
                self.start(service, name)
        self.until_ready()

    def kill(self, service: str, name: str) -> None:
        """kill -9; another one takes its place, as with any supervisor."""
        process = self.running[service, name]
        process.kill()
        process.wait(PATIENCE_S)
        self.start(service, name)

    def environ(self, service: str) -> dict[str, str]:
        return ENVIRON | {
            "EVENTFERRY_LOCAL_URL": self.urls[service],
            "EVENTFERRY_SHARED_URL": self.shared_url,
            "EMBEDDED_WORKER": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }


@pytest.fixture
def deployment(databases: Databases, tmp_path: Path) -> Iterator[Deployment]:
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    made = Deployment(folder=tmp_path, shared_url=databases.make("shared"))
    for service in ("users", "billing"):
        made.urls[service] = databases.make("local", service)
        with psycopg.connect(made.urls[service]) as conn:
            conn.execute((tmp_path / service / "schema.sql").read_bytes())
    made.urls["shop"] = databases.make_empty()
    run("manage.py", "migrate", folder=tmp_path / "shop", environ=made.environ("shop"))
    try:
        yield made
    finally:
        made.client.close()
        processes.kill_all(tmp_path)
        for process in made.running.values():
            process.wait(PATIENCE_S)


def run(*arguments: str, folder: Path, environ: dict[str, str]) -> None:
    """Runs a program to its end."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.once
def test_what_one_service_was_asked_for_arrives_in_the_others_whoever_is_killed(
    deployment: Deployment,
) -> None:
    deployment.start_all()
    ada = deployment.buy_and_pay()

    told = ask_and_kill(deployment, ada)

    users = {row[0] for row in query(deployment.urls["users"], "SELECT email FROM users")}
    orders = {str(row[0]) for row in query(deployment.urls["shop"], "SELECT id FROM shop_order")}
    until(lambda: set(deployment.customers()) == users, "all users are customers")
    until(lambda: {i["order_id"] for i in deployment.invoices()} == orders, "all are billed")
    assert told["users"] <= users
    assert told["orders"] <= orders
    assert len(deployment.customers()) == len(users)
    assert len(deployment.invoices()) == len(orders)


def ask_and_kill(deployment: Deployment, customer_id: str) -> dict[str, set[str]]:
    """Many clients at once, and processes that are killed meanwhile; what clients were told."""
    told: dict[str, set[str]] = {"users": set(), "orders": set()}
    asked = threading.Semaphore(0)

    def ask(number: int) -> None:
        try:
            if number % 2:
                told["orders"].add(deployment.order(customer_id))
            else:
                told["users"].add(deployment.register(f"user-{number}@example.org")["email"])
        except httpx.TransportError:  # nobody knows what has become of it
            deployment.until_ready()
        finally:
            asked.release()

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = clients.map(ask, range(REQUESTS))
        for service, name in (
            ("users", "web"),
            ("billing", "worker"),
            ("shop", "web"),
            ("shop", "worker"),
        ):
            for _ in range(REQUESTS // 8):
                assert asked.acquire(timeout=PATIENCE_S)
            deployment.kill(service, name)
        assert len(list(answers)) == REQUESTS, "none was refused"
    assert told["users"]
    assert told["orders"]
    return told


@pytest.mark.once
@pytest.mark.parametrize("service", READY)
def test_its_own_tests_succeed(service: str, databases: Databases, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / service, tmp_path, dirs_exist_ok=True)
    environ = ENVIRON | {"EVENTFERRY_TEST_URL": databases.url}
    run("-m", "pytest", "-p", "no:cacheprovider", folder=tmp_path, environ=environ)


@pytest.mark.once
def test_one_command_runs_all_on_a_laptop() -> None:
    # Not pytest's tmp_path: as root, PostgreSQL runs as a user who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="eft-"))
    folder.chmod(0o711)
    system = System()
    shutil.copytree(EXAMPLES, folder / "examples")
    environ = ENVIRON | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "XDG_DATA_HOME": str(folder / "data"),
        "STORE_PORT": str(free_port()),
        **{f"{service.upper()}_PORT": str(port) for service, port in system.ports.items()},
    }
    with (folder / "log").open("ab") as log:
        script = subprocess.Popen(
            ["./run.sh"],
            cwd=folder / "examples",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        system.until_ready()
        system.buy_and_pay()
        os.killpg(script.pid, signal.SIGINT)  # as Ctrl-C does
        script.wait(PATIENCE_S)
        until(lambda: not processes.working_in(folder / "examples"), "nothing runs any more")
    except BaseException:
        print((folder / "log").read_text()[-5000:])
        raise
    finally:
        system.client.close()
        processes.kill_all(folder / "examples")
        script.wait(PATIENCE_S)
        if store := server_folder.running(folder / "data/eventferry"):
            store.stop()
        shutil.rmtree(folder, ignore_errors=True)
