"""A Django project as a user has it: the example, its manage.py, its settings, its migrations."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import psycopg
import pytest

from eventferry import Event, EventStore, migrate
from eventferry.migration import known
from eventferry.testing.databases import Databases
from tests.conftest import MakeDatabase
from tests.pages import ROOT
from tests.services import query
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.once

DJANGOS = ROOT / "src/eventferry/django/migrations"


class Project:
    """A copy of examples/shop, with databases of its own."""

    def __init__(self, folder: Path, local_url: str, shared_url: str) -> None:
        self.folder = shutil.copytree(ROOT / "examples/shop", folder)
        self.local_url = local_url
        self.shared_url = shared_url
        self.environ = {
            **{k: v for k, v in os.environ.items() if "EVENTFERRY" not in k},
            "EVENTFERRY_LOCAL_URL": local_url,
            "EVENTFERRY_SHARED_URL": shared_url,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def settings(self, more: str) -> None:
        """Says more at the end of the settings."""
        with (self.folder / "shop/settings.py").open("a") as file:
            file.write(f"\n{dedent(more)}\n")

    def manage(self, *arguments: str, code: int = 0, program: Any = ("manage.py",)) -> str:
        """Runs a command to its end; all that it has said."""
        done = subprocess.run(
            [sys.executable, "-W", "error", *program, *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S * 2,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def python(self, code: str) -> str:
        """Runs a program under Django."""
        setup = "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'"
        return self.manage(program=("-c", f"{setup}; django.setup()\n{dedent(code)}"))

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command beside the test, which has ended with the block."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=self.folder,
                env=self.environ,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()
                process.wait()

    def register(self, *names: str) -> None:
        """What the service "users" does."""
        with EventStore(self.shared_url) as shared:
            shared.create_stream("users-stream")
            for name in names:
                data = {"name": name, "email": f"{name}@example.org"}
                shared.append("users-stream", Event("UserRegistered", data, entity_id=name))

    @property
    def customers(self) -> list[str]:
        return [
            row[0] for row in query(self.local_url, "SELECT name FROM shop_customer ORDER BY 1")
        ]

    @property
    def has_store(self) -> bool:
        return bool(query(self.local_url, "SELECT to_regclass('eventferry.store')")[0][0])


@pytest.fixture
def new(empty_database: str, make_database: MakeDatabase, tmp_path: Path) -> Project:
    """Whose databases have no tables yet."""
    return Project(tmp_path / "project", empty_database, make_database("shared"))


@pytest.fixture
def shop(new: Project) -> Project:
    """With all of its tables."""
    migrate(new.local_url, kind="local", service="shop")
    new.manage("migrate")
    return new


# ---- tables


def test_djangos_migrations_are_ours() -> None:
    """Add one with a folder of sql/migrations: as its neighbours, with the next number."""
    ours = [f"{m.number:04}_{m.name}" for m in known()]
    theirs = sorted(file.stem for file in DJANGOS.glob("[0-9]*.py"))
    assert theirs == ours
    for before, name in zip([None, *ours], ours, strict=False):
        text = (DJANGOS / f"{name}.py").read_text()
        assert f"MigrateLocalStore({int(name[:4])})" in text
        assert before is None or f'dependencies = [("eventferry", "{before}")]' in text


def test_migrate_makes_the_local_store_and_its_streams(new: Project) -> None:
    said = new.manage("migrate", "eventferry", "0003")
    assert "Applying eventferry.0003_waking... OK" in said
    new.manage("migrate")
    assert "up to date" in new.manage("eventferry", "migrate", "--local")
    assert "No migrations to apply" in new.manage("migrate")
    assert "No changes detected" in new.manage("makemigrations", "--check")
    assert query(new.local_url, "SELECT service, kind FROM eventferry.store") == [("shop", "local")]
    assert query(new.local_url, "SELECT name FROM eventferry.streams") == [("orders-stream",)]
    assert "go forwards only" in new.manage("migrate", "eventferry", "zero", code=1)
    assert new.has_store


def test_tables_that_are_there_already_are_left_as_they_are(new: Project) -> None:
    assert "0001 foundation" in new.manage("eventferry", "migrate", "--local")
    assert "Applying eventferry.0001_foundation... OK" in new.manage("migrate")


def test_a_store_of_another_service_is_refused(new: Project) -> None:
    migrate(new.local_url, kind="local", service="billing")
    assert "local store of service 'billing', not of 'shop'" in new.manage("migrate", code=1)


def test_other_databases_stay_as_they_are(new: Project, databases: Databases) -> None:
    elsewhere = databases.make_empty()
    new.settings(f'''
        url = conninfo_to_dict("{elsewhere}")
        DATABASES["other"] = DATABASES["default"] | {{"NAME": url["dbname"]}}
        EVENTFERRY["database"] = "other"
    ''')
    new.manage("migrate", "eventferry")
    assert not new.has_store
    new.manage("migrate", "eventferry", "--database", "other")
    assert query(elsewhere, "SELECT service FROM eventferry.store") == [("shop",)]
    assert not new.has_store


def test_the_sql_of_a_migration_can_be_read(new: Project) -> None:
    assert "CREATE TABLE eventferry.store" in new.manage("sqlmigrate", "eventferry", "0001")
    assert "eventferry.create_stream('orders-stream'" in new.manage("sqlmigrate", "shop", "0001")


def test_who_applies_that_sql_by_hand_has_the_same_store(new: Project) -> None:
    for one in known():
        said = new.manage("sqlmigrate", "eventferry", f"{one.number:04}")
        with psycopg.connect(new.local_url, autocommit=True) as conn:
            conn.execute(said.encode())
    assert "up to date" in new.manage("eventferry", "migrate", "--local")
    assert query(new.local_url, "SELECT service, kind FROM eventferry.store") == [("shop", "local")]


# ---- the command line


def test_manage_py_is_the_whole_command_line(shop: Project) -> None:
    shop.register("Ada")
    assert "Usage: eventferry" in shop.manage("eventferry", "--help")
    assert "Usage: eventferry" in shop.manage("help", "eventferry")
    assert "No such command" in shop.manage("eventferry", "nonsense", code=2)
    shop.manage("eventferry", "worker", "--once", "--settings", "shop.settings", code=1)
    assert shop.customers == ["Ada"]
    status = ("eventferry", "projections", "status", "customers-projection", "--json")
    shop.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    found = json.loads(shop.manage(*status, program=("-m", "django")))
    assert found["command"] == "projections status"
    assert found["data"][0]["state"] == "idle"


def test_a_process_of_ones_own_runs_projections_under_django(shop: Project) -> None:
    """A task of Celery, say; and call_command."""
    shop.register("Ada", "Grace")
    said = shop.python("""
        from django.core.management import CommandError, call_command
        from eventferry import run_projection
        print(run_projection("customers-projection").handled)
        call_command("eventferry", "projections", "list")
        try:
            call_command("eventferry", "nonsense")
        except CommandError as error:
            print("code", error.returncode)
    """)
    assert said.startswith("2\n")
    assert "customers-projection" in said
    assert "code 2" in said
    assert shop.customers == ["Ada", "Grace"]


@pytest.mark.once
def test_a_schedule_starts_its_processes_under_django(shop: Project) -> None:
    shop.settings('EVENTFERRY["consuming"]["customers-projection"]["background_process"] = True')
    shop.register("Ada")
    with shop.started("eventferry", "schedule", "run") as schedule:
        until(lambda: shop.customers == ["Ada"], "the customer is there")
        schedule.send_signal(signal.SIGHUP)
        log = shop.folder / "log"
        until(lambda: log.read_text().count("runs in process") == 2, "it has begun anew")
        shop.register("Grace")
        until(lambda: shop.customers == ["Ada", "Grace"], "the next one too")
    assert schedule.returncode == 0


@pytest.mark.once
def test_dev_runs_its_worker_under_django(shop: Project) -> None:
    shop.register("Ada")
    with shop.started("eventferry", "dev"):
        until(lambda: shop.customers == ["Ada"], "the customer is there")
        with (shop.folder / "shop/handlers.py").open("a") as file:
            file.write("\n# new code\n")
        shop.register("Grace")
        log = shop.folder / "log"
        until(lambda: "a new worker goes on" in log.read_text(), "the change was seen")
        until(lambda: shop.customers == ["Ada", "Grace"], "the next one too")


def test_what_a_killed_process_wrote_with_the_orm_happens_once(shop: Project) -> None:
    with (shop.folder / "shop/handlers.py").open("a") as file:
        file.write(
            dedent("""
            import os
            from pathlib import Path
            register = register_customer

            def register_customer(event):
                register(event)
                if event.entity_id == "Grace" and not Path("killed").exists():
                    Path("killed").touch()
                    os.kill(os.getpid(), 9)
            """)
        )
    shop.register("Ada", "Grace", "Hedy")
    run = "from eventferry import run_projection; run_projection('customers-projection')"
    with pytest.raises(AssertionError):  # it was killed
        shop.python(run)
    assert shop.customers == []
    shop.python(run)
    assert shop.customers == ["Ada", "Grace", "Hedy"]


# ---- the configuration


def test_all_mistakes_in_the_settings_are_errors_of_check(new: Project) -> None:
    new.settings("""
        EVENTFERRY["servise"] = "shop"
        EVENTFERRY["consuming"]["billed-projection"] |= {"handler": "shop.handlers:nothing"}
        EVENTFERRY["producing"]["orders-projection"] = {"stream_name": ("orders-stream",)}
    """)
    said = new.manage("check", code=1)
    assert said.count("(eventferry.E001)") == 3
    assert "settings.EVENTFERRY: servise: unknown key; did you mean 'service'?" in said
    assert "settings.EVENTFERRY: consuming.billed-projection.handler: shop.handlers has no" in said
    assert "settings.EVENTFERRY: producing.orders-projection.stream_name: " in said
    assert "settings.EVENTFERRY: servise" in new.manage("eventferry", "migrate", code=2)


def test_no_url_is_needed_to_check_or_to_migrate(new: Project) -> None:
    new.settings('del EVENTFERRY["shared_url"]')
    del new.environ["EVENTFERRY_SHARED_URL"]
    new.manage("check")
    new.manage("migrate", "eventferry")
    assert "shared_url: missing" in new.manage("eventferry", "check", code=2)


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ('"shop"', "settings.EVENTFERRY: must be a dict"),
        (
            '{"service": "shop", "database": "mine"}',
            "database: must be one of settings.DATABASES ('default')",
        ),
        ("{}", "there is no projections.toml"),
    ],
)
def test_a_table_that_is_none_is_an_error(new: Project, table: str, mistake: str) -> None:
    new.settings(f"EVENTFERRY = {table}")
    assert mistake in new.manage("check", code=1)


CONFIGURATION = """
    service = "shop"
    shared_url = "{}"
    [consuming.by-file-projection]
    stream_names = ["users-stream"]
    environment = "shared"
    handler = "shop.handlers:register_customer"
