"""What positions cost an append: RETURNING, a look-up afterwards, or not asking (ADR 0003).

python -m benchmarks.decisions.returning [--seconds 2] [--rounds 7]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from uuid import UUID

from benchmarks.decisions.testbed import (
    DATA,
    METADATA,
    STORE,
    add_stream,
    rounds,
    server,
    show,
    timed,
)

counter = itertools.count(1)


def new_id() -> UUID:
    return UUID(int=next(counter) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)


INSERT = (
    "INSERT INTO streams.users (id, type, data, metadata) "
    "VALUES (%b, %b, %b::text::json, %b::text::json)"
)
MANY = (
    "INSERT INTO streams.users (id, type, data, metadata) "
    "SELECT id, 'UserRegistered', %b::text::json, %b::text::json FROM unnest(%b::uuid[]) "
    "WITH ORDINALITY AS e(id, n) ORDER BY n"
)
LOOKUP = "SELECT position FROM streams.users WHERE id = %b"
LOOKUP_MANY = "SELECT position FROM streams.users WHERE id = ANY(%b)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    with server() as lab, lab.connect() as connection:
        connection.execute(STORE)
        add_stream(connection, "streams.users", 1)

        def one(ending: str, lookup: bool) -> Callable[[], object]:
            statement = f"{INSERT} {ending}"

            def append() -> None:
                event_id = new_id()
                done = connection.execute(
                    statement, (event_id, "UserRegistered", DATA, METADATA), prepare=True
                )
                if ending:
                    done.fetchone()
                if lookup:
                    connection.execute(LOOKUP, (event_id,), prepare=True).fetchone()

            return append

        def many(ending: str, lookup: bool) -> Callable[[], object]:
            statement = f"{MANY} {ending}"

            def append() -> None:
                ids = [new_id() for _ in range(100)]
                done = connection.execute(statement, (DATA, METADATA, ids), prepare=True)
                if ending:
                    done.fetchall()
                if lookup:
                    connection.execute(LOOKUP_MANY, (ids,), prepare=True).fetchall()

            return append

        for title, form, unit in (("1 event", one, 1), ("100 events", many, 100)):
            connection.execute("TRUNCATE streams.users")
            appends = {
                "INSERT": form("", False),
                "INSERT … RETURNING position": form("RETURNING position", False),
                "INSERT, then look up": form("", True),
            }
            variants = {
                name: partial(timed, append, seconds=options.seconds, unit=unit)
                for name, append in appends.items()
            }
            show(
                f"Append of {title}",
                rounds(variants, count=options.rounds),
                baseline="INSERT",
                unit="events/s",
            )


if __name__ == "__main__":
    main()
