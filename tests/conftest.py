"""Servers live as long as a pytest process (each xdist worker has its own), databases a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from eventferry.embedded import EmbeddedServer
from tests.databases import Databases, Kind, running_server
from tests.environment import PERMITS, require, use_memory
from tests.pgbouncer import DIRECT, PROGRAM, Way, running_pgbouncer
from tests.services import Service

use_memory()


class MakeDatabase(Protocol):
    def __call__(self, kind: Kind, service: str = "boilerplate") -> str: ...


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """A PostgreSQL, shared by the tests: don't stop it (see `own_server`)."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def eventferry_server_url(server: EmbeddedServer) -> str:
    """Where the kit makes its databases."""
    return server.url()


@pytest.fixture(scope="session")
def server_databases(server: EmbeddedServer) -> Iterator[Databases]:
    databases = Databases(server.url())
    yield databases
    databases.close()


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A PostgreSQL for one test alone, which may stop, crash and restart it."""
    with running_server() as server:
        yield server


@pytest.fixture
def own_databases(own_server: EmbeddedServer) -> Iterator[Databases]:
    """Those of `own_server`."""
    databases = Databases(own_server.url())
    yield databases
    databases.close()


@pytest.fixture
def databases(server_databases: Databases) -> Iterator[Databases]:
    yield server_databases
    server_databases.drop_all()


@pytest.fixture
def make_database(databases: Databases) -> MakeDatabase:
    """The URL of a fresh store: make_database("local", "users") or make_database("shared")."""
    return databases.make


@pytest.fixture
def empty_database(databases: Databases) -> str:
    """The URL of a fresh database without any of our tables."""
    return databases.make_empty()


class MakeService(Protocol):
    def __call__(self, name: str = "users") -> Service: ...


@pytest.fixture(scope="session")
def pgbouncer(server: EmbeddedServer) -> Iterator[Callable[[str], str]]:
    """Makes a URL one through a PgBouncer in transaction mode."""
    require(PROGRAM, "pgbouncer")
    with running_pgbouncer(server) as through:
        yield through


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Way:
    """How services come to their databases: directly, unless the test says otherwise."""
    name = getattr(request, "param", "direct")
    if name == "direct":
        return DIRECT
    return Way(request.getfixturevalue("pgbouncer"), listens="polling" not in name)


@pytest.fixture
def make_service(make_database: MakeDatabase, way: Way) -> Iterator[MakeService]:
    """make_service("users"): a service with its own local store; all share one shared store."""
    shared_url = make_database("shared")
    made: list[Service] = []

    def make(name: str = "users") -> Service:
        made.append(Service(name, make_database("local", name), shared_url, way=way))
        return made[-1]

    yield make
    for service in made:
        service.close()


@pytest.fixture
def loner(make_database: MakeDatabase, way: Way) -> Iterator[Service]:
    """A service whose one database is both its local store and the shared one; so it is fast."""
    url = make_database("local", "users")
    service = Service("users", url, url, way=way)
    yield service
    service.close()


@pytest.fixture(scope="session")
def permits_path() -> Path:
    """Real events, as CloudEvents JSON lines."""
    require(PERMITS.exists(), f"the shared data set {PERMITS.name}")
    return PERMITS
