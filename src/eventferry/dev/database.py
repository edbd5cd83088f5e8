"""Creates databases that are missing on a server, whoever else is about to do the same."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from eventferry.connection import options, require_url, translated
from eventferry.errors import redacted

MAINTENANCE = "postgres"
"""What every server has."""


def create_missing(url: str, *names: str) -> tuple[str, ...]:
    """Creates whichever of the databases the server lacks, and returns their names.

    Args:
        url: Of any database of the server; also of one that is missing itself.

    Raises:
        StoreUnavailable: the server can't be reached, or does not let us in.
        StoreError: the URL is none, or we may not create databases there.
    """
    server = f"server {redacted(url)}"
    require_url(url, server)
    with translated(server), _connected(url) as conn:
        return tuple(name for name in names if _is_created(conn, name))


def database_of(url: str) -> str:
    """The database that a URL names, as libpq understands it."""
    parts = conninfo_to_dict(url)
    return str(parts.get("dbname") or parts.get("user") or MAINTENANCE)


def _connected(url: str) -> psycopg.Connection[Any]:
    """By the database that the URL names, or, should that be what is missing, by another one."""
    try:
        return psycopg.connect(url, **options("dev"))
    except psycopg.OperationalError as error:
        try:
            return psycopg.connect(url, dbname=MAINTENANCE, **options("dev"))
        except psycopg.OperationalError:
            raise error from None


def _is_created(conn: psycopg.Connection[Any], name: str) -> bool:
    if conn.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None:
        return False
    try:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        return False  # somebody else was quicker
    return True
