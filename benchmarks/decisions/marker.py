"""Decides ADR 0001 (marker by trigger or default) and ADR 0005 (how an append finds sleepers).

Each variant is a table of its own with its own way to set the in-flight marker before
a position is drawn. Measured: single-row INSERTs in autocommit by pgbench, COPYs of 1,000 rows, and
the CPU time that the backend spends on one INSERT, which noise touches least.

    python -m benchmarks.decisions.marker [--seconds 3] [--rounds 5] [--clients 1 8 16] [--cpu]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.decisions.testbed import DATA, LEAF, METADATA, Server, rounds, server, show, timed

SCHEMA = """
CREATE SCHEMA eventferry; CREATE SCHEMA streams;
CREATE SEQUENCE eventferry.positions CACHE 1;
CREATE TABLE eventferry.sleepers (
    stream smallint, worker uuid, since timestamptz DEFAULT now(), PRIMARY KEY (stream, worker));
CREATE TABLE eventferry.other_sleepers (LIKE eventferry.sleepers INCLUDING ALL);
INSERT INTO eventferry.other_sleepers SELECT 9999, gen_random_uuid() FROM generate_series(1, 3);
"""

# The parts that the trigger bodies are put together from. {no} is the stream, {key} the first word
# of the lock's key: 16 bits that name us, 16 that name the stream.
LAST = "coalesce(pg_catalog.pg_sequence_last_value('eventferry.positions'::regclass), 0)"
LOCK = f"pg_catalog.pg_try_advisory_xact_lock_shared({{key}}, ((({LAST}) << 32) >> 32)::int4)"
XID = "pg_catalog.pg_current_xact_id()::text"
MARKED = f"pg_catalog.current_setting('eventferry.m{{no}}', true) = {XID}"
NONEMPTY = "pg_catalog.current_setting('eventferry.m{no}', true) <> ''"
REMEMBER = f"noted := pg_catalog.set_config('eventferry.m{{no}}', {XID}, true);"
REMEMBER_1 = "noted := pg_catalog.set_config('eventferry.m{no}', '1', true);"
DURABLE = """IF pg_catalog.current_setting('synchronous_commit') = 'off' THEN
    noted := pg_catalog.set_config('synchronous_commit', 'on', true);
END IF;"""
TAKE = f"IF {LOCK} IS NOT TRUE THEN RAISE EXCEPTION 'no marker for stream {{no}}'; END IF;"
NOTIFY = "noted := pg_catalog.pg_notify('eventferry', '{no}')::text;"

TABLE_CHECK = (
    f"IF EXISTS (SELECT FROM eventferry.sleepers WHERE stream = {{no}}) THEN {NOTIFY} END IF;"
)
OTHER_CHECK = TABLE_CHECK.replace("sleepers", "other_sleepers")
FLAG_CHECK = (
    "IF pg_catalog.pg_sequence_last_value('eventferry.flag_{no}'::regclass) IS NOT NULL "
    f"THEN {NOTIFY} END IF;"
)
# A sleeper holds the key in shared mode for as long as it sleeps. Locked and unlocked in one
# expression, where no cancel can come between the two.
LOCK_CHECK = (
    "IF (CASE WHEN pg_catalog.pg_try_advisory_lock({sleep_key}, 0) "
    "THEN NOT pg_catalog.pg_advisory_unlock({sleep_key}, 0) ELSE true END) "
    f"THEN {NOTIFY} END IF;"
)


def body(*steps: str, marked: str = MARKED) -> str:
    """A trigger body: nothing if this transaction has its marker, else the steps."""
    lines = "\n".join(steps)
    return (
        "DECLARE noted text; done boolean;\n"
        f"BEGIN IF {marked} THEN RETURN NULL; END IF;\n{lines}\nRETURN NULL; END"
    )


BASE = (TAKE, REMEMBER, DURABLE)
DEFINER = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

# name: (trigger body, options of the function)
TRIGGERS: dict[str, tuple[str, str]] = {
    "a trigger, simple expressions": (body(*BASE), ""),
    "b a + definer": (body(*BASE), DEFINER),
    "c a + table check": (body(*BASE, TABLE_CHECK), ""),
    "d a + flag check": (body(*BASE, FLAG_CHECK), ""),
    "f definer + table check": (body(*BASE, TABLE_CHECK), DEFINER),
    "g definer + flag check": (body(*BASE, FLAG_CHECK), DEFINER),
    "h c, others sleep": (body(*BASE, OTHER_CHECK), ""),
    "k a + lock check": (body(*BASE, LOCK_CHECK), ""),
    "n a + NOTIFY always": (body(*BASE, NOTIFY), ""),
}

ONE = (
    f"CASE WHEN {LOCK} THEN CASE WHEN pg_catalog.set_config('eventferry.m{{no}}', {XID}, true) "
    "IS NULL THEN true WHEN pg_catalog.current_setting('synchronous_commit') = 'off' "
    "THEN pg_catalog.set_config('synchronous_commit', 'on', true) IS NULL ELSE false END "
    "ELSE true END"
)
ARGUMENTS = f"""
DECLARE noted text; setting text := 'eventferry.m' || TG_ARGV[0];
BEGIN
IF pg_catalog.current_setting(setting, true) = pg_catalog.pg_current_xact_id()::text THEN
    RETURN NULL; END IF;
