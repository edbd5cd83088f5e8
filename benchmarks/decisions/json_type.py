"""Decides ADR 0002: are `data` and `metadata` json or jsonb?

python -m benchmarks.decisions.json_type [--seconds 2] [--rounds 5]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import orjson
import psycopg
from psycopg.adapt import Buffer, Loader
from psycopg.pq import Format
from psycopg.types.json import set_json_loads
from psycopg.types.string import ByteaBinaryLoader, TextBinaryLoader, TextLoader

from benchmarks.decisions.testbed import DATA, LEAF, METADATA, Server, rounds, server, show, timed

ROWS = 20_000
PAGE = 1000
COLUMNS = "id, type, entity_id, version, data, metadata"
ALL = "position, id, type, source, entity_id, version, data, metadata, occurred_at, recorded_at"
SAMPLE = """SELECT gen_random_uuid(), 'UserRegistered', n::text, 1,
    {data}::{json} AS data, {metadata}::{json} AS metadata
    FROM generate_series({first}, {last}) n"""
INSERT = """\\set entity random(1, 1000000)
\\set version random(1, 2000000000)
INSERT INTO {table} (id, type, entity_id, version, data, metadata)
VALUES (gen_random_uuid(), 'UserRegistered', :entity, :version, '{data}', '{metadata}');
"""
STRANGE = '{"b": 1, "a":1.0,  "a":2e2, "z":"\\u0041"}'


class BinaryJsonb(Loader):
    """The text of a binary jsonb, as bytes, undecoded."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)[1:]


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def sample(kind: str, first: int, last: int) -> str:
    return SAMPLE.format(
        data=quoted(DATA), metadata=quoted(METADATA), json=kind, first=first, last=last
    )


def copies(connection: psycopg.Connection, kind: str, form: str) -> Callable[[], float]:
    """Rows a second of COPY FROM, the rows having been encoded beforehand."""
    payloads = []
    for page in range(10):
        query = sample(kind, page * PAGE + 1, (page + 1) * PAGE)
        with connection.cursor().copy(f"COPY ({query}) TO STDOUT (FORMAT {form})") as reader:
            payloads.append(b"".join(bytes(chunk) for chunk in reader))
    target = f"copy_{kind}"
    statement = f"COPY {target} ({COLUMNS}) FROM STDIN (FORMAT {form})"

    def measure() -> float:
        connection.execute(f"TRUNCATE {target}")
        start = time.perf_counter()
        for payload in payloads:
            with connection.cursor().copy(statement) as writer:
                writer.write(payload)
        return len(payloads) * PAGE / (time.perf_counter() - start)

    return measure


def pages(
    lab: Server,
    kind: str,
    *,
    binary: bool,
    loader: type[Loader] | None,
    loads: Callable[[bytes | str], object] | None = None,
    columns: str = ALL,
    seconds: float,
) -> Callable[[], float]:
    """Rows a second of reading pages of 1,000 rows as tuples."""
    connection = lab.connect()
    if loader:
        connection.adapters.register_loader(kind, loader)
    if loads:
        set_json_loads(loads, connection)
    query = (
        f"SELECT {columns} FROM events_{kind} WHERE position > %s ORDER BY position LIMIT {PAGE}"
    )
    at = 0

    def read() -> None:
        nonlocal at
        rows = connection.execute(query, (at,), binary=binary, prepare=True).fetchall()
        at = rows[-1][0] if len(rows) == PAGE and rows[-1][0] < ROWS - PAGE else 0

    return lambda: timed(read, seconds=seconds, unit=PAGE)


