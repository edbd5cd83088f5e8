"""Whether a store is as the migrations have made it: what the promises rest on.

Nothing of eventferry changes any of it. But a logical copy leaves the sequence of positions behind
the data, a restore may leave triggers disabled, and an owner may do anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from eventferry import sql


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is not as it has to be."""

    what: str
    remedy: str
    """A statement, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    """A row of `integrity`."""

    number: int
    name: str
    has_table: bool
    is_attached: bool
    missing: list[str]
    not_always: list[str]
    may_read: bool


def flaws(conn: Connection[Any]) -> list[Flaw]:
    """What is wrong with a store; of streams that may not be read, positions are not looked at."""
    with conn.cursor(row_factory=class_row(_Stream)) as cursor:
        streams = cursor.execute(sql.query("integrity")).fetchall()
    readable = [stream.name for stream in streams if stream.may_read]
    # the data first: what is drawn meanwhile is ahead of it
    last = max((head for _, head in conn.execute(sql.query("heads"), (readable,))), default=0)
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cache, drawn = conn.execute(sql.query("sequence")).fetchone() or (1, 0)
    return [
        *_of_sequence(cache, drawn, last),
        *(flaw for stream in streams for flaw in _of(stream)),
    ]


def _of_sequence(cache: int, drawn: int, last: int) -> list[Flaw]:
    found = []
    if cache != 1:
        found.append(
            Flaw(
                f"sessions draw {cache} positions at once, so that readers skip events",
                "ALTER SEQUENCE eventferry.positions CACHE 1",
            )
        )
    if drawn < last:
        found.append(
            Flaw(
                f"the last position that was drawn is {drawn:,}, but there is an event at "
                f"{last:,}: readers don't get to it, and appends collide. Is this a logical copy?",
                f"SELECT setval('eventferry.positions', {last})",
            )
        )
    return found


def _of(stream: _Stream) -> list[Flaw]:
    table = f'streams."{stream.name}"'
    if not stream.has_table:
        again = "restore the table, or delete its row of eventferry.streams"
        return [Flaw(f"stream {stream.name} has lost its table", again)]
    found = []
    if not stream.is_attached:
        found.append(
            Flaw(
                f"stream {stream.name} is no partition of eventferry.events",
                "ALTER TABLE eventferry.events "
                f"ATTACH PARTITION {table} FOR VALUES IN ({stream.number})",
            )
        )
    if stream.missing:
        found.append(
            Flaw(
                f"stream {stream.name} has no trigger {' and '.join(stream.missing)}: its events "
                "can be skipped or changed",
                "create it again as `pg_dump --schema-only` of another stream has it",
            )
        )
    if stream.not_always:
        enabled = ", ".join(f"ENABLE ALWAYS TRIGGER {name}" for name in stream.not_always)
        found.append(
            Flaw(
                f"stream {stream.name}: {' and '.join(stream.not_always)} does not fire for "
                "everybody: its events can be skipped or changed",
                f"ALTER TABLE {table} {enabled}",
            )
        )
    return found
