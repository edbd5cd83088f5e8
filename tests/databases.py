"""Databases for tests: copies of a migrated template, made in milliseconds, dropped at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal, LiteralString

import psycopg
import pytest
from psycopg import sql

from eventferry.embedded import EmbeddedServer
from tests.environment import PROGRAMS

Kind = Literal["local", "shared"]

SETTINGS = {
    "fsync": "off",  # what a test checks of crashes is PostgreSQL's, not the disk's
    "full_page_writes": "off",
    "max_connections": "250",
    "max_prepared_transactions": "20",
    "wal_level": "logical",
}


@contextmanager
def running_server(port: int | None = 0) -> Iterator[EmbeddedServer]:
    """A server with nothing in it, on a Unix socket and a free TCP port (None: no port)."""
    if PROGRAMS is not None and not (PROGRAMS / "postgres").exists():
        pytest.fail(f"EVENTFERRY_TEST_POSTGRES asks for what {PROGRAMS} lacks", pytrace=False)
    # Not pytest's tmp_path: as root, PostgreSQL runs as a user who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="eventferry-test-"))
    try:
        with EmbeddedServer(folder, port, SETTINGS, programs=PROGRAMS) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Databases:
    """The databases of one server. A template is migrated once, then copied for each test."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self._numbers = count(1)
        self._templates: dict[tuple[Kind, str | None], str] = {}
        self._made: list[str] = []
        self._admin: psycopg.Connection[Any] | None = None
        """Stays open: a database takes less time than a connection."""

    def make(self, kind: Kind, service: str = "boilerplate") -> str:
        """The URL of a fresh local store of `service`, or of a fresh shared store."""
        return self._create(self._template(kind, service if kind == "local" else None))

    def make_empty(self) -> str:
        """The URL of a fresh database without any of our tables."""
        return self._create("template1")

    def drop_all(self) -> None:
        """Drops what was made, not the templates."""
        while self._made:
            self._execute("DROP DATABASE {} WITH (FORCE)", self._made.pop())

    def _create(self, template: str) -> str:
        name = f"test_{next(self._numbers)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        self._made.append(name)
        return self.server.url(name)

    def _execute(self, statement: LiteralString, *names: str) -> None:
        if self._admin is None or self._admin.closed:
            self._admin = psycopg.connect(self.server.url(), autocommit=True)
        self._admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()

    def _template(self, kind: Kind, service: str | None) -> str:
        if (kind, service) not in self._templates:
            from eventferry.migration import migrate

            name = f"template_{next(self._numbers)}"
            migrate(self.server.create_database(name), kind=kind, service=service)
            self._templates[kind, service] = name
        return self._templates[kind, service]