def aggregate(lab: Server, expression: str, kind: str, seconds: float) -> Callable[[], float]:
    connection = lab.connect()
    query = f"SELECT count({expression}) FROM events_{kind}"
    return lambda: timed(lambda: connection.execute(query), seconds=seconds, unit=ROWS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    seconds, count = options.seconds, options.rounds

    with server() as lab, lab.connect() as connection:
        for kind in ("json", "jsonb"):
            for name in (f"events_{kind}", f"copy_{kind}", f"checked_{kind}"):
                connection.execute(f"CREATE SEQUENCE {name}_positions")
                connection.execute(
                    LEAF.format(
                        table=name,
                        json=kind,
                        position=f"nextval('{name}_positions')",
                        recorded_at="statement_timestamp()",
                    )
                )
            size = "octet_length(data::text)"
            connection.execute(
                f"ALTER TABLE checked_{kind} ADD CHECK ({kind}_typeof(data) = 'object'), "
                f"ADD CHECK ({size} <= 1048576)"
            )

        for clients in (1, 8):
            inserts: dict[str, Callable[[], float]] = {}
            for name in ("events_json", "events_jsonb", "checked_json", "checked_jsonb"):
                script = INSERT.format(table=name, data=DATA, metadata=METADATA)

                def insert(script: str = script, clients: int = clients) -> float:
                    return lab.pgbench(script, clients=clients, seconds=seconds)

                inserts[name.replace("events_", "")] = insert
            show(
                f"INSERT of one row, {clients} client(s); checked: CHECKs of type and size",
                rounds(inserts, count=count),
                baseline="json",
                unit="tx/s",
            )
            connection.execute("TRUNCATE events_json, events_jsonb, checked_json, checked_jsonb")

        copied = {
            f"{kind} {form}": copies(connection, kind, form)
            for form in ("text", "binary")
            for kind in ("json", "jsonb")
        }
        show(
            "COPY FROM, 1,000 rows a batch",
            rounds(copied, count=count),
            baseline="json text",
            unit="rows/s",
        )

        for kind in ("json", "jsonb"):
            connection.execute(f"ALTER SEQUENCE events_{kind}_positions RESTART")
            connection.execute(f"INSERT INTO events_{kind} ({COLUMNS}) {sample(kind, 1, ROWS)}")
            connection.execute(f"VACUUM ANALYZE events_{kind}")
        s = seconds / 2
        as_text = ALL.replace(" data, metadata", " data::text, metadata::text")
        reads = {
            "json text, str": pages(lab, "json", binary=False, loader=TextLoader, seconds=s),
            "json binary, str": pages(lab, "json", binary=True, loader=TextBinaryLoader, seconds=s),
            "json binary, bytes": pages(
                lab, "json", binary=True, loader=ByteaBinaryLoader, seconds=s
            ),
            "jsonb text, str": pages(lab, "jsonb", binary=False, loader=TextLoader, seconds=s),
            "jsonb binary, bytes": pages(lab, "jsonb", binary=True, loader=BinaryJsonb, seconds=s),
            "jsonb::text binary, str": pages(
                lab, "jsonb", binary=True, loader=None, columns=as_text, seconds=s
            ),
            "json binary, json.loads": pages(lab, "json", binary=True, loader=None, seconds=s),
            "json binary, orjson.loads": pages(
                lab, "json", binary=True, loader=None, loads=orjson.loads, seconds=s
            ),
            "jsonb binary, orjson.loads": pages(
                lab, "jsonb", binary=True, loader=None, loads=orjson.loads, seconds=s
            ),
        }
        show(
            "Read pages of 1,000 rows of 10 columns as tuples",
            rounds(reads, count=count),
            baseline="json text, str",
            unit="rows/s",
        )
        extracts = {
            f"{kind} {expression}": aggregate(lab, expression, kind, s)
            for kind in ("json", "jsonb")
            for expression in ("data->>'email'", "data#>>'{price,amount}'", "type")
        }
        show(
            "Look into data, rows scanned",
            rounds(extracts, count=count),
            baseline="json data->>'email'",
            unit="rows/s",
        )

        print()
        for kind in ("json", "jsonb"):
            row = connection.execute(
                (
                    f"SELECT pg_relation_size('events_{kind}'), "
                    f"pg_indexes_size('events_{kind}'), %s::{kind}::text"
                ),
                (STRANGE,),
            ).fetchone()
            assert row
            print(f"{kind}: heap {row[0] / ROWS:.0f} bytes a row, indexes {row[1] / ROWS:.0f}")
            print(f"    {STRANGE} -> {row[2]}")
            for text in (
                '{"a":"\\u0000"}',
                '{"a":1e999999}',
                '{"a":123456789012345678901234567890}',
            ):
                try:
                    back = connection.execute(f"SELECT %s::{kind}::text", (text,)).fetchone()
                    assert back
                    print(f"    {text} -> {back[0][:60]}")
                except psycopg.Error as error:
                    print(f"    {text} -> {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
