"""The SQL of eventferry: `migrations/` makes a store, `queries/` are what Python asks of it.

One statement a file, its parameters described on top. `{name}` stands for an identifier or a
literal that the caller composes with `psycopg.sql`, `%s` for a parameter of the statement.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.resources import files
from typing import LiteralString, cast

from psycopg import sql

FOLDER = files(__name__)


@cache
def text(path: str) -> LiteralString:
    """The file's text. It ships with the package, so it is as literal as the code is."""
    return cast(LiteralString, FOLDER.joinpath(path).read_text("utf-8"))  # type: ignore[redundant-cast,unused-ignore]


@cache
def query(name: str) -> LiteralString:
    """The statement `queries/{name}.sql`, without its comments."""
    lines = text(f"queries/{name}.sql").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("--"))


def composed(name: str, **parts: sql.Composable) -> sql.Composed:
    """The statement `queries/{name}.sql` with its `{…}` filled in."""
    return sql.SQL(query(name)).format(**parts)


@lru_cache(maxsize=4096)
def on_stream(name: str, stream: str) -> bytes:
    """The statement `queries/{name}.sql` on the table of `stream`."""
    return composed(name, stream=table(stream)).as_bytes(None)


@lru_cache(maxsize=4096)
def on_columns(name: str, stream: str, columns: tuple[str, ...]) -> bytes:
    """The statement `queries/{name}.sql` on these columns of the table of `stream`."""
    return composed(
        name, stream=table(stream), columns=sql.SQL(", ").join(map(sql.Identifier, columns))
    ).as_bytes(None)


def array(values: Iterable[object]) -> str:
    """An array as a parameter: of numbers, UUIDs' `hex`, stream names, or None.

    Of hundreds of values, psycopg takes longer to write one than the database to use it.
    """
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def table(stream: str) -> sql.Identifier:
    """The table of a stream."""
    return sql.Identifier("streams", stream)