"""


@pytest.mark.parametrize("named", [False, True])
def test_a_file_counts_where_there_is_no_table_or_where_it_is_named(
    shop: Project, named: bool
) -> None:
    """And the local store is Django's database, unless somebody says otherwise."""
    file = shop.folder / ("named.toml" if named else "projections.toml")
    file.write_text(CONFIGURATION.format(shop.shared_url))
    if named:
        shop.environ["EVENTFERRY_CONFIG"] = str(file)
    else:
        shop.settings("EVENTFERRY = {}")
    shop.settings("os.environ.pop('EVENTFERRY_LOCAL_URL')")
    shop.register("Ada")
    shop.manage("eventferry", "worker", "--once")
    assert shop.customers == ["Ada"]


def test_djangos_own_tests_use_the_test_database(shop: Project) -> None:
    (shop.folder / "shop/tests.py").write_text(
        dedent("""
        from django.db import connection
        from django.test import Client, TestCase, TransactionTestCase
        from eventferry import EventStore, run_projection
        from shop.models import Customer

        def order(client):
            Customer.objects.create(id="1", name="Ada", email="ada@example.org")
            data = {"customer_id": "1", "item": "tea", "amount_cents": 400}
            return client.post("/orders", data, content_type="application/json")

        class Orders(TestCase):
            def test_an_order(self):
                response = order(self.client)
                assert response.status_code == 201
                store = EventStore()
                id = response.json()["id"]
                (event,) = store.read_entity("orders-stream", id, connection=connection)
                assert event.type == "OrderPlaced"

        class Customers(TransactionTestCase):
            def test_a_handler(self):
                assert run_projection("customers-projection").handled == 1
                assert Customer.objects.get().name == "Ada"
                assert connection.settings_dict["NAME"].startswith("test_")
        """)
    )
    shop.register("Ada")
    shop.manage("test", "--noinput")
    assert shop.customers == []