IF pg_catalog.pg_try_advisory_xact_lock_shared(
    29285 << 16 | TG_ARGV[0]::int4, ((({LAST}) << 32) >> 32)::int4) IS NOT TRUE THEN
    RAISE EXCEPTION 'no marker for stream %', TG_ARGV[0]; END IF;
noted := pg_catalog.set_config(setting, pg_catalog.pg_current_xact_id()::text, true);
{DURABLE}
RETURN NULL; END"""

# Other wordings of (a), and (a) without one of its parts: what each costs.
WORDINGS: dict[str, tuple[str, str]] = {
    "a trigger, simple expressions": (body(*BASE), ""),
    "a, empty body": ("BEGIN RETURN NULL; END", ""),
    "a, lock only": (f"BEGIN {TAKE} RETURN NULL; END", ""),
    "a, without the durable check": (body(TAKE, REMEMBER), ""),
    "a, remembered as non-empty": (body(TAKE, REMEMBER_1, DURABLE, marked=NONEMPTY), ""),
    "a, one expression": (
        body(f"IF ({ONE}) THEN RAISE EXCEPTION 'no marker for stream {{no}}'; END IF;"),
        "",
    ),
    "a, one function for all streams": (ARGUMENTS, "arguments"),
    "a, PERFORM instead of :=": (
        body(*(step.replace("noted :=", "PERFORM") for step in BASE)),
        "",
    ),
    "a, in a WHEN clause": (f"CASE WHEN {MARKED} THEN false ELSE {ONE} END", "when"),
    "a + definer without SET": (body(*BASE), "SECURITY DEFINER"),
    "a + SET without definer": (body(*BASE), "SET search_path = pg_catalog, pg_temp"),
    "b a + definer": (body(*BASE), DEFINER),
    "c a + table check": (body(*BASE, TABLE_CHECK), ""),
    "c, sleepers in a query that counts": (
        body(
            *BASE,
            "SELECT count(*) > 0 INTO done FROM eventferry.sleepers WHERE stream = {no};",
            f"IF done THEN {NOTIFY} END IF;",
        ),
        "",
    ),
    "d a + flag check": (body(*BASE, FLAG_CHECK), ""),
    "h c, others sleep": (body(*BASE, OTHER_CHECK), ""),
    "k a + lock check": (body(*BASE, LOCK_CHECK), ""),
    "f definer + table check": (body(*BASE, TABLE_CHECK), DEFINER),
}

FUNCTION_DEFAULT = f"""
CREATE FUNCTION eventferry.next_position(no int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE noted text; setting text := 'eventferry.m' || no;
BEGIN
IF pg_catalog.current_setting(setting, true) = pg_catalog.pg_current_xact_id()::text THEN
    RETURN pg_catalog.nextval('eventferry.positions'::regclass); END IF;
IF pg_catalog.pg_try_advisory_xact_lock_shared(
    29285 << 16 | no, ((({LAST}) << 32) >> 32)::int4) IS NOT TRUE THEN
    RAISE EXCEPTION 'no marker for stream %', no; END IF;
noted := pg_catalog.set_config(setting, pg_catalog.pg_current_xact_id()::text, true);
{DURABLE}
RETURN pg_catalog.nextval('eventferry.positions'::regclass); END $$
"""
DRAW = "nextval('eventferry.positions'::regclass)"
# In one expression; a marker that was not given leaves the position NULL, which is refused.
INLINE_DEFAULT = (
    f"CASE WHEN {MARKED} THEN {DRAW} ELSE CASE WHEN {ONE} THEN NULL ELSE {DRAW} END END"
)

PLAIN = "p plain table"
DEFAULT_FUNCTION = "e default function"
DEFAULT_INLINE = "e' default expression"

INSERT = """\\set entity random(1, 1000000)
\\set version random(1, 2000000000)
INSERT INTO {table} (id, type, entity_id, version, data, metadata)
VALUES (gen_random_uuid(), 'UserRegistered', :entity, :version, '{data}', '{metadata}');
"""


class Streams:
    """The tables of all variants in one database."""

    def __init__(self, lab: Server) -> None:
        self.lab = lab
        self.connection = lab.connect()
        self.tables: dict[str, str] = {}
        self.run(SCHEMA)
        self.run(FUNCTION_DEFAULT)

    def run(self, statement: str) -> None:
        self.connection.execute(statement)

    def add(self, name: str, *, position: str = DRAW) -> tuple[int, str]:
        number = len(self.tables) + 1
        table = f"streams.stream_{number}"
        self.tables[name] = table
        filled = position.format(no=number, key=29285 << 16 | number)
        self.run(
            LEAF.format(
                table=table, position=filled, json="json", recorded_at="statement_timestamp()"
            )
        )
        return number, table

    def add_trigger(self, name: str, text: str, options: str) -> None:
        number, table = self.add(name)
        filled = (
            text
            if options == "arguments"
            else text.format(no=number, key=29285 << 16 | number, sleep_key=29286 << 16 | number)
        )
        self.run(f"CREATE SEQUENCE eventferry.flag_{number}")
        when, function, argument = "", filled, ""
        if options == "when":
            when = f"WHEN ({filled})"
            function = "BEGIN RAISE EXCEPTION 'no marker'; END"
        if options == "arguments":
            argument = f"'{number}'"
        if options in ("when", "arguments"):
            options = ""
        self.run(
            f"CREATE FUNCTION eventferry.mark_{number}() RETURNS trigger "
            f"LANGUAGE plpgsql {options} AS $body${function}$body$"
        )
        self.run(
            f"CREATE TRIGGER mark BEFORE INSERT ON {table} FOR EACH STATEMENT {when} "
            f"EXECUTE FUNCTION eventferry.mark_{number}({argument})"
        )

    def truncate(self) -> None:
        self.run("TRUNCATE " + ", ".join(self.tables.values()))
        self.run("CHECKPOINT")


def insert_rate(streams: Streams, table: str, clients: int, seconds: float) -> Callable[[], float]:
    script = INSERT.format(table=table, data=DATA, metadata=METADATA)
    return lambda: streams.lab.pgbench(script, clients=clients, seconds=seconds)


def copy_rate(streams: Streams, table: str, seconds: float) -> Callable[[], float]:
    rows = 1000
    # id is given, as append gives it: a volatile default other than nextval costs COPY its batches.
    columns = f"COPY {table} (id, type, entity_id, data, metadata) FROM STDIN"

    def copy() -> None:
        with streams.connection.cursor() as cursor:
            lines = "".join(
                f"{number:08x}-0000-7000-8000-{time.monotonic_ns() & 0xFFFFFFFFFFFF:012x}"
                f"\tUserRegistered\t{number}\t{DATA}\t{METADATA}\n"
                for number in range(rows)
            )
            with cursor.copy(columns) as writer:
                writer.write(lines)

    return lambda: timed(copy, seconds=seconds, unit=rows)


def insert_cpu(streams: Streams, table: str, count: int = 150) -> Callable[[], float]:
    """CPU microseconds of the backend for one prepared INSERT in a transaction of its own."""
    connection = streams.lab.connect()
    clock = Path(f"/proc/{connection.info.backend_pid}/schedstat")
    statement = (
        f"INSERT INTO {table} (id, type, entity_id, data, metadata) "
        "VALUES (gen_random_uuid(), 'UserRegistered', %s, %s, %s)"
    )

    def insert(times: int) -> None:
        for number in range(times):
            connection.execute(statement, (str(number), DATA, METADATA), prepare=True)

    def measure() -> float:
        insert(5)
        before = int(clock.read_text().split()[0])
        insert(count)
        return (int(clock.read_text().split()[0]) - before) / count / 1000

    return measure


def false_alarms(streams: Streams, name: str, clients: int, seconds: float) -> str:
    """How many appends notified although nobody slept, and what a real sleeper does to the rate."""
    number, table = int(streams.tables[name].rpartition("_")[2]), streams.tables[name]
    key = 29286 << 16 | number
    with streams.lab.connect() as listener:
        listener.execute("LISTEN eventferry")
        rate = insert_rate(streams, table, clients, seconds)()
        listener.execute("SELECT 1")
        alarms = sum(1 for _ in listener.notifies(timeout=0.5))
        listener.execute("UNLISTEN *")
        listener.execute("SELECT pg_advisory_lock_shared(%s, 0)", (key,))
        asleep = insert_rate(streams, table, clients, seconds)()
    return (
        f"{clients} clients: {alarms} false alarms in {rate * seconds:,.0f} appends; "
        f"{rate:,.0f} tx/s, with a sleeper that never wakes {asleep:,.0f} tx/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 16])
    parser.add_argument("--cpu", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--copy", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()

    with server() as lab:
        streams = Streams(lab)
        streams.add(PLAIN)
        for name, (text, function) in TRIGGERS.items():
            streams.add_trigger(name, text, function)
        streams.add(DEFAULT_FUNCTION, position="eventferry.next_position({no})")
        streams.add(DEFAULT_INLINE, position=INLINE_DEFAULT)

        for clients in options.clients:
            streams.truncate()
            rates = {
                name: insert_rate(streams, table, clients, options.seconds)
                for name, table in streams.tables.items()
            }
            show(
                f"INSERT of one row, {clients} client{'s' * (clients > 1)}",
                rounds(rates, count=options.rounds),
                baseline=PLAIN,
                unit="tx/s",
            )
        if options.copy:
            streams.truncate()
            copies = {
                name: copy_rate(streams, table, options.seconds / 2)
                for name, table in streams.tables.items()
            }
            show(
                "COPY of 1,000 rows",
                rounds(copies, count=options.rounds),
                baseline=PLAIN,
                unit="rows/s",
            )

        print("\n### Lock check\n")
        for clients in options.clients:
            print("-", false_alarms(streams, "k a + lock check", clients, options.seconds))
        if options.cpu:
            streams.truncate()
            kept = {
                name: streams.tables[name] for name in (PLAIN, DEFAULT_FUNCTION, DEFAULT_INLINE)
            }
            streams.tables = {f"old {name}": table for name, table in streams.tables.items()}
            for name, (text, function) in WORDINGS.items():
                streams.add_trigger(name, text, function)
                kept[name] = streams.tables[name]
            times = {name: insert_cpu(streams, table) for name, table in kept.items()}
            # Waiting for the disk spoils a measurement of CPU; here it decides nothing.
            streams.run("ALTER SYSTEM SET fsync = off")
            streams.run("SELECT pg_reload_conf()")
            show(
                "Backend CPU of one INSERT (fsync off)",
                rounds(times, count=options.rounds * 20),
                baseline=PLAIN,
                unit="µs",
                middle=min,
            )


if __name__ == "__main__":
    main()
