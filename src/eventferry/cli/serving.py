"""`--http`: what a command in the foreground answers over HTTP while it runs."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from eventferry.ended import Ended
    from eventferry.probes import Answer, Routes
    from eventferry.projection import Projection
    from eventferry.worker import Worker

log = logging.getLogger("eventferry.cli")

OPTION = "--http"

Address = tuple[str, int]
"""Host, empty: all interfaces; and port, 0: a free one."""


def address(text: str) -> Address:
    """`8080`, `127.0.0.1:8080` or `[::1]:8080`."""
    found = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+)):)?([0-9]{1,5})", text, re.ASCII)
    if found is None or int(found[3]) > 65535:
        raise typer.BadParameter(
            f"expected a port such as 8080, or 127.0.0.1:8080, or [::1]:8080, not {text!r}"
        )
    return found[1] or found[2] or "", int(found[3])


HttpOption = Annotated[
    Any,
    typer.Option(
        OPTION,
        metavar="[HOST:]PORT",
        parser=address,
        help="Answer /livez, /readyz and /metrics there; 8080 is on all interfaces.",
        show_default=False,
    ),
]


@contextmanager
def serving(at: Address | None, routes: Callable[[], Routes]) -> Iterator[None]:
    """Answers while the block runs, if it is asked to.

    Raises:
        typer.BadParameter: it can't listen there.
    """
    if at is None:
        yield
        return
    from eventferry.probes import Server

    host, port = at
    try:
        server = Server(host, port, routes())
    except OSError as error:
        where = f"port {port} of {host or 'all interfaces'}"
        raise typer.BadParameter(
            f"can't listen at {where}: {error.strerror}. Choose another one; 0 is a free port",
            param_hint=OPTION,
        ) from None
    with server:
        where = host or "all"
        log.info("answering /livez, /readyz and /metrics at port %d of %s", server.port, where)
        yield


def routes_of(worker: Worker) -> Routes:
    """What a worker answers; to be asked before it runs, by the loop that runs it."""
    from eventferry.probes import routes

    return {**routes(worker.health), "/metrics": _metrics(worker)}


def _metrics(worker: Worker) -> Callable[[], Answer]:
    """What tells Prometheus of all runs from now on."""
    from eventferry import probes

    try:
        from eventferry.metrics import Scrape, Totals, look
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        return lambda: probes.nothing("metrics need an extra: pip install 'eventferry[prometheus]'")

    totals, tell = Totals(worker.config.service, worker.projections), worker.on_ended

    def ended(projection: Projection, ended: Ended) -> None:
        tell(projection, ended)
        totals.ended(projection, ended)

    worker.on_ended = ended
    return Scrape(
        asyncio.get_running_loop(),
        lambda: look(worker.pools, worker.projections) if worker.pools else None,
        totals,
        worker.health,
    )
