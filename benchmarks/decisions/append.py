"""Decides ADR 0003: by which statement does an append of n events go?

Every variant appends the same n events (uuid, str, str, int, str, str, datetime) to a table with
the marker's trigger, from Python. The unit is events a second, commit included.

    python -m benchmarks.decisions.append [--seconds 1] [--rounds 5] [--sizes 1 2 5 10 100 1000]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

import psycopg

from benchmarks.decisions.testbed import (
    DATA,
    METADATA,
    STORE,
    add_stream,
    good,
    rounds,
    server,
    show,
    timed,
)

Row: TypeAlias = tuple[UUID, str, str, int, str, str, datetime]
Append: TypeAlias = Callable[[psycopg.Connection, list[Row]], object]

TABLE = "streams.users"
COLUMNS = "id, type, entity_id, version, data, metadata, occurred_at"
TYPES = ("uuid", "text", "text", "int4", "json", "json", "timestamptz")
INTO = f"INSERT INTO {TABLE} ({COLUMNS})"
ONCE = "ON CONFLICT (id) DO NOTHING"
ONE_ROW = "(%b, %b, %b, %b::int4, %b::text::json, %b::text::json, %b)"
# A binary json is its text, so COPY takes a `text` dumper, which doesn't encode a str once more.
COPY_TYPES = ("uuid", "text", "text", "int4", "text", "text", "timestamptz")

counter = itertools.count(1)


def events(count: int) -> list[Row]:
    entity = f"user-{next(counter)}"
    now = datetime.now(UTC)
    return [
        (
            UUID(int=next(counter) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128),
            "UserRegistered", entity, version, DATA, METADATA, now,
        )
        for version in range(1, count + 1)
    ]  # fmt: skip


def insert_loop(once: str) -> Append:
    statement = f"{INTO} VALUES {ONE_ROW} {once}"

    def append(connection: psycopg.Connection, rows: list[Row]) -> None:
        if len(rows) == 1:
            connection.execute(statement, rows[0], prepare=True)
            return
        with connection.transaction():
            for row in rows:
                connection.execute(statement, row, prepare=True)

    return append


def insert_values(connection: psycopg.Connection, rows: list[Row]) -> None:
    statement = f"{INTO} VALUES {', '.join([ONE_ROW] * len(rows))} {ONCE}"
    connection.execute(statement, [value for row in rows for value in row], prepare=True)


def insert_many(connection: psycopg.Connection, rows: list[Row]) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(f"{INTO} VALUES {ONE_ROW} {ONCE}", rows)


def insert_unnest(form: str) -> Append:
    arrays = ", ".join(f"{form}::{'text' if name == 'json' else name}[]" for name in TYPES)
    statement = (
        f"{INTO} SELECT id, type, entity_id, version, data::json, metadata::json, occurred_at "
        f"FROM unnest({arrays}) WITH ORDINALITY AS e({COLUMNS}, n) ORDER BY n {ONCE}"
    )

    def append(connection: psycopg.Connection, rows: list[Row]) -> None:
        connection.execute(
            statement, [list(column) for column in zip(*rows, strict=True)], prepare=True
        )

    return append


def copy(form: str) -> Append:
    statement = f"COPY {TABLE} ({COLUMNS}) FROM STDIN (FORMAT {form})"

    def write(connection: psycopg.Connection, rows: list[Row]) -> None:
        with connection.cursor() as cursor, cursor.copy(statement) as writer:
            if form == "binary":
                writer.set_types(COPY_TYPES)
            for row in rows:
                writer.write_row(row)

    return write


def in_transaction(append: Append, *, savepoint: bool) -> Append:
    """As on a caller's connection: a transaction that has done something already."""

    def appended(connection: psycopg.Connection, rows: list[Row]) -> None:
        with connection.transaction():
            connection.execute("SELECT 1", prepare=True)
            if savepoint:
                connection.execute("SAVEPOINT append", prepare=True)
                append(connection, rows)
                connection.execute("RELEASE append", prepare=True)
            else:
                append(connection, rows)

    return appended


OWN: dict[str, Append] = {
    "COPY binary": copy("binary"),
    "COPY text": copy("text"),
    "INSERT each": insert_loop(""),
    "INSERT each, on conflict": insert_loop(ONCE),
    "INSERT VALUES, on conflict": insert_values,
    "executemany, on conflict": insert_many,
    "unnest binary, on conflict": insert_unnest("%b"),
    "unnest text, on conflict": insert_unnest("%t"),
}
CALLERS: dict[str, Append] = {
    "tx: savepoint COPY binary": in_transaction(copy("binary"), savepoint=True),
    "tx: COPY binary": in_transaction(copy("binary"), savepoint=False),
    "tx: unnest on conflict": in_transaction(insert_unnest("%b"), savepoint=False),
    "tx: savepoint unnest": in_transaction(insert_unnest("%b"), savepoint=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 2, 5, 10, 100, 1000])
    parser.add_argument("--good", action="store_true", help="ninth decile, not median")
    options = parser.parse_args()

    with server() as lab, lab.connect() as connection:
        connection.execute(STORE)
        add_stream(connection, TABLE, 1)
        for size in options.sizes:
            connection.execute(f"TRUNCATE {TABLE}")
            variants: dict[str, Callable[[], float]] = {}
            for name, append in (OWN | CALLERS).items():

                def measure(append: Append = append, size: int = size) -> float:
                    def once() -> None:
                        append(connection, events(size))

                    return timed(once, seconds=options.seconds, unit=size)

                variants[name] = measure
            show(
                f"Append of {size} event(s)",
                rounds(variants, count=options.rounds),
                baseline="COPY binary",
                unit="events/s",
                middle=good if options.good else statistics.median,
            )


if __name__ == "__main__":
    main()
