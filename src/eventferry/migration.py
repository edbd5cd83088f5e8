"""Makes a database a store, and brings an older store up to date.

Migrations are folders under `sql/migrations/`, numbered, forward-only, one object a file. One
whose name ends in `.breaking` makes a schema that older code can't work with: that code then
refuses the store. Any other newer migration it can live with, so that the first of many
services to upgrade does not stop the rest.

Everything pending is applied in one transaction under an advisory lock: two migrators at once
do it once, and one that fails leaves the store as it was.

A migration that waits for a table makes all others wait that come after it: behind a handler
which takes a minute, the whole store would stand still for that minute. So it waits but a moment,
lets the others go on, and tries again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal, LiteralString

import psycopg

from eventferry import sql
from eventferry.connection import options, require_url, shown, translated
from eventferry.errors import SchemaTooNew, StoreError, StoreNotMigrated, StoreUnavailable

log = logging.getLogger("eventferry.migration")

StoreKind = Literal["local", "shared"]

LOCK_S = 1.0
"""A migration waits this long for a lock, and everybody else behind it."""
PAUSE_S = (1.0, 3.0)
"""The shortest and the longest pause in which the others go on."""
PATIENCE_S = 300.0
"""After this long it gives up: what is in its way is no handler, but a transaction left open."""

_LOCK = (17734, 1)  # a two-key advisory lock; (17734, 0) gives out stream numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step from a schema to the next."""

    number: int
    name: str
    breaking: bool
    statements: tuple[LiteralString, ...]

    @property
    def record(self) -> tuple[int, str, bool, str]:
        """What a store remembers of it, as `record_migration` takes it."""
        return self.number, self.name, self.breaking, version("eventferry")


@cache
def known() -> tuple[Migration, ...]:
    """The migrations that this code brings, oldest first."""
    folders = (f for f in sql.FOLDER.joinpath("migrations").iterdir() if f.is_dir())
    return tuple(_migration(folder.name) for folder in sorted(folders, key=lambda f: f.name))


def _migration(folder: str) -> Migration:
    number, _, name = folder.removesuffix(".breaking").partition("_")
    path = f"migrations/{folder}"
    scripts = sorted(f.name for f in sql.FOLDER.joinpath(path).iterdir() if f.name.endswith(".sql"))
    return Migration(
        number=int(number),
        name=name,
        breaking=folder.endswith(".breaking"),
        statements=tuple(sql.text(f"{path}/{script}") for script in scripts),
    )


def migrate(url: str, *, kind: StoreKind, service: str | None = None) -> tuple[str, ...]:
    """Makes a database a store, or brings an older store up to date: `eventferry migrate`.

    Everything that is pending is applied in one transaction; several at once do it once.

    Args:
        url: The database's.
        kind: What the store is to be. An existing one keeps its kind.
        service: Whose local store it is; None for a shared one.

    Returns:
        The names of the migrations that were applied, oldest first; none if it was up to date.

    Raises:
        StoreUnavailable: the database can't be reached, or others don't leave its tables.
        SchemaTooNew: a later eventferry has made a breaking change.
        StoreError: the URL is none, or the store is of another kind or of another service.
    """
    store = shown(url, kind)
    require_url(url, store)
    with translated(store), psycopg.connect(url, **options("migrate")) as conn:
        pending = apply(conn, store, kind=kind, service=service)
    return tuple(f"{m.number:04} {m.name}" for m in pending)


def apply(
    conn: psycopg.Connection[Any],
    store: str,
    *,
    kind: StoreKind,
    service: str | None,
    upto: int | None = None,
) -> list[Migration]:
    """The same on a connection; in its transaction, if it is in one.

    Args:
        conn: In autocommit, or in a transaction that is READ COMMITTED.
        store: What messages call the store.
        kind: As in `migrate`.
        service: As in `migrate`.
        upto: The number of the last migration to apply; None: all.
    """
    patient_until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with conn.transaction():
                pending = _apply_pending(conn, store, upto or known()[-1].number)
                _claim(conn, store, kind, service)
            return pending
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            held = f"{store} can't be migrated while {_holder(conn)}"
            if time.monotonic() > patient_until:
                raise StoreUnavailable(
                    f"{held}. Nothing was changed. End that transaction, then migrate again"
                ) from error
            log.warning("%s; again in a moment", held)
        time.sleep(random.uniform(*PAUSE_S))


