"""Databases for tests: copies of a prepared template, made in milliseconds, dropped at the end."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, Literal, LiteralString
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

Kind = Literal["local", "shared"]


class Databases:
    """The databases of one server. A template is prepared once, then copied for each test.

    Args:
        url: Of any database of the server, as a role that may create others.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        """Of the database through which the others are made."""
        self._prefix = f"eventferry_test_{uuid4().hex[:8]}"  # the server may be others' too
        self._numbers = count(1)
        self._templates: dict[Hashable, list[str]] = {}
        self._made: list[str] = []
        self._admin: psycopg.Connection[Any] | None = None
        """Stays open: a database takes less time than a connection."""

    def make(self, kind: Kind, service: str = "boilerplate") -> str:
        """The URL of a fresh local store of `service`, or of a fresh shared store."""
        owner = service if kind == "local" else None

        def prepare(url: str) -> None:
            from eventferry.migration import migrate

            migrate(url, kind=kind, service=owner)

        (url,) = self.prepared((kind, owner), prepare)
        return url

    def make_empty(self) -> str:
        """The URL of a fresh database without any of our tables."""
        return self._create("template1")

    def prepared(self, key: Hashable, prepare: Callable[..., None], number: int = 1) -> list[str]:
        """The URLs of fresh databases, as `prepare` makes them of empty ones, given their URLs.

        It does so once for each `key`, whose later databases are copies.
        """
        if key not in self._templates:
            urls = [self.make_empty() for _ in range(number)]
            prepare(*urls)
            for url in urls:
                self.end_connections(url)  # a pool that was left open: nobody could copy it
                self._made.remove(_name_of(url))
            self._templates[key] = [_name_of(url) for url in urls]
        return [self._create(template) for template in self._templates[key]]

    def copy(self, url: str) -> str:
        """The URL of a copy of one of them, to which nobody is connected."""
        return self._create(_name_of(url))

    def replace(self, url: str, by: str) -> None:
        """Makes one of them a copy of another one, whoever is connected to it."""
        self._drop(_name_of(url))
        self._execute("CREATE DATABASE {} TEMPLATE {}", _name_of(url), _name_of(by))

    def end_connections(self, url: str) -> None:
        """Ends all connections to one of them, and returns when they have ended."""
        self._connected().execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            (_name_of(url),),
        )

    def drop(self, *urls: str) -> None:
        """Drops some of them before all are."""
        for name in map(_name_of, urls):
            self._drop(name)
            self._made.remove(name)

    def drop_all(self) -> None:
        """Drops what was made, not the templates."""
        while self._made:
            self._drop(self._made.pop())

    def drop_templates(self) -> None:
        """Drops the templates too, where the server stays."""
        while self._templates:
            for name in self._templates.popitem()[1]:
                self._drop(name)

    def close(self) -> None:
        """Closes its connection, and drops nothing."""
        if self._admin is not None:
            self._admin.close()

    def _create(self, template: str) -> str:
        name = self._name()
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        self._made.append(name)
        return self._url(name)

    def _drop(self, name: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def _execute(self, statement: LiteralString, *names: str) -> None:
        self._connected().execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _connected(self) -> psycopg.Connection[Any]:
        if self._admin is None or self._admin.closed:
            self._admin = psycopg.connect(self.url, autocommit=True)
        return self._admin

    def _name(self) -> str:
        return f"{self._prefix}_{next(self._numbers)}"

    def _url(self, name: str) -> str:
        parts = urlsplit(self.url)  # geturl() would lose the slashes where there is no host
        query = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}://{parts.netloc}/{name}{query}"


def _name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")
