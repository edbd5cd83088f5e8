"""An app's requests have transactions of the local store; a worker runs beside them, if wished."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, WebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventferry import (
    AsyncContext,
    ConfigurationError,
    Context,
    Event,
    RecordedEvent,
    StoreNotMigrated,
    StoreUnavailable,
    VersionConflict,
)
from eventferry.embedded import EmbeddedServer
from eventferry.fastapi import AsyncTransaction, EventFerry, Transaction
from eventferry.pools import Pools
from eventferry.runner import ask_to_end, runners
from eventferry.worker import Worker
from tests.conftest import MakeDatabase, MakeService
from tests.databases import Databases
from tests.services import (
    Service,
    numbered,
    open_transactions,
    query,
    record,
    record_async,
)
from tests.waiting import PATIENCE_S, until

STREAM = "users-stream"


class NewUser(BaseModel):
    name: str


@pytest.fixture
def users(loner: Service) -> Service:
    """A service with a table of users and a stream of what happens to them."""
    loner.execute("CREATE TABLE users (name text PRIMARY KEY, pid int DEFAULT pg_backend_pid())")
    loner.create_stream(STREAM)
    return loner


def app_of(service: Service, **options: Any) -> FastAPI:
    """Registers users, each way in which a route can."""
    ferry = EventFerry(service.config, **options)
    app = FastAPI(lifespan=ferry.lifespan)
    app.add_route("/readyz", ferry.readyz)

    @app.post("/async")
    async def register(user: NewUser, transaction: AsyncTransaction, fails: str = "") -> int:
        await transaction.connection.execute("INSERT INTO users VALUES (%s)", [user.name])
        event = Event("UserRegistered", {"n": 1}, entity_id=user.name)
        await transaction.append(STREAM, event, expected_version=0)
        return end(fails)

    @app.post("/def")
    def register_in_thread(user: NewUser, transaction: Transaction, fails: str = "") -> int:
        transaction.connection.execute("INSERT INTO users VALUES (%s)", [user.name])
        event = Event("UserRegistered", {"n": 1}, entity_id=user.name)
        transaction.append(STREAM, event, expected_version=0)
        return end(fails)

    return app


def end(fails: str) -> int:
    if fails == "http":
        raise HTTPException(409, "a rule of the service")
    if fails == "error":
        raise ZeroDivisionError
    return "no number" if fails == "response" else 1  # type: ignore[return-value]


def registered(service: Service) -> tuple[list[str], list[str | None]]:
    """The users, and the entities of the events: always the same."""
    names = query(service.local_url, "SELECT name FROM users ORDER BY name")
    return [row[0] for row in names], sorted(e.entity_id or "" for e in service.local.read(STREAM))  # type: ignore[return-value]


EVERY_WAY = pytest.mark.parametrize("path", ["/async", "/def"])


@EVERY_WAY
def test_what_a_request_has_done_is_committed_before_its_answer_begins(
    users: Service, path: str
) -> None:
    seen: list[Any] = []

    def watching(app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    seen.append(await asyncio.to_thread(registered, users))
                await send(message)

            await app(scope, receive, sending if scope["type"] == "http" else send)

        return watched

    with TestClient(watching(app_of(users))) as client:
        assert client.post(path, json={"name": "ada"}).status_code == 200

    assert seen == [(["ada"], ["ada"])]


@EVERY_WAY
@pytest.mark.parametrize(("fails", "status"), [("http", 409), ("error", 500), ("response", 500)])
def test_a_request_that_fails_has_done_nothing(
    users: Service, path: str, fails: str, status: int
) -> None:
    with TestClient(app_of(users), raise_server_exceptions=False) as client:
        answer = client.post(path, json={"name": "ada"}, params={"fails": fails})

        assert answer.status_code == status
        assert registered(users) == ([], [])
        assert open_transactions(users.local_url) == []
        assert client.post(path, json={"name": "ada"}).status_code == 200
    assert registered(users) == (["ada"], ["ada"])


def test_an_append_that_was_refused_leaves_the_transaction_usable(users: Service) -> None:
    app = app_of(users)

    @app.post("/rename")
    async def rename(transaction: AsyncTransaction) -> str:
        await transaction.connection.execute("INSERT INTO users VALUES ('late')")
        try:
            await transaction.append(
                STREAM, Event("UserRenamed", {}, entity_id="ada"), expected_version=7
            )
        except VersionConflict as error:
            return f"at {error.actual}"
        return "renamed"

    with TestClient(app) as client:
        assert client.post("/rename").json() == "at 0"
    assert registered(users) == (["late"], [])


@EVERY_WAY
def test_requests_share_connections(users: Service, path: str) -> None:
    with TestClient(app_of(users)) as client:
        for number in range(20):
            assert client.post(path, json={"name": f"user {number:02}"}).status_code == 200

    assert query(users.local_url, "SELECT count(DISTINCT pid) FROM users") == [(1,)]


@EVERY_WAY
def test_more_requests_than_connections_and_threads_wait_for_each_other(
    users: Service, path: str
) -> None:
    """Who has a connection needs a thread to go on: who waits for one must not take the last."""
    app = app_of(users, pool_size=2)
    names = [f"user {n}" for n in range(60)]

    async def register_all() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://users") as client,
        ):
            given = [client.post(path, json={"name": name}) for name in names]
            return [answer.status_code for answer in await asyncio.gather(*given)]

    assert asyncio.run(register_all()) == [200] * len(names)
    assert registered(users) == (sorted(names), sorted(names))


def test_what_goes_on_after_the_answer_does_not_get_into_the_transaction_of_another(
    users: Service,
) -> None:
    app = app_of(users)
    errors: list[Exception] = []

    @app.post("/later")
    async def later(tasks: BackgroundTasks, transaction: AsyncTransaction) -> None:
        async def write() -> None:
            try:
                await transaction.connection.execute("INSERT INTO users VALUES ('stray')")
            except psycopg.Error as error:
                errors.append(error)

        tasks.add_task(write)

    with TestClient(app) as client:
        assert client.post("/later").status_code == 200
        assert client.post("/async", json={"name": "ada"}).status_code == 200

    assert len(errors) == 1
    assert registered(users) == (["ada"], ["ada"])


def test_a_websocket_has_transactions_too(users: Service) -> None:
    app = app_of(users)

    @app.websocket("/ws")
    async def talk(socket: WebSocket, transaction: AsyncTransaction) -> None:
        await socket.accept()
        await transaction.append(STREAM, Event("UserSeen", {}, entity_id="ada"))

    with TestClient(app) as client, client.websocket_connect("/ws"):
        until(lambda: registered(users) == ([], ["ada"]), "it is committed")


def test_a_lifespan_of_ones_own_names_the_apps_that_are_mounted(users: Service) -> None:
    ferry = EventFerry(users.config)
    inner = app_of(users)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with ferry.running(app, inner):
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/inner", inner)
    with TestClient(app) as client:
        assert client.post("/inner/async", json={"name": "ada"}).status_code == 200
    assert registered(users) == (["ada"], ["ada"])


def test_starlette_alone_is_enough(users: Service) -> None:
    ferry = EventFerry(users.config)

    async def register(request: Request) -> JSONResponse:
        async with ferry.async_transaction() as transaction:
            name = request.path_params["name"]
            await transaction.connection.execute("INSERT INTO users VALUES (%s)", [name])
            await transaction.append(STREAM, Event("UserRegistered", {}, entity_id=name))
        return JSONResponse(1)

    def register_in_thread(request: Request) -> JSONResponse:
        with ferry.transaction() as transaction:
            name = request.path_params["name"]
            transaction.connection.execute("INSERT INTO users VALUES (%s)", [name])
            transaction.append(STREAM, Event("UserRegistered", {}, entity_id=name))
        return JSONResponse(1)

    routes = [
        Route("/async/{name}", register, methods=["POST"]),
        Route("/def/{name}", register_in_thread, methods=["POST"]),
    ]
    with TestClient(Starlette(routes=routes, lifespan=ferry.lifespan)) as client:
        assert client.post("/async/ada").status_code == 200
        assert client.post("/def/grace").status_code == 200
    assert registered(users) == (["ada", "grace"], ["ada", "grace"])


@pytest.mark.parametrize(
    ("missing", "module", "is_fine"),
    [
        ("fastapi", "eventferry.starlette", True),
        ("fastapi", "eventferry.fastapi", False),
        ("starlette", "eventferry.starlette", False),
        ("starlette", "eventferry", True),
    ],
)
def test_without_its_package_a_module_says_what_to_install(
    missing: str, module: str, is_fine: bool
) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import {module} as it; dir(it)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert (done.returncode == 0) is is_fine, done.stderr.decode()
    assert (b'pip install "eventferry[fastapi]"' in done.stderr) is not is_fine


# ---- the start


def test_a_store_that_is_not_migrated_keeps_the_app_from_starting(empty_database: str) -> None:
    service = Service("users", empty_database, empty_database)
    with pytest.raises(StoreNotMigrated, match="eventferry migrate"), TestClient(app_of(service)):
        pass


def test_only_an_app_with_a_worker_needs_the_shared_store(
    make_database: MakeDatabase, databases: Databases
) -> None:
    service = Service("users", make_database("local", "users"), databases.make_empty())
    service.producing("users-projection", STREAM)
    service.execute("CREATE TABLE users (name text PRIMARY KEY)")
    service.create_stream(STREAM)
    with TestClient(app_of(service)) as client:
        assert client.post("/async", json={"name": "ada"}).status_code == 200
    with (
        pytest.raises(StoreNotMigrated, match="shared store"),
        TestClient(app_of(service, worker=True)),
    ):
        pass
    until(lambda: connections(service.local_url) == [], "all connections are closed")
    service.close()


def connections(url: str) -> list[Any]:
    """What the app has open."""
    return query(
        url,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name IN ('eventferry users', 'eventferry listen')",
    )


def test_the_start_migrates_if_wished(databases: Databases) -> None:
    service = Service("users", databases.make_empty(), databases.make_empty())
    service.producing("users-projection", STREAM)
    app = app_of(service, worker=True, migrate=True)
    for _ in range(2):  # and starts again
        with TestClient(app) as client:
            until(lambda: client.get("/readyz").status_code == 200, "it is ready")
    service.close()


def test_mistakes_of_the_configuration_keep_the_app_from_starting(tmp_path: Path) -> None:
    ferry = EventFerry(tmp_path / "projections.toml")
    (tmp_path / "projections.toml").write_text('service = "Users!"')
    with (
        pytest.raises(ConfigurationError, match="local_url"),
        TestClient(FastAPI(lifespan=ferry.lifespan)),
    ):
        pass


def test_an_app_without_the_lifespan_says_so(users: Service) -> None:
    app = app_of(users)
    with pytest.raises(RuntimeError, match=r"lifespan=ferry\.lifespan"):
        TestClient(app).post("/async", json={"name": "ada"})
    with pytest.raises(RuntimeError, match=r"lifespan=ferry\.lifespan"):
        EventFerry(users.config).transaction().__enter__()


# ---- the embedded worker


@pytest.mark.parametrize("handler", [record, record_async])
def test_the_embedded_worker_handles_what_requests_append(
    make_service: MakeService, handler: Any
) -> None:
    users, mail = make_service("users"), make_service("mail")
    users.execute("CREATE TABLE users (name text PRIMARY KEY)")
    users.create_stream(STREAM)
    users.producing("users-projection", STREAM)
    mail.create_effects()
    mail.consuming("mails", handler, STREAM, environment="shared", background=True)
    with (
        TestClient(app_of(users, worker=True)) as client,
        TestClient(app_of(mail, worker=True)) as receiver,
    ):
        for name in ("ada", "grace"):
            assert client.post("/async", json={"name": name}).status_code == 200
        until(lambda: mail.recorded() == [1, 1], "both are handled")
        assert receiver.get("/readyz").json()["projections"].keys() == {"mails"}


@pytest.mark.parametrize("is_async", [False, True])
def test_the_end_waits_for_the_batch(users: Service, is_async: bool) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def handle(event: RecordedEvent, context: Context) -> None:
        record(event, context)
        begun.set()
        assert go_on.wait(PATIENCE_S)

    async def handle_async(event: RecordedEvent, context: AsyncContext) -> None:
        await record_async(event, context)
        begun.set()
        assert await asyncio.to_thread(go_on.wait, PATIENCE_S)

    users.create_effects()
    users.consuming("reader", handle_async if is_async else handle, STREAM, batch_size=1)
    with TestClient(app_of(users, worker=True)):
        users.append(STREAM, numbered(2))
        assert begun.wait(PATIENCE_S)
        threading.Timer(0.05, go_on.set).start()
    assert users.recorded() == [1]
    assert users.checkpoint("reader") > 0
    until(lambda: connections(users.local_url) == [], "all connections are closed")


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_handler_that_fails_is_no_matter_of_the_app(
    users: Service, error: type[BaseException]
) -> None:
    async def handle(event: RecordedEvent) -> None:
        raise error("a bug of the handler")

    users.consuming("reader", handle, STREAM)
    with TestClient(app_of(users, worker=True)) as client:
        assert client.post("/async", json={"name": "ada"}).status_code == 200
        until(lambda: client.get("/readyz").json()["projections"] == {"reader": "failed"}, "failed")
        assert client.get("/readyz").status_code == 200
        assert client.post("/async", json={"name": "grace"}).status_code == 200


def test_a_worker_that_crashes_is_told_of_and_the_app_goes_on(
    users: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(*_: object) -> None:
        raise ZeroDivisionError("a bug of eventferry")

    monkeypatch.setattr(Worker, "_drive", crash)
    users.consuming("reader", record, STREAM)
    with TestClient(app_of(users, worker=True)) as client:
        until(lambda: client.get("/readyz").status_code == 503, "it is not ready")
        assert client.get("/readyz").json()["status"] == "failed"
        assert client.post("/async", json={"name": "ada"}).status_code == 200
    (told,) = [r for r in caplog.records if r.levelno == logging.CRITICAL]
    assert "restart the app" in told.getMessage()
    assert told.exc_text
    assert "a bug of eventferry" in told.exc_text


def test_who_is_asked_to_end_begins_anew(users: Service, caplog: pytest.LogCaptureFixture) -> None:
    users.create_effects()
    users.consuming("reader", record, STREAM)

    async def ask() -> list[Any]:
        async with Pools(users.config) as pools:
            await ask_to_end(pools.local)
            return [r.id for r in await runners(pools.local) if r.is_alive]

    with TestClient(app_of(users, worker=True)) as client:
        (before,) = until(lambda: asyncio.run(there(users)), "it is there")
        asyncio.run(ask())
        until(lambda: asyncio.run(there(users)) not in ([before], []), "another one is there")
        assert client.post("/async", json={"name": "ada"}).status_code == 200
        until(lambda: users.recorded() == [1], "it is handled")
        assert client.get("/readyz").status_code == 200
    assert "Restart the app" in caplog.text


async def there(service: Service) -> list[Any]:
    async with Pools(service.config) as pools:
        return [r.id for r in await runners(pools.local) if r.is_alive]


def test_an_outage_is_over_when_the_store_is_back(
    own_server: EmbeddedServer, own_databases: Databases, caplog: pytest.LogCaptureFixture
) -> None:
    url = own_databases.make("local", "users")
    service = Service("users", url, url)
    service.execute("CREATE TABLE users (name text PRIMARY KEY)")
    service.create_stream(STREAM)
    service.create_effects()
    service.consuming("reader", record_async, STREAM)
    app = app_of(service, worker=True)

    async def open_some() -> None:
        ferry: EventFerry = app.state.eventferry
        async with AsyncExitStack() as stack:
            for _ in range(6):
                await stack.enter_async_context(ferry.async_transaction())
                stack.enter_context(ferry.transaction())

    with TestClient(app, raise_server_exceptions=False) as client:
        for path in ("/async", "/def"):
            assert client.post(path, json={"name": path}).status_code == 200
        assert client.portal is not None
        client.portal.call(open_some)
        own_server.stop()
        assert client.get("/readyz").json()["status"] == "unavailable"
        own_server.start()
        for path in ("/async", "/def"):  # where several connections have died
            assert client.post(path, json={"name": f"{path} again"}).status_code == 200
        until(lambda: service.recorded() == [1] * 4, "all are handled")
        until(lambda: client.get("/readyz").status_code == 200, "it is ready")
    service.close()


def test_a_store_that_is_full_is_told_in_our_words(users: Service) -> None:
    """The pool waits 10 s, so it is shortened here."""
    ferry = EventFerry(users.config, pool_size=1)

    async def use() -> None:
        async with ferry.running():
            ferry._pools.local.timeout = ferry._pools.handlers.timeout = 0.01
            for has_one in (ferry.async_transaction, ferry._turn):
                async with has_one():
                    with pytest.raises(StoreUnavailable, match="gave no connection"):
                        async with has_one():
                            pass
                async with has_one():
                    pass
            with pytest.raises(RuntimeError, match="runs already"):
                async with ferry.running():
                    pass

    asyncio.run(use())


def test_who_waits_in_vain_takes_no_connection_from_the_others(users: Service) -> None:
    """A pool that is full has no connections of the time before a restart."""
    ferry = EventFerry(users.config, pool_size=1)
    pid = "SELECT pg_backend_pid()"

    async def async_pids() -> list[Any]:
        async with ferry.async_transaction() as holder:
            cursor = await holder.connection.execute(pid)
            before = await cursor.fetchone()
            ferry._pools.local.timeout = 0.01
            with pytest.raises(StoreUnavailable):
                async with ferry.async_transaction():
                    pass
        ferry._pools.local.timeout = PATIENCE_S
        async with ferry.async_transaction() as next_one:
            cursor = await next_one.connection.execute(pid)
            return [before, await cursor.fetchone()]

    def pids() -> list[Any]:
        with ferry.transaction() as holder:
            before = holder.connection.execute(pid).fetchone()
            ferry._pools.handlers.timeout = 0.01
            with pytest.raises(StoreUnavailable), ferry.transaction():
                pass
        ferry._pools.handlers.timeout = PATIENCE_S
        with ferry.transaction() as next_one:
            return [before, next_one.connection.execute(pid).fetchone()]

    async def use() -> None:
        async with ferry.running():
            for before, after in (await async_pids(), await asyncio.to_thread(pids)):
                assert before == after

    asyncio.run(use())
