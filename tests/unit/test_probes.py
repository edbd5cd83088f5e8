"""What is answered over HTTP, and what a process knows of itself."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from http import HTTPStatus

import psycopg
import pytest
import typer

from eventferry.cli.serving import address, serving
from eventferry.ended import End
from eventferry.health import Health
from eventferry.probes import Answer, Server, routes
from tests.probing import ask


def asked(health: Health) -> tuple[str, str]:
    return health.alive().status, health.ready().status


def ready() -> Health:
    health = Health()
    health.registered(["mails", "users"])
    return health


def test_a_process_is_ready_when_its_projections_are_registered() -> None:
    health = Health()

    assert asked(health) == ("alive", "starting")
    health.registered(["mails", "users"])
    assert asked(health) == ("alive", "ready")
    assert health.projections == {"mails": None, "users": None}


def test_an_outage_is_over_when_all_who_have_met_it_are_over_it() -> None:
    health = ready()
    gone = psycopg.OperationalError("connection refused")

    health.unavailable("mails", gone)
    health.unavailable("local", gone)
    health.unavailable("local", gone)
    assert (health.ready().status, health.ready().reason) == ("unavailable", "connection refused")
    assert health.alive().is_ok
    health.available("local")
    assert not health.ready().is_ok
    health.ended("mails", End.CAUGHT_UP)
    assert health.ready().is_ok


def test_what_is_no_outage_is_not_quoted() -> None:
    health = ready()

    health.unavailable("mails", ValueError("hunter2"))

    assert health.ready().reason == "ValueError; see the log"


def test_a_failed_projection_leaves_the_process_ready() -> None:
    health = ready()

    health.ended("mails", End.FAILED)

    assert asked(health) == ("alive", "ready")
    assert health.projections == {"mails": "failed", "users": None}


def test_who_stops_is_alive_and_not_ready() -> None:
    health = ready()

    health.stopping()

    assert asked(health) == ("alive", "stopping")


async def test_who_ends_by_an_error_is_not_alive() -> None:
    health = ready()

    async def end() -> None:
        async with health.beating():
            raise ValueError("hunter2")

    with pytest.raises(ValueError, match="hunter2"):
        await end()
    assert asked(health) == ("failed", "failed")
    assert "hunter2" not in str(health.alive().reason)


async def test_a_loop_that_turns_is_seen_to() -> None:
    health = Health(limit_s=0.0)  # whatever has not turned at this very instant is blocked

    assert health.alive().status == "blocked"
    limited = Health()
    async with limited.beating():
        await asyncio.sleep(0)
        assert limited.alive().is_ok


@pytest.fixture
def port() -> Iterator[int]:
    more = {"/metrics": lambda: Answer(HTTPStatus.OK, b"a 1\n", "text/plain")}
    with Server("127.0.0.1", 0, {**routes(ready()), **more}) as server:
        yield server.port


def test_paths_answer(port: int) -> None:
    for path, status in (("/livez", "alive"), ("/readyz", "ready"), ("/readyz?verbose", "ready")):
        found = ask(port, path)
        assert found.code == 200
        assert found.headers["Content-Type"] == "application/json"
        assert json.loads(found.body) == {
            "status": status,
            "reason": None,
            "projections": {"mails": None, "users": None},
        }
    metrics = ask(port, "/metrics")
    assert (metrics.body, metrics.headers["Content-Type"]) == (b"a 1\n", "text/plain")


def test_head_has_no_body(port: int) -> None:
    head, get = ask(port, "/readyz", "HEAD"), ask(port, "/readyz")

    assert (head.code, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.body))


def test_other_paths_and_methods_are_refused(port: int) -> None:
    assert ask(port, "/").code == 404
    assert ask(port, "/healthz").said == {"paths": ["/livez", "/readyz", "/metrics"]}
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        refused = ask(port, "/livez", method)
        assert (refused.code, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert ask(port, "/healthz", "POST").code == 404


def test_nobody_is_told_what_runs_here(port: int) -> None:
    assert ask(port, "/livez").headers["Server"].strip() == "eventferry"


def test_a_server_that_has_ended_listens_no_more() -> None:
    with Server("127.0.0.1", 0, {}) as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/livez")


def test_without_a_host_it_listens_on_all_interfaces() -> None:
    with Server("", 0, routes(Health())) as server:
        assert ask(server.port, "/livez").code == 200
        if socket.has_dualstack_ipv6():
            assert ask(server.port, "/livez", host="::1").code == 200


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8080", ("", 8080)),
        ("0", ("", 0)),
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:8080", ("::1", 8080)),
    ],
)
def test_where_to_listen(text: str, found: tuple[str, int]) -> None:
    assert address(text) == found


@pytest.mark.parametrize("text", ["", "http", ":8080", "65536", "-1", "::1:80", "a:b:1", "1:", "٣"])
def test_nowhere_to_listen(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"expected a port such as 8080"):
        address(text)


def test_an_address_that_is_not_to_be_had_is_said() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with (
            pytest.raises(typer.BadParameter, match=f"can't listen at port 80 of {host}: "),
            serving((host, 80), dict),
        ):
            pass
