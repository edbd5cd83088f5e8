"""What a process says over HTTP: to Kubernetes, to a load balancer, to who is on call.

Answered by threads of its own, so that a blocked event loop is told of instead of telling nothing.
Listens only where it is asked to; reads nothing of a request but its path; says no secret.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

from eventferry.health import Health, Verdict

log = logging.getLogger("eventferry.probes")

REQUEST_S = 5.0
"""Who has not sent its request by then is hung up on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"


Routes = Mapping[str, Callable[[], Answer]]
"""What answers, by path."""


def routes(health: Health) -> Routes:
    """The probes of a process."""
    return {
        "/livez": partial(_probed, health, health.alive),
        "/readyz": partial(_probed, health, health.ready),
    }


def nothing(hint: str) -> Answer:
    """A path that has nothing to say, and why."""
    return _json(HTTPStatus.NOT_FOUND, {"reason": hint})


def _probed(health: Health, ask: Callable[[], Verdict]) -> Answer:
    verdict = ask()
    return _json(
        HTTPStatus.OK if verdict.is_ok else HTTPStatus.SERVICE_UNAVAILABLE,
        {"status": verdict.status, "reason": verdict.reason, "projections": health.projections},
    )


def _json(status: HTTPStatus, said: Mapping[str, Any]) -> Answer:
    return Answer(status, json.dumps(said).encode() + b"\n")


class Server:
    """Listens as soon as it is made, and answers inside its `with` block.

    Args:
        host: The address to listen at; empty: all.
        port: The port; 0: a free one.
        routes: What it answers.

    Raises:
        OSError: it can't listen there.
    """

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        self._http = _listening(host, port, routes)
        self._thread = Thread(
            target=self._http.serve_forever, name="eventferry probes", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._http.server_port


def _listening(host: str, port: int, routes: Routes) -> _Http:
    if host:
        return _Http(host, port, routes)
    try:
        return _Http("::", port, routes)  # IPv4 too: a cluster may have either
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise
        return _Http("0.0.0.0", port, routes)  # noqa: S104 - as it was asked for


class _Http(ThreadingHTTPServer):
    allow_reuse_port = False  # two workers at one port would answer for each other

    def __init__(self, host: str, port: int, routes: Routes) -> None:
        self.routes = routes
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Request)

    def server_bind(self) -> None:
        if self.address_family is socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)  # HTTPServer's asks the DNS for a name that nobody needs
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a probe has hung up: %r", sys.exception())


class _Request(BaseHTTPRequestHandler):
    server: _Http
    timeout = REQUEST_S
    server_version = "eventferry"
    sys_version = ""

    def do_GET(self) -> None:
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            self._answer(_json(HTTPStatus.NOT_FOUND, {"paths": list(self.server.routes)}))
        elif self.command not in ("GET", "HEAD"):
            self._answer(_json(HTTPStatus.METHOD_NOT_ALLOWED, {"methods": ["GET", "HEAD"]}))
        else:
            self._answer(route())

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        log.debug(format, *args)
