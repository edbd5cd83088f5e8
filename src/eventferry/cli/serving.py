"""`--http`: what a command in the foreground answers over HTTP while it runs."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from eventferry.health import Health

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
        help="Answer /livez and /readyz there; 8080 is on all interfaces.",
        show_default=False,
    ),
]


@contextmanager
def serving(at: Address | None, health: Health) -> Iterator[None]:
    """Answers while the block runs, if it is asked to.

    Raises:
        typer.BadParameter: it can't listen there.
    """
    if at is None:
        yield
        return
    from eventferry.probes import Server, routes

    host, port = at
    try:
        server = Server(host, port, routes(health))
    except OSError as error:
        where = f"port {port} of {host or 'all interfaces'}"
        raise typer.BadParameter(
            f"can't listen at {where}: {error.strerror}. Choose another one; 0 is a free port",
            param_hint=OPTION,
        ) from None
    with server:
        log.info("answering /livez and /readyz at port %d of %s", server.port, host or "all")
        yield
