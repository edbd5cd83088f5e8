"""What a partition costs beside a stand-alone table, and what a volatile default costs COPY.

The partition is a leaf that was created and then attached; it is written and read by its own name.

    python -m benchmarks.decisions.partition [--seconds 1] [--rounds 9]
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial

from benchmarks.decisions.testbed import (
    DATA,
    LEAF,
    MARK,
    METADATA,
    STORE,
    rounds,
    server,
    show,
    timed,
)

PARENT = """CREATE TABLE eventferry.events (
    position bigint NOT NULL, id uuid NOT NULL, type text NOT NULL, source text NOT NULL,
    entity_id text, version integer, data json NOT NULL, metadata json NOT NULL,
    occurred_at timestamptz NOT NULL, recorded_at timestamptz NOT NULL, stream smallint NOT NULL)
    PARTITION BY LIST (stream)"""
INSERT = """\\set entity random(1, 1000000)
\\set version random(1, 2000000000)
INSERT INTO {table} (id, type, entity_id, version, data, metadata)
VALUES (gen_random_uuid(), 'UserRegistered', :entity, :version, '{data}', '{metadata}');
"""
COLUMNS = "position, id, type, source, entity_id, version, data, metadata, occurred_at, recorded_at"
STATEMENT, CLOCK = "statement_timestamp()", "clock_timestamp()"

counter = itertools.count(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    seconds, count = options.seconds, options.rounds

    with server() as lab, lab.connect() as connection:
        connection.execute(STORE)
        connection.execute(PARENT)

        def add(
            name: str, number: int, *, recorded_at: str = STATEMENT, stream: bool = False
        ) -> str:
            table = f"streams.{name}"
            position = "nextval('eventferry.positions'::regclass)"
            connection.execute(
                LEAF.format(table=table, json="json", position=position, recorded_at=recorded_at)
                + MARK.format(table=table, number=number)
            )
            if stream:
                connection.execute(
                    f"ALTER TABLE {table} ADD stream smallint NOT NULL DEFAULT {number} "
                    f"CHECK (stream = {number})"
                )
            return table

        tables = {
            "stand-alone table": add("alone", 1),
            "stand-alone, with the column and CHECK": add("column_only", 2, stream=True),
            "partition": add("leaf", 3, stream=True),
        }
        for other in range(10, 60):  # a store has some streams
            add(f"other_{other}", other, stream=True)
            connection.execute(
                f"ALTER TABLE eventferry.events ATTACH PARTITION streams.other_{other} "
                f"FOR VALUES IN ({other})"
            )
        connection.execute(
            "ALTER TABLE eventferry.events ATTACH PARTITION streams.leaf FOR VALUES IN (3)"
        )

        def insert(table: str, clients: int) -> Callable[[], float]:
            script = INSERT.format(table=table, data=DATA, metadata=METADATA)
            return lambda: lab.pgbench(script, clients=clients, seconds=seconds)

        def copy(table: str, columns: str = "id, type, data, metadata") -> Callable[[], float]:
            statement = f"COPY {table} ({columns}) FROM STDIN"

            def measure() -> float:
                connection.execute(f"TRUNCATE {table}")
                payloads = [
                    "".join(
                        (
                            f"{next(counter):08x}-0000-7000-8000-000000000000\t"
                            if "id," in columns
                            else ""
                        )
                        + f"UserRegistered\t{DATA}\t{METADATA}\n"
                        for _ in range(1000)
                    )
                    for _ in range(20)
                ]
                start = time.perf_counter()
                for payload in payloads:
                    with connection.cursor().copy(statement) as writer:
                        writer.write(payload)
                return 20_000 / (time.perf_counter() - start)

            return measure

        for clients in (1, 8):
            show(
                f"INSERT of one row, {clients} client(s)",
                rounds(
                    {name: insert(table, clients) for name, table in tables.items()}, count=count
                ),
                baseline="stand-alone table",
                unit="tx/s",
            )
        show(
            "COPY of 1,000 rows",
            rounds({name: copy(table) for name, table in tables.items()}, count=count),
            baseline="stand-alone table",
            unit="rows/s",
        )
        clock = add("clock", 4, recorded_at=CLOCK)
        volatile = {
            "recorded_at statement_timestamp(), id given": copy(tables["stand-alone table"]),
            "recorded_at clock_timestamp(), id given": copy(clock),
            "recorded_at statement_timestamp(), id by default": copy(
                tables["stand-alone table"], "type, data, metadata"
            ),
        }
        show(
            "Volatile defaults: COPY of 1,000 rows",
            rounds(volatile, count=count),
            baseline="recorded_at statement_timestamp(), id given",
            unit="rows/s",
        )

        for table in tables.values():
            connection.execute(f"VACUUM ANALYZE {table}")
        for size in (1000, 5):

            def read(table: str, size: int) -> None:
                connection.execute(
                    f"SELECT {COLUMNS} FROM {table} WHERE position > %s ORDER BY position LIMIT {size}",
                    (0,),
                    binary=True,
                    prepare=True,
                )

            reads = {
                name: partial(timed, partial(read, table, size), seconds=seconds / 2, unit=size)
                for name, table in tables.items()
            }
            show(
                f"Read pages of {size} rows",
                rounds(reads, count=count),
                baseline="stand-alone table",
                unit="rows/s",
            )


if __name__ == "__main__":
    main()
