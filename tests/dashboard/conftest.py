"""A dashboard to look at, and a browser to look with.

Who only looks shares `shown`, with its services, and `dashboard`, its process. Who changes
something has `stage`, services of its own, and `serve`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from eventferry.embedded import EmbeddedServer
from tests.dashboard.browsing import Open, running_browser, visitor
from tests.dashboard.serving import Dashboard, serving
from tests.dashboard.staged import Staged, staged
from tests.databases import Databases

Serve = Callable[..., Dashboard]
HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser says little of another PostgreSQL."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.once)


@pytest.fixture(scope="package")
def staging(server: EmbeddedServer) -> Iterator[Databases]:
    """Databases that stay from test to test."""
    databases = Databases(server.url())
    yield databases
    databases.drop_all()
    databases.close()


@pytest.fixture(scope="package")
def shown(staging: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    """Two services for all tests that change nothing."""
    with staged(staging, tmp_path_factory.mktemp("shown")) as made:
        yield made


@pytest.fixture(scope="package")
def dashboard(shown: Staged) -> Iterator[Dashboard]:
    """That of mail, for all tests that change nothing."""
    with serving(shown.mail.folder) as running:
        yield running


@pytest.fixture
def stage(databases: Databases, tmp_path: Path) -> Iterator[Staged]:
    """Two services for one test alone, which may change them."""
    with staged(databases, tmp_path) as made:
        yield made


@pytest.fixture
def serve() -> Iterator[Serve]:
    """serve(stage.mail.folder, "--read-only", EVENTFERRY_DASHBOARD_TOKEN=…): a dashboard."""
    with ExitStack() as stack:
        yield lambda *args, **environ: stack.enter_context(serving(*args, **environ))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """For all tests of the folder, not longer: its loop runs in the thread of the tests."""
    with running_browser() as running:
        yield running


@pytest.fixture
def theme() -> str:
    """What the system prefers; `@in_both_themes` runs a test twice."""
    return "light"


@pytest.fixture
def faults() -> Iterator[list[str]]:
    """What has gone wrong in the test's pages; what it expects it takes away."""
    noted: list[str] = []
    yield noted
    assert noted == []


@pytest.fixture
def visit(
    request: pytest.FixtureRequest,
    browser: Browser,
    theme: str,
    faults: list[str],
    serve: Serve,  # its pages are closed before it ends
) -> Iterator[Open]:
    """visit("/audit", size=PHONE): a page of the dashboard that all share.

    `at` names another dashboard, other options are those of `visitor`.
    """
    with ExitStack() as stack:

        def opened(path: str = "/", *, at: Dashboard | None = None, **options: object) -> Page:
            url = (at or request.getfixturevalue("dashboard")).url
            given = {"theme": theme, "faults": faults, **options}
            page = stack.enter_context(visitor(browser, url, **given))  # type: ignore[arg-type]
            page.goto(path)
            return page

        yield opened
