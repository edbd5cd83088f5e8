"""The kit's databases, on the PostgreSQL and with the settings that our own tests want."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eventferry.embedded import EmbeddedServer
from eventferry.testing import server
from eventferry.testing.databases import Databases, Kind
from tests.environment import PROGRAMS

__all__ = ["SETTINGS", "Databases", "Kind", "running_server"]

SETTINGS = {
    **server.FAST,
    "max_connections": "250",
    "max_prepared_transactions": "20",
    "wal_level": "logical",
}


@contextmanager
def running_server(port: int | None = 0) -> Iterator[EmbeddedServer]:
    """A server with nothing in it, on a Unix socket and a free TCP port (None: no port)."""
    if PROGRAMS is not None and not (PROGRAMS / "postgres").exists():
        pytest.fail(f"EVENTFERRY_TEST_POSTGRES asks for what {PROGRAMS} lacks", pytrace=False)
    with server.running_server(port, SETTINGS, programs=PROGRAMS) as running:
        yield running