def _apply_pending(conn: psycopg.Connection[Any], store: str, upto: int) -> list[Migration]:
    conn.execute("SET LOCAL TRANSACTION ISOLATION LEVEL READ COMMITTED")
    conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
    conn.execute("SELECT set_config('lock_timeout', %s, true)", (f"{LOCK_S * 1000:.0f}",))
    rows = _applied(conn)
    require_readable(rows, store)
    applied = {row[0] for row in rows}
    pending = [m for m in known() if m.number not in applied and m.number <= upto]
    for migration in pending:
        for statement in migration.statements:
            conn.execute(statement, prepare=False)
        conn.execute(sql.query("record_migration"), migration.record)
    return pending


def _holder(conn: psycopg.Connection[Any]) -> str:
    """Who is in the way of a migration: as far as can be seen a moment later."""
    row = conn.execute(sql.query("oldest_transaction")).fetchone()
    if row is None:
        return "others use its tables"
    pid, user, application, since = row
    return (
        f"backend {pid} (user {user}, application {application!r}) uses its tables in a "
        f"transaction that is open since {since:%Y-%m-%d %H:%M:%S%z}"
    )


def _applied(conn: psycopg.Connection[Any]) -> list[tuple[int, str, bool]]:
    there = conn.execute("SELECT to_regclass('eventferry.migrations') IS NOT NULL").fetchone()
    if not there or not there[0]:
        return []
    return conn.execute(sql.query("migrations")).fetchall()


def _claim(conn: psycopg.Connection[Any], store: str, kind: StoreKind, service: str | None) -> None:
    """Records whose store it is, or checks that it is still the same one's."""
    conn.execute(sql.query("claim_store"), (kind, service))
    require_own(conn, store, kind, service)


def require_own(
    conn: psycopg.Connection[Any], store: str, kind: StoreKind, service: str | None
) -> None:
    """Refuses a store of another kind, or of another service.

    Raises:
        StoreError: it is one.
    """
    refuse_foreign(conn.execute(sql.query("whose_store")).fetchone(), store, kind, service)


def refuse_foreign(
    row: tuple[str | None, str] | None, store: str, kind: StoreKind, service: str | None
) -> None:
    """The same, of what the store says of itself: whose it is, and which kind.

    Raises:
        StoreError: as `require_own`.
    """
    if row and row[1] != kind:
        whose = f"the local store of service {row[0]!r}" if row[1] == "local" else "a shared store"
        raise StoreError(
            f"{store}: this database is {whose}, and can't be a {kind} one too. "
            "Are local_url and shared_url swapped, or is one of them another service's?"
        )
    if kind == "local" and row and row[0] != service:
        raise StoreError(
            f"{store} is the local store of service {row[0]!r}, not of {service!r}. "
            "Give each service a database of its own, or correct `service` in the configuration"
        )


def require_readable(applied: Iterable[tuple[int, str, bool]], store: str) -> None:
    """Refuses a schema that a later eventferry has changed beyond what this code knows.

    Raises:
        SchemaTooNew: an applied migration is breaking, and not known here.
    """
    newest = known()[-1].number
    unknown = [f"{n:04} {name}" for n, name, breaking in applied if breaking and n > newest]
    if unknown:
        raise SchemaTooNew(
            f"{store} has been migrated by a later eventferry ({', '.join(unknown)}); this is "
            f"{version('eventferry')}, which knows the schema up to {newest:04}. Upgrade eventferry"
        )


def require_migrated(applied: Iterable[tuple[int, str, bool]], store: str) -> None:
    """Refuses a schema that this code can't work with, too old or too new.

    Raises:
        StoreNotMigrated: a migration that this code needs is missing.
        SchemaTooNew: as in `require_readable`.
    """
    rows = list(applied)
    require_readable(rows, store)
    missing = {m.number for m in known()} - {row[0] for row in rows}
    if missing:
        raise StoreNotMigrated(
            f"{store} lacks {len(missing)} migration(s), from {min(missing):04} on. "
            "Run `eventferry migrate`"
        )
