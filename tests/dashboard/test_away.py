"""What a dashboard says while a store is away, or does not let it look."""

from __future__ import annotations

from pathlib import Path

import httpx
import psycopg

from eventferry.embedded import EmbeddedServer
from eventferry.migration import migrate
from tests.conftest import MakeDatabase
from tests.dashboard.conftest import Serve
from tests.dashboard.serving import Dashboard
from tests.deployed import deployed
from tests.waiting import until

PAGES = ("/", "/projections", "/projections/users-projection")


def configured(local_url: str, shared_url: str) -> str:
    return (
        f'service = "users"\nlocal_url = "{local_url}"\nshared_url = "{shared_url}"\n'
        '[producing.users-projection]\nstream_name = "users-stream"\n'
    )


def until_told(dashboard: Dashboard, what: str, path: str = "/") -> httpx.Response:
    """A page that says so."""
    with dashboard.client() as client:
        answers: list[httpx.Response] = []

        def is_told() -> bool:
            answers[:] = [client.get(path)]
            assert answers[0].status_code in (200, 503), answers[0].text
            return what in answers[0].text

        until(is_told, f"{path} says {what!r}")
    return answers[0]


def test_it_begins_without_any_store_and_shows_what_comes_back(
    own_server: EmbeddedServer, tmp_path: Path, serve: Serve
) -> None:
    local_url, shared_url = (own_server.create_database(name) for name in ("users", "shared"))
    migrate(local_url, kind="local", service="users")
    migrate(shared_url, kind="shared")
    own_server.stop()
    with deployed(tmp_path / "users", configured(local_url, shared_url)) as users:
        running = serve(users.folder)
        for path in PAGES:
            until_told(running, "A store does not answer", path)
        own_server.start()
        page = until_told(running, "users-stream: the local store does not have it", "/")
        assert page.status_code == 200
        assert "A store does not answer" not in page.text


def test_what_its_role_may_not_read_is_said(
    make_database: MakeDatabase, tmp_path: Path, serve: Serve
) -> None:
    local_url, shared_url = make_database("local", "users"), make_database("shared")
    with psycopg.connect(local_url, autocommit=True) as conn:
        conn.execute("DROP ROLE IF EXISTS eventferry_blind")
        conn.execute("CREATE ROLE eventferry_blind LOGIN")
        conn.execute("GRANT USAGE ON SCHEMA eventferry, streams TO eventferry_blind")
        conn.execute("GRANT SELECT ON eventferry.migrations, eventferry.store TO eventferry_blind")
    url = local_url.replace("//postgres@", "//eventferry_blind@")
    try:
        with deployed(tmp_path / "users", configured(url, shared_url)) as users:
            page = until_told(serve(users.folder), "permission denied for table")
            assert "least-privileges.md says what to grant" in page.text
    finally:
        with psycopg.connect(local_url, autocommit=True) as conn:
            conn.execute("DROP OWNED BY eventferry_blind")
            conn.execute("DROP ROLE eventferry_blind")
